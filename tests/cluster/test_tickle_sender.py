"""The process that sends tickles, with real kernels at both ends and a router with NAT in between."""

import contextlib
import socket
import sys
import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from registrar.distribution.tickle.packets import ACK, SYN_ACK, pack_record
from tests.cluster.namespaces import DEVICE, Host, Namespace, network_or_skip
from tests.interop.process import Process, wait_until

PORT = 5060
WAIT_SECONDS = 5.0
NOTHING_SECONDS = 0.5
ETH_P_ALL = 3
RST = 0x04
ROOT = Path(__file__).parents[2]
INSIDE = "192.168.5"
NAT = """
table ip nat {
    chain forwarded {
        type filter hook forward priority 0;
        ct state invalid drop
    }
    chain leaving {
        type nat hook postrouting priority 100;
        ip saddr 192.168.5.0/24 masquerade
    }
}
"""


class SenderCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.network = network_or_skip()
        self.addCleanup(self.network.close)
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.dying, self.heir = self.network.host(11), self.network.host(12)
        self.path = self.folder / "tickle.sock"
        with self.heir.entered():
            self.sender = Process(
                [sys.executable, "-m", "registrar.distribution.tickle.sender", "--socket", str(self.path),
                 "--user", "nobody"], self.folder / "sender.log", folder=ROOT)
        self.addCleanup(self.sender.end)
        self.sender.wait_for_text("ready")
        self.link = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.addCleanup(self.link.close)
        self.link.connect(str(self.path))

    def connection(self, phone: Namespace, virtual: str) -> tuple[socket.socket, tuple[str, int]]:
        """Return an idle connection to a virtual address of the dying host, and how that host sees its other end."""
        family = socket.AF_INET6 if ":" in virtual else socket.AF_INET
        length = 64 if family is socket.AF_INET6 else 24
        add = ("ip", "addr", "add", f"{virtual}/{length}", "dev", DEVICE)
        nodad = ("nodad",) if family is socket.AF_INET6 else ()
        self.dying.run(*add, *nodad)
        with self.dying.entered():
            listening = socket.create_server((virtual, PORT), family=family)
        self.addCleanup(listening.close)
        with phone.entered():
            idle = socket.create_connection((virtual, PORT), WAIT_SECONDS)
        self.addCleanup(idle.close)
        accepted, peer = listening.accept()
        self.addCleanup(accepted.close)
        idle.sendall(b"hello")
        self.assertEqual(accepted.recv(100), b"hello")
        self.dying.pull_out()
        self.heir.run(*add, *nodad)
        return idle, peer[:2]

    def tickle(self, virtual: str, peer: tuple[str, int]) -> None:
        """Have the heir tickle one connection."""
        family = socket.AF_INET6 if ":" in virtual else socket.AF_INET
        self.link.send(pack_record(socket.inet_pton(family, virtual), PORT, socket.inet_pton(family, peer[0]), peer[1]))

    def neighbours_forget(self, *hosts: Namespace) -> None:
        """Do what the gratuitous ARP of VRRP does: the address is to be asked for again."""
        for host in hosts:
            host.run("ip", "neigh", "flush", "all")

    def check_reset(self, idle: socket.socket) -> None:
        """See that a connection is reset."""
        idle.settimeout(WAIT_SECONDS)
        self.assertRaises(ConnectionResetError, idle.recv, 1)

    def check_alive(self, idle: socket.socket) -> None:
        """See that nothing has happened to a connection."""
        idle.settimeout(NOTHING_SECONDS)
        self.assertRaises(TimeoutError, idle.recv, 1)


class SenderTests(SenderCase):
    def test_wakes(self) -> None:
        """A phone's kernel answers a tickle, over IPv4 and IPv6, and hears that the connection is no more."""
        phone = self.network.host(100)
        for virtual in ("10.77.0.200", "fd77::c8"):
            idle, peer = self.connection(phone, virtual)
            self.neighbours_forget(phone, self.heir)
            self.tickle(virtual, peer)
            self.check_reset(idle)
            self.dying.plug_in()

    def test_strange_source(self) -> None:
        """Nothing leaves from an address that the host does not have; once it has it, two packets do."""
        phone = self.network.host(100)
        idle, peer = self.connection(phone, "10.77.0.200")
        self.heir.run("ip", "addr", "del", "10.77.0.200/24", "dev", DEVICE)
        self.neighbours_forget(phone, self.heir)
        with self.heir.entered():
            wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        self.addCleanup(wire.close)
        self.tickle("10.77.0.200", peer)
        self.sender.wait_for_text("refused: 10.77.0.200 is not an address of this host")
        self.check_alive(idle)
        self.assertEqual(flags_sent(wire), [])
        self.heir.run("ip", "addr", "add", "10.77.0.200/24", "dev", DEVICE)
        self.tickle("10.77.0.200", peer)
        self.check_reset(idle)
        first = wait_until(lambda: flags_sent(wire) or None, "a packet of a tickle")
        both = first if len(first) > 1 else first + wait_until(lambda: flags_sent(wire) or None, "the other packet")
        self.assertEqual(both, [ACK, SYN_ACK])

    def test_rubbish(self) -> None:
        """Who sends anything else is hung up on, and others are served on."""
        phone = self.network.host(100)
        idle, peer = self.connection(phone, "10.77.0.200")
        self.neighbours_forget(phone, self.heir)
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as stranger:
            stranger.connect(str(self.path))
            stranger.send(b"rubbish")
            stranger.settimeout(WAIT_SECONDS)
            self.assertEqual(stranger.recv(1), b"")
        self.tickle("10.77.0.200", peer)
        self.check_reset(idle)

    def test_rights(self) -> None:
        """Once it serves it is nobody and has no capability, nor can it get any; its socket is for its own group."""
        status = dict(line.split(":\t") for line in Path(f"/proc/{self.sender.pid}/status").read_text().splitlines())
        capabilities = {status[name].strip("0") for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")}
        self.assertEqual(capabilities, {""})
        self.assertEqual(status["NoNewPrivs"], "1")
        self.assertNotIn("0", status["Uid"].split() + status["Gid"].split())
        self.assertEqual(self.path.stat().st_mode & 0o777, 0o660)


class RouterTests(SenderCase):
    def test_behind_nat(self) -> None:
        """A phone behind a router of Linux with NAT, which drops what is INVALID, is woken as well."""
        phone, router = Namespace(), self.network.host(50)
        self.addCleanup(phone.close)
        self.stand_behind(phone, router)
        idle, peer = self.connection(phone, "10.77.0.200")
        self.assertEqual(peer[0], router.ipv4)
        self.neighbours_forget(router, self.heir)
        self.tickle("10.77.0.200", peer)
        self.check_reset(idle)

    def stand_behind(self, phone: Namespace, router: Host) -> None:
        """Have the router translate a phone's address."""
        router.run("ip", "link", "add", "inside", "type", "veth", "peer", "name", DEVICE, "netns", phone.path)
        for host, number, device in ((router, 1, "inside"), (phone, 2, DEVICE)):
            host.run("ip", "addr", "add", f"{INSIDE}.{number}/24", "dev", device)
            host.run("ip", "link", "set", device, "up")
        phone.run("ip", "route", "add", "default", "via", f"{INSIDE}.1")
        with router.entered():
            # /proc/sys/net is that of who opens it.
            Path("/proc/sys/net/ipv4/ip_forward").write_text("1", encoding="ascii")
        rules = self.folder / "nat.nft"
        rules.write_text(NAT, encoding="utf-8")
        router.run("nft", "-f", str(rules))


def flags_sent(wire: socket.socket) -> list[int]:
    """Return the flags of each TCP packet over IPv4 that has left from the port, without those of resets."""
    flags = []
    wire.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            frame = wire.recv(2000)
            if frame[12:14] == b"\x08\x00" and frame[23] == socket.IPPROTO_TCP and frame[34:36] == PORT.to_bytes(2):
                flags.append(frame[47])
    return [each for each in flags if not each & RST]
