"""DNS by TCP: framing, limits, and peers that are slow, silent or hostile."""

from collections.abc import Iterator
from itertools import count
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from registrar.distribution.dns.config import DnsConfig
from registrar.distribution.dns.serving_tcp import ANSWERS_PER_TURN, MAX_QUERY_BYTES, StreamConnection, StreamService

QUERY = b"a query with enough bytes"


class Wire(StringTransport):
    """A transport that ends as Twisted's do, and whose peer may be slow."""

    room = -1
    """How many more messages are taken; fewer than none: any number."""

    aborting = False

    def write(self, data: bytes) -> None:
        """See ITransport."""
        super().write(data)
        self.room -= 1
        if not self.room:
            assert self.producer is not None
            self.producer.pauseProducing()

    def setTcpNoDelay(self, enabled: bool) -> None:
        """See ITCPTransport."""

    def abortConnection(self) -> None:
        """See ITCPTransport."""
        self.aborting = True
        self.disconnecting = True

    @property
    def is_read(self) -> bool:
        """Whether it would deliver data."""
        return self.producerState == "producing"


def framed(*messages: bytes) -> bytes:
    """Return messages behind their lengths."""
    return b"".join(len(message).to_bytes(2) + message for message in messages)


class StreamServiceTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.asked: list[tuple[bytes, bytes]] = []
        self.service = StreamService(self.clock, DnsConfig(tcp_connections=3, tcp_connections_per_source=2,
                                                           tcp_idle_seconds=10.0), self.respond)

    def respond(self, data: bytes, host: bytes) -> Iterator[bytes]:
        """Answer with what was asked; with many messages, or none, when that is asked for."""
        self.asked.append((data, host))
        if data.startswith(b"nothing"):
            return iter(())
        if data.startswith(b"transfer"):
            return (b"message %d" % number for number in count())
        if data.startswith(b"large"):
            return iter((bytes(16_000),) * 3)
        return iter((b"re: " + data,))

    def connect(self, host: str = "192.0.2.1") -> tuple[StreamConnection, Wire]:
        """Return a connection and its transport."""
        connection = self.service.buildProtocol(IPv4Address("TCP", host, 4000))
        assert connection is not None
        wire = Wire()
        connection.makeConnection(wire)
        return connection, wire

    def lose(self, connection: StreamConnection) -> None:
        """End a connection."""
        connection.connectionLost(Failure(ConnectionDone()))

    def test_answers(self) -> None:
        """Queries in one piece, in single bytes and several at once are answered in their order."""
        connection, wire = self.connect()
        connection.dataReceived(framed(QUERY))
        for byte in framed(QUERY + b"2"):
            connection.dataReceived(bytes((byte,)))
        connection.dataReceived(framed(b"nothing comes of this", QUERY + b"3", QUERY + b"4") + b"\0")
        self.assertEqual(wire.value(), framed(*(b"re: " + QUERY + more for more in (b"", b"2", b"3", b"4"))))
        self.assertEqual(self.asked[0], (QUERY, bytes((192, 0, 2, 1))))
        self.assertEqual(self.service.queries, 5)
        self.assertTrue(wire.is_read)

    def test_idle(self) -> None:
        """A connection on which nothing is asked for a while is closed, one that asks lives on."""
        connection, wire = self.connect()
        self.clock.advance(9)
        connection.dataReceived(framed(QUERY))
        self.clock.advance(9)
        self.assertFalse(wire.disconnecting)
        self.clock.advance(2)
        self.assertTrue(wire.disconnecting)
        self.assertFalse(wire.aborting)
        self.clock.advance(10)
        self.assertTrue(wire.aborting)

    def test_unfinished(self) -> None:
        """A query that does not end keeps no connection, however slowly it comes."""
        connection, wire = self.connect()
        connection.dataReceived(b"\0")
        for _ in range(20):
            self.clock.advance(1)
            if not wire.aborting:
                connection.dataReceived(b"\x20")
        self.assertTrue(wire.aborting)
        self.assertEqual(self.service.cut, 1)

    def test_lengths(self) -> None:
        """A length that no query has ends the connection at once."""
        for length in (0, 11, MAX_QUERY_BYTES + 1):
            connection, wire = self.connect()
            connection.dataReceived(length.to_bytes(2) + bytes(length))
            self.assertTrue(wire.aborting, length)
            self.lose(connection)
        self.assertEqual((self.asked, self.service.cut), ([], 3))

    def test_turns(self) -> None:
        """Many queries at once are answered a few in a turn, and meanwhile no more are read."""
        connection, wire = self.connect()
        connection.dataReceived(framed(QUERY) * (ANSWERS_PER_TURN + 1))
        self.assertEqual(len(self.asked), ANSWERS_PER_TURN)
        self.assertFalse(wire.is_read)
        connection.dataReceived(framed(QUERY))
        self.assertEqual(len(self.asked), ANSWERS_PER_TURN)
        self.clock.advance(0)
        self.assertEqual(len(self.asked), ANSWERS_PER_TURN + 2)
        self.assertTrue(wire.is_read)

    def test_slow_reader(self) -> None:
        """A peer that takes no answers is not read from, is served when it does, and is cut when it does not."""
        connection, wire = self.connect()
        connection.pauseProducing()
        connection.dataReceived(framed(QUERY))
        self.assertEqual((wire.value(), wire.is_read), (b"", False))
        connection.resumeProducing()
        self.assertEqual((wire.value(), wire.is_read), (framed(b"re: " + QUERY), True))
        connection.pauseProducing()
        self.clock.advance(11)
        self.assertTrue(wire.aborting)

    def test_transfer(self) -> None:
        """A long answer is written as fast as it is taken, and forgotten when the peer goes."""
        connection, wire = self.connect()
        wire.room = 100
        connection.dataReceived(framed(b"transfer, please"))
        self.clock.advance(0)
        self.assertEqual(wire.value(), framed(*(b"message %d" % number for number in range(100))))
        wire.clear()
        wire.room = 10
        connection.resumeProducing()
        self.clock.advance(1)
        self.assertEqual(wire.value(), framed(*(b"message %d" % number for number in range(100, 110))))
        self.lose(connection)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_large_answers(self) -> None:
        """Of large messages fewer are written in a turn."""
        connection, wire = self.connect()
        connection.dataReceived(framed(b"large ones, please"))
        self.assertEqual(len(wire.value()), 16_002)
        self.clock.advance(0)
        self.assertEqual(len(wire.value()), 3 * 16_002)

    def test_half_close(self) -> None:
        """A peer that has asked all it will gets its answers before the connection ends."""
        connection, wire = self.connect()
        connection.pauseProducing()
        connection.dataReceived(framed(QUERY))
        connection.readConnectionLost()
        connection.writeConnectionLost()
        self.assertFalse(wire.disconnecting)
        connection.resumeProducing()
        self.assertEqual(wire.value(), framed(b"re: " + QUERY))
        self.assertTrue(wire.disconnecting)

    def test_bounds(self) -> None:
        """There are only so many connections, and only so many of one source; a place that is left can be taken."""
        connections = [self.connect()[0] for _ in range(2)]
        self.assertIsNone(self.service.buildProtocol(IPv4Address("TCP", "192.0.2.1", 1)))
        self.connect("192.0.2.2")
        self.assertIsNone(self.service.buildProtocol(IPv4Address("TCP", "192.0.2.3", 1)))
        self.assertEqual(self.service.refused, 2)
        self.lose(connections[0])
        self.connect("192.0.2.1")

    def test_one_network(self) -> None:
        """Who has an IPv6 address has its whole /64, and no more connections for that."""
        connection, _ = self.connect("2001:db8::1")
        self.connect("2001:db8::2")
        self.assertIsNone(self.service.buildProtocol(IPv4Address("TCP", "2001:db8::3", 1)))
        self.lose(connection)
        self.connect("2001:db8::3")

    def test_nothing(self) -> None:
        """What gets no answer takes its part of a turn, too; what comes after it is answered in a later one."""
        connection, wire = self.connect()
        connection.dataReceived(framed(*[b"nothing comes of this"] * 50, QUERY))
        self.assertLess(len(self.asked), 10)
        self.assertEqual(wire.value(), b"")
        self.clock.pump([0.0] * 10)
        self.assertEqual(len(self.asked), 51)
        self.assertEqual(wire.value(), framed(b"re: " + QUERY))

    def test_stop(self) -> None:
        """When the server stops its connections end."""
        wires: list[Any] = [self.connect(f"192.0.2.{number}")[1] for number in range(3)]
        self.service.stop()
        self.assertEqual([wire.aborting for wire in wires], [True] * 3)
