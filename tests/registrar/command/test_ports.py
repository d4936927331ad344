"""Ports: whether they can be had, and who has them."""

import os
import socket
from ipaddress import ip_address
from pathlib import Path
from tempfile import TemporaryDirectory

from twisted.trial.unittest import SynchronousTestCase

from registrar.command.ports import Wanted, find_taken, own_address, owner_of
from tests.interop.process import free_ports

LOOPBACK = "127.0.0.1"


class FindTakenTests(SynchronousTestCase):
    def bound(self, kind: socket.SocketKind) -> int:
        """Return the port of a socket of ours."""
        ours = self.enterContext(socket.socket(socket.AF_INET, kind))
        # Not one that the system may give to a connection of somebody else meanwhile.
        ours.bind((LOOPBACK, free_ports(1)[0]))
        if kind == socket.SOCK_STREAM:
            ours.listen()
        port: int = ours.getsockname()[1]
        return port

    def test_taken(self) -> None:
        """A port that is taken is named with the process that has it."""
        for protocol, kind in (("udp", socket.SOCK_DGRAM), ("tcp", socket.SOCK_STREAM)):
            port = self.bound(kind)
            (taken,) = find_taken([Wanted(protocol, LOOPBACK, port)])
            self.assertIn(f"{protocol.upper()} {LOOPBACK}:{port} is taken by ", str(taken))
            self.assertIn(f"(process {os.getpid()})", str(taken))

    def test_the_other_protocol_is_free(self) -> None:
        """UDP and TCP ports are different ones."""
        port = self.bound(socket.SOCK_DGRAM)
        self.assertEqual(find_taken([Wanted("tcp", LOOPBACK, port)]), [])

    def test_free(self) -> None:
        """A port that is free is not reported, and still is free afterwards."""
        port = self.bound(socket.SOCK_DGRAM)
        wanted = Wanted("tcp", LOOPBACK, port)
        self.assertEqual(find_taken([wanted, wanted]), [])

    def test_foreign_address(self) -> None:
        """An address that is not ours cannot be listened on."""
        (taken,) = find_taken([Wanted("udp", "198.51.100.7", 5060)])
        self.assertEqual(str(taken), "UDP 198.51.100.7:5060 is not an address of this machine")

    def test_no_port(self) -> None:
        """A port beyond the last one is none."""
        (taken,) = find_taken([Wanted("tcp", LOOPBACK, 65536)])
        self.assertIn("65535 is the highest", str(taken))


class OwnerTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.proc = Path(self.enterContext(TemporaryDirectory()))
        (self.proc / "net").mkdir()
        heading = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
        line = "   {}: 0100007F:{:04X} 00000000:0000 {} 00000000:00000000 00:00000000 00000000     0        0 {} 1\n"
        (self.proc / "net" / "tcp").write_text(
            heading + line.format(0, 5060, "0A", 111) + line.format(1, 5061, "01", 222) + line.format(2, 5062, "06", 0)
        )
        (self.proc / "net" / "udp").write_text(heading + line.format(0, 5060, "07", 333))
        self.process(7, "kamailio", "socket:[111]", "/dev/null")
        self.process(8, "asterisk", "socket:[333]", "socket:[222]")
        (self.proc / "9").mkdir()

    def process(self, number: int, name: str, *files: str) -> None:
        """Add a process with these files open."""
        directory = self.proc / str(number)
        (directory / "fd").mkdir(parents=True)
        (directory / "comm").write_text(name + "\n")
        for descriptor, file in enumerate(files):
            (directory / "fd" / str(descriptor)).symlink_to(file)

    def test_owners(self) -> None:
        """The process that listens on a port is found by its socket."""
        self.assertEqual(owner_of("tcp", 5060, self.proc), "kamailio (process 7)")
        self.assertEqual(owner_of("udp", 5060, self.proc), "asterisk (process 8)")

    def test_not_listening(self) -> None:
        """A connection from that port, or one that lingers without a process, is no owner."""
        self.assertIsNone(owner_of("tcp", 5061, self.proc))
        self.assertIsNone(owner_of("tcp", 5062, self.proc))

    def test_nobody(self) -> None:
        """Without a proc file system, or for a free port, nobody is named."""
        self.assertIsNone(owner_of("tcp", 5063, self.proc))
        self.assertIsNone(owner_of("tcp", 5060, self.proc / "none"))


class OwnAddressTests(SynchronousTestCase):
    def test_own_address(self) -> None:
        """The address by which others reach this machine is one of its own, if there is any."""
        address = own_address()
        if address is not None:
            self.assertEqual(ip_address(address).version, 4)
            self.assertEqual(find_taken([Wanted("udp", address, 0)]), [])
