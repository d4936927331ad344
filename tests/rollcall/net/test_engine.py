"""The flow engine turn by turn: bounds, fairness, and what happens when everything happens in one turn."""

import os
import sys
from fcntl import ioctl
from termios import FIONREAD
from time import monotonic
from typing import Any
from unittest.mock import patch

from rollcall.net import engine
from rollcall.net.coalescing import Found
from rollcall.net.config import EngineConfig
from rollcall.net.connections import descriptor_of
from rollcall.net.flow import Flow
from rollcall.sip.scanner import UsualRegister
from tests.rollcall.net.engines import TICK, TICKING, EngineTestCase
from tests.rollcall.net.fakes import OK, OPTIONS
from tests.rollcall.net.phones import Phone, a_usual_register, an_answer_to

PATIENCE_SECONDS = 10.0


def wait_for_bytes(descriptor: int, number: int) -> None:
    """Return once so many bytes can be read: on a busy machine the kernel brings them later than it takes them."""
    waiting = bytearray(4)
    until = monotonic() + PATIENCE_SECONDS
    while int.from_bytes(waiting, sys.byteorder) < number:
        assert monotonic() < until, f"{int.from_bytes(waiting, sys.byteorder)} of {number} bytes have come"
        ioctl(descriptor, FIONREAD, waiting)


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

    def test_unread(self) -> None:
        """It can be told whether a phone has said something that was not read yet."""
        ((phone, flow),) = self.phones(1)
        self.assertFalse(flow.has_unread())
        phone.send(OPTIONS)
        self.ready()
        self.assertTrue(flow.has_unread())
        self.turn()
        self.assertFalse(flow.has_unread())

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

    def test_lasting_turn(self) -> None:
        """A turn that lasts too long leaves the rest to the next one, however many it might serve."""
        phones = self.phones(5)

        def receive(data: bytes, flow: Flow) -> None:
            self.user.messages.append((data, flow))
            self.reactor.rightNow += 0.006

        self.user.message_received = receive  # type: ignore[method-assign]
        for phone, _ in phones:
            phone.send(OPTIONS)
        self.ready()
        served = []
        with patch.object(engine, "PORTION", 2):
            for _ in range(3):
                self.turn()
                served.append(len(self.user.messages))
        self.assertEqual(served, [2, 4, 5])

    def test_many_cut_off(self) -> None:
        """Connections that are cut off at the same time do not hold up the reactor either."""
        flows: list[Any] = [flow for _, flow in self.phones(5)]

        def closed(flow: Flow, reason: str) -> None:
            self.user.closed.append((flow, reason))
            self.reactor.rightNow += 0.006

        self.user.flow_closed = closed  # type: ignore[method-assign]
        for flow in flows:
            flow._abort("enough")
        (burial,) = (call for call in self.reactor.getDelayedCalls() if call.getTime() <= self.reactor.seconds())
        burial.cancel()
        self.engine._bury()
        self.assertEqual(len(self.user.closed), 2)
        self.reactor.advance(0)
        self.assertEqual([flow for flow, _ in self.user.closed], flows)

    def test_failing_turn(self) -> None:
        """Whatever goes wrong in a turn, there is a next one."""
        ((phone, _),) = self.phones(1)
        phone.send(OPTIONS)
        self.ready()
        with patch.object(self.engine, "_serve", side_effect=OSError("broken")):
            self.turn()
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)
        self.until(lambda: self.user.messages)

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
        """A short way that breaks, which it must not, breaks nothing else; a stranger's REGISTER is handed over."""
        ((phone, flow),) = self.phones(1)

        def fail(register: UsualRegister, flow: Flow, now: float) -> bytes | None:
            raise RuntimeError("short way")

        self.user.short_way = fail  # type: ignore[method-assign]
        phone.send(a_usual_register())
        self.until(lambda: self.user.messages)
        self.assertEqual(self.user.messages, [(a_usual_register(), flow)])
        phone.send(a_usual_register(2))
        self.ready()
        self.turn()
        phone.send(OPTIONS)
        self.until(lambda: len(self.user.messages) == 2)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 2)

    def test_answers_in_one_turn(self) -> None:
        """Each flow of a turn gets its own answers, those given at once and those of messages between them."""
        phones = self.phones(4)
        self.user.answer = OK
        for _, flow in phones:
            flow.confirm()
        for number, (phone, _) in enumerate(phones):
            phone.send(OPTIONS if number == 2 else a_usual_register(number))
        self.ready()
        self.turn()
        self.ready()
        self.assertEqual([phone.look() for phone, _ in phones],
                         [an_answer_to(0), an_answer_to(1), OK, an_answer_to(3)])

    def test_answered_later(self) -> None:
        """What is answered later is neither handed over nor answered now, alone or among others of a packet."""
        ((phone, flow),) = self.phones(1)
        now, self.user.short_way = self.user.short_way, lambda register, flow, now: b""  # type: ignore[method-assign]
        phone.send(a_usual_register(1))
        self.ready()
        self.turn()
        flow.confirm()
        phone.send(a_usual_register(2) + a_usual_register(3))
        self.ready()
        self.turn()
        flow.write(an_answer_to(1))
        self.user.short_way = now  # type: ignore[method-assign]
        phone.send(a_usual_register(4))
        self.until(lambda: self.user.quick)
        self.assertEqual((self.user.messages, phone.messages()), ([], [an_answer_to(1), an_answer_to(4)]))

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

    def test_trunk_under_load(self) -> None:
        """Who sends more than is read at a time, as a proxy does, need not wait for the clock with the rest."""
        self.restart(TICKING)
        ((phone, flow),) = self.phones(1)
        self.load(phone)
        sent = 0
        while sent < 300 and phone.send(OPTIONS) == len(OPTIONS):
            sent += 1
        wait_for_bytes(descriptor_of(flow.id), sent * len(OPTIONS))
        self.reactor.advance(TICK)
        self.assertEqual(len(self.user.messages), sent)
        self.assertGreater(sent * len(OPTIONS), 3 * 8192)

    def test_busy(self) -> None:
        """When a turn serves many, the next one comes at once; the clock saves wake-ups only while they are dear."""
        self.restart(EngineConfig(coalesce_ms=2))
        phones = self.phones(3)
        self.load(phones[0][0])
        with patch.object(engine, "PORTION", 2):
            for count, found in ((1, Found.ALL), (2, Found.MORE), (3, Found.MORE)):
                for phone, _ in phones[:count]:
                    phone.send(OPTIONS)
                self.ready()
                self.assertIs(self.engine._turn(), found)
        self.assertIs(self.engine._turn(), Found.NOTHING)

    def test_accepted_under_load(self) -> None:
        """Nor do those who come when many do."""
        self.restart(EngineConfig(coalesce_ms=2, max_accepts_per_turn=2))
        ((phone, _),) = self.phones(1)
        self.load(phone)
        for _ in range(7):
            self.phone()
        self.ready()
        self.reactor.advance(TICK)
        self.assertEqual(self.tallies.accepted, 8)

    def test_stopped_under_load(self) -> None:
        """An engine that stops while the clock drives it leaves nothing with the reactor."""
        self.restart(TICKING)
        ((phone, _),) = self.phones(1)
        self.load(phone)
        self.end()
        self.assertEqual((self.reactor.readers, self.reactor.getDelayedCalls()), ([], []))
