"""Which processes are of a lab, whoever has started them and however far it came, and their end.

What the lab starts inherits an environment variable that names its folder. Redis writes its title over its
environment; its servers are known by their name and the folder that they work in.
"""

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

from tools.bench.accounting import PROC, started_at

MARK = "ROLLCALL_LAB"
REDIS_NAMES = frozenset(("redis-server", "redis-sentinel"))
END_SECONDS = 30.0
POLL_SECONDS = 0.05


def processes_of(folder: Path) -> dict[int, int]:
    """Return the processes of the lab in `folder`: their ids, and when each began, as no other with that id did."""
    mark = f"{MARK}={folder.resolve()}".encode()
    found: dict[int, int] = {}
    for entry in PROC.iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            # Others' processes may not be looked into, and any may end meanwhile.
            with suppress(OSError):
                began = started_at(int(entry.name))
                if began is not None and (_has_mark(entry, mark) or _is_redis_of(entry, folder.resolve())):
                    found[int(entry.name)] = began
    return found


def end_all(folder: Path, seconds: float = END_SECONDS) -> int:
    """End every process of the lab, in order at first, what is left after `seconds` at once; return how many."""
    ended: set[int] = set()
    deadline = time.monotonic() + seconds
    first = processes_of(folder)
    _signal(first, signal.SIGTERM)
    # One that is paused hears nothing else.
    _signal(first, signal.SIGCONT)
    ended.update(first)
    while left := processes_of(folder):
        ended.update(left)
        if time.monotonic() > deadline:
            _signal(left, signal.SIGKILL)
        time.sleep(POLL_SECONDS)
    return len(ended)


def _signal(processes: dict[int, int], which: signal.Signals) -> None:
    for pid, began in processes.items():
        if started_at(pid) == began:
            with suppress(ProcessLookupError):
                os.kill(pid, which)


def _has_mark(entry: Path, mark: bytes) -> bool:
    return mark in (entry / "environ").read_bytes().split(b"\0")


def _is_redis_of(entry: Path, folder: Path) -> bool:
    name = (entry / "comm").read_text().strip()
    return name in REDIS_NAMES and (entry / "cwd").resolve().is_relative_to(folder)
