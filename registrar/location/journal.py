"""What was acknowledged while it could not be shared, on disk until it is (see `registrar.location.journal_file`).

An appended change is on the disk when its Deferred fires. All that comes while some are being written goes into the
next write (group commit). What is done counts no more; when nothing is left the file is emptied, and when little of a
large one is left it is written anew.
"""

from collections import deque
from collections.abc import Iterable

from attrs import define
from twisted.internet.defer import Deferred, fail
from twisted.logger import Logger
from twisted.python.failure import Failure

from registrar.location.contract import LocationUnavailable
from registrar.location.journal_file import MOST_ENTRY_BYTES, JournalFile, Left, done, written
from registrar.location.merging import Change
from registrar.location.writer import Writer

TOLD_AT_ONCE = 50
"""Appends that are acknowledged in one turn of the reactor, each of which sends an answer: some milliseconds."""

MOST_BYTES_EACH = 2**20
"""An address-of-record has no more room than this, which is some thousand REGISTERs: one that registers without end
leaves the others theirs."""

COMPACTED_BELOW = 0.5
"""Of a file that takes half of what it may, the part which still counts that makes it worth writing it anew."""


@define
class _Changes:
    """What there is of an address-of-record until it is done."""

    size: int = 0
    """Bytes, those that are not written yet included."""


@define
class _Entry:
    """What waits to be written."""

    aor: str
    data: bytes
    changes: _Changes
    waiter: Deferred[None] | None
    """Told when it is on the disk; None when it says what is done, which nobody waits for."""


class Journal:
    """Keeps changes of addresses-of-record until they are done, within bounds."""

    _log = Logger()

    def __init__(self, path: str, writer: Writer, max_writes: int, max_bytes: int) -> None:
        """`writer` is this journal's own: no two of its calls may run at a time.

        `max_writes` bounds the addresses-of-record with changes, `max_bytes` the file.
        """
        self._file = JournalFile(path)
        self._writer = writer
        self._max_writes = max_writes
        self._max_bytes = max_bytes
        self._open = False
        self._failing: str | None = None
        self._changes: dict[str, _Changes] = {}
        # Bytes that still count, and bytes that are not in the file yet.
        self._counting = 0
        self._queued = 0
        self._running: list[_Entry] = []
        self._next: list[_Entry] = []
        self._busy = False
        self._untold: deque[tuple[Deferred[None], str | None]] = deque()
        self._telling = False
        self._drained: list[Deferred[None]] = []
        self.appended = 0
        """Changes that have been written since the start."""
        self.failed = 0
        """Changes that could not be written, or had no place, since the start."""

    async def open(self) -> list[tuple[str, Change]]:
        """Return what an earlier life has left, in order. Raises LocationUnavailable."""
        self._writer.start()
        try:
            left: list[Left] = await self._writer.run(self._file.open)
        except OSError as problem:
            self._writer.stop()
            raise LocationUnavailable(f"{self._file.path}: {problem}") from problem
        for aor, _, size in left:
            self._count(aor, size)
        self._open = True
        if left:
            self._log.info("{count} changes of bindings are in the journal from before", count=len(left))
        return [(aor, change) for aor, change, _ in left]

    async def close(self) -> None:
        """Write what was appended, then let go of the file."""
        if not self._open:
            return
        self._open = False
        if self._busy or self._telling:
            drained: Deferred[None] = Deferred()
            self._drained.append(drained)
            await drained
        await self._writer.run(self._file.close)
        self._writer.stop()

    @property
    def is_full(self) -> bool:
        """Whether there is no place for another address-of-record."""
        return len(self._changes) >= self._max_writes or self.size >= self._max_bytes

    @property
    def problem(self) -> str | None:
        """Why there is no place for another address-of-record; None when there is."""
        if self._failing is not None:
            return f"the journal cannot be written: {self._failing}"
        return "the journal is full" if self.is_full else None

    @property
    def aors(self) -> int:
        """Addresses-of-record with changes that are not done."""
        return len(self._changes)

    @property
    def size(self) -> int:
        """Bytes of the file, those that are being written included."""
        return self._file.size + self._queued

    def append(self, aor: str, change: Change) -> Deferred[None]:
        """Keep a change; it is on the disk when the Deferred fires, which fails with LocationUnavailable if not."""
        if not self._open:
            return fail(LocationUnavailable("the journal is closed"))
        data = written(aor, change)
        known = self._changes.get(aor)
        if known is None:
            has_place = len(self._changes) < self._max_writes
        else:
            has_place = known.size + len(data) <= MOST_BYTES_EACH
        if not has_place or self.size + len(data) > self._max_bytes or len(data) > MOST_ENTRY_BYTES:
            self.failed += 1
            return fail(LocationUnavailable("the journal is full"))
        waiter: Deferred[None] = Deferred()
        self._enqueue(_Entry(aor, data, self._count(aor, len(data)), waiter))
        return waiter

    def done(self, aors: Iterable[str]) -> None:
        """Forget all that was appended for these until now; those that are not here do no harm."""
        for aor in aors:
            changes = self._changes.pop(aor, None)
            if changes is not None and self._open:
                self._counting -= changes.size
                self._enqueue(_Entry(aor, done(aor), changes, None))

    def _count(self, aor: str, size: int) -> _Changes:
        changes = self._changes.setdefault(aor, _Changes())
        changes.size += size
        self._counting += size
        return changes

    def _enqueue(self, entry: _Entry) -> None:
        self._next.append(entry)
        self._queued += len(entry.data)
        if not self._busy:
            self._busy = True
            # All of this turn goes into one write.
            self._writer.later(self._write_next)

    def _write_next(self) -> None:
        self._running, self._next = self._next, []
        writing: Deferred[None]
        if not self._changes:
            # Whatever is in the file or waits to be: it is done.
            writing = self._writer.run(self._file.empty)
        else:
            writing = self._writer.run(self._write, b"".join([entry.data for entry in self._running]), self._counting)
        writing.addCallbacks(self._written, self._not_written)
        writing.addErrback(lambda failure: self._log.failure("after a write to the journal", failure))

    def _write(self, data: bytes, counting: int) -> None:
        """Write entries, in the writer's thread."""
        self._file.append(data)
        if self._file.size > self._max_bytes / 2 and counting < self._file.size * COMPACTED_BELOW:
            try:
                self._file.compact()
            except OSError as problem:
                self._log.error("the journal cannot be written anew: {problem}", problem=str(problem))

    def _written(self, _: None) -> None:
        if self._failing is not None:
            self._failing = None
            self._log.info("the journal can be written again", log_rationed=True)
        self._finish(None)

    def _not_written(self, failure: Failure) -> None:
        if self._failing is None:
            self._log.failure("the journal cannot be written", failure, log_rationed=True)
        self._failing = failure.getErrorMessage()
        self._finish(failure.getErrorMessage())

    def _finish(self, problem: str | None) -> None:
        ran, self._running = self._running, []
        self._queued -= sum([len(entry.data) for entry in ran])
        if problem is not None:
            self._take_back(ran)
        waiters = [entry.waiter for entry in ran if entry.waiter is not None]
        if problem is None:
            self.appended += len(waiters)
        else:
            self.failed += len(waiters)
        self._go_on(problem is None)
        self._untold.extend((waiter, problem) for waiter in waiters)
        if not self._telling:
            self._telling = True
            self._tell_some()

    def _take_back(self, entries: list[_Entry]) -> None:
        """Take note that these are not in the file: what was appended is lost, what is done has still to be said."""
        for entry in entries:
            if entry.waiter is None:
                continue
            entry.changes.size -= len(entry.data)
            if self._changes.get(entry.aor) is entry.changes:
                self._counting -= len(entry.data)
                if not entry.changes.size:
                    del self._changes[entry.aor]
        said = [entry for entry in entries if entry.waiter is None]
        self._next[:0] = said
        self._queued += sum([len(entry.data) for entry in said])

    def _go_on(self, is_written: bool) -> None:
        # What is done is not worth trying again at once.
        if any(entry.waiter is not None for entry in self._next) or (is_written and self._next):
            self._write_next()
        else:
            self._busy = False

    def _tell_some(self) -> None:
        """Wake some of those who wait; the others have their turn later, so that a long batch holds nobody up."""
        for _ in range(min(len(self._untold), TOLD_AT_ONCE)):
            waiter, problem = self._untold.popleft()
            if problem is None:
                waiter.callback(None)
            else:
                waiter.errback(LocationUnavailable(f"the journal cannot be written: {problem}"))
        self._telling = bool(self._untold)
        if self._telling:
            self._writer.later(self._tell_some)
        elif not self._busy:
            drained, self._drained = self._drained, []
            for waiter in drained:
                waiter.callback(None)
