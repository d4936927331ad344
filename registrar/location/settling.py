"""What Redis has of a record, read and joined with what this node owes it; and all records again after a connection.

A record is read once for all who want it. What is owed is joined with it first: then everybody sees what we have
acknowledged. An answer that somebody has overtaken is asked for again.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from math import inf
from typing import TypeVar

from attrs import Factory, define
from twisted.internet.defer import Deferred, DeferredList
from twisted.logger import Logger
from twisted.python.failure import Failure

from registrar.location.changes import Changes
from registrar.location.contract import LocationUnavailable, Snapshot
from registrar.location.debts import RECENT_SECONDS, Debts, lost_change
from registrar.location.keeping import KEEP, PREFIX, Keeping
from registrar.location.level_one import LevelOne
from registrar.location.memory import is_refresh
from registrar.location.shared_form import keep_arguments, snapshot_of, to_shared, version_of_value
from registrar.records import aor_of_key
from rollcall.cluster.redis import Redis, RedisRefused, RedisUnavailable
from rollcall.net.wheel import Timer, TimerWheel
from rollcall.ops.coroutines import start

T = TypeVar("T")

MAX_ATTEMPTS = 8
"""Each time somebody else was first."""

READ_AT_ONCE = 250
"""Records that are looked at in one tick when all have to be: some thousand in a second leave others their turn."""

PAUSE_SECONDS = 0.05
"""Between them."""

RETRY_SECONDS = 1.0
"""How often it is seen whether something is owed that could be paid."""

RELEASE_SECONDS = 1.0
"""How long after a record has nothing on a connection of ours any more that is closed: a phone may be on its way back
to it."""


_BEFORE_SLOT, _AFTER_SLOT = slice(0, 4), slice(8, None)


@define
class Reading:
    """One record that is being read."""

    waiting: list[Deferred[Snapshot]] = Factory(list)
    is_dirty: bool = False
    """Somebody else has changed it meanwhile."""


@define
class Tally:
    """What was done."""

    read: int = 0
    joined: int = 0
    """Records in which something was missing that this node had acknowledged."""
    not_understood: int = 0


class Settling:
    """The reader of one node."""

    _log = Logger()

    def __init__(self, *, redis: Redis, level_one: LevelOne, debts: Debts, keeping: Keeping, wheel: TimerWheel,
                 changes: Changes, wall: Callable[[], float], node: str, epoch: int, max_contacts: int,
                 release_flow: Callable[[int, bytes], None]) -> None:
        self._redis = redis
        self._level_one = level_one
        self._debts = debts
        self._keeping = keeping
        self._changes = changes
        self._wheel = wheel
        self._wall = wall
        self._me = node, epoch
        self._max_contacts = max_contacts
        self._release_flow = release_flow
        self.readings: dict[bytes, Reading] = {}
        self.tally = Tally()
        self._away_since: float | None = None
        self._lost_at = 0.0
        self._pass: Deferred[None] | None = None
        # Whether there is reason for another pass since the last one began.
        self._is_wanted = False
        self._timer: Timer | None = None
        self._is_open = True

    def read(self, key: bytes) -> "Deferred[Snapshot]":
        """Return what Redis has of a record, joined with what is owed. Fails with LocationUnavailable."""
        reading = self.readings.get(key)
        waiter: Deferred[Snapshot] = Deferred()
        if reading is not None:
            reading.waiting.append(waiter)
            return waiter
        reading = self.readings[key] = Reading([waiter])
        start(self._read(key, reading), lambda failure: self._broke(key, failure))
        return waiter

    def look(self, key: bytes) -> None:
        """Read a record soon."""
        self.read(key).addErrback(self._not_read)

    def look_later(self) -> None:
        """See in a while whether what is owed can be paid."""
        if self._is_open and (self._timer is None or not self._timer.active):
            self._timer = self._wheel.call_later(RETRY_SECONDS, self._try_again)

    def changed(self, key: bytes) -> None:
        """Hear that somebody else has changed a record."""
        reading = self.readings.get(key)
        if reading is not None:
            reading.is_dirty = True
        record = self._level_one.records.get(key)
        if record is None:
            self._level_one.drop(key)
        elif key in self._debts:
            self._level_one.doubt(key)
            self.look_later()
        elif self._level_one.flows_of(record):
            self._level_one.doubt(key)
            self.look(key)
        else:
            self._level_one.drop(key)

    def disconnected(self) -> None:
        """Hear that a server cannot be asked any more."""
        if self._away_since is None:
            self._away_since = self._wall()

    def connected(self, may_have_lost: bool) -> None:
        """Hear that a server can be asked again: any record may have changed unseen, and some may be lost."""
        for reading in self.readings.values():
            reading.is_dirty = True
        if may_have_lost and not any(self._level_one.doubtful.values()):
            self._lost_at = self._wall() if self._away_since is None else self._away_since
        self._away_since = None
        self._level_one.doubt_all(may_have_lost)
        self.begin_pass()

    def begin_pass(self) -> None:
        """Pay what is owed, and look at all that is in doubt."""
        self._is_wanted = True
        if self._pass is None and self._is_open and (self._debts or self._level_one.doubtful):
            self._pass, self._is_wanted = Deferred(), False
            start(self._look_at_all(), self._pass_broke)

    def learn(self, key: bytes, value: bytes | None) -> Snapshot:
        """Take what Redis has now."""
        old = self._level_one.records.get(key)
        flows = self._level_one.flows_of(old) if old is not None else frozenset()
        snapshot = None if value is None else self._understood(key, value)
        if snapshot is None:
            if flows:
                # Nobody removes a record so; see `lost_change`.
                self._level_one.doubt(key)
            else:
                self._level_one.put_absent(key)
            return Snapshot()
        record = self._level_one.pack(key, snapshot)
        self._level_one.put(key, record)
        if old is not None and self._changes.is_watched(key) and not is_refresh(
                self._level_one.packing.unpack(old).bindings, snapshot.bindings):
            self._changes.tell(key)
        for flow_id in flows - self._level_one.flows_of(record):
            self._wheel.call_later(RELEASE_SECONDS, self._release, flow_id, key)
        return self._level_one.peek(key)

    async def stop(self) -> None:
        """Pay what can be paid at once; what is in doubt stays so."""
        self.begin_pass()
        self._is_open = False
        if self._pass is not None:
            await self._pass
        if self._timer is not None:
            self._timer.cancel()

    # --- one record

    async def _read(self, key: bytes, reading: Reading) -> None:
        try:
            snapshot = await self._settle(key, reading)
        except (RedisUnavailable, RedisRefused) as problem:
            del self.readings[key]
            for waiter in reading.waiting:
                waiter.errback(LocationUnavailable(str(problem)))
        else:
            del self.readings[key]
            for waiter in reading.waiting:
                waiter.callback(snapshot)

    def _broke(self, key: bytes, failure: Failure) -> None:
        self._log.failure("while {aor} was read", failure, aor=aor_of_key(key))
        reading = self.readings.pop(key, None)
        for waiter in () if reading is None else reading.waiting:
            waiter.errback(LocationUnavailable("a record could not be read"))

    def _not_read(self, failure: Failure) -> None:
        failure.trap(LocationUnavailable)
        self.look_later()

    async def _settle(self, key: bytes, reading: Reading) -> Snapshot:
        snapshot = Snapshot()
        for _ in range(MAX_ATTEMPTS):
            while key in self._debts and key in self._keeping.writes:
                # It may become something that is owed, too.
                await self._keeping.ended(key)
            reading.is_dirty = False
            value = await self._redis.ask(PREFIX + key, b"GET", PREFIX + key)
            self.tally.read += 1
            if key in self._keeping.writes:
                # Who writes it hears soon what there is.
                return self._seen(key, value)
            if not reading.is_dirty and key not in self._debts and self._is_as_known(key, value):
                self._level_one.confirm(key)
                return self._level_one.peek(key)
            value = await self._joined(key, value)
            if not reading.is_dirty:
                return self.learn(key, value)
            snapshot = self._seen(key, value)
        self._level_one.drop(key)
        return snapshot

    def _is_as_known(self, key: bytes, value: bytes | None) -> bool:
        """Say, cheaply, whether Redis has what stands here; the slots may differ."""
        record = self._level_one.records.get(key)
        if record is None or value is None:
            return False
        known = to_shared(self._level_one.packing, record)
        return known[_BEFORE_SLOT] == value[_BEFORE_SLOT] and known[_AFTER_SLOT] == value[_AFTER_SLOT]

    def _seen(self, key: bytes, value: bytes | None) -> Snapshot:
        return (None if value is None else self._understood(key, value)) or Snapshot()

    async def _joined(self, key: bytes, value: bytes | None) -> bytes | None:
        """Return what Redis has once nothing is missing there."""
        for _ in range(MAX_ATTEMPTS):
            new = self._missing(key, value)
            if new is None:
                self._debts.paid(key)
                return value
            record = self._level_one.pack(key, new)
            expected = 0 if value is None else version_of_value(value)
            arguments = keep_arguments(self._level_one.packing, record, expected, self._max_contacts,
                                       self._level_one.empty_until())
            reply = await self._redis.evaluate(KEEP, PREFIX + key, *arguments)
            if reply == 1:
                self.tally.joined += 1
                self._debts.paid(key)
                return to_shared(self._level_one.packing, record)
            value = reply
        self._log.critical("what was acknowledged for {aor} does not fit to what there is", aor=aor_of_key(key))
        self._debts.paid(key)
        return value

    def _missing(self, key: bytes, value: bytes | None) -> Snapshot | None:
        """Return what has to be kept in the place of `value`, or None for nothing."""
        now = self._wall()
        current = Snapshot()
        if value is not None:
            current = snapshot_of(value) or Snapshot(version_of_value(value))
        lost, version = None, current.version
        record = self._level_one.records.get(key)
        if record is not None and (value is None or key in self._level_one.doubtful):
            ours = self._level_one.packing.unpack(record)
            if key in self._debts:
                # That version is no number that Redis has given.
                ours = Snapshot(0, ours.bindings)
            is_lost = self._level_one.doubtful.get(key, False)
            lost = lost_change(ours, current, self._me, is_lost, self._lost_at, now)
            version = max(version, ours.version) if lost is not None else version
            if is_lost and not ours.bindings and not current.bindings and current.version < ours.version:
                # That all was removed must be known to whoever would put something back.
                return Snapshot(version + 1, (), ours.lost_at)
        return self._debts.joined(key, current, lost, version + 1, now)

    def _understood(self, key: bytes, value: bytes) -> Snapshot | None:
        snapshot = snapshot_of(value)
        if snapshot is None:
            self.tally.not_understood += 1
            self._log.error("what Redis has of {aor} is not understood", aor=aor_of_key(key), log_rationed=True)
        return snapshot

    def _release(self, flow_id: int, key: bytes) -> None:
        """Let go of a connection, unless the record has something on it again."""
        record = self._level_one.records.get(key)
        if record is None or flow_id not in self._level_one.flows_of(record):
            self._release_flow(flow_id, key)

    # --- all records

    async def _look_at_all(self) -> None:
        await self._pay_all()
        await self._look_at_doubtful()
        self._end_pass()
        if self._is_wanted:
            self.begin_pass()
        elif self._debts or self._level_one.doubtful:
            self.look_later()

    async def _pay_all(self) -> None:
        """Join all that is owed, the first first."""
        count, began = len(self._debts), self._wall()
        for keys in _parts(list(self._debts)):
            await self._read_all(key for key in keys if key in self._debts)
        if count > len(self._debts):
            self._log.info("{count} addresses-of-record were joined with what Redis has in {seconds:.1f} s, {left} are "
                           "left", count=count, seconds=self._wall() - began, left=len(self._debts))

    async def _look_at_doubtful(self) -> None:
        """Look at all records in doubt that came in here, and at new ones that may be lost; forget the others."""
        level_one = self._level_one
        for keys in _parts(list(level_one.doubtful)):
            if not self._is_open or self._redis.problem is not None:
                break
            ours = []
            for key in keys:
                is_taken_care_of = key in self._debts or key in self._keeping.writes
                if key not in level_one.doubtful or is_taken_care_of or not self._redis.can_ask(PREFIX + key):
                    continue
                since = self._lost_at - RECENT_SECONDS if level_one.doubtful[key] else inf
                if level_one.is_ours(level_one.records[key], since):
                    ours.append(key)
                else:
                    level_one.drop(key)
            await self._read_all(ours)
            pause: Deferred[None] = Deferred()
            self._wheel.call_later(PAUSE_SECONDS, pause.callback, None)
            await pause

    async def _read_all(self, keys: Iterable[bytes]) -> None:
        """Read those of these records whose server can be asked."""
        readings = [self.read(key) for key in keys if self._redis.can_ask(PREFIX + key)]
        if readings:
            await DeferredList(readings, consumeErrors=True)

    def _pass_broke(self, failure: Failure) -> None:
        self._log.failure("while records were joined", failure)
        self._end_pass()
        self.look_later()

    def _end_pass(self) -> None:
        done, self._pass = self._pass, None
        if done is not None:
            done.callback(None)

    def _try_again(self) -> None:
        if self._redis.problem is None:
            self.begin_pass()
        elif self._debts or self._level_one.doubtful:
            self.look_later()


def _parts(keys: Sequence[T]) -> Iterator[Sequence[T]]:
    """Yield the keys so many at a time."""
    left = iter(keys)
    while part := tuple(islice(left, READ_AT_ONCE)):
        yield part
