"""Has the phones of a node move over to others, at a pace, until nobody is left; and takes them in again.

A node that is to drain first says so to whoever asks for its health, and serves as ever for a while, for directors look
once a second or so: until they have, they lead phones here, and a connection that is refused or closed comes back.
Then it takes no new connections and no first bindings, and closes its connections one after the other: each phone
hears that at once and registers elsewhere. Connections on which somebody waits for an answer, or has just said what
nobody has read, come last. A phone that sends datagrams has no connection to close: it moves over when its next
REGISTER is answered 503.
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence, Set
from enum import Enum
from typing import Any, Protocol

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


class Pace:
    """How many things may be done at each look, when no second shall see more of them than so many."""

    def __init__(self, per_second: float) -> None:
        self._per_second = per_second
        self._most = max(1, int(per_second))
        self._allowed = self._looked_at = 0.0
        self._recent: deque[float] = deque()

    def begin(self, now: float) -> None:
        """Allow nothing yet."""
        self._allowed, self._looked_at = 0.0, now

    def look(self, now: float) -> int:
        """Return how many may be done now; what was missed because a look was late is hardly made up for."""
        gained = self._allowed + (now - self._looked_at) * self._per_second
        self._allowed, self._looked_at = min(gained, max(1.0, 2 * LOOK_SECONDS * self._per_second)), now
        while self._recent and self._recent[0] <= now - 1:
            self._recent.popleft()
        return max(0, min(int(self._allowed), self._most - len(self._recent)))

    def done(self, now: float) -> None:
        """Count one."""
        self._allowed -= 1
        self._recent.append(now)


class Stage(Enum):
    """How far it has come."""

    SERVING = "serving"
    ANNOUNCED = "announced"
    """All are told, and nothing else has changed."""
    LEAVING = "leaving"
    """Nobody new is taken, and connections are closed."""
    EMPTY = "empty"
    """The same, and there was no connection left."""


class Draining:
    """The draining of this node, which may begin and be undone any number of times."""

    _log = Logger()

    def __init__(self, wheel: TimerWheel, transports: Drained, waited_on: Callable[[], Set[Flow]],
                 config: ClusterConfig) -> None:
        """`waited_on` gives the connections on which somebody waits for an answer."""
        self.stage = Stage.SERVING
        self.on_change: list[Callable[[bool], object]] = []
        """Told when it begins, and when it is undone."""
        self.on_leave: list[Callable[[], object]] = []
        """Called when from now on nobody new is taken."""
        self.closed = 0
        """Connections closed since the start, for metrics."""
        self._wheel = wheel
        self._transports = transports
        self._waited_on = waited_on
        self._config = config
        self._queue: deque[Flow] = deque()
        self._pace = Pace(config.drain_flows_per_second)
        self._counted_at = self._impatient_at = 0.0
        self._next_step: Timer | None = None

    @property
    def is_draining(self) -> bool:
        """Whether this node is to get no new phones, which is what whoever asks for its health hears."""
        return self.stage is not Stage.SERVING

    @property
    def refuses_new(self) -> bool:
        """Whether only what hangs on an open connection is refreshed."""
        return self.stage in (Stage.LEAVING, Stage.EMPTY)

    @property
    def problem(self) -> str | None:
        """Why this node should get no work, for /readyz; None when it should. It counts the connections."""
        return f"draining, {self.left} connections are left" if self.is_draining else None

    @property
    def left(self) -> int:
        """How many connections there are, about to end or not."""
        return sum(flow.is_open for flow in self._transports.flows())

    def wish(self, drained: bool) -> None:
        """Begin, or undo it; harmless when it is so already."""
        if drained and not self.is_draining:
            self._begin()
        elif self.is_draining and not drained:
            self._undo()

    def stop(self) -> None:
        """Close no more connections: the process ends."""
        if self._next_step is not None:
            self._next_step.cancel()
            self._next_step = None

    # --- details

    def _begin(self) -> None:
        grace = self._config.drain_grace_seconds
        self.stage = Stage.ANNOUNCED
        self._log.info("draining: {count} connections, from {grace} s on {pace} are closed in a second",
                       count=self.left, grace=grace, pace=self._config.drain_flows_per_second)
        self._tell(self.on_change, True)
        if grace:
            self._next_step = self._wheel.call_later(grace, self._leave)
        else:
            self._leave()

    def _leave(self) -> None:
        now = self._wheel.now()
        self.stage = Stage.LEAVING
        self._impatient_at = now + self._config.drain_patience_seconds
        self._pace.begin(now)
        self._transports.stop_accepting()
        self._tell(self.on_leave)
        self._count(now)
        self._look_later()

    def _undo(self) -> None:
        try:
            if self.refuses_new:
                self._transports.accept_again()
        except OSError as problem:
            # Whoever wishes it says so again.
            self._log.error("still drained: {problem}", problem=str(problem))
            return
        self.stop()
        self.stage = Stage.SERVING
        self._queue.clear()
        self._log.info("not drained any more")
        self._tell(self.on_change, False)

    def _tell(self, listeners: Iterable[Callable[..., object]], *news: Any) -> None:
        for listener in listeners:
            try:
                listener(*news)
            except Exception:
                self._log.failure("while somebody was told of draining")

    def _look_later(self) -> None:
        self._next_step = self._wheel.call_later(LOOK_SECONDS, self._look)

    def _look(self) -> None:
        self._look_later()
        now = self._wheel.now()
        allowed = self._pace.look(now)
        if not self._queue and now >= self._counted_at + RECOUNT_SECONDS:
            self._count(now)
        if self._queue and allowed:
            self._close_some(allowed, now)

    def _count(self, now: float) -> None:
        """Queue all connections that there are, those that nobody needs first."""
        self._counted_at = now
        flows = sorted([flow for flow in self._transports.flows() if flow.is_open], key=lambda flow: flow.holds > 0)
        self._queue = deque(flows)
        if not flows and self.stage is Stage.LEAVING:
            self.stage = Stage.EMPTY
            self._log.info("drained: no connection is left")

    def _close_some(self, allowed: int, now: float) -> None:
        is_patient = now < self._impatient_at
        waited_on = self._waited_on() if is_patient else frozenset()
        while self._queue and allowed:
            flow = self._queue.popleft()
            if flow.is_open and flow not in waited_on and not (is_patient and flow.has_unread()):
                flow.close(REASON)
                self.closed += 1
                self._pace.done(now)
                allowed -= 1
