"""What operators see of subscriptions: `GET /v1/subscriptions`, and counts for Prometheus."""

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

from registrar.api import Listings, asked_for
from registrar.regevent.conversation import RegEvents
from registrar.regevent.subscription import Subscription
from rollcall.ops.api import Call, Reply, Routes
from rollcall.ops.metrics import Metrics


class Listed:
    """Answers with the subscriptions of this node to one address-of-record, or page by page with all."""

    def __init__(self, events: RegEvents, now: Callable[[], float]) -> None:
        self._events = events
        self._now = now
        self._listings: Listings[Iterator[Subscription]] = Listings()

    def mount(self, routes: Routes) -> None:
        """Add what is answered here to the admin site."""
        routes.get("/v1/subscriptions", self.subscriptions)

    def subscriptions(self, call: Call) -> Reply:
        """Answer `?aor=sip:alice@example.com`, or `?size=100` and then `?after=` what "next" said, until that is null.

        {"subscriptions": […], "next": "…"}; 410 when a listing is not known any more.
        """
        aor, size = asked_for(call)
        if aor is not None:
            return self._page([each for each in self._events.book if each.aor == aor], None)
        listing = self._listings.resumed(call)
        if listing is None:
            listing = iter(self._events.book)
        page = list(islice(listing, size))
        return self._page([each for each in page if each in self._events.book],
                          self._listings.keep(listing) if len(page) == size else None)

    def _page(self, subscriptions: list[Subscription], place: str | None) -> Reply:
        now = self._now()
        return Reply({"subscriptions": [as_shown(each, now) for each in subscriptions], "next": place})


def as_shown(subscription: Subscription, now: float) -> dict[str, Any]:
    """Return what is told of a subscription."""
    dialog, source = subscription.dialog, subscription.way.source
    host, port = source.peer
    return {
        "aor": subscription.aor, "watcher": subscription.watcher, "contact": dialog.target,
        "call_id": dialog.call_id, "transport": source.transport, "host": host, "port": port,
        "flow": subscription.way.flow.id or None if subscription.way.flow is not None else None,
        "began_at": subscription.began_at, "expires_seconds": max(0, int(subscription.expires_at - now)),
        "notifies": dialog.cseq, "state": subscription.state.value,
    }


def watch_events(metrics: Metrics, events: RegEvents) -> None:
    """Export how many subscriptions there are, how they ended, and what became of what was told."""
    metrics.gauge("rollcall_reg_subscriptions", "Subscriptions to registrations on this node.", (),
                  lambda: len(events.book))
    metrics.total("rollcall_reg_subscriptions_ended_total", "Subscriptions to registrations that ended, by reason.",
                  ("reason",), lambda: {(reason,): float(count) for reason, count in events.ended.items()})
    metrics.total("rollcall_reg_notifies_total", "NOTIFYs about registrations, by what became of them.", ("outcome",),
                  lambda: {(outcome,): float(count) for outcome, count in events.told.items()})
