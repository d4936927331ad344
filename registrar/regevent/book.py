"""All subscriptions of a node: found by their tag, by the connection they came over, and by what they watch."""

from collections import Counter, deque
from collections.abc import Callable, Iterator

from twisted.logger import Logger

from registrar.location.changes import Changes
from registrar.records import record_key
from registrar.regevent.delivery import Way
from registrar.regevent.subscription import Subscription
from rollcall.net.flow import Flow
from rollcall.ops.coroutines import start

LOOKS_PER_TURN = 16
"""Records that are looked at, and told of, in one turn of the reactor: two or three milliseconds."""


class Book:
    """Keeps subscriptions, and has those look at their record whose record has changed."""

    _log = Logger()

    def __init__(self, changes: Changes, later: Callable[[Callable[[], None]], object]) -> None:
        """`later` calls in a later turn of the reactor."""
        self._changes = changes
        self._later = later
        self._by_tag: dict[str, Subscription] = {}
        self._cancels: dict[str, Callable[[], None]] = {}
        self._by_flow: dict[int, set[Subscription]] = {}
        self._per_aor: Counter[str] = Counter()
        self._looking: deque[Subscription] = deque()

    def __len__(self) -> int:
        return len(self._by_tag)

    def __iter__(self) -> Iterator[Subscription]:
        """Go through those that are there now, whatever becomes of them meanwhile."""
        return iter(tuple(self._by_tag.values()))

    def __contains__(self, subscription: Subscription) -> bool:
        return subscription.dialog.tag in self._by_tag

    def find(self, tag: str) -> Subscription | None:
        """Return the subscription whose dialog has this tag of ours."""
        return self._by_tag.get(tag)

    def watching(self, aor: str) -> int:
        """Return how many watch an address-of-record."""
        return self._per_aor[aor]

    def on(self, flow: Flow) -> tuple[Subscription, ...]:
        """Return the subscriptions whose subscribers are reached over this connection."""
        return tuple(self._by_flow.get(flow.id, ()))

    def add(self, subscription: Subscription) -> None:
        """Keep a subscription: from now on it hears of every change."""
        tag = subscription.dialog.tag
        self._by_tag[tag] = subscription
        self._per_aor[subscription.aor] += 1
        self._cancels[tag] = self._changes.watch(record_key(subscription.aor), subscription.changed)
        self._hold(subscription)

    def drop(self, subscription: Subscription) -> None:
        """Forget a subscription."""
        tag = subscription.dialog.tag
        del self._by_tag[tag]
        self._cancels.pop(tag)()
        self._per_aor[subscription.aor] -= 1
        if not self._per_aor[subscription.aor]:
            del self._per_aor[subscription.aor]
        self._let_go(subscription)

    def move(self, subscription: Subscription, way: Way) -> None:
        """Reach a subscriber another way."""
        self._let_go(subscription)
        subscription.way = way
        self._hold(subscription)

    def look_soon(self, subscription: Subscription) -> None:
        """Have a subscription look at its record soon: a storm of registrations must not hold up one turn."""
        if not self._looking:
            self._later(self._look)
        self._looking.append(subscription)

    def _look(self) -> None:
        for _ in range(min(LOOKS_PER_TURN, len(self._looking))):
            # It is taken off afterwards: whoever is added meanwhile need not arrange for a turn.
            start(self._looking[0].look(), lambda failure: self._log.failure("a look at a record broke", failure))
            self._looking.popleft()
        if self._looking:
            self._later(self._look)

    def _hold(self, subscription: Subscription) -> None:
        """Keep the connection of a subscriber open."""
        flow = subscription.way.flow
        if flow is not None and flow.id:
            flow.holds += 1
            self._by_flow.setdefault(flow.id, set()).add(subscription)

    def _let_go(self, subscription: Subscription) -> None:
        flow = subscription.way.flow
        if flow is not None and flow.id:
            flow.holds -= 1
            same = self._by_flow[flow.id]
            same.discard(subscription)
            if not same:
                del self._by_flow[flow.id]
