"""Whether a port can be had, and who has it when not (Linux: proc(5))."""

import errno
import os
import socket
from collections.abc import Iterable, Iterator
from pathlib import Path

from attrs import frozen

PROC = Path("/proc")
LISTENING = "0A"


@frozen
class Wanted:
    """A port that something is to listen on: protocol is "udp" or "tcp"."""

    protocol: str
    host: str
    port: int


@frozen
class Taken:
    """A port that cannot be had, and why."""

    wanted: Wanted
    why: str

    def __str__(self) -> str:
        return f"{self.wanted.protocol.upper()} {self.wanted.host}:{self.wanted.port} {self.why}"


def find_taken(wanted: Iterable[Wanted]) -> list[Taken]:
    """Return those that cannot be listened on now."""
    return [Taken(each, why) for each in wanted if (why := _why_not(each)) is not None]


def own_address() -> str | None:
    """Return the address by which this machine reaches others, or None when it reaches nobody. Sends nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # RFC 5737: an address that nobody has; it is only routed to
        except OSError:
            return None
        address: str = probe.getsockname()[0]
        return address


def _why_not(wanted: Wanted) -> str | None:
    kind = socket.SOCK_DGRAM if wanted.protocol == "udp" else socket.SOCK_STREAM
    with socket.socket(socket.AF_INET6 if ":" in wanted.host else socket.AF_INET, kind) as probe:
        if wanted.protocol == "tcp":
            # As servers do: connections that linger in TIME_WAIT do not count, a listening socket does.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((wanted.host, wanted.port))
        except OverflowError:
            return "is no port: 65535 is the highest"
        except OSError as error:
            return _explained(error, wanted)
    return None


def _explained(error: OSError, wanted: Wanted) -> str:
    if error.errno == errno.EADDRINUSE:
        owner = owner_of(wanted.protocol, wanted.port)
        return f"is taken by {owner}" if owner else "is taken by another program"
    if error.errno == errno.EADDRNOTAVAIL:
        return "is not an address of this machine"
    if error.errno == errno.EACCES:
        return "is only for root"
    return f"cannot be had: {error.strerror}"


def owner_of(protocol: str, port: int, proc: Path = PROC) -> str | None:
    """Return e.g. "kamailio (process 4711)" when we may know who listens on the port, else None."""
    inodes = {inode for inode in _inodes(protocol, port, proc) if inode != "0"}
    sockets = {f"socket:[{inode}]" for inode in inodes}
    for process in proc.glob("[0-9]*"):
        if sockets and not sockets.isdisjoint(_open_files(process)):
            return f"{_command(process)} (process {process.name})"
    return None


def _inodes(protocol: str, port: int, proc: Path) -> Iterator[str]:
    for family in ("", "6"):
        try:
            lines = (proc / "net" / f"{protocol}{family}").read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            columns = line.split()
            local, state, inode = columns[1], columns[3], columns[9]
            if int(local.rpartition(":")[2], 16) == port and (protocol == "udp" or state == LISTENING):
                yield inode


def _open_files(process: Path) -> Iterator[str]:
    try:
        for file in (process / "fd").iterdir():
            yield os.readlink(file)
    except OSError:
        return  # another user's process, or it has just ended


def _command(process: Path) -> str:
    try:
        return (process / "comm").read_text().strip()
    except OSError:
        return "a program"
