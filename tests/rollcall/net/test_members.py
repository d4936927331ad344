"""The internal transport over loopback sockets: members get through and stay connected."""

import os
import signal
import sys
import time
from functools import partial

from twisted.internet.defer import Deferred, gatherResults

from rollcall.net.config import ListenerConfig
from rollcall.net.flow import Flow, FlowClosed, Listener
from rollcall.net.members import CLOSED, REFUSED, REPLACED, TIMED_OUT, UNREACHABLE
from rollcall.sip.scanner import UsualRegister
from tests.interop.process import Process
from tests.rollcall.net.fakes import OK, OPTIONS
from tests.rollcall.net.flow_contract import QueueingUser
from tests.rollcall.net.member_nodes import MemberNode, MembersTestCase, reactor
from tests.rollcall.net.peers import StreamPeer

REGISTER = (
    b"REGISTER sip:example.com SIP/2.0\r\n"
    b"Via: SIP/2.0/TCP 192.0.2.1:5060;branch=z9hG4bK1\r\n"
    b"From: <sip:a@example.com>;tag=1\r\n"
    b"To: <sip:a@example.com>\r\n"
    b"Call-ID: 1\r\n"
    b"CSeq: 1 REGISTER\r\n"
    b"Contact: <sip:a@192.0.2.1>\r\n"
    b"Content-Length: 0\r\n"
    b"\r\n"
)

A_MEMBER = """
import sys
from twisted.internet import reactor
from tests.rollcall.net.member_nodes import MemberNode

node = MemberNode("b", 5)
node.start()
print("at", node.local[1], "end", flush=True)
reactor.run()
"""


class ConnectionTests(MembersTestCase):
    async def test_both_ways(self) -> None:
        """One connection carries requests of both nodes, and each knows who is at the other end."""
        a, b = self.node("a", 7), self.node("b", 8)
        flow = await a.flow_to(b)
        flow.write(OPTIONS)
        message, back = await b.user.messages.get()
        self.assertEqual((message, back.member, flow.member), (OPTIONS, "a", "b"))
        self.assertEqual((a.flows[0].epoch, b.flows[0].epoch), (8, 7))
        self.assertTrue(back.confirmed and back.reliable and not back.secure)
        self.assertEqual((back.transport, back.listener), ("TCP", b.members.listener))
        self.assertIs(flow.listener, a.members.listener)
        self.assertIs(await b.flow_to(a), back)
        back.write(OK)
        self.assertEqual((await a.user.messages.get())[0], OK)
        self.assertEqual((a.members.connected, b.members.connected), ((b.life,), (a.life,)))

    async def test_one_for_all(self) -> None:
        """All who ask for a member get the same connection, also those who ask while it is being opened."""
        a, b = self.node("a"), self.node("b")
        first, *others = await gatherResults([a.flow_to(b) for _ in range(20)])
        self.assertEqual({first}, {*others, await a.flow_to(b)})
        self.assertEqual((len(a.flows), len(b.flows)), (1, 1))

    async def test_both_at_once(self) -> None:
        """Two nodes that connect to each other at the same moment both get through, and nothing is closed again."""
        for _ in range(5):
            a, b = self.node("a"), self.node("b")
            mine, yours = await gatherResults([a.flow_to(b), b.flow_to(a)])
            mine.write(OPTIONS)
            yours.write(OPTIONS)
            self.assertEqual([(await each.user.messages.get())[0] for each in (a, b)], [OPTIONS, OPTIONS])
            await self.until(partial(self.are_level, a, b))
            self.assertLessEqual(len(a.flows), 2)
            self.assertEqual((a.lost, b.lost), ([], []))
            await gatherResults([a.members.stop(), b.members.stop()])

    def are_level(self, a: MemberNode, b: MemberNode) -> bool:
        """Whether both see as many connections."""
        return len(a.flows) == len(b.flows)

    async def test_apart_from_phones(self) -> None:
        """No request for an address goes to a member, no id of a phone's connection is that of a member's."""
        listener = ListenerConfig(name="tcp", transport="tcp", host="127.0.0.1", port=0)
        a, b = (self.node(name, listeners=(listener,)) for name in "ab")
        await a.flow_to(b)
        (came,) = b.flows
        phone = StreamPeer()
        await phone.connect(reactor, ("127.0.0.1", b.transports.listeners["tcp"].local[1]))
        phone.send(OPTIONS)
        _, flow = await b.user.messages.get()
        self.assertEqual((flow.member, came.member), ("", "a"))
        dialled = await Deferred.fromCoroutine(b.transports.connect("TCP", *a.transports.listeners["tcp"].local))
        self.assertEqual(len({flow.id, came.id, dialled.id}), 3)
        dialled.close("enough")
        await a.user.closed.get()
        self.assertIsNone(b.transports.flow(came.id))
        connecting = Deferred.fromCoroutine(b.transports.connect("TCP", *came.peer))
        self.assertIn("refused", await self.failure(connecting))
        await self.until(lambda: b.transports.flow_counts() == {"TCP": 1})
        self.assertEqual(b.transports.close_idle(10, "drained"), 0)
        self.assertTrue(came.is_open)
        phone.leave()

    async def test_no_short_way(self) -> None:
        """A REGISTER that a member passes on is handed over whole: it is no phone's on this connection."""

        class Answering(QueueingUser):
            def short_way(self, register: UsualRegister, flow: Flow, now: float) -> bytes | None:
                raise AssertionError("it took the short way")

            def datagram_short_way(self, register: UsualRegister, listener: Listener, address: bytes,
                                   now: float) -> bytes | None:
                raise AssertionError("it took the short way")

        a, b = self.node("a"), self.node("b")
        b.members.connections.user = Answering()
        (await a.flow_to(b)).write(REGISTER)
        self.assertEqual((await b.members.connections.user.messages.get())[0], REGISTER)

    async def test_largest_messages(self) -> None:
        """What is as large as a phone may send it, and has grown on its way, still fits through."""
        a, b = self.node("a"), self.node("b")
        large = OPTIONS.replace(b"Call-ID: 1", b"Call-ID: " + b"1" * 500_000)
        large = large.replace(b"Content-Length: 4\r\n\r\nbody", b"Content-Length: 65535\r\n\r\n" + b"b" * 65_535)
        (await a.flow_to(b)).write(large)
        self.assertEqual((await b.user.messages.get())[0], large)

    async def test_too_large(self) -> None:
        """A message that the member would not take fails alone: the connection goes on."""
        a, b = self.node("a"), self.node("b")
        flow = await a.flow_to(b)
        head, body = b"1" * 1_100_000, b"b" * 70_000
        for large in (OPTIONS.replace(b"Call-ID: 1", b"Call-ID: " + head),
                      OPTIONS.replace(b"Content-Length: 4\r\n\r\nbody", b"Content-Length: 70000\r\n\r\n" + body)):
            self.assertRaises(FlowClosed, flow.write, large)
        flow.write(OPTIONS)
        self.assertEqual((await b.user.messages.get())[0], OPTIONS)
        self.assertTrue(flow.is_open)

    async def test_crossing_floods(self) -> None:
        """Two nodes that have much to say at the same time both read on while they write."""
        a, b = self.node("a"), self.node("b")
        mine, yours = await gatherResults([a.flow_to(b), b.flow_to(a)])
        large = OPTIONS.replace(b"Content-Length: 4\r\n\r\nbody", b"Content-Length: 60000\r\n\r\n" + b"b" * 60_000)
        for _ in range(100):
            mine.write(large)
            yours.write(large)
        for node in (a, b):
            for _ in range(100):
                await node.user.messages.get()
        self.assertEqual((a.lost, b.lost), ([], []))

    async def test_nobody_there(self) -> None:
        """A member that does not listen is told at once; that it has died is told only of one that was there before."""
        a, b = self.node("a"), self.node("b")
        way = b.way
        await b.members.stop()
        began_at = time.monotonic()
        self.assertIn("refused", await self.failure(Deferred.fromCoroutine(a.members.flow(*way))))
        self.assertLess(time.monotonic() - began_at, 1.0)
        self.assertEqual(a.lost, [("b", 1, UNREACHABLE)])
        self.assertEqual(a.members.connected, ())

    async def test_not_listening(self) -> None:
        """A node that has not started, or has stopped, or looks for itself, gets no connection."""
        a, b = self.node("a"), self.node("b")
        self.assertIn("this node", await self.failure(a.flow_to(a)))
        await a.members.stop()
        self.assertIn("not listening", await self.failure(a.flow_to(b)))
        a.members.keep([b.way])
        self.assertEqual(a.members.connected, ())
        taken = MemberNode("c", port=b.local[1])
        error = self.assertRaises(OSError, taken.members.start)
        self.assertIn(f"listener internal (tcp 127.0.0.1:{b.local[1]})", str(error))


class MeshTests(MembersTestCase):
    async def test_kept(self) -> None:
        """The mesh comes about by itself; who leaves it is disconnected without a word of loss here."""
        nodes = [self.node(name) for name in "abc"]
        ways = [node.way for node in nodes]
        for node in nodes:
            node.members.keep(ways)
        await self.until(lambda: all(len(node.members.connected) == 2 for node in nodes))
        a, b, c = nodes
        a.members.keep(ways[:2])
        await self.until(lambda: ("a", 1, CLOSED) in c.lost)
        self.assertEqual((a.members.connected, a.lost, b.lost), ((b.life,), [], []))

    async def test_earlier_than_its_lease(self) -> None:
        """A member that comes before it was heard of stays, whatever is kept meanwhile."""
        a, b = self.node("a"), self.node("b")
        flow = await a.flow_to(b)
        b.members.keep([])
        b.members.keep([b.way])
        flow.write(OPTIONS)
        self.assertEqual((await b.user.messages.get())[1].member, "a")

    async def test_again(self) -> None:
        """A connection that has broken is told, and opened again by itself once the member is back."""
        a, b = self.node("a"), self.node("b")
        port = b.local[1]
        a.members.keep([b.way])
        await self.until(lambda: a.members.connected)
        await b.members.stop()
        await self.until(lambda: ("b", 1, REFUSED) in a.lost)
        self.assertEqual(a.lost[0], ("b", 1, CLOSED))
        again = self.node("b", port=port)
        await self.until(lambda: a.members.connected and again.members.connected)

    async def test_later_life_is_there(self) -> None:
        """Who looks for a former life of a node that was restarted is told so: that life has surely ended."""
        a, b = self.node("a"), self.node("b", 9)
        self.assertIn("there is b, epoch 9", await self.failure(a.flow_to(b, epoch=8)))
        self.assertEqual(a.lost, [("b", 8, REPLACED)])
        self.assertIn("there is b, epoch 9", await self.failure(a.flow_to(b, epoch=10)))
        self.assertEqual(a.lost, [("b", 8, REPLACED)])
        self.assertEqual(b.flows, [])
        self.assertEqual((await a.flow_to(b)).member, "b")

    async def test_later_life_comes(self) -> None:
        """A node's new life that connects ends what was left of the life before."""
        a, old, new = self.node("a"), self.node("b", 1), self.node("b", 2)
        before = await old.flow_to(a)
        a.members.keep([old.way])
        await new.flow_to(a)
        await self.until(lambda: not before.is_open)
        self.assertEqual(a.lost, [("b", 1, REPLACED)])
        self.assertEqual(a.members.connected, (new.life,))

    async def test_opened_anew(self) -> None:
        """A member that connects once more has lost the connection before, so that one goes."""
        a, b = self.node("a"), self.node("b")
        twin = self.node("b")
        before = await b.flow_to(a)
        (first,) = a.flows
        await twin.flow_to(a)
        await self.until(lambda: not before.is_open)
        (second,) = a.flows
        self.assertIsNot(first, second)
        self.assertEqual(a.lost, [])

    async def test_stopping(self) -> None:
        """A node that stops waits until its connections are gone, and speaks of no loss."""
        a, b = self.node("a"), self.node("b")
        a.members.keep([b.way])
        await self.until(lambda: a.members.connected)
        await a.members.stop()
        self.assertEqual((a.flows, a.lost), ([], []))
        await self.until(lambda: b.lost == [("a", 1, CLOSED)])
        await self.failure(b.flow_to(a))


class DeathTests(MembersTestCase):
    """The other node is a process of its own."""

    def setUp(self) -> None:
        super().setUp()
        self.process = Process([sys.executable, "-c", A_MEMBER], self.folder / "log",
                               environment={"PYTHONPATH": os.pathsep.join(sys.path)})
        self.addCleanup(self.process.end)
        port = self.process.wait_until(lambda: self.port_in(self.process.text()), "port")
        self.way = "b", 5, "127.0.0.1", port

    def port_in(self, text: str) -> int | None:
        words = text.split()
        return int(words[1]) if words[-1:] == ["end"] else None

    async def test_killed(self) -> None:
        """The death of a member's process is seen at once, and refusals of its address follow within a second."""
        a = self.node("a")
        a.members.keep([self.way])
        await self.until(lambda: a.members.connected)
        killed_at = time.monotonic()
        os.kill(self.process.pid, signal.SIGKILL)
        await self.until(lambda: a.lost)
        self.assertLess(time.monotonic() - killed_at, 0.5)
        self.assertEqual(a.lost[0], ("b", 5, CLOSED))
        await self.until(lambda: a.lost.count(("b", 5, REFUSED)) == 2)
        self.assertLess(time.monotonic() - killed_at, 1.5)

    async def test_stopped(self) -> None:
        """A process that does not run takes connections, as the kernel does that, but never proves anything."""
        a = self.node("a", handshake_seconds=0.3)
        os.kill(self.process.pid, signal.SIGSTOP)
        failure = await self.failure(Deferred.fromCoroutine(a.members.flow(*self.way)))
        self.assertIn("took too long", failure)
        self.assertEqual(a.lost, [("b", 5, TIMED_OUT)])
        os.kill(self.process.pid, signal.SIGCONT)
        flow = await Deferred.fromCoroutine(a.members.flow(*self.way))
        self.assertEqual(flow.member, "b")
