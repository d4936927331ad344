"""The judge is judged: packets that are wrong on purpose, and one that is right."""

import socket
import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.interop.capture import Capture
from tests.interop.process import LOOPBACK, free_ports

RIGHT = (
    b"SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP 127.0.0.1;branch=z9hG4bK1\r\nTo: <sip:a@example.com>;tag=1\r\n"
    b"From: <sip:a@example.com>;tag=2\r\nCall-ID: 1\r\nCSeq: 1 REGISTER\r\nContent-Length: 0\r\n\r\n"
)


class CaptureTests(SynchronousTestCase):
    """A socket of our own plays the server."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.port, self.peer = free_ports(2)
        self.server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.addCleanup(self.server.close)
        self.server.bind((LOOPBACK, self.port))

    def captured(self, *datagrams: bytes) -> Capture:
        with Capture([("udp", self.port)], self.folder) as capture:
            for datagram in datagrams:
                self.server.sendto(datagram, (LOOPBACK, self.peer))
        return capture

    def test_right(self) -> None:
        """Good SIP is read, and nothing is held against it."""
        capture = self.captured(RIGHT)
        self.assertEqual(capture.sip(), ["SIP/2.0 200 OK"])
        self.assertEqual(capture.faults(), [])
        self.assertEqual(capture.unread(), [])

    def test_header_without_colon(self) -> None:
        """A header without a colon is a fault, named with its frame."""
        capture = self.captured(RIGHT, RIGHT.replace(b"Call-ID: 1", b"Call-ID 1"))
        (fault,) = capture.faults()
        self.assertIn("sip", fault.protocols)
        self.assertIn("colon", fault.complaint)

    def test_noise(self) -> None:
        """Data in which tshark sees no SIP is not taken for good."""
        self.assertEqual(self.captured(b"\x00\x01\x02\x03\x04\x05\x06\x07").unread(), ["udp"])

    def test_others(self) -> None:
        """What a client sends to us is not held against us."""
        with Capture([("udp", self.peer)], self.folder) as capture:
            self.server.sendto(RIGHT.replace(b"Call-ID: 1", b"Call-ID 1"), (LOOPBACK, self.peer))
        self.assertEqual(capture.faults(), [])
        self.assertEqual(capture.sip(), [])
