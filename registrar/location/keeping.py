"""Writes on their way to Redis, and what becomes of them.

All of a reactor's turn leave together, each is acknowledged alone. At most one of a record is on its way: who would
build on it before it is acknowledged would build on what may never be. A write that Redis does not acknowledge, or not
soon, goes into the journal and is acknowledged when that is on disk; whether Redis has executed it is unknown then, so
it is owed until it has been joined with what Redis has.
"""

from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from attrs import define
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from registrar.location.changes import Changes
from registrar.location.contract import Conflict, LocationUnavailable
from registrar.location.debts import Debts
from registrar.location.journal import Journal
from registrar.location.level_one import LevelOne, is_renewal
from registrar.location.memory import is_refresh
from registrar.location.merging import change_between
from registrar.location.shared_form import KEEP_TEXT, to_shared
from registrar.location.writing import ON_ITS_WAY, TRANSITIONS, Action, Event, Renewal, Saving, State, Write
from registrar.records import aor_of_key
from rollcall.cluster.redis import Redis, RedisRefused, Script
from rollcall.net.wheel import Timer, TimerWheel

KEEP = Script(KEEP_TEXT)
PREFIX = b"loc:"
"""What the keys of records begin with in Redis."""

SLOW_TICKS = 8
"""It is looked for slow writes so often in the time that makes one slow, and each may be taken for so much older."""


@define
class Tally:
    """How many writes ended how."""

    kept: int = 0
    refused: int = 0
    journaled: int = 0
    given_up: int = 0
    overtaken: int = 0
    """Kept, and changed by somebody else before the answer was here."""


class Readings(Protocol):
    """Who reads records, as writes need him."""

    def look(self, key: bytes) -> None:
        """Read a record soon, and join what is owed with it."""

    def look_later(self) -> None:
        """See in a while whether what is owed can be paid."""

    def learn(self, key: bytes, value: bytes | None) -> object:
        """Take what Redis has now."""

    def changed(self, key: bytes) -> None:
        """Hear that somebody else has changed a record."""


class Keeping:
    """The writes of one node."""

    _log = Logger()

    def __init__(self, *, redis: Redis, level_one: LevelOne, debts: Debts, journal: Journal, changes: Changes,
                 wheel: TimerWheel, wall: Callable[[], float], slow_seconds: float, journals: bool) -> None:
        """Without `journals` what the short way keeps is not covered by the journal; other writes say so themselves."""
        self._redis = redis
        self._run = redis.run
        self._level_one = level_one
        self._packing = level_one.packing
        self.put_refreshed = level_one.put_refreshed
        self._debts = debts
        self._journal = journal
        self._changes = changes
        self._wheel = wheel
        self._wall = wall
        self._slow_seconds = slow_seconds
        self._journals = journals
        self.readings: Readings | None = None
        self.writes: dict[bytes, Write] = {}
        """Those whose record may not be built on yet, the first first."""
        self.tally = Tally()
        self._timer: Timer | None = None
        self._looked_at = 0.0
        self._drained: list[Deferred[None]] = []
        self._actions: dict[Action, Callable[[Write], None]] = {
            Action.NOTHING: lambda write: None, Action.ACKNOWLEDGE: self._acknowledge, Action.REFUSE: self._refuse,
            Action.GIVE_UP: self._give_up, Action.WRITE: self._write, Action.OWE: self._owe,
            Action.SETTLE: self._settle, Action.LOOK: self._look, Action.CANCEL: self._cancel}

    def send(self, key: bytes, old: bytes | None, new: bytes, arguments: tuple[bytes | int, ...],
             is_covered: bool) -> "Deferred[None]":
        """Ask Redis to replace a record; the journal is there for one that is covered."""
        if self._timer is None:
            self._arm()
        write = self.writes[key] = Saving(self, key, old, new, self._looked_at)
        if not is_covered:
            write.state, write.is_usual = State.BARE, False
        self._run(KEEP, PREFIX + key, arguments, write.answered)
        return write.saved

    def send_next(self, key: bytes, old: bytes | None, new: bytes, kept: Callable[[bool], None]) -> None:
        """Ask Redis to replace a record by the next version, which has one binding and differs in numbers only."""
        if self._timer is None:
            self._arm()
        write = self.writes[key] = (Write if old is None else Renewal)(self, key, old, new, kept, self._looked_at)
        if not self._journals:
            write.state = State.BARE
        self._run(KEEP, PREFIX + key, (to_shared(self._packing, new),), write.answered)

    def write(self, key: bytes, old: bytes | None, new: bytes) -> "Deferred[None]":
        """Keep a record in the journal only: Redis is away, or what the record builds on has not come to it yet."""
        write = self.writes[key] = Saving(self, key, old, new, self._looked_at)
        write.state, write.is_usual = State.WRITING, False
        write.problem = LocationUnavailable(self._redis.problem or "what they build on has not come to Redis yet")
        self._write(write)
        return write.saved

    def answered(self, write: Write, reply: Any) -> None:
        """Take Redis' answer to a write."""
        if reply == 1:
            self._happened(write, Event.KEPT)
        elif reply is None or isinstance(reply, bytes):
            write.current = reply
            self._happened(write, Event.REFUSED)
        else:
            write.problem = reply
            if isinstance(reply, RedisRefused):
                self._log.error("Redis does not keep bindings: {problem}", problem=str(reply), log_rationed=True)
            self._happened(write, Event.UNANSWERED)

    def ended(self, key: bytes) -> "Deferred[None]":
        """Return what fires when no write of a record is on its way."""
        ended: Deferred[None] = Deferred()
        write = self.writes[key]
        write.is_usual = False
        if write.waiting is None:
            write.waiting = deque()
        write.waiting.append(ended)
        return ended

    def waiting_for(self, key: bytes) -> int:
        """Return how many wait for the end of a record's write."""
        return len(self.writes[key].waiting or ())

    def drained(self) -> "Deferred[None]":
        """Return what fires when no write at all is on its way."""
        drained: Deferred[None] = Deferred()
        self._drained.append(drained)
        for write in self.writes.values():
            write.is_usual = False
        self._tell_drained()
        return drained

    def overtaken(self, key: bytes) -> None:
        """Hear that somebody else has changed a record."""
        write = self.writes.get(key)
        if write is not None:
            write.is_dirty, write.is_usual = True, False

    def overtaken_all(self) -> None:
        """Hear that somebody else may have changed any."""
        for write in self.writes.values():
            write.is_dirty, write.is_usual = True, False

    def stop(self) -> None:
        """Wait for nothing any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # --- what happens

    def _happened(self, write: Write, event: Event) -> None:
        action, write.state = TRANSITIONS[write.state, event]
        write.is_usual = False
        is_over = write.state not in ON_ITS_WAY and self.writes.get(write.key) is write
        if is_over:
            del self.writes[write.key]
        self._actions[action](write)
        if is_over:
            self._wake(write)
            self._tell_drained()

    def _wake(self, write: Write) -> None:
        """Tell who waits for the end of a write, one after the other, until somebody writes the record again."""
        waiting, write.waiting = write.waiting, None
        while waiting:
            following = self.writes.get(write.key)
            if following is not None:
                following.is_usual = False
                waiting.extend(following.waiting or ())
                following.waiting = waiting
                return
            waiting.popleft().callback(None)

    def _acknowledge(self, write: Write) -> None:
        self.tally.kept += 1
        if write.is_dirty:
            self.tally.overtaken += 1
            self._level_one.put(write.key, write.new)
            assert self.readings is not None
            self.readings.changed(write.key)
        else:
            self._take(write)
        write.kept(True)

    def _take(self, write: Write) -> None:
        """Have the new record as the true one, and tell of it."""
        if write.old is None:
            self._level_one.put(write.key, write.new)
            self._changes.tell(write.key)
        elif is_renewal(write.old, write.new):
            self._level_one.put_refreshed(write.key, write.new)
            if self._changes.is_watched(write.key):
                self._tell(write)
        else:
            self._level_one.put(write.key, write.new)
            self._tell(write)

    def _tell(self, write: Write) -> None:
        unpack = self._level_one.packing.unpack
        if write.old is None or not is_refresh(unpack(write.old).bindings, unpack(write.new).bindings):
            self._changes.tell(write.key)

    def _refuse(self, write: Write) -> None:
        self.tally.refused += 1
        assert self.readings is not None
        if write.is_dirty:
            self.readings.changed(write.key)
        else:
            self.readings.learn(write.key, write.current)
        write.problem = Conflict(aor_of_key(write.key))
        write.kept(False)

    def _give_up(self, write: Write) -> None:
        self.tally.given_up += 1
        write.problem = LocationUnavailable(str(write.problem))
        write.kept(False)

    def _write(self, write: Write) -> None:
        unpack = self._level_one.packing.unpack
        old = () if write.old is None else unpack(write.old).bindings
        write.change = change_between(old, unpack(write.new).bindings, self._wall())
        appending = self._journal.append(aor_of_key(write.key), write.change)
        appending.addCallbacks(lambda _: self._happened(write, Event.WRITTEN),
                               lambda failure: self._not_written(write, failure))
        appending.addErrback(lambda failure: self._log.failure("after a write into the journal", failure))

    def _not_written(self, write: Write, failure: Failure) -> None:
        write.problem = LocationUnavailable(failure.getErrorMessage())
        self._happened(write, Event.NOT_WRITTEN)

    def _owe(self, write: Write) -> None:
        self.tally.journaled += 1
        if not self._debts:
            self._log.warn("bindings go into the journal: {why}", why=str(write.problem), log_rationed=True)
        self._debts.owe(write.key, write.change)
        self._level_one.put_owed(write.key, write.new)
        self._tell(write)
        assert self.readings is not None
        self.readings.look_later()
        write.kept(True)

    def _settle(self, write: Write) -> None:
        if self._debts.owes_only(write.key, write.change):
            self._debts.paid(write.key)
        else:
            self._look(write)

    def _look(self, write: Write) -> None:
        if write.key in self._debts:
            assert self.readings is not None
            self.readings.look(write.key)

    def _cancel(self, write: Write) -> None:
        if write.key not in self._debts:
            self._journal.done((aor_of_key(write.key),))

    def _tell_drained(self) -> None:
        if self._drained and not self.writes:
            drained, self._drained = self._drained, []
            for each in drained:
                each.callback(None)

    def _arm(self) -> None:
        self._looked_at = self._wall()
        self._timer = self._wheel.call_later(self._slow_seconds / SLOW_TICKS, self._look_for_slow)

    def _look_for_slow(self) -> None:
        """See which writes take long; nothing waits for it while there are none."""
        self._timer = None
        since = self._wall() - self._slow_seconds
        slow = []
        for write in self.writes.values():
            if write.since > since:
                break
            slow.append(write)
        for write in slow:
            self._happened(write, Event.SLOW)
        if self.writes:
            self._arm()
