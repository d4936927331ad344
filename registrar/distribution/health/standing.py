"""How a node stands in the eyes of those who spread phones: its weight, and whether and why it wants none.

Several workers of one machine are one place for a director that checks the machine: whichever is asked answers for all
of them, from the leases that they have in Redis. Without leases it answers for itself.
"""

from collections.abc import Callable, Iterable, Sequence

from attrs import evolve, frozen
from twisted.logger import Logger

from registrar.distribution.health.weight import Weight
from rollcall.cluster.nodes import Node
from rollcall.net.wheel import Timer, TimerWheel

LOOK_SECONDS = 0.25
"""How often it is seen whether the weight has come to 0 or left it: all are told that at once, not by and by."""

GIVING_AWAY = 4
"""A node that closes connections so that their phones go elsewhere wants so many times fewer new ones: else most of
these phones would come back to it, or go to others that give away."""

STARTING = "starting"


@frozen
class State:
    """Whether new phones may come, and if not, why."""

    draining: bool = False
    not_ready: str = ""
    """Why it cannot serve; empty when it can."""
    has_served: bool = True
    """Whether it has been ready before, so that phones may be connected to it."""


class Standing:
    """The weight and the state of this node, and of the machine that it is a worker of."""

    _log = Logger()

    def __init__(self, wheel: TimerWheel, weight: Weight, connections: Callable[[], int],
                 draining: Callable[[], bool], nodes: Callable[[], Sequence[Node]] = tuple, me: str = "",
                 of: str = "") -> None:
        """`connections` counts those of phones here.

        `nodes` gives all that have leases, none while they cannot be known; `me` is our name there, and `of` that of
        the registrar that we are a worker of, empty when it has no workers.
        """
        self.not_ready: Callable[[], str | None] = lambda: STARTING
        """Why this node can serve nobody now; None when it can. Drained is another matter."""
        self.gives_away: Callable[[], bool] = lambda: False
        """Whether connections are closed here so that their phones go to other nodes."""
        self.on_change: list[Callable[[], object]] = []
        """Called when the weight has come to 0, and when it has left it."""
        self._wheel = wheel
        self._weight = weight
        self._connections = connections
        self._draining = draining
        self._nodes = nodes
        self._me = me
        self._of = of
        self._takes_phones = self._has_served = False
        self._next_look: Timer | None = None

    def start(self) -> None:
        """Begin to see when the weight comes to 0 or leaves it."""
        if self._next_look is None:
            self._look()

    def stop(self) -> None:
        """See it no longer."""
        if self._next_look is not None:
            self._next_look.cancel()
            self._next_look = None

    # --- this node

    def weight(self) -> int:
        """Return the share of new phones, from 0 to 100, that this node should have of what it can carry."""
        weight = self._weight.of(self._connections(), bool(self._why_not_ready()), self._draining())
        return max(1, weight // GIVING_AWAY) if weight and self.gives_away() else weight

    def state(self) -> State:
        """Return whether this node wants new phones."""
        return State(self._draining(), self._why_not_ready(), self._has_served)

    # --- the machine

    def machine_weight(self) -> int:
        """Return the weight of all workers here, each counted by what it is to carry."""
        rest = [(node.weight, node.capacity) for node in self._rest()]
        return mean_weight([(self.weight(), self._weight.capacity), *rest])

    def machine_state(self) -> State:
        """Return whether any worker here wants new phones."""
        own, rest = self.state(), self._rest()
        if any(not node.draining for node in rest):
            return State()
        # A drained one is there at least: what hangs on it goes on.
        if rest and own.not_ready:
            return State(draining=True)
        # Our own lease is among them: when there is none at all nothing is known, and siblings may have phones.
        return evolve(own, has_served=True) if self._of and not self._nodes() else own

    # --- details

    def _why_not_ready(self) -> str:
        why = self.not_ready() or ""
        self._has_served |= not why
        return why

    def _rest(self) -> list[Node]:
        """Return the leases of the other workers of this machine."""
        if not self._of:
            return []
        return [node for node in self._nodes() if node.of == self._of and node.node != self._me]

    def _look(self) -> None:
        self._next_look = self._wheel.call_later(LOOK_SECONDS, self._look)
        takes_phones = self.weight() > 0
        if takes_phones is self._takes_phones:
            return
        self._takes_phones = takes_phones
        self._log.info("new phones are taken" if takes_phones else "no new phones are taken: {why}", why=self._why())
        for listener in self.on_change:
            try:
                listener()
            except Exception:
                self._log.failure("while somebody was told of the weight")

    def _why(self) -> str:
        state = self.state()
        return "drained" if state.draining else state.not_ready or "it carries as many as it is to"


def mean_weight(parts: Iterable[tuple[int, int]]) -> int:
    """Return the weight of several together, given each one's weight and capacity; 0 only when all are 0."""
    known = [(weight, max(1, capacity)) for weight, capacity in parts]
    total = sum(capacity for _, capacity in known)
    mean = sum(weight * capacity for weight, capacity in known) / total if total else 0.0
    return max(1, round(mean)) if mean > 0 else 0
