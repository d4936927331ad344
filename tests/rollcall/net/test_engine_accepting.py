"""Who may stay with the engine and for how long, and a system that has no descriptors left."""

import os
import resource
from typing import Any
from unittest.mock import patch

from rollcall.net.config import LimitsConfig
from tests.rollcall.net.engines import EngineTestCase
from tests.rollcall.net.fakes import OPTIONS
from tests.rollcall.net.phones import a_usual_register
from tests.rollcall.net.test_proxy_protocol import header


class LimitTests(EngineTestCase):
    def test_stranger(self) -> None:
        """Who sends nothing valid in time is closed, and cut off when he stays."""
        phone = self.phone()
        phone.send(b"\r\n\r\n")
        self.until(phone.look)
        self.reactor.advance(29.9)
        self.assertFalse(phone.has_ended())
        self.reactor.advance(0.2)
        self.until(phone.has_ended)
        self.reactor.advance(5.1)
        self.reactor.advance(0)
        self.assertEqual(self.user.closed[0][1], "no valid request came in time")
        self.assertEqual((self.tallies.strangers_closed, len(self.wheel)), (1, 0))

    def test_stalled(self) -> None:
        """A message that has begun has to end in time, also one that looks usual so far."""
        ((phone, flow),) = self.phones(1)
        flow.confirm()
        phone.send(a_usual_register()[:200])
        self.until(self.wheel.__len__)
        self.reactor.advance(30.1)
        self.assertFalse(flow.is_open)
        self.assertEqual(self.tallies.stalled_closed, 1)

    def test_closing_peer_that_stays(self) -> None:
        """A closed connection whose peer goes on talking is cut off in time; nothing of it is heard."""
        ((phone, flow),) = self.phones(1)
        flow.confirm()
        flow.close("enough")
        for message in (OPTIONS, a_usual_register(), a_usual_register()[:40]):
            phone.send(message)
            self.ready()
            self.turn()
            self.reactor.advance(1)
        self.assertEqual((self.user.messages, self.user.quick, self.user.closed), ([], [], []))
        self.reactor.advance(2.1)
        self.reactor.advance(0)
        self.assertEqual(self.user.closed, [(flow, "enough")])

    def test_no_proxy_header(self) -> None:
        """A PROXY header has to come in time."""
        self.restart(proxy_protocol_from=("127.0.0.0/8",))
        phone = self.phone()
        phone.send(header()[:10])
        self.until(self.wheel.__len__)
        self.reactor.advance(10.1)
        self.assertTrue(phone.has_ended())
        self.assertEqual((self.tallies.handshakes_failed, self.accepting.open), (1, 0))

    def test_proxy_that_waits_at_the_end(self) -> None:
        """A connection that waits for its header does not hold up the end."""
        self.restart(proxy_protocol_from=("127.0.0.0/8",))
        phone = self.phone()
        self.until(self.wheel.__len__)
        self.successResultOf(self.connections.close_all("shutting down"))
        self.assertTrue(phone.has_ended())

    def test_pongs_that_nobody_reads(self) -> None:
        """Who pings without reading is not read from, and costs no more than its share of memory."""
        self.restart(limits=LimitsConfig(max_write_buffer_bytes=1024))
        (_, flow), = self.phones(1)
        found: Any = flow
        with patch("rollcall.net.engine_flow.os.write", side_effect=BlockingIOError):
            found.receive(b"\r\n\r\n" + OPTIONS, None, 0.0)
            self.assertEqual(bytes(found.unsent), b"\r\n")
            found.write(bytes(65_536))
            self.assertTrue(flow.is_open)
            self.assertEqual(found.unsent.events & 1, 0)
            found.receive(b"\r\n\r\n" * 1, None, 0.0)
            for _ in range(600):
                found.receive(OPTIONS + b"\r\n\r\n", None, 0.0)
        self.assertFalse(flow.is_open)
        self.assertEqual(self.tallies.slow_readers_closed, 1)

    def test_head_larger_than_allowed(self) -> None:
        """A usual REGISTER that is larger than a head may be is refused as any other message."""
        self.restart(limits=LimitsConfig(max_head_bytes=1024))
        ((phone, _),) = self.phones(1)
        long = a_usual_register().replace(b"Max-Forwards", b"User-Agent: " + b"x" * 1024 + b"\r\nMax-Forwards")
        phone.send(long)
        self.until(lambda: self.user.framing_errors)
        self.assertEqual((self.user.framing_errors[0][0].status, self.user.quick), (513, []))


class DescriptorTests(EngineTestCase):
    """A system that has no descriptors left."""

    def test_no_descriptors_left(self) -> None:
        """Without a descriptor for it a connection waits, with a word in the log, and is accepted later."""
        (_, served), = self.phones(1)
        phone = self.phone()
        phone.send(OPTIONS)
        self.ready()
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        free = os.dup(phone.socket.fileno())
        os.close(free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free, limits[1]))
        try:
            for _ in range(3):
                self.turn()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        self.assertEqual((self.tallies.accept_pauses, self.tallies.accepted), (1, 1))
        self.assertTrue(served.is_open)
        self.turn()
        self.assertEqual(self.tallies.accepted, 1)
        self.reactor.advance(0.55)
        self.until(lambda: self.user.messages)
        self.assertEqual(self.user.messages[0][1].peer, phone.local)

    def test_stopped_while_resting(self) -> None:
        """A listener that rests for want of descriptors can be stopped, and does not begin again."""
        self.accepting._rest(OSError(24, "Too many open files"))
        self.accepting.stopListening()
        self.reactor.advance(1)
        self.assertRaises(ConnectionRefusedError, self.phone)

    def test_no_room_to_go_on(self) -> None:
        """A listener that cannot be looked at after its pause, because the system has no room for it, tries again."""
        self.accepting._put_off(0.01)
        full = OSError(28, "No space left on device")
        with patch.object(self.engine, "enlist", side_effect=full):
            self.reactor.advance(0.02)
            self.reactor.advance(0.55)
        self.assertEqual(self.tallies.accept_pauses, 2)
        self.phone().send(OPTIONS)
        self.reactor.advance(0.55)
        self.until(lambda: self.user.messages)
        self.assertEqual(self.tallies.accepted, 1)

    def test_gone_before_it_was_accepted(self) -> None:
        """A connection that is reset before it was accepted does nobody harm."""
        self.phone().reset()
        phone = self.phone()
        phone.send(OPTIONS)
        self.until(lambda: self.user.messages)
        self.until(lambda: len(self.user.closed) == 1)
        self.assertEqual(self.user.messages[0][1].peer, phone.local)
