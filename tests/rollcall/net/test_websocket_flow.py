"""Flows over WebSockets, on a wire without sockets."""

from twisted.trial.unittest import SynchronousTestCase

from rollcall.net.websocket import close_frame, message_frame
from rollcall.net.websocket_flow import WebSocketFlow
from tests.rollcall.net.fakes import OK, OPTIONS, Wire, writes
from tests.rollcall.net.test_stream import StreamNet
from tests.rollcall.net.test_upgrade import ANSWER, REQUEST
from tests.rollcall.net.test_websocket import CLOSE, PING, PONG, TEXT, client_frame


class WebSocketFlowTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.net = StreamNet(transport="WS")
        self.user = self.net.user
        self.wire = Wire()
        self.flow = WebSocketFlow(self.net.origin, ("192.0.2.1", 40000))
        self.wire.connect(self.flow)

    def upgrade(self) -> None:
        self.wire.receive(REQUEST.encode())
        self.assertEqual(self.wire.sent(), ANSWER.encode())

    def test_opens_with_the_upgrade(self) -> None:
        """The flow is there once the upgrade is done."""
        self.assertFalse(self.flow.is_open)
        self.assertFalse(writes(self.flow, OK))
        self.upgrade()
        self.assertTrue(self.flow.is_open)
        self.assertEqual((self.flow.id, self.flow.transport, self.flow.reliable), (1, "WS", True))
        self.assertFalse(hasattr(self.flow, "__dict__"))

    def test_messages(self) -> None:
        """Each WebSocket message is a SIP message, the first may come with the upgrade."""
        self.wire.receive(REQUEST.encode() + client_frame(TEXT, OPTIONS))
        self.wire.receive(client_frame(TEXT, OK))
        self.assertEqual(self.user.messages, [(OPTIONS, self.flow), (OK, self.flow)])

    def test_write(self) -> None:
        """A SIP message is written as one WebSocket message."""
        self.upgrade()
        self.flow.write(OK)
        self.assertEqual(self.wire.sent(), message_frame(OK))

    def test_keepalives(self) -> None:
        """Pings are answered by pongs, a double CRLF by a single one (RFC 7118 §6)."""
        self.upgrade()
        self.wire.receive(client_frame(PING, b"there?"))
        self.assertEqual(self.wire.sent(), b"\x8a\x06there?")
        self.wire.receive(client_frame(TEXT, b"\r\n\r\n"))
        self.assertEqual(self.wire.sent(), message_frame(b"\r\n"))
        self.wire.receive(client_frame(PONG, b"") + client_frame(TEXT, b"\r\n") + client_frame(TEXT, b""))
        self.assertEqual(self.wire.sent(), b"")
        self.assertEqual(self.user.messages, [])
        self.assertEqual(self.net.tallies.pings_answered, 2)

    def test_refused_upgrade(self) -> None:
        """A request that opens no WebSocket gets its HTTP answer, then the end."""
        self.wire.receive(b"GET / HTTP/1.1\r\nHost: example.com\r\n\r\n")
        self.assertTrue(self.wire.sent().startswith(b"HTTP/1.1 426 "))
        self.assertTrue(self.wire.half_closed)
        self.wire.receive(REQUEST.encode())
        self.assertEqual(self.wire.sent(), b"")
        self.wire.end()
        self.assertEqual(self.user.closed, [])
        self.assertEqual(self.net.tallies.handshakes_failed, 1)

    def test_origins(self) -> None:
        """Pages of other origins than those allowed are refused."""
        flow = WebSocketFlow(self.net.origin, ("192.0.2.1", 1), allowed_origins=frozenset(("https://ours.example",)))
        wire = Wire()
        wire.connect(flow)
        wire.receive(REQUEST.encode())
        self.assertTrue(wire.sent().startswith(b"HTTP/1.1 403 "))

    def test_slow_upgrade(self) -> None:
        """A request that does not come in time is cut off."""
        self.wire.receive(REQUEST.encode()[:20])
        self.net.clock.advance(10.1)
        self.assertTrue(self.wire.aborted)

    def test_half_a_message(self) -> None:
        """A message that has begun has to end in time; pings between its fragments do not make it last longer."""
        self.upgrade()
        self.flow.confirm()
        self.wire.receive(client_frame(0x01, OPTIONS[:10]))
        self.net.clock.advance(29)
        self.wire.receive(client_frame(PING, b""))
        self.assertTrue(self.flow.is_open)
        self.net.clock.advance(1.1)
        self.assertFalse(self.flow.is_open)
        self.assertEqual(self.net.tallies.stalled_closed, 1)

    def test_whole_messages_need_no_timer(self) -> None:
        """In the middle of nothing there is no timer, and each message has its own time."""
        self.upgrade()
        self.flow.confirm()
        frame = client_frame(TEXT, OPTIONS)
        self.wire.receive(frame[:10])
        self.net.clock.advance(29)
        self.wire.receive(frame[10:] + frame[:1])
        self.net.clock.advance(29)
        self.assertTrue(self.flow.is_open)
        self.wire.receive(frame[1:])
        self.assertEqual(len(self.net.wheel), 0)
        self.assertEqual(self.user.data, [OPTIONS, OPTIONS])

    def test_silent_stranger(self) -> None:
        """An upgraded connection has to send a valid request, too."""
        self.upgrade()
        self.net.clock.advance(30.1)
        self.assertFalse(self.flow.is_open)

    def test_peer_closes(self) -> None:
        """The peer's close is answered with its code, then the connection ends."""
        self.upgrade()
        self.wire.receive(client_frame(CLOSE, b"\x03\xe9going"))
        self.assertEqual(self.wire.sent(), close_frame(1001))
        self.assertTrue(self.wire.half_closed)
        self.wire.end()
        self.assertEqual(self.user.closed, [(self.flow, "closed by the peer with code 1001")])

    def test_peer_closes_without_code(self) -> None:
        """A close without a code is answered by 1000."""
        self.upgrade()
        self.wire.receive(client_frame(CLOSE, b""))
        self.assertEqual(self.wire.sent(), close_frame(1000))

    def test_we_close(self) -> None:
        """Our end is announced as going away; the peer's answer to it is not one more message."""
        self.upgrade()
        self.flow.close("enough")
        self.assertEqual(self.wire.sent(), close_frame(1001))
        self.wire.receive(client_frame(CLOSE, b"\x03\xe9") + client_frame(TEXT, OPTIONS))
        self.assertEqual((self.wire.sent(), self.user.messages), (b"", []))
        self.wire.end()
        self.assertEqual(self.user.closed, [(self.flow, "enough")])

    def test_broken_rules(self) -> None:
        """Who breaks the rules is told how, after the messages that came before."""
        self.upgrade()
        self.wire.receive(client_frame(TEXT, OPTIONS) + client_frame(TEXT, b"x", masked=False))
        self.assertEqual(self.user.data, [OPTIONS])
        sent = self.wire.sent()
        self.assertTrue(sent.startswith(b"\x88"))
        self.assertIn((1002).to_bytes(2, "big"), sent)
        self.wire.end()
        ((_, reason),) = self.user.closed
        self.assertIn("has to be masked", reason)
        self.assertEqual(self.net.tallies.unframed, 1)

    def test_too_big(self) -> None:
        """A message over head and body limits together is refused with 1009."""
        self.upgrade()
        self.wire.receive(client_frame(TEXT, b"x" * 2049))
        self.assertIn((1009).to_bytes(2, "big"), self.wire.sent())
