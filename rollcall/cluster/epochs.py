"""Which life of a node this is: the time of its start in milliseconds, but always more than that of the life before."""

import os
from pathlib import Path


def next_epoch(file: Path, now: float) -> int:
    """Return the epoch of a life that begins at `now` (in seconds), and keep it in `file`. Raises OSError.

    Where the clock has gone back it goes on from the epoch before, so that none comes twice.
    """
    epoch = max(int(now * 1000), _last(file) + 1)
    remember_epoch(file, epoch)
    return epoch


def remember_epoch(file: Path, epoch: int) -> None:
    """Have the next life of the node have a greater epoch than this. Raises OSError."""
    begun = file.with_name(file.name + ".new")
    with begun.open("w", encoding="ascii") as writing:
        writing.write(f"{epoch}\n")
        writing.flush()
        os.fsync(writing.fileno())
    begun.replace(file)


def _last(file: Path) -> int:
    try:
        return int(file.read_text("ascii"))
    except (FileNotFoundError, ValueError):
        return 0
