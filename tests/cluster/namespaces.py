"""Hosts that the kernel keeps apart as it does real ones: network namespaces with an address each, and a switch.

Nothing of it has a name outside, and nothing is seen outside: a namespace is there as long as this process has it open
or another lives in it. So nothing is left behind, however a test run ends.
"""

import ctypes
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import SkipTest

from tests.interop.process import InteropError

_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)

NET4, NET6 = "10.77.0", "fd77:"
BRIDGE = "switch"
DEVICE = "eth0"
# A link-layer address that no host has, administered locally: what is sent there arrives nowhere.
NOWHERE = "02:00:00:00:00:ff"


class NoNamespaces(Exception):
    """This process may not make network namespaces; says why."""


class Namespace:
    """A network of its own, with nothing in it but a loopback device that is up. Raises NoNamespaces."""

    def __init__(self) -> None:
        home = _current()
        try:
            if _libc.unshare(_CLONE_NEWNET):
                raise NoNamespaces(f"unshare(CLONE_NEWNET): {os.strerror(ctypes.get_errno())}")
            self._file = _current()
            _enter(home)
        finally:
            os.close(home)
        self.run("ip", "link", "set", "lo", "up")

    @property
    def path(self) -> str:
        """What ip(8) knows it by."""
        return f"/proc/{os.getpid()}/fd/{self._file}"

    def enter(self) -> None:
        """Have this thread be in it from now on, with all that it opens and starts."""
        _enter(self._file)

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Have this thread be in it inside the with statement. Sockets stay where they were opened."""
        home = _current()
        try:
            self.enter()
            yield
        finally:
            _enter(home)
            os.close(home)

    def run(self, *words: str) -> str:
        """Run a program in it and return what it says. Raises InteropError when it fails."""
        with self.entered():
            done = subprocess.run(words, check=False, capture_output=True, text=True)
        if done.returncode:
            raise InteropError(f"{' '.join(words)}: {done.stderr.strip()}")
        return done.stdout

    def packets(self, device: str) -> int:
        """Return how many packets have come in by a device."""
        # /proc/net is that of the first thread, whatever thread looks there.
        with self.entered(), open("/proc/thread-self/net/dev", encoding="ascii") as table:
            for line in table:
                name, _, counts = line.partition(":")
                if name.strip() == device:
                    return int(counts.split()[1])
        raise InteropError(f"there is no device {device}")

    def close(self) -> None:
        """Let go of it; it vanishes with the last process in it."""
        os.close(self._file)


class Host(Namespace):
    """A namespace with an IPv4 and an IPv6 address, at a port of a switch."""

    def __init__(self, number: int, switch: Namespace) -> None:
        super().__init__()
        self.ipv4, self.ipv6 = f"{NET4}.{number}", f"{NET6}:{number:x}"
        self._switch = switch
        self._port = f"port{number}"
        switch.run("ip", "link", "add", self._port, "type", "veth", "peer", "name", DEVICE, "netns", self.path)
        switch.run("ip", "link", "set", self._port, "master", BRIDGE, "up")
        self.run("ip", "addr", "add", f"{self.ipv4}/24", "dev", DEVICE)
        self.run("ip", "addr", "add", f"{self.ipv6}/64", "dev", DEVICE, "nodad")
        self.run("ip", "link", "set", DEVICE, "up")

    def pull_out(self) -> None:
        """Cut its cable: from now on nobody hears anything of it, and it hears of nobody."""
        self._switch.run("ip", "link", "set", self._port, "down")

    def plug_in(self) -> None:
        """Have it be reached again."""
        self._switch.run("ip", "link", "set", self._port, "up")

    def lose(self, other: "Host") -> None:
        """Let everything vanish on its way that the two say to each other, and nothing else."""
        for here, there in ((self, other), (other, self)):
            here.run("ip", "neigh", "replace", there.ipv4, "lladdr", NOWHERE, "dev", DEVICE, "nud", "permanent")

    def find(self, other: "Host") -> None:
        """Let them hear each other again."""
        for here, there in ((self, other), (other, self)):
            here.run("ip", "neigh", "flush", "to", there.ipv4, "dev", DEVICE, "nud", "permanent")


class Network:
    """A switch, and the hosts at it. Raises NoNamespaces."""

    def __init__(self) -> None:
        self._switch = Namespace()
        self._hosts: dict[int, Host] = {}
        self._switch.run("ip", "link", "add", BRIDGE, "type", "bridge")
        self._switch.run("ip", "link", "set", BRIDGE, "up")

    def host(self, number: int) -> Host:
        """Return the host whose addresses end with this number (below 255), made now if it is new."""
        if number not in self._hosts:
            self._hosts[number] = Host(number, self._switch)
        return self._hosts[number]

    def close(self) -> None:
        """Let go of all of it."""
        for host in self._hosts.values():
            host.close()
        self._switch.close()


def namespace_or_skip() -> Namespace:
    """Return a network for tests. Raises SkipTest where there can be none."""
    try:
        return Namespace()
    except NoNamespaces as problem:
        raise SkipTest(f"network namespaces need root: {problem}") from problem


def network_or_skip() -> Network:
    """Return a switch for the hosts of a test. Raises SkipTest where there can be none."""
    try:
        return Network()
    except NoNamespaces as problem:
        raise SkipTest(f"network namespaces need root: {problem}") from problem


def _current() -> int:
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY)


def _enter(file: int) -> None:
    if _libc.setns(file, _CLONE_NEWNET):
        raise OSError(code := ctypes.get_errno(), f"setns: {os.strerror(code)}")
