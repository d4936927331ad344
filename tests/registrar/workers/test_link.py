"""Messages between a worker and its supervisor: whole, in order, and never more of them waiting than there may be."""

from twisted.internet.testing import StringTransport
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from registrar.workers.link import MAX_MESSAGE_BYTES, Link
from registrar.workers.messages import Acquire, Granted, Message, Passed, Write, decode, encode


class Transport(StringTransport):
    """A transport that notes that it was aborted."""

    aborted = False

    def abortConnection(self) -> None:
        """Note it."""
        self.aborted = True


class LinkTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.received: list[Message] = []
        self.losses = 0
        self.transport = Transport()
        self.link = Link(self.received.append, self.lost, 1000)
        self.link.makeConnection(self.transport)

    def lost(self) -> None:
        self.losses += 1

    def bytes_of(self, *messages: Message) -> bytes:
        """Return how messages stand on the wire."""
        sender, transport = Link(self.received.append, self.lost, 1000), Transport()
        sender.makeConnection(transport)
        for message in messages:
            sender.send(message)
        data: bytes = transport.value()
        return data

    def test_round_trip(self) -> None:
        """Messages arrive whole and in order, however the bytes are cut."""
        said: list[Message] = [
            Acquire((b"alice@example.com",)), Granted(((b"a@b", (2, "[]")), (b"c@d", None))),
            Passed(2, 7, encode(Write(9, b"\0\xff"))), Granted(())]
        data = self.bytes_of(*said)
        for size in (1, 3, 1000):
            self.received.clear()
            for start in range(0, len(data), size):
                self.link.dataReceived(data[start : start + size])
            self.assertEqual(self.received, said)
        self.assertEqual(decode(self.received[2].message), Write(9, b"\0\xff"))  # type: ignore[attr-defined]

    def test_slow_reader(self) -> None:
        """What the other side does not read waits, in order; when it is too much, the link says so."""
        said = [Write(number, b"x" * 100) for number in range(10)]
        self.link.pauseProducing()
        for message in said[:8]:
            self.link.send(message)
        self.assertFalse(self.link.is_full)
        for message in said[8:]:
            self.link.send(message)
        self.assertEqual((self.link.is_full, self.transport.value()), (True, b""))
        self.link.resumeProducing()
        self.assertEqual((self.link.is_full, self.transport.value()), (False, self.bytes_of(*said)))

    def test_lost(self) -> None:
        """The end of the connection is told once, and nothing can be said afterwards."""
        self.link.pauseProducing()
        self.link.send(Acquire((b"a@b",)))
        self.link.connectionLost()
        self.assertEqual((self.losses, self.link.is_open, self.link.is_full), (1, False, False))
        self.link.resumeProducing()
        self.link.send(Acquire((b"a@b",)))
        self.link.end()
        self.assertEqual((self.transport.value(), self.transport.aborted), (b"", False))

    def test_nonsense(self) -> None:
        """What is no message is logged and skipped; what claims to be too long ends the connection."""
        with capturedLogs() as events:
            self.link.dataReceived(b"\0\0\0\1\xc1" + self.bytes_of(Acquire((b"a@b",))))
        self.assertEqual((len(events), self.received), (1, [Acquire((b"a@b",))]))
        with capturedLogs() as events:
            self.link.dataReceived((MAX_MESSAGE_BYTES + 1).to_bytes(4))
        self.assertEqual((len(events), self.transport.aborted), (1, True))

    def test_failure(self) -> None:
        """When a message cannot be handled, that is logged, and the next one is."""

        def broken(message: Message) -> None:
            self.received.append(message)
            raise RuntimeError("broken")

        link = Link(broken, self.lost, 1000)
        link.makeConnection(Transport())
        link.dataReceived(self.bytes_of(Acquire((b"a@b",)), Acquire((b"c@d",))))
        self.assertEqual(len(self.received), 2)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 2)
