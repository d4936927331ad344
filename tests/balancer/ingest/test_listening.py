"""Connections that bring HEP: bounded in number and in silence, and strangers get none."""

from twisted.internet.address import IPv4Address
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from balancer.ingest.config import IngestConfig
from balancer.ingest.intake import Intake
from balancer.ingest.listening import Datagrams, HepConnection, HepConnections
from rollcall.media.reports import PhoneReport, RtcpReport
from tests.balancer.ingest.packets import NODE_HOST, Nodes, a_packet, an_sr
from tests.vectors.hep import recorded


class ConnectionTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1_800_000_000.0)
        self.heard: list[RtcpReport | PhoneReport] = []
        config = IngestConfig(max_connections=2, idle_seconds=60.0)
        self.intake = Intake(config, Nodes(), self.heard.append, self.clock.seconds)
        self.connections = HepConnections(self.clock, config, self.intake)

    def connect(self, host: str = "127.0.0.1") -> tuple[HepConnection, StringTransport]:
        """Return a new connection."""
        connection = self.connections.buildProtocol(IPv4Address("TCP", host, 40000))
        assert connection is not None
        transport = StringTransport()
        connection.makeConnection(transport)
        return connection, transport

    def end(self, connection: HepConnection, transport: StringTransport) -> None:
        """Tell a connection that it was ended, which is what it must have asked for."""
        self.assertTrue(transport.disconnected)
        connection.connectionLost(Failure(ConnectionAbortedError()))

    def test_packets(self) -> None:
        """Packets are taken in whatever pieces they come."""
        connection, _ = self.connect()
        stream = b"".join(data for _, data in recorded())
        for at in range(0, len(stream), 999):
            connection.dataReceived(stream[at:at + 999])
        self.assertEqual(len(self.heard), len(recorded()))

    def test_no_hep(self) -> None:
        """Whoever speaks something else is cut off, and it is counted."""
        connection, transport = self.connect()
        connection.dataReceived(b"GET / HTTP/1.1\r\n")
        self.end(connection, transport)
        self.assertEqual(self.intake.outcomes, {("hep_tcp", "malformed"): 1})
        self.assertEqual(len(self.connections), 0)

    def test_strangers(self) -> None:
        """Strangers get no connection; nodes do."""
        self.assertIsNone(self.connections.buildProtocol(IPv4Address("TCP", "198.51.100.1", 40000)))
        self.assertEqual(self.intake.outcomes, {("hep_tcp", "stranger"): 1})
        self.connect(NODE_HOST)

    def test_silence(self) -> None:
        """A connection that is silent for too long is closed, one that speaks is not."""
        silent, speaking = self.connect(), self.connect()
        for _ in range(2):
            self.clock.advance(40)
            speaking[0].dataReceived(a_packet(an_sr()))
        self.end(*silent)
        self.assertFalse(speaking[1].disconnected)
        speaking[0].connectionLost()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_too_many(self) -> None:
        """One more connection than there may be closes the one that was silent for longest."""
        first, second = self.connect(), self.connect()
        first[0].dataReceived(a_packet(an_sr()))
        third = self.connect()
        self.end(*second)
        self.assertFalse(first[1].disconnected or third[1].disconnected)
        self.assertEqual(len(self.connections), 2)

    def test_stop(self) -> None:
        """All connections end with the service."""
        opened = [self.connect(), self.connect()]
        self.connections.close_all()
        for connection, transport in opened:
            self.end(connection, transport)

    def test_what_breaks(self) -> None:
        """A report that breaks whoever hears it is logged, and the next one is taken, over TCP and UDP."""
        def break_down(report: RtcpReport | PhoneReport) -> None:
            self.heard.append(report)
            raise RuntimeError("a mistake of ours")

        intake = Intake(IngestConfig(), Nodes(), break_down, self.clock.seconds)
        self.connections.intake = intake
        connection, transport = self.connect()
        datagrams = Datagrams(lambda data, host: intake.hep(data, host, "hep_udp"))
        for _ in range(2):
            connection.dataReceived(a_packet(an_sr()))
            datagrams.datagramReceived(a_packet(an_sr()), ("127.0.0.1", 40000))
        self.assertEqual((len(self.heard), transport.disconnected), (4, False))
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 4)
