"""Bindings that all nodes share in Redis, below what this node knows of them: any node finds any phone.

A save is acknowledged when Redis has acknowledged it: one script per address-of-record sees there that nobody else was
first. What was read or written here is known here, until Redis says that it has changed. While Redis is slow or away,
saves go into a journal on disk and are joined with what Redis has when it is back, or fail with LocationUnavailable, as
`when_unavailable` says; what is known here is read all the time.

The parts: `level_one` is what is known here, `keeping` the writes on their way, `debts` what Redis still has to get,
`settling` who reads records and pays the debts.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from attrs import asdict
from twisted.internet.defer import Deferred, DeferredList, succeed
from twisted.logger import Logger

from registrar.bindings import Binding, unbind
from registrar.location.changes import Changes
from registrar.location.contract import Conflict, Counts, LocationUnavailable, Snapshot
from registrar.location.debts import Debts
from registrar.location.journal import Journal
from registrar.location.keeping import PREFIX, Keeping
from registrar.location.level_one import LevelOne
from registrar.location.memory import MemoryLocation
from registrar.location.settling import Settling
from registrar.location.shared_form import keep_arguments, snapshot_of
from registrar.records import aor_of_key, record_key
from rollcall.cluster.redis import Redis, RedisRefused, RedisUnavailable
from rollcall.net.wheel import TimerWheel

MAX_CONFLICTS = 8
"""So often the end of a connection is tried to be kept; after that it is owed."""

EMPTY_SECONDS = 60.0
"""Longer than anybody builds on what he has loaded."""

MAX_WAITING_PER_RECORD = 100
"""So many wait to write one record: far more than it has phones. Whoever sends without end is refused."""

MAX_ASSUMED = 10_000
"""Records that somebody builds on although they could not be read."""


class RedisLocation:
    """The LocationStore of a node of a cluster."""

    keeps_later = True
    _log = Logger()

    def __init__(self, *, wheel: TimerWheel, wall: Callable[[], float], journal: Journal, max_contacts: int,
                 max_waiting: int, max_records: int, max_journal_writes: int, journals: bool, slow_seconds: float,
                 node: str, epoch: int, release_flow: Callable[[int, bytes], None], changes: Changes,
                 one_contact_per_instance: bool = True, empty_seconds: float = EMPTY_SECONDS) -> None:
        """`release_flow` is told of a connection of ours that a record has nothing more on; without `journals`
        nothing is kept while Redis is away. A record that has lost its last binding stays for `empty_seconds`, so that
        its version goes on, and everybody knows when it was lost. `use` has to be called before the start.
        """
        self._wheel = wheel
        self._wall = wall
        self._journal = journal
        self._max_contacts = max_contacts
        self._max_waiting = max_waiting
        self._journals = journals
        self._slow_seconds = slow_seconds
        self._node = node
        self._epoch = epoch
        self._release_flow = release_flow
        self._changes = changes
        self._debts = Debts(journal, node, epoch, max_contacts, max_journal_writes, one_contact_per_instance)
        self._memory = MemoryLocation(wheel, wall, forgotten=self._lapsed, is_copy=True)
        self._level_one = LevelOne(self._memory, node, epoch, max_records, wall, empty_seconds,
                                   self._debts.__contains__)
        self.records, self.packing = self._memory.records, self._memory.packing
        self._open = False
        # Records that could not be read, and that somebody builds on nevertheless: only the journal takes that.
        self._assumed: set[bytes] = set()

    def use(self, redis: Redis) -> None:
        """Take what Redis is asked by, whose watcher we are."""
        self._redis = redis
        self._keeping = Keeping(
            redis=redis, level_one=self._level_one, debts=self._debts, journal=self._journal, changes=self._changes,
            wheel=self._wheel, wall=self._wall, slow_seconds=self._slow_seconds, journals=self._journals)
        self._settling = Settling(
            redis=redis, level_one=self._level_one, debts=self._debts, keeping=self._keeping, changes=self._changes,
            wheel=self._wheel, wall=self._wall, node=self._node, epoch=self._epoch, max_contacts=self._max_contacts,
            release_flow=self._release_flow)
        self._keeping.readings = self._settling
        self._can_ask = redis.can_ask
        self._writes, self._readings = self._keeping.writes, self._settling.readings

    # --- the store

    async def start(self) -> None:
        """Read the journal; Redis may be away."""
        left = await self._journal.open()
        for aor, change in left:
            self._debts.owe(record_key(aor), change)
        if left:
            self._log.info("{count} changes of {aors} addresses-of-record are left from before", count=len(left),
                           aors=len(self._debts))
        self._open = True
        self._settling.begin_pass()

    async def stop(self) -> None:
        """Wait for what has been accepted: until Redis has it, or the journal."""
        if not self._open:
            return
        self._open = False
        await self._keeping.drained()
        # This life of the node is over: so is all that hung on its connections, everywhere.
        self._debts.ended.clear()
        await self._settling.stop()
        self._keeping.stop()
        await self._memory.stop()
        await self._journal.close()

    @property
    def problem(self) -> str | None:
        """Why bindings cannot be kept now; the journal may do instead of Redis."""
        away = self._redis.problem
        if away is None:
            return None
        problem = self._journal.problem if self._journals else away
        return None if problem is None else f"bindings cannot be kept: {problem}"

    async def load(self, aor: str) -> Snapshot:
        """Return the bindings of `aor`. Raises LocationUnavailable when they are not known and cannot be read."""
        key = record_key(aor)
        if self._level_one.knows(key) and key not in self._debts:
            self._level_one.touch(key)
            return self._level_one.peek(key)
        try:
            return await self._settling.read(key)
        except LocationUnavailable:
            if key not in self.records:
                raise
            return self._level_one.peek(key)

    async def load_for_update(self, aor: str, only_adds: bool) -> Snapshot:
        """Return the bindings of `aor` once no write of them is on its way. Raises LocationUnavailable."""
        key = record_key(aor)
        while key in self._writes:
            if self._keeping.waiting_for(key) >= MAX_WAITING_PER_RECORD:
                raise LocationUnavailable("too many wait to write the same record")
            await self._keeping.ended(key)
        if self._level_one.knows(key) and key not in self._debts and key not in self._readings:
            self._level_one.touch(key)
            return self._level_one.peek(key)
        try:
            return await self._settling.read(key)
        except LocationUnavailable:
            is_known = key in self.records
            if not self._journals or not (is_known or only_adds):
                raise
            self._assume(key)
            return self._level_one.peek(key)

    async def save(self, aor: str, new: Snapshot) -> None:
        """Replace version `new.version - 1`; returns when Redis, or the journal, has it. Raises as `save` does."""
        await self._save(record_key(aor), new, self._journals)

    async def unbind(self, aor: str, node: str, epoch: int, flow_id: int) -> tuple[Binding, ...]:
        """Remove the bindings of `aor` that live on this flow and return them.

        Nothing brings them back: what cannot be removed in Redis now is removed here, and there later.
        """
        key = record_key(aor)
        if key in self._level_one.doubtful:
            # Who reads it now puts back what hangs on our connections.
            gone = self._unbind_here(key, node, epoch, flow_id)
            self._settling.look(key)
            return gone
        for _ in range(MAX_CONFLICTS):
            try:
                old = await self.load_for_update(aor, False)
                new = old.without_flow(unbind(old.bindings, node, epoch, flow_id), self._wall())
                if len(new.bindings) == len(old.bindings):
                    return ()
                await self._save(key, new, False)
                return _removed(old, new)
            except Conflict:
                continue
            except LocationUnavailable as problem:
                self._log.debug("{aor} is unbound later: {problem}", aor=aor, problem=str(problem))
                break
        return self._unbind_here(key, node, epoch, flow_id)

    def takes_at_once(self, key: bytes, connection_bound: bool) -> bool:
        """Say whether `keep` may be called: no other write is on its way, and nothing has to be read first."""
        writes, debts = self._writes, self._debts
        return (self._open and key not in writes and key not in self._readings and key not in debts.changes
                and key not in debts.ended and key not in self._level_one.doubtful and len(writes) < self._max_waiting)

    def keep(self, key: bytes, old: bytes | None, new: bytes, transport: str, kept: Callable[[bool], None]) -> None:
        """Replace a record by its next version in Redis, or with no `old` one add that of a first binding."""
        self._keeping.send_next(key, old, new, kept)

    def counts(self) -> Counts:
        """Return how much this node knows of."""
        return self._memory.counts()

    async def pages(self, size: int = 500) -> AsyncIterator[tuple[tuple[str, Snapshot], ...]]:
        """Yield what all nodes have. Raises LocationUnavailable."""
        try:
            async for keys in self._redis.scan(PREFIX + b"*"):
                keys = list(dict.fromkeys(keys))
                for start in range(0, len(keys), size):
                    page = await self._page(keys[start:start + size])
                    if page:
                        yield page
        except (RedisUnavailable, RedisRefused) as problem:
            raise LocationUnavailable(str(problem)) from problem

    def totals(self) -> dict[str, int]:
        """Return how often what has happened since the start, for metrics."""
        writes = {f"write_{name}": value for name, value in asdict(self._keeping.tally).items()}
        reads = {f"record_{name}": value for name, value in asdict(self._settling.tally).items()}
        journal = {"journal_written": self._journal.appended, "journal_failed": self._journal.failed}
        return writes | reads | journal

    def levels(self) -> dict[str, int]:
        """Return what waits now, for metrics."""
        return {
            "writes": len(self._writes), "reads": len(self._readings), "owed": len(self._debts),
            "in_doubt": len(self._level_one.doubtful), "journal_records": self._journal.aors,
            "journal_bytes": self._journal.size,
        }

    # --- what Redis says

    def connected(self, server: str, run_id: str, may_have_lost: bool) -> None:
        """Hear that a server can be asked from now on."""
        if may_have_lost:
            self._log.warn("Redis at {server} may have lost what was written shortly before: it is put back",
                           server=server)
        self._lose_track(may_have_lost)

    def disconnected(self, server: str, why: str) -> None:
        """Hear that a server cannot be asked any more."""
        self._settling.disconnected()

    def invalidated(self, keys: Sequence[bytes] | None) -> None:
        """Hear that somebody else has changed these keys."""
        if keys is None:
            self._log.warn("Redis has been emptied: what this node has acknowledged is put back")
            self._lose_track(True)
            return
        for name in keys:
            if name.startswith(PREFIX):
                key = name[len(PREFIX):]
                self._keeping.overtaken(key)
                self._settling.changed(key)
                self._changes.tell(key)

    # --- how

    def _save(self, key: bytes, new: Snapshot, journals: bool) -> "Deferred[None]":
        if not self._open:
            raise LocationUnavailable("the bindings' store is closed")
        if len(self._writes) >= self._max_waiting:
            raise LocationUnavailable("too many bindings wait to be written")
        version = self._level_one.version(key)
        if key in self._writes or key in self._readings or new.version != version + 1:
            raise Conflict(aor_of_key(key))
        is_assumed = key in self._assumed or key in self._debts
        if key in self._level_one.doubtful and not is_assumed:
            raise Conflict(aor_of_key(key))
        self._assumed.discard(key)
        old = self.records.get(key)
        if old is None and not new.bindings:
            return succeed(None)
        record = self._level_one.pack(key, new)
        if is_assumed or not self._can_ask(PREFIX + key):
            if not journals:
                raise LocationUnavailable(self._redis.problem or "bindings cannot be kept now")
            if not self._debts.may_owe(key):
                raise LocationUnavailable("too much is owed of the same record")
            return self._keeping.write(key, old, record)
        arguments = keep_arguments(self.packing, record, version, self._max_contacts,
                                   self._level_one.empty_until())
        return self._keeping.send(key, old, record, arguments, journals)

    def _unbind_here(self, key: bytes, node: str, epoch: int, flow_id: int) -> tuple[Binding, ...]:
        """Remove bindings from what is known here, and owe that to Redis."""
        if not self._debts.owe_end(key, flow_id, self._wall()):
            self._log.warn("too much waits for Redis: {aor} stays bound to a connection that has ended",
                           aor=aor_of_key(key), log_rationed=True)
        self._settling.look_later()
        old = self._level_one.peek(key)
        new = old.without_flow(unbind(old.bindings, node, epoch, flow_id), self._wall())
        if len(new.bindings) == len(old.bindings):
            return ()
        self._level_one.put_owed(key, self._level_one.pack(key, new))
        self._changes.tell(key)
        return _removed(old, new)

    def _assume(self, key: bytes) -> None:
        """Let somebody build on what is known here, or on nothing."""
        if len(self._assumed) >= MAX_ASSUMED:
            self._assumed.clear()
        self._assumed.add(key)

    def _lose_track(self, may_have_lost: bool) -> None:
        """Trust nothing that is known here any more."""
        self._assumed.clear()
        self._keeping.overtaken_all()
        self._settling.connected(may_have_lost)
        self._changes.tell_all()

    def _lapsed(self, key: bytes) -> None:
        self._level_one.lapsed(key)
        self._changes.tell(key)

    async def _page(self, keys: Sequence[bytes]) -> tuple[tuple[str, Snapshot], ...]:
        asked: list[Deferred[Any]] = [self._redis.ask(key, b"GET", key) for key in keys]
        results = await DeferredList(asked, consumeErrors=True)
        page = []
        for key, (is_well, value) in zip(keys, results, strict=True):
            if not is_well:
                value.raiseException()
            snapshot = None if value is None else snapshot_of(value)
            if snapshot is not None and snapshot.bindings:
                page.append((aor_of_key(key[len(PREFIX):]), snapshot))
        return tuple(page)


def _removed(old: Snapshot, new: Snapshot) -> tuple[Binding, ...]:
    return tuple([binding for binding in old.bindings if binding not in new.bindings])
