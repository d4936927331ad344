"""What a server, with all its processes and threads, has used: CPU and memory as Linux counts them (proc(5))."""

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from attrs import frozen

PROC = Path("/proc")


@frozen
class Memory:
    """Memory of user space, in bytes.

    `proportional` counts every resident page once (a page shared by n processes as 1/n to each); `private` leaves
    shared pages out.
    """

    proportional: int
    private: int

    def __sub__(self, other: "Memory") -> "Memory":
        return Memory(self.proportional - other.proportional, self.private - other.private)


def parse_parent(stat: str) -> int:
    """Return the parent's pid from /proc/PID/stat; the program's name in it may hold blanks and parentheses."""
    return int(stat.rpartition(")")[2].split()[1])


def parse_session(stat: str) -> int:
    """Return the pid of the leader of the process's session."""
    return int(stat.rpartition(")")[2].split()[3])


def parse_started(stat: str) -> int:
    """Return when the process began, in clock ticks since boot: with its pid it names one process for ever."""
    return int(stat.rpartition(")")[2].split()[19])


def parse_on_cpu(schedstat: str) -> int:
    """Return the nanoseconds that a thread ran on a CPU, from /proc/PID/task/TID/schedstat."""
    return int(schedstat.split()[0])


def parse_memory(smaps_rollup: str) -> Memory:
    """Return the memory of one process from /proc/PID/smaps_rollup."""
    kilobytes: dict[str, int] = {}
    for line in smaps_rollup.splitlines()[1:]:
        name, _, rest = line.partition(":")
        kilobytes[name] = int(rest.split()[0])
    return Memory(
        proportional=kilobytes["Pss"] * 1024,
        private=(kilobytes["Private_Clean"] + kilobytes["Private_Dirty"]) * 1024,
    )


def started_at(pid: int) -> int | None:
    """Return when a process that still runs began; None when it is gone or only waits for its parent."""
    try:
        stat = (PROC / str(pid) / "stat").read_text(errors="replace")
    except OSError:
        return None
    return None if stat.rpartition(")")[2].split()[0] == "Z" else parse_started(stat)


def family(pid: int) -> list[int]:
    """Return the living processes that descend from this one or are of the session that it leads, itself included.

    A session keeps orphans together: children whose parent in between has ended.
    """
    stats: dict[int, str] = {}
    for folder in PROC.iterdir():
        if folder.name.isdigit():
            with suppress(OSError):
                stats[int(folder.name)] = (folder / "stat").read_text(errors="replace")
    children: dict[int, list[int]] = {}
    for one, stat in stats.items():
        children.setdefault(parse_parent(stat), []).append(one)
    found = [one for one, stat in stats.items() if one == pid or parse_session(stat) == pid]
    for one in found:
        found.extend(child for child in children.get(one, ()) if child not in found)
    return found


def cpu_microseconds(pids: Iterable[int]) -> float:
    """Return the CPU time that all threads of these processes have used."""
    nanoseconds = 0
    for pid in pids:
        for task in (PROC / str(pid) / "task").iterdir():
            with suppress(OSError):  # a thread may end while we look
                nanoseconds += parse_on_cpu((task / "schedstat").read_text())
    return nanoseconds / 1000


def memory(pids: Iterable[int]) -> Memory:
    """Return the memory that these processes hold together."""
    parts = [parse_memory((PROC / str(pid) / "smaps_rollup").read_text()) for pid in pids]
    return Memory(sum(part.proportional for part in parts), sum(part.private for part in parts))
