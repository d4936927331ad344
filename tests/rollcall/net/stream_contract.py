"""What a plain TCP flow does on a real socket, whoever carries its bytes: test_stream_sockets.py runs it for both."""

from collections.abc import Callable
from typing import Any

from twisted.internet import reactor as the_reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from rollcall.net.config import EngineConfig, LimitsConfig, ListenerConfig, NetConfig
from rollcall.net.flow import Flow, FlowClosed
from rollcall.net.transports import Transports
from rollcall.net.wheel import TimerWheel
from tests.rollcall.net.fakes import OK, OPTIONS, FailingUser, writes
from tests.rollcall.net.phones import Phone, QuickUser, a_usual_register, an_answer_to
from tests.rollcall.net.test_proxy_protocol import header

reactor: Any = the_reactor

LARGE = OPTIONS.replace(b"Content-Length: 4", b"Content-Length: 60000") + bytes(59_996)


class StreamContract(TestCase):
    """A subclass says how its connections are served."""

    engine: EngineConfig
    timeout = 20

    def setUp(self) -> None:
        self.user = QuickUser()
        self.wheel = TimerWheel(reactor)

    def listen(self, user: Any = None, limits: LimitsConfig | None = None, **settings: Any) -> None:
        """Open the listener that phones connect to."""
        listener = ListenerConfig(name="main", transport="tcp", host="127.0.0.1", port=0, **settings)
        config = NetConfig(listeners=(listener,), limits=limits or LimitsConfig(close_seconds=1), engine=self.engine)
        self.transports = Transports(reactor, self.wheel, user or self.user, config)
        self.transports.startService()
        self.addCleanup(self.transports.stopService)

    def phone(self, **settings: Any) -> Phone:
        """Connect a phone."""
        phone = Phone(self.transports.listeners["main"].local, **settings)
        self.addCleanup(phone.socket.close)
        return phone

    async def until(self, condition: Callable[[], object]) -> None:
        """Let time pass until something is so."""
        while not condition():
            await self.a_moment()

    def a_moment(self) -> "Deferred[None]":
        """Let a few turns of the reactor pass."""
        return deferLater(reactor, 0.001, lambda: None)

    async def flow_of(self, phone: Phone) -> Flow:
        """Return a phone's flow."""
        before = len(self.user.messages)
        phone.send(OPTIONS)
        await self.until(lambda: len(self.user.messages) > before)
        flow: Flow = self.user.messages[-1][1]
        return flow

    # --- messages

    async def test_at_once(self) -> None:
        """A usual REGISTER is answered the short way, and confirms its connection."""
        self.listen()
        phone = self.phone()
        phone.send(a_usual_register(7))
        await self.until(phone.look)
        self.assertEqual(phone.data, an_answer_to(7))
        self.assertEqual((self.user.quick, self.user.messages), ([7], []))
        self.assertEqual(len(self.wheel), 0)

    async def test_not_at_once(self) -> None:
        """One that has no answer at once is handed over, and asked for one only once."""
        self.listen()
        self.user.is_quick = False
        phone = self.phone()
        phone.send(a_usual_register(1))
        await self.until(lambda: self.user.messages)
        phone.send(a_usual_register(2) + a_usual_register(3) + OPTIONS)
        await self.until(lambda: len(self.user.messages) == 4)
        self.assertEqual(self.user.quick, [1, 2, 3])
        self.assertEqual(self.user.data, [*map(a_usual_register, (1, 2, 3)), OPTIONS])

    async def test_without_length(self) -> None:
        """In a stream a REGISTER without Content-Length has no end that could be told (RFC 3261 §18.3)."""
        self.listen()
        self.user.answer = OK
        phone = self.phone()
        phone.send(a_usual_register(1, length=b""))
        await self.until(phone.has_ended)
        self.assertEqual((phone.data, self.user.quick), (OK, []))
        self.assertEqual(len(self.user.framing_errors), 1)

    async def test_order(self) -> None:
        """Messages of one packet are answered in their order, whichever way each takes."""
        self.listen()
        self.user.answer = OK
        phone = self.phone()
        usual = a_usual_register
        phone.send(usual(1) + usual(2) + OPTIONS + usual(3) + b"\r\n\r\n" + usual(4) + OPTIONS + usual(5)[:99])
        answers = [an_answer_to(1), an_answer_to(2), OK, an_answer_to(3), an_answer_to(4), OK]
        await self.until(lambda: len(phone.messages()) == 6)
        self.assertEqual(phone.messages(), answers)
        phone.send(usual(5)[99:])
        await self.until(lambda: len(phone.messages()) == 7)
        self.assertEqual(self.user.quick, [1, 2, 3, 4, 5])
        self.assertEqual(self.transports.tallies.pings_answered, 1)

    async def test_in_pieces(self) -> None:
        """Messages are whole however they are cut."""
        self.listen()
        phone = self.phone()
        both = a_usual_register(1) + OPTIONS
        for count, place in enumerate(range(1, len(both), 61), start=1):
            phone.send(both[:place])
            await self.a_moment()
            phone.send(both[place:])
            await self.until(lambda: len(self.user.messages) == count)  # noqa: B023
        self.assertEqual(self.user.data, [OPTIONS] * count)
        self.assertEqual(phone.messages(), [an_answer_to(1)] * count)

    async def test_large(self) -> None:
        """A message larger than what is read at a time is whole."""
        self.listen()
        phone = self.phone()
        phone.send(LARGE + OPTIONS)
        await self.until(lambda: len(self.user.messages) == 2)
        self.assertEqual(self.user.data, [LARGE, OPTIONS])

    async def test_framing_lost(self) -> None:
        """Who sends what has no end is answered, in order, and then the connection ends."""
        self.listen()
        self.user.answer = OK
        phone = self.phone()
        phone.send(a_usual_register(1) + OPTIONS.replace(b"Content-Length: 4", b"Content-Length: x"))
        await self.until(phone.has_ended)
        self.assertEqual((phone.data, phone.ended), (an_answer_to(1) + OK, "ended"))
        phone.leave()
        await self.until(lambda: self.user.closed)
        self.assertIn("framing lost", self.user.closed[0][1])

    async def test_failing_user(self) -> None:
        """Whatever the user does wrong, connections live."""
        self.listen(FailingUser())
        first, second = self.phone(), self.phone()
        first.send(OPTIONS + a_usual_register() + b"\r\n\r\n")
        await self.until(first.look)
        second.send(b"\r\n\r\n")
        await self.until(second.look)
        first.leave()
        second.leave()
        await self.until(lambda: self.transports.flow_counts() == {"TCP": 0})
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 4)

    # --- from inside a callback

    async def test_closed_from_inside(self) -> None:
        """Who closes a flow while its message is handled hears nothing more of it but its end, once, and later."""
        self.listen()

        def close(data: bytes, flow: Flow) -> None:
            self.user.messages.append((data, flow))
            flow.write(OK)
            flow.close("enough")
            self.assertEqual(self.user.closed, [])
            self.assertRaises(FlowClosed, flow.write, OK)

        self.user.message_received = close  # type: ignore[method-assign]
        phone = self.phone()
        phone.send(OPTIONS + OPTIONS + a_usual_register())
        await self.until(phone.has_ended)
        self.assertEqual((phone.data, phone.ended, self.user.quick), (OK, "ended", []))
        phone.leave()
        await self.until(lambda: self.user.closed)
        self.assertEqual([reason for _, reason in self.user.closed], ["enough"])
        self.assertEqual(len(self.user.messages), 1)

    async def test_another_closed_from_inside(self) -> None:
        """A message over one flow may close another one that has just sent something too."""
        self.listen()
        one, other = self.phone(), self.phone()
        flow, closing = await self.flow_of(one), await self.flow_of(other)
        self.user.message_received = lambda data, flow: closing.close("replaced")  # type: ignore[method-assign]
        one.send(OPTIONS)
        other.send(OPTIONS)
        await self.until(other.has_ended)
        self.assertEqual((flow.is_open, closing.is_open), (True, False))
        other.leave()
        await self.until(lambda: self.user.closed)
        self.assertEqual(self.user.closed, [(closing, "replaced")])

    async def test_written_from_inside(self) -> None:
        """A message over one flow may be answered over another; both get their own."""
        self.listen()
        one, other = self.phone(), self.phone()
        there = await self.flow_of(other)

        def forward(data: bytes, flow: Flow) -> None:
            there.write(data)
            flow.write(OK)

        self.user.message_received = forward  # type: ignore[method-assign]
        one.send(OPTIONS + OPTIONS)
        await self.until(lambda: len(one.messages()) == 2 and len(other.messages()) == 2)
        self.assertEqual((one.data, other.data), (OK + OK, OPTIONS + OPTIONS))

    # --- peers that do not read

    async def test_slow_reader(self) -> None:
        """What the kernel does not take at once arrives later, whole and in order."""
        self.listen(limits=LimitsConfig(max_write_buffer_bytes=1 << 22))
        phone = self.phone(receive_buffer_bytes=16384)
        flow = await self.flow_of(phone)
        sent = [LARGE.replace(b"z9hG4bK1", b"z9hG4bK%d" % number) for number in range(30)]
        for message in sent:
            flow.write(message)
        while len(phone.data) < len(b"".join(sent)):
            phone.look(20_000)
            await deferLater(reactor, 0, lambda: None)
        self.assertEqual(phone.data, b"".join(sent))
        self.assertTrue(flow.is_open)
        phone.send(OPTIONS)
        await self.until(lambda: len(self.user.messages) == 2)

    async def test_not_read_while_it_does_not_read(self) -> None:
        """Who does not read our answers is not listened to, until it does."""
        self.listen(limits=LimitsConfig(max_write_buffer_bytes=1 << 22))
        self.user.answer = LARGE
        phone = self.phone(receive_buffer_bytes=16384)
        sent = 0
        while sent < 200 and len(self.user.messages) == sent:
            phone.send(OPTIONS)
            sent += 1
            for _ in range(100):
                if len(self.user.messages) == sent:
                    break
                await deferLater(reactor, 0.001, lambda: None)
        self.assertLess(len(self.user.messages), sent)
        await self.until(lambda: len(phone.look()) >= sent * len(LARGE))
        self.assertEqual(self.user.data, [OPTIONS] * sent)
        self.assertEqual(self.transports.tallies.slow_readers_closed, 0)

    async def test_cut_off(self) -> None:
        """Who lets too much wait is cut off; whoever writes hears of it, and the user once."""
        self.listen(limits=LimitsConfig(max_write_buffer_bytes=65_536))
        phone = self.phone(receive_buffer_bytes=16384)
        flow = await self.flow_of(phone)
        written = 0
        while writes(flow, LARGE):
            written += 1
            self.assertLess(written, 400)
        self.assertEqual(self.user.closed, [])
        await self.until(lambda: self.user.closed)
        self.assertEqual(self.user.closed, [(flow, "the peer does not read what we write")])
        await self.until(phone.has_ended)
        self.assertEqual((phone.ended, self.transports.tallies.slow_readers_closed), ("reset", 1))

    # --- ends

    async def test_closed_with_data_queued(self) -> None:
        """What was written before a flow is closed arrives before its end."""
        self.listen(limits=LimitsConfig(max_write_buffer_bytes=1 << 22, close_seconds=10))
        phone = self.phone(receive_buffer_bytes=16384)
        flow = await self.flow_of(phone)
        for _ in range(30):
            flow.write(LARGE)
        flow.close("enough")
        self.assertRaises(FlowClosed, flow.write, OK)
        phone.send(OPTIONS)
        await self.until(phone.has_ended)
        self.assertEqual((phone.data, phone.ended), (LARGE * 30, "ended"))
        self.assertEqual((len(self.user.messages), self.user.closed), (1, []))
        phone.leave()
        await self.until(lambda: self.user.closed)
        self.assertEqual(self.user.closed, [(flow, "enough")])
        self.assertEqual(len(self.wheel), 0)

    async def test_half_closed_by_the_peer(self) -> None:
        """A peer that ends its side gets the answers to what it said, and then our end."""
        self.listen()
        phone = self.phone()
        phone.send(a_usual_register(1) + a_usual_register(2))
        await self.until(lambda: len(phone.messages()) == 2)
        phone.finish()
        await self.until(lambda: self.user.closed)
        self.assertEqual([reason for _, reason in self.user.closed], ["closed by the peer"])
        await self.until(phone.has_ended)
        self.assertEqual(phone.ended, "ended")
        self.assertEqual(self.transports.flow_counts(), {"TCP": 0})

    async def test_reset(self) -> None:
        """A connection that is reset is lost, with a reason; its flow is found no more."""
        self.listen()
        phone = self.phone()
        flow = await self.flow_of(phone)
        self.assertIs(self.transports.flow(flow.id), flow)
        phone.reset()
        await self.until(lambda: self.user.closed)
        self.assertEqual([each for each, _ in self.user.closed], [flow])
        self.assertIn("lost", self.user.closed[0][1])
        self.assertIsNone(self.transports.flow(flow.id))
        self.assertEqual((flow.is_open, flow.local), (False, ("", 0)))
        self.assertRaises(FlowClosed, flow.write, OK)

    async def test_reset_while_full(self) -> None:
        """So is one that is reset while something waits to be written to it."""
        self.listen(limits=LimitsConfig(max_write_buffer_bytes=1 << 22))
        phone = self.phone(receive_buffer_bytes=16384)
        flow = await self.flow_of(phone)
        for _ in range(30):
            flow.write(LARGE)
        phone.reset()
        await self.until(lambda: self.user.closed)
        self.assertEqual([each for each, _ in self.user.closed], [flow])

    async def test_peer_that_stays(self) -> None:
        """A peer that does not end its side of a closed flow is cut off in time."""
        self.listen(limits=LimitsConfig(close_seconds=0.1))
        phone = self.phone()
        flow = await self.flow_of(phone)
        flow.close("enough")
        await self.until(lambda: self.user.closed)
        self.assertEqual(self.user.closed, [(flow, "enough")])
        await self.until(lambda: phone.send(OPTIONS) == 0)
        self.assertEqual(phone.ended, "reset")

    async def test_new_flow_at_once(self) -> None:
        """A connection made right after another ended has a flow of its own, which the old one's id does not find."""
        self.listen()
        seen: set[int] = set()
        for count in range(1, 21):
            phone = self.phone()
            flow = await self.flow_of(phone)
            self.assertNotIn(flow.id, seen)
            seen.add(flow.id)
            phone.reset() if count % 2 else phone.leave()
            await self.until(lambda: len(self.user.closed) == count)  # noqa: B023
        self.assertEqual([self.transports.flow(each) for each in seen], [None] * 20)

    # --- who may come

    async def test_full(self) -> None:
        """A full listener ends new connections at once, until one of its own is gone."""
        self.listen(max_connections=1)
        phone = self.phone()
        await self.flow_of(phone)
        refused = self.phone()
        await self.until(refused.has_ended)
        self.assertEqual(self.transports.tallies.refused_full, 1)
        phone.leave()
        await self.until(lambda: self.user.closed)
        await self.flow_of(self.phone())

    async def test_source_limit(self) -> None:
        """One address has only so many connections; others are served."""
        self.listen(limits=LimitsConfig(max_connections_per_source=1))
        phone = self.phone()
        await self.flow_of(phone)
        refused = self.phone()
        await self.until(refused.has_ended)
        self.assertEqual(self.transports.tallies.refused_source, 1)
        other = await self.flow_of(self.phone(source="127.0.0.2"))
        self.assertEqual(other.peer[0], "127.0.0.2")
        phone.leave()
        await self.until(lambda: self.user.closed)
        await self.flow_of(self.phone())

    async def test_stranger(self) -> None:
        """Who says nothing valid in time is not kept."""
        self.listen(limits=LimitsConfig(first_request_seconds=0.1, close_seconds=0.1))
        phone = self.phone()
        phone.send(b"\r\n\r\n")
        await self.until(phone.has_ended)
        self.assertEqual((phone.data, self.transports.tallies.strangers_closed), (b"\r\n", 1))
        await self.until(lambda: self.user.closed)
        self.assertEqual(self.user.closed[0][1], "no valid request came in time")

    # --- PROXY headers

    async def test_proxy_header(self) -> None:
        """A load balancer's header names the client, whole or in pieces, with a message behind it or not."""
        self.listen(proxy_protocol_from=("127.0.0.0/8",))
        for cut in (0, 5, 16, 27, len(header())):
            phone = self.phone()
            phone.send(header()[:cut])
            await self.a_moment()
            phone.send(header()[cut:] + OPTIONS[:50])
            await self.a_moment()
            phone.send(OPTIONS[50:] + a_usual_register(cut))
            await self.until(phone.look)
            data, flow = self.user.messages.pop()
            self.assertEqual((data, flow.peer, flow.local), (OPTIONS, ("192.0.2.1", 40000), ("198.51.100.1", 5060)))
            phone.leave()
        await self.until(lambda: len(self.user.closed) == 5)
        self.assertEqual((len(self.wheel), self.transports.flow_counts()), (0, {"TCP": 0}))

    async def test_wrong_proxy_header(self) -> None:
        """A load balancer without a header, with one that never ends, or gone before it, leaves nothing behind."""
        self.listen(proxy_protocol_from=("127.0.0.0/8",), limits=LimitsConfig(handshake_seconds=0.1))
        wrong, slow, gone = self.phone(), self.phone(), self.phone()
        wrong.send(OPTIONS)
        slow.send(header()[:20])
        gone.send(header()[:3])
        gone.leave()
        for phone in (wrong, slow):
            await self.until(phone.has_ended)
            self.assertEqual(phone.ended, "reset")
        await self.until(lambda: self.transports.tallies.handshakes_failed == 3)
        self.assertEqual((self.user.messages, self.user.closed, len(self.wheel)), ([], [], 0))

    async def test_sources_behind_a_proxy(self) -> None:
        """Clients behind a load balancer are counted, not the load balancer."""
        self.listen(proxy_protocol_from=("127.0.0.0/8",), limits=LimitsConfig(max_connections_per_source=1))
        phones = [self.phone(), self.phone()]
        for phone in phones:
            phone.send(header() + OPTIONS)
            await self.a_moment()
        await self.until(phones[1].has_ended)
        self.assertEqual((len(self.user.messages), self.transports.tallies.refused_source), (1, 1))
        phones[0].leave()
        await self.until(lambda: self.user.closed)
        again = self.phone()
        again.send(header() + OPTIONS)
        await self.until(lambda: len(self.user.messages) == 2)
