"""What operators see of reports that were heard, and of what is shared through Redis."""

from balancer.quality.hearing import Hearing
from balancer.sharing import Sharing
from rollcall.ops.metrics import Metrics


def watch_hearing(metrics: Metrics, hearing: Hearing) -> None:
    """Export how many reports counted, and why others did not."""
    metrics.total("rollcall_balancer_reports_counted_total", "Reports that say something about a way", (),
                  lambda: float(hearing.counted))
    metrics.total("rollcall_balancer_reports_refused_total", "Reports, or parts of them, that count for nothing",
                  ("why",), lambda: {(why,): float(count) for why, count in hearing.refused.items()})


def watch_sharing(metrics: Metrics, sharing: Sharing) -> None:
    """Export what is told to other balancers, and heard of them."""
    telling, reader = sharing.telling, sharing.reader
    metrics.total("rollcall_balancer_reports_told_total", "Reports to other balancers, by what became of them",
                  ("outcome",), lambda: {("told",): float(telling.told), ("dropped",): float(telling.dropped)})
    metrics.total("rollcall_balancer_reports_read_total", "Reports of registrars and other balancers", ("outcome",),
                  lambda: {("heard",): float(reader.heard), ("refused",): float(reader.refused)})
    metrics.gauge("rollcall_balancer_snapshot_age_seconds", "For how long nothing was published; -1: nothing ever was",
                  (), lambda: _age(sharing.following.age(sharing.now())))


def _age(age: float | None) -> float:
    return -1.0 if age is None else age
