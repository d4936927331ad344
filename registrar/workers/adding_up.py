"""One page of metrics out of those of several processes (the text format of Prometheus).

Counters and histograms are added up, and so are gauges, which count what is there, but for those that are a longest
or a largest something, or the same everywhere, or say whether something is well: that it is when all say so.
"""

from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

LEAST = frozenset({
    "process_start_time_seconds",
    # Of each server, 1 or 0: one worker that cannot use it is worth an alert.
    "rollcall_sql_up", "rollcall_sql_fit", "rollcall_sql_writable", "rollcall_sql_writer",
    "rollcall_site_up", "rollcall_tickle_sender_up",
})
LARGEST = frozenset({
    # The same for all of them, or nearly so.
    "python_info", "rollcall_call_spool_bytes", "rollcall_directory_domains", "rollcall_sql_lag_seconds",
    "rollcall_media_nodes", "rollcall_media_snapshot_age_seconds", "rollcall_weight", "rollcall_rebalance_stopped",
    "rollcall_site_nodes", "rollcall_dns_serial", "rollcall_dns_site_weight", "rollcall_dns_site_fitness",
    "rollcall_tickle_waiting_flows", "rollcall_avalanche_wait_seconds", "rollcall_avalanche_shedding",
})
LARGEST_WORDS = ("_longest_", "_max_", "_highest_")


def added_up(pages: Iterable[str]) -> bytes:
    """Return the page that says of all processes what each of `pages` says of one."""
    families: dict[str, Metric] = {}
    values: dict[str, dict[tuple[str, tuple[tuple[str, str], ...]], float]] = {}
    for page in pages:
        for family in text_string_to_metric_families(page):
            families.setdefault(family.name, Metric(family.name, family.documentation, family.type))
            found = values.setdefault(family.name, {})
            for sample in family.samples:
                key = sample.name, tuple(sample.labels.items())
                known = found.get(key)
                found[key] = sample.value if known is None else _together(family.name, known, sample.value)
    for name, metric in families.items():
        for (sample_name, labels), value in values[name].items():
            metric.add_sample(sample_name, dict(labels), value)
    return _rendered(families.values())


def _together(name: str, one: float, other: float) -> float:
    if name in LEAST:
        return min(one, other)
    if name in LARGEST or any(word in f"{name}_" for word in LARGEST_WORDS):
        return max(one, other)
    return one + other


class _Collected(Collector):
    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        yield from self._metrics


def _rendered(metrics: Iterable[Metric]) -> bytes:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collected(metrics))
    return generate_latest(registry)
