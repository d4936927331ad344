"""Records of calls, from signalling to the database, so that signalling never waits.

One thread appends what was recorded to the spool, at once; another writes the spool into the database, every so often.
What is on the disk outlives this process, and what the database does not have stays there.
"""

from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from threading import Event, Thread
from time import sleep
from typing import Any, Protocol

from twisted.internet.defer import Deferred, TimeoutError
from twisted.logger import Logger

from registrar.calls.config import CallsConfig
from registrar.calls.parts import CallPart, line_of
from registrar.calls.spool import Spool, SpoolFull

APPENDED_AT_ONCE = 1000

SYNC_SECONDS = 1.0
"""What was recorded in this time may be lost in a power cut, but in no end of a process."""

DISK_SECONDS = 1.0
"""How long to wait before a disk that could not be written is tried again."""

CLAIM_SECONDS = 60.0
"""How often to look for what ended processes have left."""

MOST_PAUSE_SECONDS = 10.0
"""How long to wait at most before a database that was away is tried again."""

STOP_SECONDS = 5.0
"""How long writing may go on when the registrar ends; the next start writes what is left."""


class Writer(Protocol):
    """Who writes the spool into the database: `registrar.calls.writing.CallWriter`."""

    problem: str | None
    written: int
    rejected: int
    lost: int

    def write_all(self, until: float | None = None) -> bool:
        """Write what waits; say whether the database took it."""

    def keep_retention(self) -> None:
        """Remove a slice of what is too old, when it is time to."""

    def close(self) -> None:
        """Let go of the database."""


class CallRecords:
    """Takes records of calls and sees that the database gets them."""

    _log = Logger()

    def __init__(self, reactor: Any, config: CallsConfig, spool: Spool, writer: Writer,
                 now: Callable[[], float]) -> None:
        """`now` is called by other threads, too."""
        self._reactor = reactor
        self._config = config
        self._spool = spool
        self._writer = writer
        self._now = now
        self._queue: SimpleQueue[CallPart | None] = SimpleQueue()
        self._all_kept = Event()
        self._is_open = True
        self._ended: Deferred[None] = Deferred()
        self._recorded = 0
        self._lost = 0
        # Of the thread that appends: what is on disk or lost by now.
        self._settled = 0
        self._lost_on_disk = 0
        self._keeper = Thread(target=self._keep, name="call records to disk", daemon=True)
        self._scribe = Thread(target=self._write, name="call records to SQL", daemon=True)

    @property
    def problem(self) -> str | None:
        """Why the database is not written; None while it is."""
        return self._writer.problem

    @property
    def written(self) -> int:
        """Records that the database has taken since the start."""
        return self._writer.written

    @property
    def rejected(self) -> int:
        """Records that it refused for good."""
        return self._writer.rejected

    @property
    def lost(self) -> int:
        """Records that found no place, in memory or on disk, or were found torn."""
        return self._lost + self._lost_on_disk + self._writer.lost

    @property
    def queued(self) -> int:
        """Records that are not on disk yet."""
        return self._recorded - self._settled

    @property
    def waiting(self) -> int:
        """Records that the database does not have yet."""
        return self.queued + self._spool.waiting

    @property
    def spool_bytes(self) -> int:
        """What the spool takes on disk."""
        return self._spool.size

    def start(self) -> None:
        """Begin to write, what earlier processes have left first."""
        self._keeper.start()
        self._scribe.start()

    def record(self, part: CallPart) -> None:
        """Take what an event says of a call. Never waits."""
        if self._is_open and self.queued < self._config.max_waiting:
            self._recorded += 1
            self._queue.put(part)
        else:
            self._lost += 1
            self._log.error("a record of a call is lost: {count} wait for the disk", count=self.queued,
                            log_rationed=True)

    async def stop(self) -> None:
        """Bring all that was recorded to the disk, and as much of it as goes quickly into the database."""
        self._is_open = False
        if self._keeper.ident is None:
            return  # it never started
        self._queue.put(None)
        # The database may keep a thread waiting for as long again.
        self._ended.addTimeout(2 * STOP_SECONDS, self._reactor)
        try:
            await self._ended
        except TimeoutError:
            self._log.warn("{count} records of calls stay on disk for the next start: the database does not answer",
                           count=self.waiting)

    # --- in the thread that appends

    def _keep(self) -> None:
        is_synced, goes_on = True, True
        while goes_on:
            parts, goes_on = self._take(None if is_synced else SYNC_SECONDS)
            if parts:
                self._append([line_of(part) for part in parts])
                self._settled += len(parts)
                is_synced = False
            else:
                self._sync()
                is_synced = True
        self._sync()
        self._all_kept.set()

    def _take(self, seconds: float | None) -> tuple[list[CallPart], bool]:
        """Return what was recorded, none when nothing was for some time, and whether there is more to come."""
        parts: list[CallPart] = []
        try:
            part = self._queue.get(timeout=seconds)
            while part is not None:
                parts.append(part)
                if len(parts) == APPENDED_AT_ONCE:
                    break
                part = self._queue.get_nowait()
        except Empty:
            return parts, True
        return parts, part is not None

    def _append(self, lines: Sequence[bytes]) -> None:
        while True:
            try:
                self._spool.open()
                self._spool.append(lines)
                return
            except SpoolFull:
                self._lose(lines, "there is no more room in the spool")
                return
            except OSError as problem:
                self._log.error("records of calls cannot be kept on disk: {why}", why=str(problem), log_rationed=True)
                if not self._is_open:
                    self._lose(lines, str(problem))
                    return
            sleep(DISK_SECONDS)

    def _lose(self, lines: Sequence[bytes], why: str) -> None:
        self._lost_on_disk += len(lines)
        self._log.error("{count} records of calls are lost: {why}", count=len(lines), why=why, log_rationed=True)

    def _sync(self) -> None:
        try:
            self._spool.sync()
        except OSError as problem:
            self._log.error("records of calls may not outlive a power cut: {why}", why=str(problem), log_rationed=True)

    # --- in the thread that writes

    def _write(self) -> None:
        pause, claimed_at = 0.0, float("-inf")
        while not self._all_kept.wait(pause):
            if self._now() - claimed_at >= CLAIM_SECONDS:
                claimed_at = self._now()
                self._guarded(self._claim)
            took = self._guarded(self._writer.write_all)
            self._guarded(self._writer.keep_retention)
            pause = self._config.write_seconds if took else min(max(2 * pause, 1.0), MOST_PAUSE_SECONDS)
        if self.problem is None:
            self._guarded(lambda: self._writer.write_all(self._now() + STOP_SECONDS))
        self._guarded(self._writer.close)
        self._spool.close()
        self._reactor.callFromThread(self._ended.callback, None)

    def _claim(self) -> None:
        self._spool.open()
        self._spool.claim()

    def _guarded(self, step: Callable[[], bool | None]) -> bool | None:
        """Take a step; a mistake of ours may not end the thread that all records go through."""
        try:
            return step()
        except OSError as problem:
            self._log.error("the spool of records of calls cannot be used: {why}", why=str(problem), log_rationed=True)
        except Exception:
            self._log.failure("while records of calls were written", log_rationed=True)
        return False
