"""Bindings in memory above an SQLite file: nothing that was acknowledged is lost with the process.

Reads are answered from memory. A save is acknowledged when the transaction with it is committed; all saves that come
while one is being written go into the next one (group commit). Bindings that live on a connection end with the process
and are not written: what only refreshes them costs no disk at all.

What is accepted is seen by readers at once, a little before it is acknowledged. When it cannot be written, it is undone
in memory too, together with what was built on it ("all tentative binding updates MUST be removed", RFC 3261 §10.3),
and all of these saves fail with LocationUnavailable. The next save tries the disk again.
"""

import sqlite3
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable

from attrs import Factory, define
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from registrar.bindings import Binding, unbind
from registrar.location.changes import Changes
from registrar.location.contract import Counts, LocationUnavailable, Snapshot
from registrar.location.memory import MemoryLocation
from registrar.location.packing import is_kept_on_connection
from registrar.location.rows import Rows
from registrar.location.writer import Writer
from registrar.records import aor_of_key
from rollcall.net.wheel import TimerWheel

MAX_WAITING = 20_000
"""Saves that may wait for the disk: more than any disk commits in the time that a phone waits for its answer."""

READ_AT_ONCE = 1000
"""Rows that are read at the start before others have their turn."""

TOLD_AT_ONCE = 50
"""Saves that are acknowledged in one turn of the reactor, each of which sends an answer: some milliseconds."""

RETRY_SECONDS = 30.0
"""How long after a failed write the store says so."""

FETCHED_AT_ONCE = 50
"""Rows read in one go: whoever waited for them goes on in one turn of the reactor."""


@define
class _Write:
    """What one transaction does to one address-of-record."""

    kept: tuple[Binding, ...]
    """What is written."""
    bindings: tuple[Binding, ...]
    """What is acknowledged when it is written."""
    waiters: list[Deferred[None]] = Factory(list)


_Batch = dict[str, _Write]


class SqliteLocation:
    """Keeps bindings in memory and, unless they live on a connection, in an SQLite file."""

    keeps_later = False
    _log = Logger()

    def __init__(self, rows: Rows, writer: Writer, wheel: TimerWheel, wall: Callable[[], float],
                 max_waiting: int = MAX_WAITING, shared: bool = False,
                 forgotten: Callable[[bytes], None] = lambda key: None, changes: Changes | None = None) -> None:
        """`writer` is this store's own: no two of its calls may run at a time.

        A `shared` file is that of several processes, each of which writes what it holds: nothing is read at the start,
        and somebody else has claimed it. `forgotten` is told the key of each record that time has ended, and `changes`
        of all but plain refreshes.
        """
        self._rows = rows
        self._writer = writer
        self._wall = wall
        self._max_waiting = max_waiting
        self._shared = shared
        self._memory = MemoryLocation(wheel, wall, self._lapsed, forgotten, changes)
        self.records, self.packing = self._memory.records, self._memory.packing
        self._open = False
        self._failing = False
        self._failed_at = 0.0
        self._running: _Batch = {}
        self._next: _Batch = {}
        self._waiting = 0
        # The last acknowledged bindings of each address-of-record that a batch changes.
        self._acknowledged: dict[str, tuple[Binding, ...]] = {}
        self._drained: list[Deferred[None]] = []
        self._fetching: list[tuple[str, Deferred[tuple[Binding, ...]]]] = []
        self._wanted: list[tuple[str, Deferred[tuple[Binding, ...]]]] = []
        # Who is still to be told what became of his save, in order: None when all is well.
        self._untold: deque[tuple[Deferred[None], str | None]] = deque()
        self._telling = False

    async def start(self) -> None:
        """Read what was kept before. Raises LocationUnavailable."""
        self._writer.start()
        try:
            if self._shared:
                await self._writer.run(self._rows.open)
            else:
                self._log.info("{count} addresses-of-record have bindings from before", count=await self._claim())
        except (sqlite3.Error, OSError) as problem:
            self._rows.leave()
            self._writer.stop()
            raise LocationUnavailable(f"{self._rows.path}: {problem}") from problem
        self._open = True

    async def _claim(self) -> int:
        """Make the file ours alone and read it, in parts: a million bindings as objects would take a gigabyte."""
        self._rows.claim()
        now = self._wall()
        await self._writer.run(self._rows.delete_lapsed, now)
        count, after = 0, ""
        while True:
            rows = await self._writer.run(self._rows.read_after, after, READ_AT_ONCE, now)
            for after, bindings in rows:
                if bindings:
                    self._memory.put(after, Snapshot(1, bindings))
                    count += 1
            if len(rows) < READ_AT_ONCE:
                return count

    async def stop(self) -> None:
        """Write what has been accepted, then close the file."""
        if not self._open:
            return
        self._open = False
        wanted, self._wanted = self._wanted, []
        for _, fetched in wanted:
            fetched.errback(LocationUnavailable("the bindings' store is closed"))
        if self._running or self._telling:
            drained: Deferred[None] = Deferred()
            self._drained.append(drained)
            await drained
        await self._memory.stop()
        await self._writer.run(self._rows.leave)
        self._writer.stop()

    @property
    def problem(self) -> str | None:
        """Why this node should get no registrations now; None half a minute after a failed write, to try again."""
        if self._failing and self._wall() - self._failed_at < RETRY_SECONDS:
            return "bindings cannot be written"
        return None

    async def load(self, aor: str) -> Snapshot:
        """Return the bindings of `aor`, those that are being written included."""
        return self._memory.peek(aor)

    async def load_for_update(self, aor: str, only_adds: bool) -> Snapshot:
        """Return the same."""
        return self._memory.peek(aor)

    async def save(self, aor: str, new: Snapshot) -> None:
        """Replace version `new.version - 1`; returns when it is committed.

        Raises Conflict, and LocationUnavailable when it cannot be written or too much waits to be.
        """
        if not self._open:
            raise LocationUnavailable("the bindings' store is closed")
        old = self._memory.peek(aor)
        kept = _kept(new.bindings)
        changes_rows = kept != _kept(old.bindings)
        if changes_rows and self._waiting >= self._max_waiting:
            raise LocationUnavailable("too many bindings wait to be written")
        self._memory.put(aor, new)
        if changes_rows:
            self._acknowledged.setdefault(aor, old.bindings)
            waiter: Deferred[None] = Deferred()
            self._enqueue(aor, kept, new.bindings, waiter)
            await waiter
        elif aor in self._acknowledged:
            # Nothing to write, but it builds on what is not yet written.
            await self._join(self._next.get(aor) or self._running[aor], new.bindings)

    async def unbind(self, aor: str, node: str, epoch: int, flow_id: int) -> tuple[Binding, ...]:
        """Remove the bindings of `aor` that live on this flow and return them."""
        # No failure to write may bring them back.
        if aor in self._acknowledged:
            self._acknowledged[aor] = unbind(self._acknowledged[aor], node, epoch, flow_id)
            for batch in (self._running, self._next):
                if aor in batch:
                    batch[aor].bindings = unbind(batch[aor].bindings, node, epoch, flow_id)
        return await self._memory.unbind(aor, node, epoch, flow_id)

    def takes_at_once(self, key: bytes, connection_bound: bool) -> bool:
        """Say whether nothing has to be written for it, and nothing that it builds on waits to be."""
        if not connection_bound or not self._open:
            return False
        old = self.records.get(key)
        if old is not None and not is_kept_on_connection(old):
            return False
        return not self._acknowledged or aor_of_key(key) not in self._acknowledged

    def refresh(self, key: bytes, record: bytes) -> None:
        """Replace a record of one binding, which `takes_at_once` has allowed."""
        self._memory.refresh(key, record)

    def insert(self, key: bytes, record: bytes, transport: str) -> None:
        """Add the record of a first binding, which `takes_at_once` has allowed. Raises Conflict when there is one."""
        self._memory.insert(key, record, transport)

    async def fetch(self, aor: str) -> tuple[Binding, ...]:
        """Return what the file has of an address-of-record. Raises LocationUnavailable.

        What is asked for while some rows are read is read together afterwards.
        """
        if not self._open:
            raise LocationUnavailable("the bindings' store is closed")
        fetched: Deferred[tuple[Binding, ...]] = Deferred()
        self._wanted.append((aor, fetched))
        if not self._fetching:
            self._fetch_some()
        return await fetched

    def _fetch_some(self) -> None:
        self._fetching, self._wanted = self._wanted[:FETCHED_AT_ONCE], self._wanted[FETCHED_AT_ONCE:]
        if self._fetching:
            aors = [aor for aor, _ in self._fetching]
            reading = self._writer.run(self._rows.read_some, aors, self._wall())
            reading.addCallbacks(self._fetched, self._not_fetched)
            reading.addErrback(lambda failure: self._log.failure("after reading bindings", failure))

    def _fetched(self, found: list[tuple[Binding, ...]]) -> None:
        done = self._fetching
        self._fetch_some()
        for (_, fetched), bindings in zip(done, found, strict=True):
            fetched.callback(bindings)

    def _not_fetched(self, failure: Failure) -> None:
        done = self._fetching
        self._fetch_some()
        for _, fetched in done:
            fetched.errback(LocationUnavailable(f"{self._rows.path}: {failure.getErrorMessage()}"))

    async def settled(self, aor: str) -> None:
        """Return once nothing of this record is still to be written, whether it was or could not be."""
        while aor in self._acknowledged:
            try:
                await self._join(self._next.get(aor) or self._running[aor], self._memory.peek(aor).bindings)
            except LocationUnavailable as problem:
                self._log.debug("{aor} is as it was: {problem}", aor=aor, problem=str(problem))

    def is_settled(self, aor: str) -> bool:
        """Say whether nothing of this record is still to be written."""
        return aor not in self._acknowledged

    def adopt(self, key: bytes, snapshot: Snapshot) -> None:
        """Take a record as another process had it in memory and in the file."""
        self._memory.adopt(key, snapshot)

    def forget(self, key: bytes) -> None:
        """Drop a record from memory; the file keeps what it has of it."""
        self._memory.forget(key)

    def counts(self) -> Counts:
        """Return how much is stored."""
        return self._memory.counts()

    def pages(self, size: int = 500) -> AsyncIterator[tuple[tuple[str, Snapshot], ...]]:
        """Yield every address-of-record with its snapshot, `size` at a time."""
        return self._memory.pages(size)

    def _lapsed(self, aor: str, gone: tuple[Binding, ...], left: Snapshot) -> None:
        """Drop from the file what time has dropped from memory; nobody waits for it."""
        if _kept(gone) and self._open:
            self._acknowledged.setdefault(aor, left.bindings)
            self._enqueue(aor, _kept(left.bindings), left.bindings)

    def _enqueue(self, aor: str, kept: tuple[Binding, ...], bindings: tuple[Binding, ...],
                 waiter: Deferred[None] | None = None) -> None:
        write = self._next.get(aor)
        if write is None:
            write = self._next[aor] = _Write(kept, bindings)
        else:
            write.kept, write.bindings = kept, bindings
        if waiter is not None:
            write.waiters.append(waiter)
            self._waiting += 1
        if not self._running:
            self._write_next()

    def _join(self, write: _Write, bindings: tuple[Binding, ...]) -> Deferred[None]:
        waiter: Deferred[None] = Deferred()
        write.bindings = bindings
        write.waiters.append(waiter)
        self._waiting += 1
        return waiter

    def _write_next(self) -> None:
        self._running, self._next = self._next, {}
        changes = {aor: write.kept for aor, write in self._running.items()}
        writing = self._writer.run(self._rows.write, changes)
        writing.addCallbacks(self._written, self._not_written)
        writing.addErrback(lambda failure: self._log.failure("after a write of bindings", failure))

    def _written(self, _: None) -> None:
        if self._failing:
            self._failing = False
            self._log.info("bindings can be written again", log_rationed=True)
        done = self._running
        for aor, write in done.items():
            if aor in self._next:
                self._acknowledged[aor] = write.bindings
            else:
                del self._acknowledged[aor]
        self._go_on()
        self._tell(done.values(), None)

    def _not_written(self, failure: Failure) -> None:
        self._failed_at = self._wall()
        if not self._failing:
            self._failing = True
            self._log.failure("bindings cannot be written", failure, log_rationed=True)
        undone = list(self._running.values())
        for aor in self._running:
            later = self._next.pop(aor, None)
            if later is not None:
                undone.append(later)
            bindings = self._acknowledged.pop(aor)
            self._memory.put(aor, self._memory.peek(aor).followed_by(bindings))
        self._go_on()
        self._tell(undone, failure.getErrorMessage())

    def _go_on(self) -> None:
        self._running = {}
        if self._next:
            self._write_next()

    def _tell(self, writes: Iterable[_Write], problem: str | None) -> None:
        self._untold.extend((waiter, problem) for write in writes for waiter in write.waiters)
        if not self._telling:
            self._telling = True
            self._tell_some()

    def _tell_some(self) -> None:
        """Wake some of those who wait; the others have their turn later, so that a long batch holds nobody up."""
        for _ in range(min(len(self._untold), TOLD_AT_ONCE)):
            waiter, problem = self._untold.popleft()
            self._waiting -= 1
            if problem is None:
                waiter.callback(None)
            else:
                waiter.errback(LocationUnavailable(problem))
        if self._untold:
            self._writer.later(self._tell_some)
            return
        self._telling = False
        if not self._running:
            drained, self._drained = self._drained, []
            for waiter in drained:
                waiter.callback(None)


def _kept(bindings: tuple[Binding, ...]) -> tuple[Binding, ...]:
    """Return the bindings that outlive the process."""
    return tuple([binding for binding in bindings if not binding.connection_bound])
