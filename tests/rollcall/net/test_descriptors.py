"""What is done for bare descriptors, and for those whose connection is gone."""

import os
import socket
from time import sleep

from twisted.trial.unittest import SynchronousTestCase

from rollcall.net import descriptors


class DescriptorTests(SynchronousTestCase):
    def setUp(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            self.theirs = socket.create_connection(listening.getsockname())
            self.addCleanup(self.theirs.close)
            ours, _ = listening.accept()
        self.fd = ours.detach()
        self.is_closed = False
        self.addCleanup(self.close)
        self.theirs.settimeout(5)

    def close(self) -> None:
        if not self.is_closed:
            os.close(self.fd)
            self.is_closed = True

    def test_own_address(self) -> None:
        """The address is that which the peer connected to; the descriptor stays open."""
        self.assertEqual(descriptors.own_address(self.fd), self.theirs.getpeername())
        os.write(self.fd, b"x")
        self.assertEqual(self.theirs.recv(10), b"x")

    def test_end_writing(self) -> None:
        """The peer sees our end, and can still be heard."""
        descriptors.end_writing(self.fd)
        self.assertEqual(self.theirs.recv(10), b"")
        self.theirs.send(b"y")
        self.assertEqual(os.read(self.fd, 10), b"y")

    def test_reset(self) -> None:
        """The peer of a connection that is to be reset sees that when it is closed."""
        descriptors.reset_at_close(self.fd)
        self.close()
        self.assertRaises(ConnectionResetError, self.theirs.recv, 10)

    def test_pending_error(self) -> None:
        """The kernel's reason is told; without one the connection was hung up."""
        self.assertEqual(descriptors.pending_error(self.fd), "hung up")
        os.write(self.fd, b"unread")
        self.theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, descriptors.NO_LINGER)
        self.theirs.close()
        self.assertEqual(descriptors.pending_error(self.fd), "Connection reset by peer")

    def test_quiet(self) -> None:
        """What nobody has read yet has waited since it came."""
        self.theirs.send(b"waiting")
        sleep(0.03)
        self.assertGreater(descriptors.quiet_seconds(self.fd), 0.015)
        self.assertEqual(descriptors.unread_bytes(self.fd), 7)
        os.read(self.fd, 7)
        self.assertEqual(descriptors.unread_bytes(self.fd), 0)

    def test_gone(self) -> None:
        """For a descriptor that is no more nothing is done, and nothing is raised."""
        self.close()
        descriptors.end_writing(self.fd)
        descriptors.reset_at_close(self.fd)
        self.assertEqual(descriptors.own_address(self.fd), ("", 0))
        self.assertEqual(descriptors.quiet_seconds(self.fd), 0.0)
        self.assertEqual(descriptors.unread_bytes(self.fd), 0)
        self.assertEqual(descriptors.pending_error(self.fd), "hung up")
