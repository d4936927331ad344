"""Where records of calls wait until the database has them: a folder of segments, oldest first.

One thread appends and another takes what is there; both may call at any time. The processes of a registrar share the
folder, each with segments of its own, and whoever finds segments of a process that has ended takes them over.
"""

import os
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Lock
from time import time_ns

from twisted.logger import Logger

from registrar.calls.segments import SUFFIX, Segment

SEGMENTS = 256
"""So many segments a full spool has at most, for each is an open file."""

LEAST_SEGMENT_BYTES = 2**20

REJECTED = "rejected.lines"


class SpoolFull(Exception):
    """There is no more room on disk."""


class Spool:
    """The segments of this process, and those that were left by others. Methods raise OSError."""

    _log = Logger()

    def __init__(self, folder: Path, max_bytes: int, owner: str) -> None:
        """No two living processes have the same `owner`, which begins the names of our segments."""
        self._folder = folder
        self._max_bytes = max_bytes
        self._segment_bytes = max(LEAST_SEGMENT_BYTES, max_bytes // SEGMENTS)
        self._owner = owner
        self._lock = Lock()
        self._current: Segment | None = None
        self._sealed: deque[Segment] = deque()
        # Changed with the lock, read without: whoever looks at them does not wait for the disk.
        self.size = 0
        """Bytes of all that is in the folder, from all processes, when this one last looked."""
        self.waiting = 0
        """Lines that this process has to write."""

    def open(self) -> None:
        """Make the folder."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def claim(self) -> None:
        """Take over the segments of processes that have ended."""
        found = []
        with self._lock:
            known = {segment.path for segment in (*self._sealed, *((self._current,) if self._current else ()))}
        for path in sorted(self._folder.glob(f"*{SUFFIX}"), key=_age):
            segment = Segment.claim(path) if path not in known else None
            if segment is not None:
                found.append(segment)
        with self._lock:
            # What is older than our life is written before it.
            self._sealed.extendleft(reversed(found))
            self.waiting += sum(segment.left for segment in found)
            self.size = self._look()
        if found:
            self._log.info("{count} records of calls are on disk from before, in {segments} files",
                           count=sum(segment.left for segment in found), segments=len(found))

    def append(self, lines: Sequence[bytes]) -> None:
        """Add lines; they outlive this process when this returns. Raises SpoolFull."""
        size = sum(map(len, lines))
        with self._lock:
            # Other processes take of the same room.
            self.size = self._look()
            if self.size + size > self._max_bytes:
                raise SpoolFull
            if self._current is None:
                self._current = Segment.new(self._folder, self._owner, time_ns())
            self._current.append(lines)
            self.size += size
            self.waiting += len(lines)
            if self._current.size >= self._segment_bytes:
                self._seal()

    def sync(self) -> None:
        """Return when what was appended outlives a power cut, too."""
        with self._lock:
            if self._current is not None:
                self._current.sync()

    def oldest(self) -> Segment | None:
        """Return what is to be written next; nothing is appended to it any more."""
        with self._lock:
            if not self._sealed and self._current is not None:
                self._seal()
            return self._sealed[0] if self._sealed else None

    def pass_over(self, segment: Segment, lines: Sequence[bytes]) -> None:
        """Go on behind these lines of a segment: the database has them."""
        with self._lock:
            before = segment.left
            segment.pass_over(lines)
            self.waiting -= before - segment.left

    def done(self, segment: Segment) -> None:
        """Remove a segment: the database has all of it."""
        with self._lock:
            segment.remove()
            self._sealed.remove(segment)
            self.size -= segment.size
            self.waiting -= segment.left

    def put_aside(self, lines: Sequence[bytes]) -> None:
        """Keep lines that the database takes never, for somebody to look at."""
        path = self._folder / REJECTED
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, b"".join(lines))
        finally:
            os.close(descriptor)

    def close(self) -> None:
        """Let go of all that is left; whoever comes next takes it over."""
        with self._lock:
            for segment in (*self._sealed, *((self._current,) if self._current is not None else ())):
                segment.close()
            self._sealed.clear()
            self._current = None

    def _seal(self) -> None:
        assert self._current is not None
        # What has to wait for long is of many segments, and the ones before the last are on the disk for good.
        self._current.sync()
        self._sealed.append(self._current)
        self._current = None

    def _look(self) -> int:
        """Return how much is in the folder, from all processes."""
        with os.scandir(self._folder) as entries:
            return sum(_size_of(entry.stat) for entry in entries)


def _age(path: Path) -> tuple[int, str]:
    """Return what sorts segments by when they were begun."""
    digits = path.stem.rpartition("-")[2]
    return (int(digits) if digits.isdigit() else 0), path.name


def _size_of(stat: Callable[[], os.stat_result]) -> int:
    try:
        return stat().st_size
    except FileNotFoundError:
        return 0  # another process was done with it
