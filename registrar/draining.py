"""Has the phones of a node move over to others, at a pace, until nobody is left; and takes them in again.

While a node drains it takes no new connections and no first bindings, says so to whoever asks for its health, and
closes its connections one after the other: each phone hears that at once and registers elsewhere. Connections on which
somebody waits for an answer come last. A phone that sends datagrams has no connection to close: it moves over when its
next REGISTER is answered 503.
"""

from collections import deque
from collections.abc import Callable, Sequence, Set
from typing import Protocol

from twisted.logger import Logger

from rollcall.cluster.config import ClusterConfig
from rollcall.net.flow import Flow
from rollcall.net.wheel import Timer, TimerWheel

LOOK_SECONDS = 0.1
"""How often connections are closed, a few of them: at 50 a second five."""

RECOUNT_SECONDS = 1.0
"""How often it is seen which connections there are still."""

DRAINED = "drained: its phones move over"
"""What a worker that is drained says to its supervisor."""

REASON = "this node is being drained"


class Drained(Protocol):
    """What has the connections."""

    def stop_accepting(self) -> None:
        """Take no new connections."""

    def accept_again(self) -> None:
        """Take new connections again. Raises OSError, and may be called again then."""

    def flows(self) -> Sequence[Flow]:
        """Return all connections of phones."""


class Draining:
    """The draining of this node, which may begin and be undone any number of times."""

    _log = Logger()

    def __init__(self, wheel: TimerWheel, transports: Drained, waited_on: Callable[[], Set[Flow]],
                 config: ClusterConfig) -> None:
        """`waited_on` gives the connections on which somebody waits for an answer."""
        self.refuses_new = False
        """Whether only what hangs on an open connection is refreshed; it is so while this node drains."""
        self.on_change: list[Callable[[bool], object]] = []
        """Told when it begins, and when it is undone."""
        self.closed = 0
        """Connections closed since the start, for metrics."""
        self._wheel = wheel
        self._transports = transports
        self._waited_on = waited_on
        self._config = config
        self._queue: deque[Flow] = deque()
        self._allowed = 0.0
        self._recent: deque[float] = deque()
        self._looked_at = self._counted_at = self._impatient_at = 0.0
        self._is_done = False
        self._next_look: Timer | None = None

    @property
    def problem(self) -> str | None:
        """Why this node should get no work, for /readyz; None when it should. It counts the connections."""
        return f"draining, {self.left} connections are left" if self.refuses_new else None

    @property
    def left(self) -> int:
        """How many connections there are, about to end or not."""
        return sum(flow.is_open for flow in self._transports.flows())

    def wish(self, drained: bool) -> None:
        """Begin, or undo it; harmless when it is so already."""
        if drained and not self.refuses_new:
            self._begin()
        elif self.refuses_new and not drained:
            self._undo()

    def stop(self) -> None:
        """Close no more connections: the process ends."""
        if self._next_look is not None:
            self._next_look.cancel()
            self._next_look = None

    # --- details

    def _begin(self) -> None:
        now = self._wheel.now()
        self.refuses_new, self._is_done = True, False
        self._looked_at, self._impatient_at, self._allowed = now, now + self._config.drain_patience_seconds, 0.0
        self._log.info("draining: {count} connections, {pace} are closed in a second", count=self.left,
                       pace=self._config.drain_flows_per_second)
        self._transports.stop_accepting()
        self._count(now)
        self._look_later()
        self._tell(True)

    def _undo(self) -> None:
        try:
            self._transports.accept_again()
        except OSError as problem:
            # Whoever wishes it says so again.
            self._log.error("still drained: {problem}", problem=str(problem))
            return
        self.stop()
        self.refuses_new = False
        self._queue.clear()
        self._log.info("not drained any more")
        self._tell(False)

    def _tell(self, drained: bool) -> None:
        for listener in self.on_change:
            try:
                listener(drained)
            except Exception:
                self._log.failure("while somebody was told of draining")

    def _look_later(self) -> None:
        self._next_look = self._wheel.call_later(LOOK_SECONDS, self._look)

    def _look(self) -> None:
        self._look_later()
        now = self._wheel.now()
        pace = self._config.drain_flows_per_second
        # What was missed because a look was late is made up for, but no second sees more than the pace.
        self._allowed = min(self._allowed + (now - self._looked_at) * pace, max(1.0, 2 * LOOK_SECONDS * pace))
        self._looked_at = now
        if not self._queue and now >= self._counted_at + RECOUNT_SECONDS:
            self._count(now)
        if self._queue and self._allowed >= 1:
            self._close_some(now)

    def _count(self, now: float) -> None:
        """Queue all connections that there are, those that nobody needs first."""
        self._counted_at = now
        flows = sorted([flow for flow in self._transports.flows() if flow.is_open], key=lambda flow: flow.holds > 0)
        self._queue = deque(flows)
        if not flows and not self._is_done:
            self._is_done = True
            self._log.info("drained: no connection is left")

    def _close_some(self, now: float) -> None:
        while self._recent and self._recent[0] <= now - 1:
            self._recent.popleft()
        most = max(1, int(self._config.drain_flows_per_second))
        waited_on = self._waited_on() if now < self._impatient_at else frozenset()
        while self._queue and self._allowed >= 1 and len(self._recent) < most:
            flow = self._queue.popleft()
            if flow.is_open and flow not in waited_on:
                flow.close(REASON)
                self.closed += 1
                self._allowed -= 1
                self._recent.append(now)
