"""Whether a node lives, by its answers: one missed answer makes it suspect, several in a row mean that it is down.

A node that comes back has to answer for a while before it is as good as others: until then it gets calls only when
nobody else can have them.
"""

from enum import Enum

from balancer.nodes.config import NodesConfig
from rollcall.media.snapshot import NodeState


class Phase(Enum):
    """What is known of a node's life."""

    NEW = "new"
    """It has not been asked yet."""
    UP = "up"
    MISSING = "missing"
    """It owes answers, though not so many that it is believed to be dead."""
    DOWN = "down"
    RETURNING = "returning"
    """It was down, or has begun anew, and answers."""


class Event(Enum):
    """What happens to a node."""

    ANSWER = "answer"
    SETTLED = "settled"
    """An answer, the last that a returning node needs."""
    MISS = "miss"
    LAST_MISS = "last miss"
    """A missed answer, the last that is waited for."""
    RESTART = "restart"
    """An answer of another life of its process."""


# What is in no row changes nothing.
TRANSITIONS: dict[tuple[Phase, Event], Phase] = {
    (Phase.NEW, Event.ANSWER): Phase.UP,
    (Phase.NEW, Event.MISS): Phase.MISSING,
    (Phase.NEW, Event.LAST_MISS): Phase.DOWN,
    (Phase.UP, Event.MISS): Phase.MISSING,
    (Phase.UP, Event.LAST_MISS): Phase.DOWN,
    (Phase.UP, Event.RESTART): Phase.RETURNING,
    (Phase.MISSING, Event.ANSWER): Phase.UP,
    (Phase.MISSING, Event.LAST_MISS): Phase.DOWN,
    (Phase.MISSING, Event.RESTART): Phase.RETURNING,
    (Phase.DOWN, Event.ANSWER): Phase.RETURNING,
    (Phase.DOWN, Event.RESTART): Phase.RETURNING,
    (Phase.RETURNING, Event.SETTLED): Phase.UP,
    (Phase.RETURNING, Event.MISS): Phase.DOWN,
    (Phase.RETURNING, Event.LAST_MISS): Phase.DOWN,
}

STATES: dict[Phase, NodeState] = {
    Phase.NEW: NodeState.SUSPECT,
    Phase.UP: NodeState.UP,
    Phase.MISSING: NodeState.SUSPECT,
    Phase.DOWN: NodeState.DOWN,
    Phase.RETURNING: NodeState.SUSPECT,
}


class Health:
    """One node's life."""

    def __init__(self, config: NodesConfig) -> None:
        self.phase = Phase.NEW
        self.why = "it has not been asked yet"
        """Why it is not up; empty when it is."""
        self._config = config
        self._misses = 0
        self._refusals = 0
        self._returned_at = 0.0

    @property
    def state(self) -> NodeState:
        """What others are told: UP, SUSPECT or DOWN."""
        return STATES[self.phase]

    @property
    def is_owing(self) -> bool:
        """Whether it has missed an answer, and is to be asked again soon."""
        return 0 < self._misses < self._config.down_after and self.phase is not Phase.DOWN

    def answered(self, now: float, is_another_life: bool = False) -> None:
        """It has answered; `is_another_life` says that its process has begun anew since the last answer."""
        self._misses = self._refusals = 0
        has_settled = self.phase is Phase.RETURNING and now - self._returned_at >= self._config.return_seconds
        before = self.phase
        if is_another_life:
            self._returned_at = now
            self._take(Event.RESTART)
        else:
            self._take(Event.SETTLED if has_settled else Event.ANSWER)
        if self.phase is Phase.RETURNING and (before is not Phase.RETURNING or is_another_life):
            self._returned_at = now
            self.why = "it was started again" if is_another_life else "it has come back just now"
        elif self.phase is Phase.UP:
            self.why = ""

    def missed(self, why: str, is_refused: bool = False) -> None:
        """It has not answered; `is_refused` says that nobody listens there."""
        self._misses += 1
        self._refusals = self._refusals + 1 if is_refused else 0
        is_last = self._misses >= self._config.down_after or self._refusals >= self._config.refused_after
        self._take(Event.LAST_MISS if is_last else Event.MISS)
        self.why = why

    def _take(self, event: Event) -> None:
        self.phase = TRANSITIONS.get((self.phase, event), self.phase)
