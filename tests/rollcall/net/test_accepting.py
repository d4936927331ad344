"""Who may connect, and whom a PROXY header makes a connection's peer."""

from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.interfaces import IProtocol
from twisted.trial.unittest import SynchronousTestCase

from rollcall.net.accepting import Accepting, ProxyPreface
from rollcall.net.config import LimitsConfig, ListenerConfig
from rollcall.net.stream import StreamFlow
from rollcall.net.websocket_flow import WebSocketFlow
from tests.rollcall.net.fakes import OPTIONS, Net, Wire, a_listener
from tests.rollcall.net.test_proxy_protocol import header


def unsecured(protocol: IProtocol) -> IProtocol:
    """Put no TLS before a protocol."""
    return protocol


class AcceptingTestCase(SynchronousTestCase):
    """Connects wires to a listener."""

    def listen(self, limits: LimitsConfig | None = None, **settings: Any) -> None:
        self.net = Net(limits)
        settings.setdefault("transport", "tcp")
        config = ListenerConfig(name="main", **settings)
        listener = a_listener(settings["transport"].upper())
        self.accepting = Accepting(config, listener, self.net.connections, unsecured)

    def connect(self, host: str = "192.0.2.1", port: int = 40000) -> Wire | None:
        wire = Wire((host, port))
        protocol = self.accepting.buildProtocol(IPv4Address("TCP", host, port))
        if protocol is None:
            return None
        wire.connect(protocol)
        return wire


class AcceptingTests(AcceptingTestCase):
    def test_flows(self) -> None:
        """Each transport has its kind of flow."""
        self.listen()
        self.assertIsInstance(self.accepting.buildProtocol(IPv4Address("TCP", "192.0.2.1", 1)), StreamFlow)
        self.listen(transport="ws")
        self.assertIsInstance(self.accepting.buildProtocol(IPv4Address("TCP", "192.0.2.1", 1)), WebSocketFlow)

    def test_listener_limit(self) -> None:
        """A full listener refuses until a connection ends."""
        self.listen(max_connections=2)
        wires = [self.connect(port=1), self.connect(port=2)]
        self.assertIsNone(self.connect(port=3))
        self.assertEqual(self.net.tallies.refused_full, 1)
        assert wires[0] is not None
        wires[0].end()
        self.assertIsNotNone(self.connect(port=3))

    def test_source_limit(self) -> None:
        """A source with too many connections is refused, others are not."""
        self.listen(LimitsConfig(max_connections_per_source=1))
        wire = self.connect()
        self.assertIsNone(self.connect(port=2))
        self.assertIsNotNone(self.connect("192.0.2.2"))
        assert wire is not None
        wire.end()
        self.assertIsNotNone(self.connect(port=2))
        self.assertEqual(self.accepting.open, 2)

    def test_stranger_limit(self) -> None:
        """Accepted connections are strangers at first."""
        self.listen(LimitsConfig(first_request_seconds=7))
        wire = self.connect()
        assert wire is not None
        self.net.clock.advance(7.1)
        self.assertTrue(wire.half_closed)


class ProxyTests(AcceptingTestCase):
    def setUp(self) -> None:
        self.listen(LimitsConfig(max_connections_per_source=1), proxy_protocol_from=("10.0.0.0/8",), max_connections=3)

    def proxied(self, port: int = 1) -> Wire:
        wire = self.connect("10.1.2.3", port)
        assert wire is not None
        return wire

    def test_client_behind_a_proxy(self) -> None:
        """A trusted load balancer's header names the client; the flow never sees the load balancer."""
        wire = self.proxied()
        wire.receive(header()[:9])
        self.assertEqual(self.net.user.messages, [])
        wire.receive(header()[9:] + OPTIONS)
        ((_, flow),) = self.net.user.messages
        self.assertEqual(flow.peer, ("192.0.2.1", 40000))
        self.assertEqual(flow.local, ("198.51.100.1", 5060))
        wire.receive(OPTIONS)
        self.assertEqual(len(self.net.user.messages), 2)
        wire.end()
        self.assertEqual(self.net.user.closed, [(flow, "closed by the peer")])
        self.assertEqual((self.accepting.open, len(self.net.wheel)), (0, 0))

    def test_proxy_speaks_for_itself(self) -> None:
        """Without a client named the load balancer is the peer."""
        wire = self.proxied()
        wire.receive(header(b"", command=0x20) + OPTIONS)
        ((_, flow),) = self.net.user.messages
        self.assertEqual((flow.peer, flow.local), (("10.1.2.3", 1), ("192.0.2.99", 5060)))

    def test_others_send_no_header(self) -> None:
        """Who is no trusted load balancer speaks directly, and cannot claim to be somebody else."""
        wire = self.connect("192.0.2.1")
        assert wire is not None
        wire.receive(OPTIONS)
        self.assertEqual(self.net.user.messages[0][1].peer, ("192.0.2.1", 40000))
        forger = self.connect("192.0.2.2")
        assert forger is not None
        forger.receive(header(b"\x0a\x00\x00\x01" * 2 + b"\x00\x01" * 2) + OPTIONS)
        self.assertNotIn(("10.0.0.1", 1), [flow.peer for _, flow in self.net.user.messages])

    def test_wrong_header(self) -> None:
        """A load balancer that sends no header is cut off and warned about."""
        wire = self.proxied()
        wire.receive(OPTIONS)
        self.assertTrue(wire.aborted)
        wire.receive(OPTIONS)
        wire.end()
        self.assertEqual((self.accepting.open, self.net.tallies.handshakes_failed), (0, 1))

    def test_no_header(self) -> None:
        """A header that does not come in time ends the connection."""
        wire = self.proxied()
        self.net.clock.advance(10.1)
        self.assertTrue(wire.aborted)

    def test_gone_before_the_header(self) -> None:
        """A connection that ends before its header (a TCP health check) leaves nothing behind."""
        self.proxied().end()
        self.assertEqual((self.accepting.open, len(self.net.wheel)), (0, 0))

    def test_source_limit(self) -> None:
        """The clients behind a load balancer are counted, not the load balancer."""
        wires = [self.proxied(port) for port in (1, 2)]
        for wire in wires:
            wire.receive(header())
        self.assertFalse(wires[0].aborted)
        self.assertTrue(wires[1].aborted)
        wires[1].end()
        self.assertEqual(self.accepting.open, 1)

    def test_listener_limit(self) -> None:
        """Connections that wait for their header count."""
        for port in (1, 2, 3):
            self.proxied(port)
        self.assertIsNone(self.connect("10.1.2.3", 4))

    def test_makes_way(self) -> None:
        """After the header the connection speaks with its flow directly."""
        wire = self.proxied()
        self.assertIsInstance(wire.protocol, ProxyPreface)
        wire.receive(header())
        self.assertIsInstance(wire.protocol, StreamFlow)
