"""The book of all connections."""

from twisted.trial.unittest import SynchronousTestCase

from rollcall.net.config import LimitsConfig
from rollcall.net.stream import StreamFlow
from tests.flows import MemoryFlow
from tests.rollcall.net.fakes import OK, OPTIONS, Net, Wire, a_listener
from tests.rollcall.net.phones import QuickUser, a_usual_register, an_answer_to
from tests.rollcall.net.test_stream import FakeOrigin, StreamNet

ONE, ANOTHER = b"\xc0\x00\x02\x01", b"\xc0\x00\x02\x02"


class ConnectionsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.net = StreamNet()
        self.connections = self.net.connections

    def test_ids(self) -> None:
        """Ids count up from 1, only the odd ones, and find their flow while it is open."""
        wires = [Wire(("192.0.2.1", port)) for port in (1, 2)]
        first, second = (self.net.accept(wire) for wire in wires)
        self.assertEqual((first.id, second.id), (1, 3))
        self.assertIs(self.connections.find(3), second)
        first.close("enough")
        self.assertIsNone(self.connections.find(1))
        wires[0].end()
        self.assertIsNone(self.connections.find(1))
        self.assertIsNone(self.connections.find(5))
        self.assertIsNone(self.connections.find(2))

    def test_counts(self) -> None:
        """Open connections are counted by transport."""
        wire = Wire()
        self.net.accept(wire)
        self.assertEqual(dict(self.connections.by_transport), {"TCP": 1})
        wire.end()
        self.assertEqual(dict(self.connections.by_transport), {"TCP": 0})

    def test_accepted_from(self) -> None:
        """An accepted connection carries requests back to exactly where it came from."""
        wire = Wire()
        flow = self.net.accept(wire)
        self.assertIs(self.connections.accepted_from("TCP", ("192.0.2.1", 40000)), flow)
        self.assertIsNone(self.connections.accepted_from("TCP", ("192.0.2.1", 5060)))
        self.assertIsNone(self.connections.accepted_from("WS", ("192.0.2.1", 40000)))
        flow.close("enough")
        self.assertIsNone(self.connections.accepted_from("TCP", ("192.0.2.1", 40000)))

    def test_same_peer_again(self) -> None:
        """The end of an old connection does not hide a new one from the same place."""
        old, new = Wire(), Wire()
        self.net.accept(old)
        flow = self.net.accept(new)
        old.end()
        self.assertIs(self.connections.accepted_from("TCP", ("192.0.2.1", 40000)), flow)

    def test_tls_clients_are_not_servers(self) -> None:
        """A client's TLS connection is no way to reach it by address (RFC 5923 §8)."""
        net = StreamNet(transport="TLS")
        net.accept(Wire()).handshakeCompleted()
        self.assertIsNone(net.connections.accepted_from("TLS", ("192.0.2.1", 40000)))

    def test_close_all(self) -> None:
        """Closing all is done when the last is gone; connections still opening count."""
        wires = [Wire(), Wire()]
        self.net.accept(wires[0])
        wires[1].connect(StreamFlow(FakeOrigin(self.connections, "TLS"), ("192.0.2.1", 1)))
        closing, again = (self.connections.close_all("shutting down") for _ in range(2))
        self.assertTrue(wires[0].half_closed)
        self.assertTrue(wires[1].aborted)
        wires[0].end()
        self.assertNoResult(closing)
        wires[1].end()
        self.successResultOf(closing)
        self.successResultOf(again)
        self.assertEqual([reason for _, reason in self.net.user.closed], ["shutting down"])
        self.successResultOf(self.connections.close_all("again"))


class ShortWayTests(SynchronousTestCase):
    """Messages of connections that Twisted carries."""

    def setUp(self) -> None:
        self.user = QuickUser()
        self.net = StreamNet(user=self.user)
        self.wire = Wire()
        self.flow = self.net.accept(self.wire)

    def test_usual(self) -> None:
        """A usual REGISTER is answered at once, in its place among others, and confirms its flow."""
        self.user.answer = OK
        self.wire.receive(OPTIONS + a_usual_register(1) + OPTIONS)
        self.assertEqual(self.wire.sent(), OK + an_answer_to(1) + OK)
        self.assertTrue(self.flow.confirmed)

    def test_no_answer(self) -> None:
        """One without an answer is handed over."""
        self.user.is_quick = False
        self.wire.receive(a_usual_register(1))
        self.assertEqual((self.user.quick, self.user.data), ([1], [a_usual_register(1)]))

    def test_more_than_a_message(self) -> None:
        """What holds more than a REGISTER, as a WebSocket message may, is handed over whole."""
        self.net.connections.deliver(a_usual_register(1) + b"x", self.flow)
        self.assertEqual((self.user.quick, self.user.data), ([], [a_usual_register(1) + b"x"]))

    def test_closed_meanwhile(self) -> None:
        """An answer for which there is no flow any more is dropped."""
        self.user.short_way = lambda register, flow, now: flow.close("enough") or OK  # type: ignore[method-assign]
        self.wire.receive(a_usual_register(1))
        self.assertEqual((self.wire.sent(), self.user.messages), (b"", []))

    def test_datagrams(self) -> None:
        """Datagrams have a short way of their own."""
        flow = MemoryFlow("UDP", ("192.0.2.1", 5060), a_listener("UDP"))
        self.net.connections.deliver(a_usual_register(1), flow)
        self.assertEqual((self.user.quick, self.user.data), ([], [a_usual_register(1)]))


class SourceTests(SynchronousTestCase):
    def test_limit(self) -> None:
        """One source has only so many connections; others are not touched by it."""
        connections = Net(LimitsConfig(max_connections_per_source=2)).connections
        self.assertTrue(connections.admit(ONE))
        self.assertTrue(connections.admit(ONE))
        self.assertFalse(connections.admit(ONE))
        self.assertTrue(connections.admit(ANOTHER))
        connections.dismiss(ONE)
        self.assertTrue(connections.admit(ONE))
        self.assertEqual(connections.tallies.refused_source, 1)

    def test_forgotten(self) -> None:
        """A source without connections costs nothing."""
        connections = Net().connections
        connections.admit(ONE)
        connections.dismiss(ONE)
        self.assertEqual(len(connections._by_source), 0)

    def test_no_limit(self) -> None:
        """0 means no limit, and nothing is counted."""
        connections = Net(LimitsConfig(max_connections_per_source=0)).connections
        self.assertTrue(all(connections.admit(ONE) for _ in range(100)))
        self.assertEqual(len(connections._by_source), 0)
        connections.dismiss(ONE)
