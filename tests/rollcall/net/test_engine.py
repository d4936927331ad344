"""The flow engine turn by turn: bounds, fairness, and what happens when everything happens in one turn."""

import os
import resource
import sys
from collections.abc import Callable
from time import monotonic, sleep
from typing import Any
from unittest.mock import patch

from twisted.trial.unittest import SynchronousTestCase

from rollcall.net.coalescing import Coalescing
from rollcall.net.config import EngineConfig, KeepaliveConfig, LimitsConfig, ListenerConfig
from rollcall.net.connections import Connections, Tallies, descriptor_of
from rollcall.net.engine import Engine
from rollcall.net.engine_accepting import EngineAccepting
from rollcall.net.flow import Flow, Listener
from rollcall.net.listening import bound_address, stream_socket
from rollcall.net.wheel import TimerWheel
from rollcall.sip.scanner import UsualRegister
from tests.rollcall.net.fakes import OK, OPTIONS
from tests.rollcall.net.phones import Phone, QuickUser, a_usual_register, an_answer_to
from tests.rollcall.net.test_coalescing import Watching
from tests.rollcall.net.test_proxy_protocol import header

WAKING = EngineConfig(coalesce_ms=0)
TICK = 0.0021
TICKING = EngineConfig(coalesce_ms=2, max_events_per_turn=2)


class EngineTestCase(SynchronousTestCase):
    """An engine whose turns are taken one by one, with a clock that stands still, and phones on loopback."""

    def setUp(self) -> None:
        self.start()
        self.addCleanup(self.end)

    def restart(self, config: EngineConfig = WAKING, limits: LimitsConfig | None = None, **settings: Any) -> None:
        """Begin anew with other settings."""
        self.end()
        self.start(config, limits, **settings)

    def start(self, config: EngineConfig = WAKING, limits: LimitsConfig | None = None, **settings: Any) -> None:
        self.reactor = Watching()
        self.user = QuickUser()
        self.tallies = Tallies()
        self.wheel = TimerWheel(self.reactor)
        self.connections = Connections(self.wheel, self.user, limits or LimitsConfig(), self.tallies)
        self.engine = Engine(self.reactor, self.connections, config)
        self.engine.start()
        self.accepting = self.listen(**settings)

    def listen(self, **settings: Any) -> EngineAccepting:
        config = ListenerConfig(name="main", transport="tcp", host="127.0.0.1", port=0, **settings)
        opened = stream_socket(config, KeepaliveConfig())
        self.address = bound_address(opened)
        listener = Listener(name="main", transport="TCP", host="sip.example.com", port=5060, local=self.address)
        accepting = EngineAccepting(config, listener, self.engine, opened)
        accepting.start()
        return accepting

    def end(self) -> None:
        self.accepting.stopListening()
        closing = self.connections.close_all("the test is over")
        self.reactor.advance(60)
        self.successResultOf(closing)
        self.engine.stop()

    def turn(self) -> None:
        """Take one turn: woken up, or by the clock when it is that which the engine waits for."""
        if not self.reactor.readers:
            self.reactor.advance(TICK)
            return
        (reader,) = self.reactor.readers
        assert isinstance(reader, Coalescing)
        self.assertIsNone(reader.doRead())

    def until(self, condition: Callable[[], object]) -> None:
        """Take turns until something is so: loopback may take a moment."""
        end = monotonic() + 10
        while not condition():
            self.assertLess(monotonic(), end)
            sleep(0.0001)
            self.turn()

    def phone(self, **settings: Any) -> Phone:
        phone = Phone(self.address, **settings)
        self.addCleanup(phone.socket.close)
        return phone

    def phones(self, count: int) -> list[tuple[Phone, Flow]]:
        """Connect phones whose flows are known and quiet."""
        found = []
        for _ in range(count):
            phone = self.phone()
            phone.send(OPTIONS)
            self.until(lambda: self.user.messages)
            found.append((phone, self.user.messages.pop()[1]))
        return found

    def ready(self, *phones: Phone) -> None:
        """Wait until what was sent to the phones' flows, and by them, is at its other end."""
        sleep(0.01)


class TurnTests(EngineTestCase):
    def test_fairness(self) -> None:
        """Who floods is read from once in a turn, as everybody is."""
        self.restart(EngineConfig(coalesce_ms=0, read_bytes=1024))
        (flooding, _), (modest, flow) = self.phones(2)
        sent = 0
        while sent < 200 and flooding.send(OPTIONS) == len(OPTIONS):
            sent += 1
        modest.send(OPTIONS)
        self.ready()
        self.turn()
        self.assertIn((OPTIONS, flow), self.user.messages)
        self.assertLess(len(self.user.messages), 10)
        self.until(lambda: len(self.user.messages) == sent + 1)

    def test_bounded_turn(self) -> None:
        """A turn serves so many connections; the next one goes on with others."""
        self.restart(EngineConfig(coalesce_ms=0, max_events_per_turn=2))
        phones = self.phones(5)
        for phone, _ in phones:
            phone.send(OPTIONS)
        self.ready()
        served = []
        for _ in range(3):
            self.turn()
            served.append(len(self.user.messages))
        self.assertEqual(served, [2, 4, 5])
        self.assertEqual({flow for _, flow in self.user.messages}, {flow for _, flow in phones})

    def test_accepted_in_batches(self) -> None:
        """So many connections are accepted in a turn."""
        self.restart(EngineConfig(coalesce_ms=0, max_accepts_per_turn=2))
        for _ in range(5):
            self.phone()
        self.ready()
        accepted = []
        for _ in range(4):
            self.turn()
            accepted.append(self.tallies.accepted)
        self.assertEqual(accepted, [2, 4, 5, 5])

    def test_one_write(self) -> None:
        """All that one packet is answered with leaves in one write, whichever way it was answered."""
        ((phone, _),) = self.phones(1)
        self.user.answer = OK
        phone.send(a_usual_register(1) + OPTIONS + b"\r\n\r\n" + a_usual_register(2))
        self.ready()
        with patch("rollcall.net.engine_flow.os.write", side_effect=os.write) as writing:
            self.turn()
        self.assertEqual(writing.call_count, 1)
        self.ready()
        self.assertEqual(phone.look(), an_answer_to(1) + OK + b"\r\n" + an_answer_to(2))

    def test_cut_everywhere(self) -> None:
        """Messages that come in two pieces are whole, wherever they were cut."""
        ((phone, _),) = self.phones(1)
        both = OPTIONS + a_usual_register(1)
        for place in range(1, len(both)):
            phone.send(both[:place])
            self.until(lambda: self.user.messages or self.heard_half())
            phone.send(both[place:])
            self.until(lambda: self.user.quick and self.user.messages)
            self.assertEqual((self.user.data, self.user.quick), ([OPTIONS], [1]), place)
            self.user.messages.clear()
            self.user.quick.clear()

    def heard_half(self) -> bool:
        return any(getattr(flow, "framer", None) is not None for flow in self.connections.flows())

    def test_idle(self) -> None:
        """A confirmed connection in the middle of nothing has no timer, no framer and no buffer."""
        ((phone, flow),) = self.phones(1)
        phone.send(a_usual_register())
        self.until(lambda: self.user.quick)
        found: Any = flow
        self.assertEqual((len(self.wheel), found.framer, found.unsent), (0, None, None))
        self.assertFalse(hasattr(flow, "__dict__"))
        self.assertLessEqual(sys.getsizeof(flow), 128)

    def test_short_way_fails(self) -> None:
        """A REGISTER that breaks the short way is handed over."""
        ((phone, flow),) = self.phones(1)

        def fail(register: UsualRegister, flow: Flow, now: float) -> bytes | None:
            raise RuntimeError("short way")

        self.user.short_way = fail  # type: ignore[method-assign]
        phone.send(a_usual_register())
        self.until(lambda: self.user.messages)
        self.assertEqual(self.user.messages, [(a_usual_register(), flow)])
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_short_way_closes(self) -> None:
        """A flow that is closed while it is answered ends as if there had been no answer."""
        ((phone, flow),) = self.phones(1)

        def close(register: UsualRegister, flow: Flow, now: float) -> bytes | None:
            flow.close("enough")
            return OK

        self.user.short_way = close  # type: ignore[method-assign]
        phone.send(a_usual_register())
        self.until(phone.has_ended)
        self.assertEqual((phone.data, phone.ended), (b"", "ended"))
        phone.leave()
        self.until(lambda: self.user.closed)
        self.assertEqual(self.user.closed, [(flow, "enough")])

    def test_time(self) -> None:
        """The short way gets the reactor's time."""
        ((phone, flow),) = self.phones(1)
        flow.confirm()
        times: list[float] = []
        self.user.short_way = lambda register, flow, now: times.append(now)  # type: ignore[method-assign]
        self.reactor.advance(1000)
        phone.send(a_usual_register() + a_usual_register())
        self.until(lambda: len(times) == 2)
        self.assertEqual(times, [1000.0, 1000.0])

    def test_broken_watcher(self) -> None:
        """What fails at a descriptor without a flow is logged, and the engine goes on."""
        reading, writing = os.pipe()
        self.addCleanup(os.close, writing)
        self.addCleanup(os.close, reading)

        def fail(now: float) -> None:
            os.read(reading, 100)
            raise RuntimeError("watcher")

        self.engine.enlist(reading)
        self.engine.watch(reading, fail)
        os.write(writing, b"x")
        self.turn()
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        self.engine.delist(reading)
        self.phones(1)


class OneTurnTests(EngineTestCase):
    """Several things at once."""

    def test_cut_off_by_its_neighbour(self) -> None:
        """A flow that another one's message cuts off hears nothing more, though its own came in the same turn."""
        phones = self.phones(2)
        flows: list[Any] = [flow for _, flow in phones]
        heard: list[Flow] = []

        def receive(data: bytes, flow: Flow) -> None:
            heard.append(flow)
            for other in flows:
                if other is not flow and other.is_open:
                    other._abort("replaced")

        self.user.message_received = receive  # type: ignore[method-assign]
        new = self.phone()
        for phone in (phones[0][0], phones[1][0], new):
            phone.send(OPTIONS)
        self.ready()
        self.turn()
        self.assertEqual((len(heard), self.user.closed), (1, []))
        self.reactor.advance(0)
        self.assertEqual([(flow is heard[0], reason) for flow, reason in self.user.closed], [(False, "replaced")])
        flows.clear()
        self.until(lambda: len(heard) == 2)
        self.assertEqual(heard[1].peer, new.local)

    def test_descriptor_used_again(self) -> None:
        """A connection that gets the descriptor of one that ended in the same turn is its own: other id, other peer."""
        (one, first), (other, _) = self.phones(2)
        one.reset()
        other.send(OPTIONS)
        new = self.phone()
        self.ready()
        self.turn()
        self.assertEqual([flow for flow, _ in self.user.closed], [first])
        new.send(OPTIONS)
        self.until(lambda: len(self.user.messages) == 2)
        flow = self.user.messages[1][1]
        self.assertEqual(descriptor_of(flow.id), descriptor_of(first.id))
        self.assertEqual((flow.peer, flow.is_open), (new.local, True))
        self.assertIsNone(self.connections.find(first.id))
        self.assertIs(self.connections.find(flow.id), flow)
        first.close("again")
        self.assertTrue(flow.is_open)

    def test_stale_event(self) -> None:
        """An event for a descriptor that is no longer ours, or is another listener's now, does nothing."""
        ((phone, flow),) = self.phones(1)
        descriptor = descriptor_of(flow.id)
        phone.reset()
        self.until(lambda: self.user.closed)
        self.assertEqual(self.engine._serve([(descriptor, 1)], 0.0), [descriptor])

    def test_found_by_peer(self) -> None:
        """A connection carries requests back to where it came from, and no longer than it lives."""
        ((phone, flow),) = self.phones(1)
        local = phone.local
        self.assertIs(self.connections.accepted_from("TCP", local), flow)
        phone.leave()
        self.until(lambda: self.user.closed)
        self.assertIsNone(self.connections.accepted_from("TCP", local))


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
        flow.close("enough")
        for _ in range(3):
            phone.send(OPTIONS)
            self.ready()
            self.turn()
            self.reactor.advance(1)
        self.assertEqual((self.user.messages, self.user.closed), ([], []))
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

    def test_gone_before_it_was_accepted(self) -> None:
        """A connection that is reset before it was accepted does nobody harm."""
        self.phone().reset()
        phone = self.phone()
        phone.send(OPTIONS)
        self.until(lambda: self.user.messages)
        self.until(lambda: len(self.user.closed) == 1)
        self.assertEqual(self.user.messages[0][1].peer, phone.local)


class CoalescedTests(EngineTestCase):
    def load(self, phone: Phone) -> None:
        """Let wake-ups come in quick succession."""
        self.until(lambda: self.reactor.readers)
        while self.reactor.readers:
            phone.send(OPTIONS)
            self.ready()
            self.turn()
        self.user.messages.clear()

    def test_under_load(self) -> None:
        """Under load flows are served by the clock, and a full turn is followed by the next one at once."""
        self.restart(TICKING)
        phones = self.phones(5)
        self.load(phones[0][0])
        for phone, _ in phones:
            phone.send(OPTIONS)
        self.ready()
        self.assertEqual(self.user.messages, [])
        self.reactor.advance(TICK)
        self.assertEqual(len(self.user.messages), 5)
        self.reactor.advance(TICK)
        self.assertEqual(len(self.reactor.readers), 1)

    def test_stopped_under_load(self) -> None:
        """An engine that stops while the clock drives it leaves nothing with the reactor."""
        self.restart(TICKING)
        ((phone, _),) = self.phones(1)
        self.load(phone)
        self.end()
        self.assertEqual((self.reactor.readers, self.reactor.getDelayedCalls()), ([], []))
