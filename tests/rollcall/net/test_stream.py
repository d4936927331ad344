"""Flows over connections: their life, their limits and the framing of plain streams."""

from typing import Any

from OpenSSL import SSL
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.trial.unittest import SynchronousTestCase

from rollcall.net.config import LimitsConfig
from rollcall.net.connection import ConnectionFlow
from rollcall.net.connections import Connections
from rollcall.net.flow import FlowClosed, Listener
from rollcall.net.stream import StreamFlow
from tests.rollcall.net.fakes import OK, OPTIONS, FailingUser, Net, Wire, a_listener, writes


class FakeOrigin:
    """Stands for a listener that accepts connections."""

    def __init__(self, connections: Connections, transport: str) -> None:
        self.connections = connections
        self.transport = transport
        self.seconds: float | None = 30.0
        self.lost_flows: list[tuple[ConnectionFlow, str]] = []
        self._listener = a_listener(transport)

    @property
    def listener(self) -> Listener | None:
        return self._listener

    def ready(self, flow: ConnectionFlow) -> None:
        self.connections.ready(flow, accepted=True)

    def time_limit(self) -> float | None:
        return self.seconds

    def lost(self, flow: ConnectionFlow, reason: str) -> None:
        self.lost_flows.append((flow, reason))
        self.connections.lost(flow, reason)


class StreamNet(Net):
    """Accepts plain connections on wires."""

    def __init__(self, limits: LimitsConfig | None = None, user: Any = None, transport: str = "TCP") -> None:
        super().__init__(limits or LimitsConfig(max_head_bytes=1024, max_body_bytes=1024), user)
        self.origin = FakeOrigin(self.connections, transport)

    def accept(self, wire: Wire) -> StreamFlow:
        peer = wire.getPeer()
        flow = StreamFlow(self.origin, (peer.host, peer.port))
        wire.connect(flow)
        return flow


class StreamFlowTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.net = StreamNet()
        self.user = self.net.user
        self.wire = Wire()
        self.flow = self.net.accept(self.wire)

    def test_what_a_flow_says(self) -> None:
        """A flow tells its transport, both its ends and its listener."""
        self.assertEqual(self.flow.transport, "TCP")
        self.assertEqual(self.flow.peer, ("192.0.2.1", 40000))
        self.assertEqual(self.flow.local, ("192.0.2.99", 5060))
        self.assertEqual(self.flow.listener, a_listener())
        self.assertTrue(self.flow.reliable)
        self.assertFalse(self.flow.secure)
        self.assertTrue(self.flow.is_open)
        self.assertEqual(self.flow.id, 1)
        self.assertIn("192.0.2.1:40000", repr(self.flow))

    def test_light(self) -> None:
        """There are many flows: none has a dictionary."""
        self.assertFalse(hasattr(self.flow, "__dict__"))

    def test_messages(self) -> None:
        """Messages are cut out of the stream however it arrives."""
        self.wire.receive(OPTIONS[:30])
        self.wire.receive(OPTIONS[30:] + OPTIONS + OPTIONS[:5])
        self.wire.receive(OPTIONS[5:])
        self.assertEqual(self.user.messages, [(OPTIONS, self.flow)] * 3)

    def test_half_a_message(self) -> None:
        """A message that has begun has to end in time, however slowly its bytes drip in and whoever sends it."""
        self.flow.confirm()
        self.wire.receive(OPTIONS[:10])
        for place in range(10, 15):
            self.net.clock.advance(5)
            self.wire.receive(OPTIONS[place : place + 1])
        self.net.clock.advance(4.8)
        self.assertTrue(self.flow.is_open)
        self.net.clock.advance(0.3)
        self.assertFalse(self.flow.is_open)
        self.wire.end()
        self.assertEqual(self.user.closed, [(self.flow, "a message was begun and not ended in time")])
        self.assertEqual(self.net.tallies.stalled_closed, 1)

    def test_each_message_has_its_own_time(self) -> None:
        """When one message is whole the next one's time begins; in the middle of nothing there is no timer."""
        self.flow.confirm()
        self.wire.receive(OPTIONS[:10])
        self.net.clock.advance(29)
        self.wire.receive(OPTIONS[10:] + OPTIONS[:10])
        self.net.clock.advance(29)
        self.assertTrue(self.flow.is_open)
        self.wire.receive(OPTIONS[10:])
        self.assertEqual(len(self.net.wheel), 0)

    def test_stranger_with_half_a_message(self) -> None:
        """A stranger's time does not begin anew with a message that it begins."""
        self.net.clock.advance(29)
        self.wire.receive(OPTIONS[:10])
        self.net.clock.advance(1.1)
        self.assertFalse(self.flow.is_open)
        self.assertEqual((self.net.tallies.strangers_closed, self.net.tallies.stalled_closed), (1, 0))

    def test_half_an_answer(self) -> None:
        """Whom we called has to end its messages, too."""
        self.net.origin.seconds = None
        wire = Wire(("192.0.2.2", 5060))
        flow = self.net.accept(wire)
        wire.receive(OK + OK[:10])
        self.net.clock.advance(30.1)
        self.assertFalse(flow.is_open)

    def test_ping_in_two_halves(self) -> None:
        """A ping whose second half comes later is answered, and idle flows keep nothing of a message."""
        self.wire.receive(OPTIONS + b"\r\n")
        self.assertEqual(self.wire.sent(), b"")
        self.wire.receive(b"\r\n")
        self.assertEqual(self.wire.sent(), b"\r\n")
        self.assertIsNone(self.flow.framer)

    def test_ping(self) -> None:
        """A double CRLF is answered by a single one, a single one by nothing (RFC 5626 §4.4.1)."""
        self.wire.receive(b"\r\n\r\n")
        self.assertEqual(self.wire.sent(), b"\r\n")
        self.wire.receive(b"\r\n" + OPTIONS)
        self.assertEqual(self.wire.sent(), b"")
        self.assertEqual(self.user.data, [OPTIONS])
        self.assertEqual(self.net.tallies.pings_answered, 1)

    def test_write(self) -> None:
        """A message is written as it is."""
        self.flow.write(OK)
        self.assertEqual(self.wire.sent(), OK)

    def test_framing_lost(self) -> None:
        """When a message's end cannot be told the user may answer, then the connection ends."""
        self.user.answer = OK
        self.wire.receive(OPTIONS + OPTIONS.replace(b"Content-Length: 4", b"Content-Length: x"))
        self.assertEqual(self.user.data, [OPTIONS])
        ((error, flow),) = self.user.framing_errors
        self.assertIs(flow, self.flow)
        self.assertIn(b"OPTIONS sip:example.com", error.head)
        self.assertEqual(self.wire.sent(), OK + OK)
        self.assertTrue(self.wire.half_closed)
        self.wire.end()
        ((_, reason),) = self.user.closed
        self.assertIn("framing lost", reason)
        self.assertEqual(self.net.tallies.unframed, 1)

    def test_closed_by_the_peer(self) -> None:
        """The user hears of the end once, with a reason."""
        self.wire.end(ConnectionDone())
        self.wire.end(ConnectionLost())
        self.assertEqual(self.user.closed, [(self.flow, "closed by the peer")])
        self.assertFalse(self.flow.is_open)
        self.assertEqual(self.flow.local, ("", 0))

    def test_lost(self) -> None:
        """Reasons fit for a log come from every kind of end."""
        wires = [Wire(("192.0.2.1", 40001)), Wire(("192.0.2.1", 40002)), Wire(("192.0.2.1", 40003))]
        for wire in wires:
            self.net.accept(wire)
        wires[0].end(ConnectionLost("gone"))
        wires[1].end(SSL.Error([("SSL routines", "", "no shared cipher")]))
        wires[2].end(SSL.Error())
        reasons = [reason for _, reason in self.user.closed]
        self.assertIn("gone", reasons[0])
        self.assertEqual(reasons[1], "TLS failed: no shared cipher")
        self.assertTrue(reasons[2].startswith("lost:"))

    def test_close(self) -> None:
        """A closed flow sends what was written, then its end, and waits for the peer's."""
        self.flow.write(OK)
        self.flow.close("enough")
        self.assertFalse(self.flow.is_open)
        self.assertTrue(self.wire.half_closed)
        self.assertEqual(self.user.closed, [])
        self.wire.end()
        self.assertEqual(self.user.closed, [(self.flow, "enough")])
        self.assertEqual(len(self.net.wheel), 0)

    def test_close_twice(self) -> None:
        """Closing a closed flow does nothing; the first reason stays."""
        self.flow.close("enough")
        self.flow.close("too much")
        self.wire.end()
        self.flow.close("late")
        self.assertEqual(self.user.closed, [(self.flow, "enough")])

    def test_peer_that_stays(self) -> None:
        """A peer that does not end its side in time is cut off."""
        self.flow.close("enough")
        self.net.clock.advance(4.9)
        self.assertFalse(self.wire.aborted)
        self.net.clock.advance(0.2)
        self.assertTrue(self.wire.aborted)
        self.wire.end()
        self.assertEqual(self.user.closed, [(self.flow, "enough")])

    def test_write_to_a_closed_flow(self) -> None:
        """Nothing can be written once the flow is closed; the error says why it was."""
        self.flow.close("enough")
        error = self.assertRaises(FlowClosed, self.flow.write, OK)
        self.assertEqual(str(error), "enough")
        self.wire.end()
        self.assertRaises(FlowClosed, self.flow.write, OK)
        self.assertEqual(self.wire.sent(), b"")

    def test_messages_to_a_closed_flow(self) -> None:
        """What a peer says after we closed is not heard."""
        self.flow.close("enough")
        self.wire.receive(OPTIONS)
        self.assertEqual(self.user.messages, [])

    def test_closed_between_messages(self) -> None:
        """Messages behind the one that made the user close the flow are not heard, even of the same packet."""
        self.user.message_received = lambda data, flow: flow.close("enough")  # type: ignore[method-assign]
        self.wire.receive(OPTIONS + b"\r\n\r\n")
        self.assertEqual(self.wire.sent(), b"")

    def test_failing_user(self) -> None:
        """Whatever goes wrong with a message or its answer, the connection lives, and the failure is logged."""
        net = StreamNet(user=FailingUser())
        wire = Wire()
        flow = net.accept(wire)
        wire.receive(OPTIONS)
        self.assertTrue(flow.is_open)
        wire.receive(b"nonsense\r\n\r\n")
        wire.end()
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 3)
        self.assertFalse(flow.is_open)


class StrangerTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.net = StreamNet()
        self.wire = Wire()
        self.flow = self.net.accept(self.wire)

    def test_silent_stranger(self) -> None:
        """A connection that sends nothing valid in time is closed."""
        self.wire.receive(b"\r\n\r\n" + OPTIONS[:20])
        self.net.clock.advance(29.9)
        self.assertTrue(self.flow.is_open)
        self.net.clock.advance(0.2)
        self.assertFalse(self.flow.is_open)
        self.wire.end()
        self.assertEqual(self.net.user.closed, [(self.flow, "no valid request came in time")])
        self.assertEqual(self.net.tallies.strangers_closed, 1)

    def test_confirmed(self) -> None:
        """After a valid request the connection may be idle for ever, and needs no timer."""
        self.flow.confirm()
        self.assertTrue(self.flow.confirmed)
        self.assertEqual(len(self.net.wheel), 0)
        self.net.clock.advance(10**6)
        self.assertTrue(self.flow.is_open)
        self.flow.confirm()

    def test_confirmed_while_closing(self) -> None:
        """A flow confirmed late is still cut off when its peer stays."""
        self.flow.close("enough")
        self.flow.confirm()
        self.net.clock.advance(6)
        self.assertTrue(self.wire.aborted)

    def test_no_limit(self) -> None:
        """A connection that we opened has no such limit."""
        self.net.origin.seconds = None
        self.net.accept(Wire())
        self.assertEqual(len(self.net.wheel), 1)


class HandshakeTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.net = StreamNet(transport="TLS")
        self.wire = Wire()
        self.flow = self.net.accept(self.wire)

    def test_opens_with_the_handshake(self) -> None:
        """Over TLS the flow is there once the handshake is done."""
        self.assertFalse(self.flow.is_open)
        self.assertEqual(self.flow.id, 0)
        self.assertFalse(writes(self.flow, OK))
        self.flow.handshakeCompleted()
        self.assertTrue(self.flow.is_open)
        self.assertTrue(self.flow.secure)
        self.wire.receive(OPTIONS)
        self.assertEqual(self.net.user.messages, [(OPTIONS, self.flow)])

    def test_slow_handshake(self) -> None:
        """A handshake that takes too long is cut off; the user never hears of it."""
        self.net.clock.advance(10.1)
        self.assertTrue(self.wire.aborted)
        self.wire.end()
        self.assertEqual(self.net.user.closed, [])
        self.assertEqual(self.net.origin.lost_flows, [(self.flow, "the handshake took too long")])
        self.assertEqual(self.net.tallies.handshakes_failed, 1)

    def test_close_before(self) -> None:
        """A flow closed before it opened ends at once, and no later handshake opens it."""
        self.flow.close("enough")
        self.assertTrue(self.wire.aborted)
        self.flow.handshakeCompleted()
        self.assertFalse(self.flow.is_open)


class SlowReaderTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.net = StreamNet(LimitsConfig(max_write_buffer_bytes=2048))
        self.wire = Wire()
        self.flow = self.net.accept(self.wire)
        self.producer: Any = self.wire.producer

    def test_not_read_while_it_does_not_read(self) -> None:
        """While our side is full we do not read from the peer."""
        self.producer.pauseProducing()
        self.assertEqual(self.wire.producerState, "paused")
        self.producer.resumeProducing()
        self.assertEqual(self.wire.producerState, "producing")

    def test_bound(self) -> None:
        """A peer for which too much waits is cut off, and whoever writes hears of it."""
        self.producer.pauseProducing()
        self.assertTrue(writes(self.flow, bytes(2000)))
        self.producer.pauseProducing()  # as Twisted says again at each write to a full buffer
        self.assertFalse(writes(self.flow, bytes(49)))
        self.assertTrue(self.wire.aborted)
        self.wire.end()
        self.assertEqual(self.net.user.closed, [(self.flow, "the peer does not read what we write")])
        self.assertEqual(self.net.tallies.slow_readers_closed, 1)

    def test_counts_from_full(self) -> None:
        """Only what waits counts: after the buffer was emptied the count begins anew."""
        self.assertTrue(writes(self.flow, bytes(4000)))
        for _ in range(3):
            self.producer.pauseProducing()
            self.assertTrue(writes(self.flow, bytes(2000)))
            self.producer.resumeProducing()

    def test_pings_count(self) -> None:
        """Pongs that nobody reads do not grow without bound either."""
        self.producer.pauseProducing()
        for _ in range(2048 // 2 + 1):
            self.wire.receive(b"\r\n\r\n")
        self.assertTrue(self.wire.aborted)

    def test_close_while_full(self) -> None:
        """A full flow that is closed reads again, to see the peer's end."""
        self.producer.pauseProducing()
        self.flow.close("enough")
        self.assertEqual(self.wire.producerState, "producing")
        self.assertIsNone(self.wire.producer)

    def test_stop(self) -> None:
        """The transport's word that all is over changes nothing by itself."""
        self.producer.stopProducing()
        self.assertTrue(self.flow.is_open)
