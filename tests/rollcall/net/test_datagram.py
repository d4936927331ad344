"""UDP: what comes in datagrams, and what goes out in them, over loopback sockets."""

from errno import EAGAIN, EBADF, ECONNREFUSED, EHOSTUNREACH, EMSGSIZE, ENOBUFS
from socket import AF_INET, AF_INET6, SOCK_DGRAM, if_nametoindex, socket
from typing import Any, cast

from attrs import define, field
from twisted.internet.error import ConnectionLost
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from rollcall.net import batches, datagram
from rollcall.net.config import EngineConfig
from rollcall.net.datagram import DatagramFlow, DatagramPort
from rollcall.net.flow import Flow, FlowClosed, Listener, PackedAddress, pack_address
from rollcall.net.stun import BINDING_REQUEST, HEADER, MAGIC_COOKIE, answer
from rollcall.sip.scanner import UsualRegister, scan_register
from tests.rollcall.net.fakes import OK, OPTIONS, FailingUser, Net, RecordingUser, a_listener
from tests.rollcall.net.test_coalescing import Watching

PEER = ("192.0.2.1", 40000)
BINDING = HEADER.pack(BINDING_REQUEST, 0, MAGIC_COOKIE, b"transaction!")
NOW = 1_700_000_000.0


def a_register(call_id: str = "1", more: str = "") -> bytes:
    """Return a usual REGISTER, unless there is something unusual in the lines added."""
    return (
        "REGISTER sip:example.com SIP/2.0\r\n"
        "Via: SIP/2.0/UDP 192.0.2.1:40000;branch=z9hG4bK1;rport\r\n"
        "From: <sip:alice@example.com>;tag=1\r\n"
        "To: <sip:alice@example.com>\r\n"
        f"Call-ID: {call_id}\r\n"
        "CSeq: 1 REGISTER\r\n"
        "Contact: <sip:alice@192.0.2.1:40000>\r\n"
        f"{more}"
        "Content-Length: 0\r\n"
        "\r\n"
    ).encode()


@define(eq=False, slots=False)
class AnsweringUser(RecordingUser):
    """Answers usual REGISTERs with their Call-ID, unless it is among those that need the whole way."""

    needs_whole_way: set[bytes] = field(factory=set)
    later: set[bytes] = field(factory=set)
    short: list[tuple[bytes, Listener, PackedAddress, float]] = field(factory=list)
    told: Any = None

    def datagram_short_way(
        self, register: UsualRegister, listener: Listener, address: PackedAddress, now: float
    ) -> bytes | None:
        self.short.append((register.call_id, listener, address, now))
        if register.call_id in self.later:
            return b""
        return None if register.call_id in self.needs_whole_way else b"short " + register.call_id

    def message_received(self, data: bytes, flow: Flow) -> None:
        super().message_received(data, flow)
        if self.told is not None:
            self.told(data, flow)


class Closed:
    """A socket that nothing reaches."""

    def fileno(self) -> int:
        return -1

    def close(self) -> None:
        """Do nothing."""


def a_port(net: Net, name: str = "main", bound: Any = None, config: EngineConfig | None = None) -> DatagramPort:
    """Return a UDP listener, without a socket of the system's unless one is given."""
    fitting = cast(socket, bound or Closed())
    return DatagramPort(net.clock, fitting, a_listener("UDP", name), net.connections, config or EngineConfig())


class PortTestCase(SynchronousTestCase):
    """A port on loopback, and one who speaks to it. The reactor is a clock; `turn` lets the port read."""

    family = AF_INET
    host = "127.0.0.1"

    def setUp(self) -> None:
        self.user = AnsweringUser()
        self.listen(self.user)

    def listen(self, user: Any, **settings: Any) -> None:
        self.net = Net(user=user)
        self.reactor = self.net.clock = Watching()
        self.reactor.advance(NOW)
        self.socket = self.a_socket()
        self.port = a_port(self.net, bound=self.socket, config=EngineConfig(**settings))
        self.port.start()
        self.addCleanup(self.port.stopListening)
        self.peer = self.a_socket()
        self.peer_address = pack_address(*self.peer.getsockname()[:2])

    def a_socket(self) -> socket:
        bound = socket(self.family, SOCK_DGRAM)
        self.addCleanup(bound.close)
        bound.setblocking(False)
        bound.bind((self.host, 0))
        return bound

    def turn(self) -> Any:
        """Let the reactor wake the port; return what the reactor would hear."""
        (reader,) = self.reactor.readers
        return cast(Any, reader).doRead()

    def receive(self, *datagrams: bytes) -> None:
        """The peer sends these, and the port reads."""
        for each in datagrams:
            self.peer.sendto(each, self.socket.getsockname())
        self.turn()

    def sent(self, peer: socket | None = None) -> list[bytes]:
        """Return what the peer heard since the last time."""
        found = []
        while True:
            try:
                found.append((peer or self.peer).recv(65_535))
            except BlockingIOError:
                return found


class ReceivingTests(PortTestCase):
    def test_message(self) -> None:
        """A datagram is a message from the flow of its source."""
        self.receive(OPTIONS)
        flow = self.port.flow_to(*self.peer.getsockname()[:2])
        self.assertEqual(self.user.messages, [(OPTIONS, flow)])
        self.assertEqual(flow.peer, self.peer.getsockname()[:2])
        self.assertEqual(flow.address, self.peer_address)

    def test_many(self) -> None:
        """Messages of one turn come in their order, the largest whole."""
        messages = [OPTIONS + str(number).encode() for number in range(100)]
        messages[50] = OPTIONS + b"x" * (65_507 - len(OPTIONS))
        self.receive(*messages)
        self.assertEqual(self.user.data, messages)

    def test_leading_line_ends(self) -> None:
        """Line ends before a message are skipped (RFC 3261 §7.5), before a usual one too."""
        self.receive(b"\r\n\r\n" + OPTIONS, b"\r\n" + a_register())
        self.assertEqual(self.user.data, [OPTIONS])
        self.assertEqual(self.sent(), [b"short 1"])

    def test_blank_datagrams(self) -> None:
        """Blank datagrams keep a NAT's mapping alive; nobody hears of them and nothing is answered."""
        blanks = (b"", b"\r\n", b"\r\n\r\n", b"\0", b"\0\0\0\0", b"\r\n" * 50, b"\n", b"\0\0\r\n")
        self.receive(*blanks)
        self.assertEqual((self.user.messages, self.user.short, self.sent()), ([], [], []))
        self.assertEqual(self.net.tallies.datagrams_ignored, len(blanks))

    def test_noise(self) -> None:
        """A datagram of other control characters is no SIP."""
        self.receive(b"\x02\x03 something", b"\r\n\x03 something")
        self.assertEqual(self.user.messages, [])

    def test_stun(self) -> None:
        """A STUN Binding request is answered from the same socket (RFC 5626 §8)."""
        self.receive(BINDING)
        self.assertEqual(self.sent(), [answer(BINDING, self.peer.getsockname()[:2])])
        self.assertEqual(self.user.messages, [])
        self.assertEqual(self.net.tallies.pings_answered, 1)

    def test_other_stun(self) -> None:
        """STUN that wants no answer is ignored."""
        self.receive(HEADER.pack(0x0101, 0, MAGIC_COOKIE, b"transaction!"))
        self.assertEqual((self.sent(), self.user.messages), ([], []))
        self.assertEqual(self.net.tallies.datagrams_ignored, 1)

    def test_failing_user(self) -> None:
        """A message that makes the user fail is logged and does not end the listener, nor the batch."""
        self.listen(FailingUser())
        self.receive(OPTIONS, BINDING)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        self.assertTrue(self.port.is_open)
        self.assertEqual(len(self.sent()), 1)

    def test_broken_short_way(self) -> None:
        """Even who breaks the promise to raise nothing does not end the listener."""
        self.patch(self.user, "datagram_short_way", lambda *args: 1 / 0)
        self.receive(a_register())
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.receive(OPTIONS)
        self.assertEqual(self.user.data, [OPTIONS])

    def test_refused(self) -> None:
        """That a host complained of an earlier datagram does not keep others from being read (ip(7))."""
        errors = [OSError(ECONNREFUSED, "Connection refused"), OSError(EHOSTUNREACH, "No route to host")]
        original = batches.receive

        def receive(bound: socket, most: int) -> list[tuple[bytes, PackedAddress]]:
            if errors:
                raise errors.pop()
            return original(bound, most)

        self.patch(batches, "receive", receive)
        self.receive(OPTIONS)
        self.assertEqual((errors, self.user.data), ([], [OPTIONS]))

    def test_socket_of_no_more_use(self) -> None:
        """A socket that cannot be read ends the listener, which is logged."""
        self.socket.close()
        error = self.turn()
        self.assertEqual(error.errno, EBADF)
        (reader,) = self.reactor.readers
        cast(Any, reader).connectionLost(Failure(ConnectionLost()))
        self.assertFalse(self.port.is_open)
        self.assertEqual(self.reactor.readers, [])


class ShortWayTests(PortTestCase):
    def test_answered(self) -> None:
        """A usual REGISTER is answered at once; the user hears which listener it came to, whence, and when."""
        self.receive(a_register("1"), a_register("2"))
        self.assertEqual(self.sent(), [b"short 1", b"short 2"])
        self.assertEqual(self.user.messages, [])
        expected = [(each, self.port.listener, self.peer_address, NOW) for each in (b"1", b"2")]
        self.assertEqual(self.user.short, expected)

    def test_left(self) -> None:
        """What the short way leaves is delivered whole, right then."""
        self.user.needs_whole_way = {b"2"}
        self.user.told = lambda data, flow: self.assertEqual(len(self.user.short), 2)
        self.receive(a_register("1"), a_register("2"), a_register("3"))
        self.assertEqual(self.user.data, [a_register("2")])
        self.assertEqual(self.sent(), [b"short 1", b"short 3"])

    def test_unusual(self) -> None:
        """What is not usual, or has something behind it, takes the whole way only."""
        table = (a_register(more="Require: path\r\n"), a_register() + b"x", OPTIONS, b"noise")
        self.receive(*table)
        self.assertEqual(self.user.short, [])
        self.assertEqual(self.user.data, list(table))

    def test_order(self) -> None:
        """Answers to one peer leave in the order of its requests, whichever way each took."""
        self.user.needs_whole_way = {b"2", b"4"}
        self.user.told = lambda data, flow: flow.write(b"whole " + cast(Any, scan_register(data)).call_id)
        self.receive(*(a_register(str(number)) for number in range(1, 6)))
        self.assertEqual(self.sent(), [b"short 1", b"whole 2", b"short 3", b"whole 4", b"short 5"])

    def test_keepalives_among_them(self) -> None:
        """STUN and blank datagrams among requests are what they are elsewhere."""
        self.receive(a_register("1"), BINDING, b"\r\n\r\n", a_register("2"), b"")
        binding = answer(BINDING, self.peer.getsockname()[:2])
        self.assertEqual(self.sent(), [b"short 1", binding, b"short 2"])

    def test_one_call(self) -> None:
        """The answers of a batch are sent together."""
        calls: list[int] = []

        def send(bound: socket, batch: list[tuple[bytes, PackedAddress]]) -> list[tuple[int, int]]:
            calls.append(len(batch))
            return batches.send(bound, batch)

        self.patch(datagram, "send", send)
        self.receive(*(a_register(str(number)) for number in range(20)))
        self.assertEqual(calls, [20])

    def test_answered_later(self) -> None:
        """What is answered in a later turn leaves together with all others of that turn; nothing does once closed."""
        calls: list[int] = []

        def send(bound: socket, batch: list[tuple[bytes, PackedAddress]]) -> list[tuple[int, int]]:
            calls.append(len(batch))
            return batches.send(bound, batch)

        self.patch(datagram, "send", send)
        for number in range(20):
            self.port.answer(b"later %d" % number, self.peer_address)
        self.assertEqual((calls, self.sent()), ([], []))
        self.reactor.advance(0)
        self.assertEqual((calls, len(self.sent())), ([20], 20))
        self.port.answer(b"last", self.peer_address)
        self.port.stopListening()
        self.assertEqual(self.sent(), [b"last"])
        self.port.answer(b"too late", self.peer_address)
        self.reactor.advance(0)
        self.assertEqual(calls, [20, 1])

    def test_answer_that_is_later_than_others(self) -> None:
        """An answer without any words is none: nothing is sent until there is one."""
        self.user.later = {b"2"}
        self.receive(a_register("1"), a_register("2"), a_register("3"))
        self.assertEqual((self.sent(), self.user.messages), ([b"short 1", b"short 3"], []))

    def test_not_sent(self) -> None:
        """Answers that cannot be sent are counted; the others are, and nobody else's trouble comes of it."""
        self.patch(datagram, "send", lambda bound, batch: [(0, ENOBUFS), (2, EHOSTUNREACH)])
        self.receive(a_register("1"), a_register("2"), a_register("3"))
        self.assertEqual(self.net.tallies.datagrams_unsent, 2)
        self.assertTrue(self.port.is_open)


class EndTests(PortTestCase):
    def test_stopped(self) -> None:
        """A stopped listener closes its socket, and its flows are closed; stopping again is harmless."""
        flow = self.port.flow_to(*PEER)
        for _ in range(2):
            self.port.stopListening()
        self.assertEqual(self.socket.fileno(), -1)
        self.assertFalse(flow.is_open)
        self.assertRaises(FlowClosed, flow.write, OK)
        self.assertEqual(self.reactor.readers, [])

    def test_stopped_within_a_batch(self) -> None:
        """Who stops the listener hears no more of it; what was answered before still leaves."""
        self.user.told = lambda data, flow: self.port.stopListening()
        self.receive(a_register("1"), OPTIONS, OPTIONS, a_register("2"))
        self.assertEqual(self.user.data, [OPTIONS])
        self.assertEqual(len(self.user.short), 1)
        self.assertEqual(self.sent(), [b"short 1"])
        self.assertEqual((self.reactor.readers, self.reactor.getDelayedCalls()), ([], []))


class OverIpv6Tests(PortTestCase):
    family = AF_INET6
    host = "::1"

    def test_both_ways(self) -> None:
        """IPv6 peers are answered like others, whichever way their message takes."""
        self.user.told = lambda data, flow: flow.write(b"whole")
        self.receive(a_register("1"), OPTIONS, BINDING)
        self.assertEqual(self.sent(), [b"short 1", b"whole", answer(BINDING, self.peer.getsockname()[:2])])
        self.assertEqual(self.user.short[0][2], self.peer_address)
        self.assertEqual(self.user.messages[0][1].peer, self.peer.getsockname()[:2])

    def test_link_local(self) -> None:
        """A link-local source takes the whole way, with the interface in its name; the answer goes out there."""
        scope = if_nametoindex("lo").to_bytes(4)
        batch = [(a_register(), pack_address("fe80::1", 40000) + scope)]
        sent: list[tuple[bytes, PackedAddress]] = []

        def send(bound: socket, batch: list[tuple[bytes, PackedAddress]]) -> list[tuple[int, int]]:
            sent.extend(batch)
            return []

        self.patch(batches, "receive", lambda bound, most: batch)
        self.patch(datagram, "send", send)
        self.turn()
        ((data, flow),) = self.user.messages
        self.assertEqual((data, self.user.short), (a_register(), []))
        self.assertEqual(flow.peer, ("fe80::1%lo", 40000))
        self.assertEqual(flow.address, pack_address("fe80::1", 40000))
        self.assertEqual(flow, self.port.flow_to("fe80::1%lo", 40000))
        flow.write(OK)
        self.assertEqual(sent, [(OK, pack_address("fe80::1", 40000) + scope)])

    def test_interfaces(self) -> None:
        """An interface may be named by its number, and one that is gone keeps it; an unknown name says nothing."""
        self.assertEqual(self.port.flow_to("fe80::1%1", 1), self.port.flow_to("fe80::1%lo", 1))
        self.assertEqual(self.port.flow_to("fe80::1%4000000", 1).peer, ("fe80::1%4000000", 1))
        self.assertEqual(self.port.flow_to("fe80::1%gone", 1).peer, ("fe80::1", 1))
        self.assertEqual(self.port.flow_to("fe80::1%99999999999", 1).peer, ("fe80::1", 1))


class DatagramFlowTests(PortTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.flow = self.port.flow_to(*PEER)
        self.way = self.port.flow_to(*self.peer.getsockname())

    def test_what_a_flow_says(self) -> None:
        """A datagram flow has no id, is neither reliable nor secure, and belongs to its listener."""
        self.assertEqual((self.flow.id, self.flow.transport, self.flow.peer), (0, "UDP", PEER))
        self.assertEqual((self.flow.reliable, self.flow.secure, self.flow.is_open), (False, False, True))
        self.assertEqual(self.flow.address, pack_address(*PEER))
        self.assertEqual(self.flow.local, ("192.0.2.99", 5060))
        self.assertIs(self.flow.listener, self.port.listener)
        self.assertIsNone(self.flow.bound)
        self.assertIn("192.0.2.1:40000", repr(self.flow))

    def test_equality(self) -> None:
        """Flows are the same when peer and listener are."""
        same = self.port.flow_to(*PEER)
        self.assertEqual(self.flow, same)
        self.assertEqual(hash(self.flow), hash(same))
        self.assertNotEqual(self.flow, self.port.flow_to("192.0.2.1", 40001))
        self.assertNotEqual(self.flow, a_port(self.net).flow_to(*PEER))
        self.assertNotEqual(self.flow, PEER)

    def test_write(self) -> None:
        """A message leaves from the socket that the flow is of."""
        self.way.write(OK)
        self.assertEqual(self.peer.recvfrom(1000), (OK, self.socket.getsockname()))

    def test_full_socket(self) -> None:
        """What the kernel has no room for is lost, as datagrams are."""
        for number in (EAGAIN, ENOBUFS):
            self.patch(datagram, "send", lambda bound, batch, number=number: [(0, number)])
            self.way.write(OK)
        self.assertEqual(self.net.tallies.datagrams_unsent, 2)

    def test_unreachable(self) -> None:
        """What cannot be sent at all is told to who wrote it (RFC 3261 §18.4)."""
        self.assertEqual(str(self.assertRaises(FlowClosed, self.way.write, b"x" * 65_508)), "Message too long")
        self.assertEqual(self.net.tallies.datagrams_unsent, 1)
        other = self.port.flow_to("::1", 5060)
        self.assertIn("Address family", str(self.assertRaises(FlowClosed, other.write, OK)))
        for number, text in ((EHOSTUNREACH, "No route to host"), (EMSGSIZE, "Message too long")):
            self.patch(datagram, "send", lambda bound, batch, number=number: [(0, number)])
            self.assertEqual(str(self.assertRaises(FlowClosed, self.flow.write, OK)), text)

    def test_has_no_end(self) -> None:
        """Closing and confirming mean nothing to a datagram flow."""
        self.flow.close("enough")
        self.flow.confirm()
        self.assertTrue(self.flow.is_open)
        self.assertTrue(self.flow.confirmed)

    def test_light(self) -> None:
        """A flow is made for each datagram: it has no dictionary."""
        self.assertFalse(hasattr(self.flow, "__dict__"))
        self.assertIsInstance(self.flow, DatagramFlow)
