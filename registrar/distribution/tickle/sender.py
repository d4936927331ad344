"""Sends tickles by raw sockets for registrars on this host, as a process of its own with next to no rights.

`python -m registrar.distribution.tickle.sender --socket PATH`. The standard library alone is used here. What is to be
sent comes as messages of records (see packets.py) over a Unix socket that keeps them apart. Whatever those say, nothing
leaves but tickles: two packets without data, from an address that this host has at that moment, at a bounded rate.
Raw sockets need CAP_NET_RAW when they are opened only, so that afterwards no capability is kept at all.
"""

import argparse
import errno
import os
import pwd
import selectors
import signal
import socket
import stat
import sys
import time
from collections.abc import Callable
from ipaddress import ip_address
from types import FrameType
from typing import NoReturn

from registrar.distribution.tickle.netlink import READ_BYTES, HeldAddresses, open_socket
from registrar.distribution.tickle.packets import MAX_RECORDS, RECORD, TICKLES, packets, unpack_records
from registrar.distribution.tickle.rights import give_up_rights

MAX_CLIENTS = 64
"""Registrar processes of one host; a further one is refused."""

DEFAULT_RATE = 20_000.0
"""Packets in a second: 5,000 connections, each tickled twice, two packets at a time."""

COMPLAINT_SECONDS = 1.0
"""What is refused is told at most so often."""


class Sender:
    """Checks what is asked for, and sends it."""

    def __init__(self, rate: float, tell: Callable[[str], object]) -> None:
        """Opens all that needs rights. Raises OSError."""
        self._rate = rate
        self._tell = tell
        self._told_at = 0.0
        self._owed = 0.0
        self._at = time.monotonic()
        self._held = HeldAddresses()
        self._netlink = open_socket()
        self._netlink.setblocking(True)
        self._ask_for_addresses()
        self._raw = {family: socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_RAW)
                     for family in (socket.AF_INET, socket.AF_INET6) if _is_spoken(family)}

    def take(self, message: bytes) -> None:
        """Send what a message asks for, no faster than may be. Raises ValueError when it is none."""
        for source, source_port, target, target_port in unpack_records(message):
            self._hear()
            if source in self._held.addresses:
                self._send(source, source_port, target, target_port)
            else:
                self._complain(f"refused: {ip_address(source)} is not an address of this host")

    def _send(self, source: bytes, source_port: int, target: bytes, target_port: int) -> None:
        raw = self._raw.get(socket.AF_INET if len(target) == 4 else socket.AF_INET6)
        if raw is None:
            return
        self._wait()
        for packet in packets(source, source_port, target, target_port):
            try:
                raw.sendto(packet, (str(ip_address(target)), 0))
            except OSError as problem:
                self._complain(f"not sent to {ip_address(target)}: {problem.strerror}")

    def _wait(self) -> None:
        """Sleep when too much was sent already; those who ask wait, for their socket is full then."""
        now = time.monotonic()
        self._owed = max(0.0, self._owed - (now - self._at) * self._rate) + len(TICKLES)
        self._at = now
        # Short sleeps are longer than they should be: a hundredth of a second is slept at a time.
        if self._owed > self._rate / 100:
            time.sleep(self._owed / self._rate)

    def _hear(self) -> None:
        """Take what the kernel has said of addresses meanwhile."""
        while True:
            try:
                self._held.receive_data(self._netlink.recv(READ_BYTES, socket.MSG_DONTWAIT))
            except BlockingIOError:
                return
            except OSError as problem:
                if problem.errno != errno.ENOBUFS:
                    raise
                self._ask_for_addresses()

    def _ask_for_addresses(self) -> None:
        self._netlink.send(self._held.question())

    def _complain(self, what: str) -> None:
        now = time.monotonic()
        if now - self._told_at >= COMPLAINT_SECONDS:
            self._told_at = now
            self._tell(what)


def serve(listening: socket.socket, sender: Sender, tell: Callable[[str], object]) -> NoReturn:
    """Serve those who connect, until a signal ends us."""
    waiting = selectors.DefaultSelector()
    waiting.register(listening, selectors.EVENT_READ)
    while True:
        for key, _ in waiting.select():
            if key.fileobj is listening:
                client, _ = listening.accept()
                if len(waiting.get_map()) > MAX_CLIENTS:
                    client.close()
                else:
                    waiting.register(client, selectors.EVENT_READ)
            else:
                _serve_one(waiting, key.fileobj, sender, tell)  # type: ignore[arg-type]


def _serve_one(waiting: selectors.BaseSelector, client: socket.socket, sender: Sender,
               tell: Callable[[str], object]) -> None:
    try:
        message = client.recv(MAX_RECORDS * RECORD.size + 1, socket.MSG_DONTWAIT)
    except BlockingIOError:
        return
    except OSError as problem:
        tell(f"a client is lost: {problem}")
        message = b""
    try:
        if message:
            sender.take(message)
            return
    except ValueError as problem:
        tell(f"a client is refused: {problem}")
    waiting.unregister(client)
    client.close()


def listen(path: str, user: str) -> socket.socket:
    """Return a socket that listens at `path`, for `user` and its group. Raises OSError and KeyError."""
    if os.path.exists(path) and stat.S_ISSOCK(os.stat(path).st_mode):
        os.unlink(path)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    before = os.umask(0o117)
    try:
        listening.bind(path)
    finally:
        os.umask(before)
    if user:
        entry = pwd.getpwnam(user)
        os.chown(path, entry.pw_uid, entry.pw_gid)
    listening.listen(MAX_CLIENTS)
    return listening


def main() -> None:
    """Open, give up all rights, serve."""
    parser = argparse.ArgumentParser(description="Sends tickles for registrars on this host.")
    parser.add_argument("--socket", required=True, help="where registrars connect to")
    parser.add_argument("--user", default="", help="who to become, when started as root")
    parser.add_argument("--rate", type=float, default=DEFAULT_RATE, help="packets in a second at most")
    options = parser.parse_args()
    if not options.rate > 0:
        parser.error("--rate has to be more than 0")
    signal.signal(signal.SIGTERM, _end)
    try:
        sender = Sender(options.rate, _tell)
        listening = listen(options.socket, options.user)
        give_up_rights(options.user)
    except (OSError, KeyError) as problem:
        sys.exit(f"cannot start: {problem}")
    _tell(f"ready at {options.socket}")
    serve(listening, sender, _tell)


def _is_spoken(family: socket.AddressFamily) -> bool:
    """Say whether this host has a family of protocols at all."""
    try:
        socket.socket(family, socket.SOCK_DGRAM).close()
    except OSError:
        return False
    return True


def _tell(what: str) -> None:
    sys.stderr.write(f"{what}\n")
    sys.stderr.flush()


def _end(number: int, frame: FrameType | None) -> NoReturn:
    sys.exit(0)


if __name__ == "__main__":
    main()
