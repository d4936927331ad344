"""Phones that come, speak, stall, vanish and are thrown out in any order: nothing is lost, mixed up or left behind."""

import os
from itertools import count
from random import Random
from typing import Any

from rollcall.net.config import EngineConfig, LimitsConfig
from rollcall.net.flow import Flow
from tests.rollcall.net.engines import EngineTestCase
from tests.rollcall.net.fakes import OPTIONS, writes
from tests.rollcall.net.phones import Phone, a_usual_register

MOST_PHONES = 12
STEPS = 400


class Caller:
    """A phone that numbers what it says, and knows what must be heard of it."""

    def __init__(self, name: bytes, phone: Phone, random: Random) -> None:
        self.name = name
        self.phone = phone
        self.flow: Flow | None = None
        self.said = 0
        self.heard: list[int] = []
        self._random = random
        self._unsent = b""

    def say(self) -> None:
        """Send a part of what was begun, or begin something."""
        if not self._unsent:
            self._unsent = b"".join(self._next() for _ in range(self._random.randint(1, 4)))
        sent = self.phone.send(self._unsent[: self._random.choice((1, 30, 300, 5000))])
        self._unsent = self._unsent[sent:]

    def _next(self) -> bytes:
        self.said += 1
        if self._random.random() < 0.1:
            return b"\r\n\r\n" + self._message()
        return self._message()

    def _message(self) -> bytes:
        if self._random.random() < 0.5:
            return a_usual_register(self.said).replace(b"1@192.0.2.1", self.name)
        size = self._random.choice((0, 4, 9000))
        body = self.name + b" %d " % self.said
        head = OPTIONS.partition(b"Content-Length")[0]
        return head + b"Content-Length: %d\r\n\r\n" % (len(body) + size) + body + b"x" * size


class ChaosTests(EngineTestCase):
    send_buffer_bytes = 4096

    def setUp(self) -> None:
        super().setUp()
        self.open_descriptors = len(os.listdir("/proc/self/fd"))

    def test_anything(self) -> None:
        """Whatever happens, each phone's messages are heard once and in order, and each end is told once."""
        for seed in range(12):
            self.random = Random(seed)
            self.callers: dict[bytes, Caller] = {}
            self.ended: list[Flow] = []
            self.sent: dict[Flow, bytearray] = {}
            self.names = (b"phone%d" % number for number in count())
            config = EngineConfig(
                coalesce_ms=self.random.choice((0, 2)), max_events_per_turn=self.random.choice((1, 3, 256)),
                max_accepts_per_turn=self.random.choice((1, 64)), read_bytes=self.random.choice((512, 8192)),
            )
            self.restart(config, LimitsConfig(max_write_buffer_bytes=self.random.choice((1024, 262_144))))
            user: Any = self.user
            user.short_way, user.message_received, user.flow_closed = self.quick, self.whole, self.closed
            for _ in range(STEPS):
                self.step()
            self.finish(seed)

    def step(self) -> None:
        """Let one of many things happen."""
        callers = list(self.callers.values())
        what = self.random.random()
        if not callers or (what < 0.1 and len(callers) < MOST_PHONES):
            phone = self.phone(receive_buffer_bytes=self.random.choice((0, 4096)))
            caller = Caller(next(self.names), phone, self.random)
            self.callers[caller.name] = caller
        elif what < 0.6:
            self.random.choice(callers).say()
        elif what < 0.63:
            leaving = self.random.choice(callers)
            self.random.choice((leaving.phone.reset, leaving.phone.leave))()
            del self.callers[leaving.name]
        elif what < 0.65:
            self.upset(self.random.choice([*self.connections.flows(), None]))
        elif what < 0.7:
            self.reactor.advance(self.random.choice((0, 0.1, 1.0)))
        elif what < 0.8:
            self.compare(self.random.choice(callers))
        else:
            self.turn()

    def upset(self, flow: Any) -> None:
        """Do something to a flow from our side."""
        if flow is not None:
            self.random.choice((
                flow.confirm, lambda: flow.close("enough"), lambda: flow.is_open and flow._abort("cut off"),
                lambda: self.write(flow, 50_000),
            ))()

    # --- the user

    def quick(self, register: Any, flow: Flow, now: float) -> bytes | None:
        self.assertTrue(flow.is_open)
        if self.random.random() < 0.3:
            return None
        self.note(flow, register.call_id, register.cseq)
        if self.random.random() < 0.02:
            self.upset(self.random.choice(self.connections.flows()))
        return self.an_answer(flow, self.random.choice((100, 10_000)))

    def whole(self, data: bytes, flow: Flow) -> None:
        self.assertTrue(flow.is_open)
        self.assertIs(self.connections.find(flow.id), flow)
        if data.startswith(b"REGISTER"):
            head = data.split(b"\r\n")
            self.note(flow, head[4].partition(b": ")[2], int(head[5].split()[1]))
        else:
            name, number = data.partition(b"\r\n\r\n")[2].split()[:2]
            self.note(flow, name, int(number))
        flow.confirm()
        if self.random.random() < 0.1:
            self.upset(self.random.choice([flow, *self.connections.flows()]))
        elif self.random.random() < 0.1:
            raise RuntimeError("chaos")
        self.write(flow, self.random.choice((100, 30_000)))

    def write(self, flow: Flow, size: int) -> None:
        if flow.is_open:
            writes(flow, self.an_answer(flow, size))

    def an_answer(self, flow: Flow, size: int) -> bytes:
        """Return bytes like no others, and remember that they were sent."""
        answer = self.random.randbytes(size).replace(b"\r", b"-").replace(b"\n", b"-")
        self.sent.setdefault(flow, bytearray()).extend(answer)
        return answer

    def note(self, flow: Flow, name: bytes, number: int) -> None:
        caller = self.callers.get(name)
        if caller is not None:
            self.assertIn(caller.flow, (None, flow))
            caller.flow = flow
            caller.heard.append(number)
            self.assertEqual(caller.heard, list(range(1, number + 1)))

    def closed(self, flow: Flow, reason: str) -> None:
        self.assertNotIn(flow, self.ended)
        self.assertTrue(reason)
        self.assertFalse(flow.is_open)
        self.ended.append(flow)

    def compare(self, caller: Caller) -> None:
        """See that a phone gets what was written to it, in order; pongs may be anywhere."""
        received = caller.phone.look().replace(b"\r\n", b"").removesuffix(b"\r")
        if caller.flow is not None:
            self.assertEqual(received, self.sent.get(caller.flow, b"")[: len(received)])

    # --- the end

    def finish(self, seed: int) -> None:
        """Let all phones leave, and see that nothing is left."""
        accepted = self.tallies.accepted
        for caller in self.callers.values():
            self.compare(caller)
            caller.phone.leave()
        self.accepting.stopListening()
        self.until(self.nobody_is_left)
        errors = self.flushLoggedErrors()
        self.assertEqual({error.type for error in errors} - {RuntimeError}, set(), [error.value for error in errors])
        self.assertEqual((self.tallies.accepted, len(self.ended)), (accepted, accepted), seed)
        self.assertEqual((len(self.wheel), self.accepting.open, self.connections._by_source), (0, 0, {}), seed)
        self.assertEqual(self.connections._by_peer["TCP"], {})
        self.assertLessEqual(len(os.listdir("/proc/self/fd")), self.open_descriptors)

    def nobody_is_left(self) -> bool:
        self.reactor.advance(0.01)
        return not self.connections.flows()
