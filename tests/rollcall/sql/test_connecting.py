"""Tests of rollcall.sql.connecting against what is no server of MySQL; tests/cluster has the real ones."""

import socket
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from rollcall.sql.config import MysqlConfig
from rollcall.sql.connecting import PLAIN_METHODS, connect
from rollcall.sql.errors import SqlUnavailable

LOOPBACK = "127.0.0.1"

GREETING = (
    b"\x0a8.0.40\0" + b"\x01\0\0\0" + b"salted-8" + b"\0" + b"\x00\x82" + b"\x2d" + b"\x02\0" + b"\x08\0" + b"\x15"
    + bytes(10) + b"and-12-more.\0" + b"mysql_native_password\0"
)
"""Protocol 10: version, thread, salt, capabilities (4.1, secure connection; plugins), utf8mb4, status, salt, method."""


def packet(number: int, payload: bytes) -> bytes:
    """Return a packet of MySQL's protocol."""
    return len(payload).to_bytes(3, "little") + bytes([number]) + payload


class ConnectTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.config = MysqlConfig(password="sésame", connect_seconds=0.05)
        self.asked: list[Any] = []

    def answering(self, data: bytes) -> None:
        """Let every attempt to connect reach somebody who says this at once."""
        with socket.create_server((LOOPBACK, 0)) as listening:
            ours = socket.socket()
            ours.settimeout(self.config.connect_seconds)
            ours.connect(listening.getsockname())
            peer, _ = listening.accept()
        self.addCleanup(ours.close)
        self.addCleanup(peer.close)
        peer.sendall(data)
        self.peer = peer

        def create_connection(address: Any, timeout: float) -> socket.socket:
            self.asked.append((address, timeout))
            return ours

        self.patch(socket, "create_connection", create_connection)

    def refusal(self, address: str = "[2001:db8::7]:3306", config: MysqlConfig | None = None) -> str:
        """Return what an attempt fails with."""
        with self.assertRaises(SqlUnavailable) as raised:
            connect(config or self.config, address)
        self.assertNotIn("sésame", str(raised.exception))
        return str(raised.exception)

    def test_silence(self) -> None:
        """Who takes the connection and says nothing is given up after connect_seconds; IPv6 stands in brackets."""
        self.answering(b"")
        self.assertIn("MySQL at [2001:db8::7]:3306: ", self.refusal())
        self.assertEqual(self.asked, [(("2001:db8::7", 3306), 0.05)])

    def test_another_protocol(self) -> None:
        """Who speaks something else is no server, whatever it makes of the client library."""
        short, empty = b"\x05\x00\x00\x00\x0anope", b"\x01\x00\x00\x00\x00"
        for greeting in (b"SSH-2.0-OpenSSH_9.2\r\n", short, empty, b"\xff" * 64):
            self.answering(greeting)
            self.refusal()

    def test_password_is_not_told(self) -> None:
        """Whoever asks for the password as it stands, or for what gives it away, hears nothing of it without TLS."""
        for method in PLAIN_METHODS:
            self.answering(packet(0, GREETING) + packet(2, b"\xfe" + method.encode() + b"\0" + b"\x02Password: "))
            self.assertIn("no TLS (2059)", self.refusal())
            login = self.peer.recv(4096)
            self.assertIn(b"rollcall\0", login)
            self.assertNotIn("sésame".encode(), login)
            # The packet that the method would have been followed in never came.
            self.assertEqual(len(login), 4 + int.from_bytes(login[:3], "little"))

    def test_refused(self) -> None:
        """Nobody there is told with the address."""

        def create_connection(address: Any, timeout: float) -> socket.socket:
            raise ConnectionRefusedError(111, "Connection refused")

        self.patch(socket, "create_connection", create_connection)
        self.assertIn("192.0.2.7:3306", self.refusal("192.0.2.7:3306"))

    def test_socket_is_told(self) -> None:
        """The socket is known before the first word, so that who waits can cut it."""
        self.answering(b"")
        opened: list[socket.socket] = []
        self.assertRaises(SqlUnavailable, connect, self.config, "192.0.2.7:3306", opened.append)
        self.assertEqual(len(opened), 1)

    def test_files_of_tls(self) -> None:
        """A missing file is told as what it is, before anybody is asked."""
        self.answering(b"")
        config = MysqlConfig(tls=True, tls_authority_file=Path("/no/such/file.pem"))
        self.assertIn("No such file", self.refusal(config=config))
        self.assertEqual(self.asked, [])
