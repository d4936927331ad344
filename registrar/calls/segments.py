"""One file of the spool: lines that are appended, then read, then gone. Plain blocking calls.

Whoever has a file holds a lock on it (flock(2)), so that a file without one was left by a process that has ended. A
file gets its name only once it is locked.
"""

import os
from collections.abc import Sequence
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path

SUFFIX = ".calls"
_UNNAMED = ".new"

READ_AT_ONCE = 2**18
"""Some thousand lines. The longest has some ten thousand bytes: all that is in one is bounded."""


class Segment:
    """A file that this process has. Every method but `close` raises OSError when it cannot be used."""

    def __init__(self, path: Path, descriptor: int, size: int = 0, lines: int = 0) -> None:
        self.path = path
        self.size = size
        """Bytes that are in the file for good."""
        self.left = lines
        """Lines that are still to be read."""
        self._descriptor = descriptor
        self._place = 0
        self._torn = False

    @classmethod
    def new(cls, folder: Path, owner: str, serial: int) -> "Segment":
        """Make an empty file. No two living processes have the same `owner`, nor does one use a serial twice."""
        path = folder / f"{owner}-{serial}{SUFFIX}"
        unnamed = folder / f"{owner}{_UNNAMED}"
        descriptor = os.open(unnamed, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            flock(descriptor, LOCK_EX | LOCK_NB)
            os.rename(unnamed, path)
        except OSError:
            os.close(descriptor)
            raise
        return cls(path, descriptor)

    @classmethod
    def claim(cls, path: Path) -> "Segment | None":
        """Return what an ended process has left there; None when its process lives, or is done with it."""
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            flock(descriptor, LOCK_EX | LOCK_NB)
            if not _is_still_there(path, descriptor):
                raise BlockingIOError
            return cls(path, descriptor, os.fstat(descriptor).st_size, _count_lines(descriptor))
        except BlockingIOError:
            os.close(descriptor)
            return None
        except OSError:
            os.close(descriptor)
            raise

    def append(self, lines: Sequence[bytes]) -> None:
        """Add whole lines; they outlive this process when this returns, and none is in the file when it raises."""
        if self._torn:
            os.ftruncate(self._descriptor, self.size)
            self._torn = False
        view = memoryview(b"".join(lines))
        place, self._torn = self.size, True
        while view:
            count = os.pwrite(self._descriptor, view, place)
            place += count
            view = view[count:]
        self.size, self._torn = place, False
        self.left += len(lines)

    def sync(self) -> None:
        """Return when what was appended outlives a power cut, too."""
        os.fdatasync(self._descriptor)

    def read(self, most: int) -> list[bytes]:
        """Return the next lines, none when all were read; the very last lacks its end when it was torn."""
        data = os.pread(self._descriptor, min(READ_AT_ONCE, self.size - self._place), self._place)
        end = data.rfind(b"\n") + 1
        if not end:
            return [data] if data else []
        return [line + b"\n" for line in data[:end - 1].split(b"\n")][:most]

    def pass_over(self, lines: Sequence[bytes]) -> None:
        """Go on behind these lines, which were read last."""
        self._place += sum(map(len, lines))
        self.left = max(0, self.left - len(lines))

    def remove(self) -> None:
        """Remove the file and let go of it."""
        self.path.unlink(missing_ok=True)
        self.close()

    def close(self) -> None:
        """Let go of the file, which others may have then."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _is_still_there(path: Path, descriptor: int) -> bool:
    """Say whether the file is still found under its name: else whoever had it removed it a moment ago."""
    try:
        there = path.stat()
    except FileNotFoundError:
        return False
    ours = os.fstat(descriptor)
    return (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)


def _count_lines(descriptor: int) -> int:
    count = place = 0
    while data := os.pread(descriptor, READ_AT_ONCE, place):
        count += data.count(b"\n")
        place += len(data)
    return count
