"""What operators see of subscribers: where they are found, and how many are remembered."""

from registrar.subscribers.shared import SharedCache
from registrar.subscribers.store import CachedSubscribers
from rollcall.ops.metrics import Metrics


def watch_subscribers(metrics: Metrics, subscribers: CachedSubscribers, shared: SharedCache | None) -> None:
    """Export what there is now, read at each scrape."""
    metrics.total("rollcall_subscriber_lookups_total",
                  "Subscribers that were asked for: who said who they are (stale: memory, because no database could be "
                  "asked), and what. Who waits for a look-up that is under way is not counted.",
                  ("level", "outcome"), lambda: {key: float(count) for key, count in subscribers.totals().items()})
    metrics.gauge("rollcall_subscribers_cached", "Subscribers remembered in memory.", (),
                  lambda: float(subscribers.cached))
    if shared is not None:
        metrics.total("rollcall_subscribers_unreadable_total",
                      "Hashes found in Redis that were encrypted with another key.", (),
                      lambda: float(shared.unreadable))
