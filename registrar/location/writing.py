"""One write on its way to Redis: where it is, what happens to it, and what is done then."""

from collections import deque
from collections.abc import Callable
from enum import Enum, auto
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred

from registrar.location.contract import LocationUnavailable
from registrar.location.merging import Change

if TYPE_CHECKING:
    from registrar.location.keeping import Keeping


class State(Enum):
    """Where a write is."""

    SENT = auto()
    """Redis has been asked."""
    COVERING = auto()
    """The same, and because it takes long the journal writes, too."""
    BARE = auto()
    """Redis has been asked, and there is no journal for it."""
    WRITING = auto()
    """Only the journal is written: Redis has not answered."""
    LATE = auto()
    """In the journal and acknowledged; the answer of Redis may still come."""
    NEEDLESS = auto()
    """Redis has answered while the journal was being written."""
    ENDED = auto()


class Event(Enum):
    """What happens to it."""

    KEPT = auto()
    REFUSED = auto()
    UNANSWERED = auto()
    SLOW = auto()
    WRITTEN = auto()
    NOT_WRITTEN = auto()


class Action(Enum):
    """What is done then."""

    NOTHING = auto()
    ACKNOWLEDGE = auto()
    """It is kept in Redis."""
    REFUSE = auto()
    """Somebody else was first."""
    GIVE_UP = auto()
    """It cannot be kept anywhere."""
    WRITE = auto()
    """Write it into the journal."""
    OWE = auto()
    """It is kept in the journal."""
    SETTLE = auto()
    """What was owed has come to Redis after all."""
    LOOK = auto()
    """What is owed has to be joined with what Redis has."""
    CANCEL = auto()
    """The journal need not have it."""


TRANSITIONS: dict[tuple[State, Event], tuple[Action, State]] = {
    (State.SENT, Event.KEPT): (Action.ACKNOWLEDGE, State.ENDED),
    (State.SENT, Event.REFUSED): (Action.REFUSE, State.ENDED),
    (State.SENT, Event.UNANSWERED): (Action.WRITE, State.WRITING),
    (State.SENT, Event.SLOW): (Action.WRITE, State.COVERING),
    (State.COVERING, Event.KEPT): (Action.ACKNOWLEDGE, State.NEEDLESS),
    (State.COVERING, Event.REFUSED): (Action.REFUSE, State.NEEDLESS),
    (State.COVERING, Event.UNANSWERED): (Action.NOTHING, State.WRITING),
    (State.COVERING, Event.SLOW): (Action.NOTHING, State.COVERING),
    (State.COVERING, Event.WRITTEN): (Action.OWE, State.LATE),
    (State.COVERING, Event.NOT_WRITTEN): (Action.NOTHING, State.BARE),
    (State.BARE, Event.KEPT): (Action.ACKNOWLEDGE, State.ENDED),
    (State.BARE, Event.REFUSED): (Action.REFUSE, State.ENDED),
    (State.BARE, Event.UNANSWERED): (Action.GIVE_UP, State.ENDED),
    (State.BARE, Event.SLOW): (Action.NOTHING, State.BARE),
    (State.WRITING, Event.SLOW): (Action.NOTHING, State.WRITING),
    (State.WRITING, Event.WRITTEN): (Action.OWE, State.ENDED),
    (State.WRITING, Event.NOT_WRITTEN): (Action.GIVE_UP, State.ENDED),
    (State.LATE, Event.KEPT): (Action.SETTLE, State.ENDED),
    (State.LATE, Event.REFUSED): (Action.LOOK, State.ENDED),
    (State.LATE, Event.UNANSWERED): (Action.NOTHING, State.ENDED),
    (State.NEEDLESS, Event.WRITTEN): (Action.CANCEL, State.ENDED),
    (State.NEEDLESS, Event.NOT_WRITTEN): (Action.NOTHING, State.ENDED),
}

SLOW = LocationUnavailable("Redis does not answer soon")
"""The problem as long as no answer says another."""

ON_ITS_WAY = frozenset({State.SENT, State.COVERING, State.BARE, State.WRITING})
"""Nobody may build on the record yet."""


class Write:
    """One write on its way."""

    change: Change
    """What the journal has of it."""
    current: bytes | None
    """What Redis has instead, once it has refused."""
    problem: Exception = SLOW
    """Why it was not kept."""
    state = State.SENT
    is_usual = True
    """Nothing has happened to it since it was sent, and nobody waits for its end."""
    is_dirty = False
    """Somebody else has changed the record meanwhile."""
    waiting: deque[Deferred[None]] | None = None
    """Who waits until the record may be built on."""

    def __init__(self, keeping: "Keeping", key: bytes, old: bytes | None, new: bytes, kept: Callable[[bool], None],
                 since: float) -> None:
        """`since` is when it was sent, or a little before."""
        self.keeping = keeping
        self.key = key
        self.old = old
        self.new = new
        self.kept = kept
        self.since = since

    def answered(self, reply: Any) -> None:
        """Take Redis' answer."""
        self.keeping.answered(self, reply)


class Renewal(Write):
    """A write that nearly all are: the record of one binding, in which only numbers differ."""

    def answered(self, reply: Any) -> None:
        """Take Redis' answer; what it nearly always is takes as little as can be."""
        keeping = self.keeping
        if reply == 1 and self.is_usual:
            del keeping.writes[self.key]
            keeping.put_refreshed(self.key, self.new)
            keeping.tally.kept += 1
            self.kept(True)
        else:
            keeping.answered(self, reply)


class Saving(Write):
    """A write that somebody awaits."""

    def __init__(self, keeping: "Keeping", key: bytes, old: bytes | None, new: bytes, since: float) -> None:
        super().__init__(keeping, key, old, new, self._told, since)
        self.saved: Deferred[None] = Deferred()
        """Fires when it is kept, or fails with the problem."""

    def _told(self, is_kept: bool) -> None:
        if is_kept:
            self.saved.callback(None)
        else:
            self.saved.errback(self.problem)
