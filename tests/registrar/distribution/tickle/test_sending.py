"""The way to the sender, over a real Unix socket."""

import os
import socket
import tempfile

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from registrar.distribution.tickle.packets import MAX_RECORDS
from registrar.distribution.tickle.sending import TRY_SECONDS, SenderLink

RECORD = b"r" * 38


class SenderLinkTests(SynchronousTestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = os.path.join(folder.name, "tickle.sock")
        self.clock = Clock()
        self.link = SenderLink(self.path, self.clock.seconds)
        self.addCleanup(self.link.close)

    def listen(self) -> socket.socket:
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.addCleanup(listening.close)
        listening.bind(self.path)
        listening.listen()
        return listening

    def test_sends(self) -> None:
        """Records arrive in messages of at most so many."""
        listening = self.listen()
        self.assertEqual(self.link.send([RECORD] * (MAX_RECORDS + 3)), MAX_RECORDS + 3)
        taken, _ = listening.accept()
        self.addCleanup(taken.close)
        self.assertEqual([len(taken.recv(10_000)) for _ in range(2)], [MAX_RECORDS * len(RECORD), 3 * len(RECORD)])

    def test_not_there(self) -> None:
        """Nothing is taken by nobody; whoever comes later is found, not sooner than after a while."""
        self.assertEqual(self.link.send([RECORD]), 0)
        self.listen()
        self.assertFalse(self.link.is_there)
        self.clock.advance(TRY_SECONDS)
        self.assertTrue(self.link.is_there)
        self.assertEqual(self.link.send([RECORD]), 1)

    def test_full(self) -> None:
        """A sender that does not read is not waited for; what it has not taken can be offered again."""
        listening = self.listen()
        number = 1_000_000 // len(RECORD)
        taken = self.link.send([RECORD] * number)
        self.assertTrue(0 < taken < number)
        accepted, _ = listening.accept()
        self.addCleanup(accepted.close)
        for _ in range(taken // MAX_RECORDS):
            accepted.recv(10_000)
        self.assertGreater(self.link.send([RECORD] * (number - taken)), 0)

    def test_ends(self) -> None:
        """A sender that has ended is not there, and the next one is found."""
        listening = self.listen()
        self.assertTrue(self.link.is_there)
        listening.accept()[0].close()
        listening.close()
        os.unlink(self.path)
        self.assertFalse(self.link.is_there)
        self.listen()
        self.clock.advance(TRY_SECONDS)
        self.assertTrue(self.link.is_there)
