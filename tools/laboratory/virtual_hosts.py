"""Registrars on hosts of their own that share one virtual address by real keepalived, each with a sender of tickles."""

import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from socket import inet_aton

from registrar.distribution.tickle.netlink import READ_BYTES, HeldAddresses, open_socket
from tests.cluster.hosts import HostLab
from tests.cluster.namespaces import DEVICE, NET4, Host, Network
from tests.interop.process import InteropError
from tools.laboratory.child import Child
from tools.laboratory.toml import Sections, joined

VIRTUAL = f"{NET4}.200"
"""The address that phones speak to."""
PORT = 5060
FIRST_PRIORITY = 150
STOP_SECONDS = 5.0
MIN_WAIT_SECONDS = 0.001
"""A time-out of 0 would be none at all."""
ROOT = Path(__file__).parents[2]


class Keepalived(Child):
    """keepalived on one host."""

    def __init__(self, folder: Path, host: Host, priority: int, advert_seconds: float) -> None:
        super().__init__(outlives=False)
        self._folder = folder
        self._host = host
        folder.mkdir(parents=True, exist_ok=True)
        lines = [
            "global_defs {", "    vrrp_version 3", "}",
            "vrrp_instance phones {", "    state BACKUP", f"    interface {DEVICE}", "    virtual_router_id 77",
            f"    priority {priority}", "    nopreempt", f"    advert_int {advert_seconds:g}",
            "    virtual_ipaddress {", f"        {VIRTUAL}/24 dev {DEVICE}", "    }", "}",
        ]
        (folder / "keepalived.conf").write_text("\n".join(lines) + "\n", encoding="utf-8")

    def start(self) -> None:
        """Begin; which host gets the address is theirs to settle."""
        own = [str(self._folder / name) for name in ("keepalived.conf", "main.pid", "vrrp.pid", "checkers.pid")]
        arguments = [word for pair in zip(("-f", "-p", "-r", "-c"), own, strict=True) for word in pair]
        with self._host.entered():
            self.launch(["keepalived", "-n", "-l", "-D", "-P", *arguments], self._folder / "keepalived.log")


class TickleSender(Child):
    """The process that sends tickles, on one host."""

    def __init__(self, folder: Path, host: Host) -> None:
        super().__init__(outlives=False)
        self._folder = folder
        self._host = host
        self.path = folder / "tickle.sock"
        folder.mkdir(parents=True, exist_ok=True)

    def start(self) -> None:
        """Begin."""
        with self._host.entered():
            self.launch([sys.executable, "-m", "registrar.distribution.tickle.sender", "--socket", str(self.path)],
                        self._folder / "sender.log", ROOT)


class VirtualLab(HostLab):
    """Two registrars at 10.77.0.11 and .12; phones know 10.77.0.200, which the first one's host has first."""

    def __init__(self, network: Network, folder: Path, users: int, sections: Sections, advert_seconds: float,
                 has_tickles: bool) -> None:
        """`sections` is for both registrars."""
        mine: Sections = {
            "listen": [{"name": "tcp", "transport": "tcp", "host": "0.0.0.0", "port": PORT,
                        "advertise_host": VIRTUAL}],
        }
        names = ("registrar-1", "registrar-2")
        self.senders = {name: TickleSender(folder / f"sender-{name}", network.host(11 + index))
                        for index, name in enumerate(names)}
        own = {name: joined(mine, {"tickle": {"enabled": has_tickles, "socket": str(self.senders[name].path)}})
               for name in names}
        super().__init__(network, folder, len(names), users, "", own, has_ipv6=False, has_tls=False)
        self._sections = sections
        self._has_tickles = has_tickles
        self.keepalived = {name: Keepalived(folder / f"keepalived-{name}", self.host(name),
                                            FIRST_PRIORITY - 10 * index, advert_seconds)
                           for index, name in enumerate(names)}

    @property
    def tcp(self) -> list[tuple[str, int]]:
        """See Lab: all phones know one address."""
        return [(VIRTUAL, PORT)]

    def start(self) -> None:
        """See Lab; the address is at the first host then."""
        if self._has_tickles:
            for sender in self.senders.values():
                sender.start()
        super().start()
        try:
            for keepalived in self.keepalived.values():
                with address_at(self.host("registrar-1")) as first:
                    keepalived.start()
                    first.wait(30.0)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """See Lab."""
        super().stop()
        children: list[Child] = [*self.keepalived.values(), *self.senders.values()]
        for child in children:
            child.ask_to_end()
        for child in children:
            child.wait_or_kill(STOP_SECONDS)

    def lose_power(self, name: str) -> None:
        """Take a host away as a power failure does: first nothing reaches it or leaves it, then nothing runs on it."""
        self.host(name).pull_out()
        for child in (self.node(name), self.keepalived[name], self.senders[name]):
            child.kill()


class AddressAt:
    """Says when a host has the virtual address, in the moment in which its kernel does."""

    def __init__(self, netlink: socket.socket) -> None:
        self._netlink = netlink
        self._held = HeldAddresses()
        netlink.send(self._held.question())

    def wait(self, seconds: float) -> float:
        """Return when the host has it, on the monotonic clock. Raises InteropError when that takes longer."""
        until = time.monotonic() + seconds
        while inet_aton(VIRTUAL) not in self._held.addresses:
            self._netlink.settimeout(max(MIN_WAIT_SECONDS, until - time.monotonic()))
            try:
                self._held.receive_data(self._netlink.recv(READ_BYTES))
            except TimeoutError:
                raise InteropError(f"the host does not have {VIRTUAL} after {seconds} s") from None
        return time.monotonic()


@contextmanager
def address_at(host: Host) -> Iterator[AddressAt]:
    """Listen to the kernel of a host inside the with statement."""
    with host.entered():
        netlink = open_socket()
    try:
        yield AddressAt(netlink)
    finally:
        netlink.close()
