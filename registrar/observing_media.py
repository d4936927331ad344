"""What operators see of media nodes: the snapshot that is chosen by, what nodes are asked, what balancers are told."""

from collections import Counter
from collections.abc import Callable

from rollcall.media.following import Following
from rollcall.media.telling import Telling
from rollcall.ops.metrics import Metrics


def watch_following(metrics: Metrics, following: Following, telling: Telling, now: Callable[[], float]) -> None:
    """Export how old the snapshot is, and what becomes of reports to balancers."""
    metrics.gauge("rollcall_media_snapshot_age_seconds", "For how long no balancer has published; -1: none ever did.",
                  (), lambda: _age(following.age(now())))
    metrics.gauge("rollcall_media_nodes", "Media nodes in the snapshot, by state.", ("state",),
                  lambda: _states(following))
    metrics.total("rollcall_media_snapshot_gaps_total", "Snapshots that were missed, so that a whole one was read.", (),
                  lambda: float(following.gaps))
    metrics.total("rollcall_media_reports_told_total", "Reports to balancers, by what has become of them.",
                  ("outcome",), lambda: {("told",): float(telling.told), ("dropped",): float(telling.dropped)})


def watch_media(metrics: Metrics, asked: Counter[str], published: Counter[str]) -> None:
    """Export what rtpengines were asked, and what phones have published."""
    metrics.total("rollcall_media_requests_total", "Commands to rtpengines, and choices of nodes, by outcome.",
                  ("command", "outcome"), lambda: _by_words(asked))
    metrics.total("rollcall_media_phone_reports_total", "Reports that phones have published, by what became of them.",
                  ("outcome",), lambda: {(name,): float(count) for name, count in published.items()})


def _age(age: float | None) -> float:
    return -1.0 if age is None else age


def _states(following: Following) -> dict[tuple[str, ...], float]:
    states = Counter(node.state.name.lower() for node in following.snapshot.nodes.values())
    return {(state,): float(count) for state, count in states.items()}


def _by_words(asked: Counter[str]) -> dict[tuple[str, ...], float]:
    """Return counts by command and outcome, of those by "offer ok"."""
    counts: dict[tuple[str, ...], float] = {}
    for words, count in asked.items():
        command, _, outcome = words.partition(" ")
        counts[command, outcome] = float(count)
    return counts
