"""When a member is called, and what is made of how that goes: on a reactor that connects nothing by itself."""

import socket
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError, ConnectionRefusedError, TimeoutError, UserError
from twisted.internet.interfaces import IProtocol
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from rollcall.net.config import LimitsConfig, MemberConfig
from rollcall.net.flow import ConnectFailed, Flow, Listener
from rollcall.net.member_flow import MAX_HEAD_BYTES, MAX_WRITE_BUFFER_BYTES, MemberFlow, member_limits
from rollcall.net.member_handshake import Called, Calling, Handshake, Life
from rollcall.net.member_link import CLOSED, REFUSED, REPLACED, TIMED_OUT, UNREACHABLE, Link
from rollcall.net.tls import Layer
from tests.rollcall.net.fakes import OK, OPTIONS, Net, Wire, a_listener

KEY = b"k" * 32
ME, THERE = Life("a", 3), Life("b", 5)


class FakeConnector:
    """A connection in the making; its transport is a socket that is not connected."""

    def __init__(self, factory: Any) -> None:
        self.factory = factory
        self.socket = socket.socket()
        self.transport = self

    def getHandle(self) -> socket.socket:
        return self.socket

    def stopConnecting(self) -> None:
        self.fail(UserError())

    def fail(self, error: Exception) -> None:
        self.socket.close()
        self.factory.clientConnectionFailed(self, Failure(error))

    def connected(self) -> Wire:
        """TCP is there; nobody has said a word yet."""
        wire = Wire(("198.51.100.1", 5070))
        wire.connect(self.factory.buildProtocol(wire.getPeer()))
        return wire


class FakeMeans:
    """Keeps what was asked to be connected."""

    transport = "TCP"

    def __init__(self, net: Net) -> None:
        self.connections = net.connections
        self.reactor = self
        self.asked: list[FakeConnector] = []
        self.places: list[tuple[str, int, float]] = []

    @property
    def listener(self) -> Listener:
        return a_listener("TCP", "internal")

    @property
    def client_layer(self) -> Layer:
        return self.bare

    def bare(self, protocol: IProtocol) -> IProtocol:
        return protocol

    def calling(self, wanted: Life) -> Handshake:
        return Calling(KEY, ME, wanted)

    def connectTCP(self, host: str, port: int, factory: Any, timeout: float) -> FakeConnector:
        connector = FakeConnector(factory)
        self.places.append((host, port, timeout))
        self.asked.append(connector)
        factory.startedConnecting(connector)
        return connector


class LinkTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.net = Net(LimitsConfig(handshake_seconds=3.0, connect_seconds=3.0))
        self.means = FakeMeans(self.net)
        self.lost: list[str] = []
        self.link = Link(THERE, self.means, lambda link, why: self.lost.append(why))
        self.link.address = ("198.51.100.1", 5070)

    @property
    def connector(self) -> FakeConnector:
        """The connection that was asked for last."""
        return self.means.asked[-1]

    def proven(self, called: Life = THERE) -> Wire:
        """Let the last connection come about, and its other end be who it says."""
        wire = self.connector.connected()
        end = Called(KEY, called)
        wire.receive(end.begin())
        wire.receive(end.receive_data(wire.sent()))
        return wire

    def end(self, wire: Wire) -> None:
        """Let the other end go away."""
        wire.protocol.connectionLost(Failure(ConnectionRefusedError()))

    def flow(self) -> MemberFlow:
        flow = self.link.flow
        assert flow is not None
        return flow


class OpeningTests(LinkTestCase):
    def test_shared(self) -> None:
        """All who wait for a connection get the one, as soon as the member has proven itself."""
        first, second = self.link.opened(), self.link.opened()
        wire = self.connector.connected()
        self.assertNoResult(first)
        self.assertEqual(self.means.places, [("198.51.100.1", 5070, 3.0)])
        end = Called(KEY, THERE)
        wire.receive(end.begin())
        wire.receive(end.receive_data(wire.sent()) + OPTIONS)
        flow = self.successResultOf(first)
        self.assertIs(self.successResultOf(second), flow)
        self.assertIs(self.successResultOf(self.link.opened()), flow)
        self.assertEqual((flow.member, flow.peer), ("b", ("198.51.100.1", 5070)))
        self.assertEqual(self.net.user.messages, [(OPTIONS, flow)])

    def test_member_comes_meanwhile(self) -> None:
        """Who waits takes the member's own connection when that is there first."""
        waiting = self.link.opened()
        came = self.accepted()
        self.assertIs(self.successResultOf(waiting), came)
        self.proven()
        self.assertIsNot(self.link.flow, came)
        self.assertTrue(came.is_open)

    def accepted(self) -> MemberFlow:
        dialling = Link(THERE, self.means, lambda link, why: None)
        dialling.opened()
        self.proven()
        came = dialling.flow
        assert came is not None
        self.link.came(came)
        self.means.asked.pop()
        return came

    def test_refused(self) -> None:
        """A failure is told with what it says about the member, then to those who waited."""
        for error, why in (
            (ConnectionRefusedError(), REFUSED),
            (TimeoutError(), TIMED_OUT),
            (ConnectError(), UNREACHABLE),
        ):
            waiting = self.link.opened()
            self.connector.fail(error)
            self.assertIn("member b, epoch 5: ", str(self.failureResultOf(waiting, ConnectFailed).value))
            self.assertEqual(self.lost.pop(), why)
        self.assertTrue(self.link.is_over)

    def test_silent(self) -> None:
        """A member that says nothing in time is not waited for, and may be a process that does not run."""
        waiting = self.link.opened()
        wire = self.connector.connected()
        self.net.clock.advance(3.1)
        self.assertTrue(wire.aborted)
        self.end(wire)
        self.failureResultOf(waiting, ConnectFailed)
        self.assertEqual(self.lost, [TIMED_OUT])

    def test_unproven(self) -> None:
        """Somebody else at the member's address says nothing about the member."""
        waiting = self.link.opened()
        wire = self.connector.connected()
        wire.receive(OK)
        self.assertTrue(wire.aborted)
        self.end(wire)
        self.assertIn("no cluster member", str(self.failureResultOf(waiting, ConnectFailed).value))
        self.assertEqual(self.lost, [""])
        self.assertEqual(self.net.tallies.members_refused, 1)

    def test_another_life(self) -> None:
        """A later life there ends the one that was looked for; an earlier one, or another node, does not."""
        for there, why in ((Life("b", 6), REPLACED), (Life("b", 4), ""), (Life("c", 6), "")):
            waiting = self.link.opened()
            wire = self.connector.connected()
            end = Called(KEY, there)
            wire.receive(end.begin())
            with self.assertRaises(Exception) as refused:
                end.receive_data(wire.sent())
            wire.receive(getattr(refused.exception, "reply", b""))
            self.end(wire)
            self.assertIn(f"there is {there}", str(self.failureResultOf(waiting, ConnectFailed).value))
            self.assertEqual(self.lost.pop(), why)

    def test_sockets(self) -> None:
        """The kernel watches the connection: a silent host is given up after eight seconds."""
        self.link.opened()
        connector = self.connector
        connector.connected()
        options = [connector.socket.getsockopt(socket.IPPROTO_TCP, option) for option in (
            socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT, socket.TCP_USER_TIMEOUT)]
        self.assertEqual(options, [5, 1, 3, 8000])
        connector.socket.close()


class KeepingTests(LinkTestCase):
    def test_pauses(self) -> None:
        """A member that cannot be reached is tried again, after pauses that grow to a second."""
        self.link.keep()
        for pause in (0.1, 0.2, 0.4, 0.8, 1.0, 1.0):
            asked = len(self.means.asked)
            self.connector.fail(ConnectionRefusedError())
            self.net.clock.advance(pause - 0.06)
            self.assertEqual(len(self.means.asked), asked)
            self.net.clock.advance(0.12)
            self.assertEqual(len(self.means.asked), asked + 1)
        self.assertEqual(self.lost, [REFUSED] * 6)
        self.connector.socket.close()

    def test_at_once(self) -> None:
        """A good connection that has broken is replaced at once."""
        self.link.keep()
        self.connector.fail(ConnectionRefusedError())
        self.net.clock.advance(0.2)
        wire = self.proven()
        self.net.clock.advance(1.0)
        self.end(wire)
        self.assertEqual(self.lost, [REFUSED, CLOSED])
        self.net.clock.advance(0.05)
        self.assertEqual(len(self.means.asked), 3)
        self.proven()

    def test_not_at_once(self) -> None:
        """One that never lasts is not opened anew without a pause."""
        self.link.keep()
        self.connector.fail(ConnectionRefusedError())
        self.net.clock.advance(0.2)
        self.end(self.proven())
        self.net.clock.advance(0.06)
        self.assertEqual(len(self.means.asked), 2)
        self.net.clock.advance(0.1)
        self.assertEqual(len(self.means.asked), 3)
        self.connector.fail(ConnectionRefusedError())

    def test_wanted_now(self) -> None:
        """Who wants a connection does not wait for the end of a pause, and there are no two attempts at a time."""
        self.link.keep()
        for _ in range(5):
            self.connector.fail(ConnectionRefusedError())
            self.net.clock.advance(1.1)
        self.connector.fail(ConnectionRefusedError())
        asked = len(self.means.asked)
        waiting = self.link.opened()
        self.link.keep()
        self.assertEqual(len(self.means.asked), asked + 1)
        self.net.clock.advance(2.0)
        self.assertEqual(len(self.means.asked), asked + 1)
        self.proven()
        self.assertIs(self.successResultOf(waiting), self.link.flow)
        self.net.clock.advance(5.0)
        self.assertEqual(len(self.means.asked), asked + 1)

    def test_left(self) -> None:
        """Who is left is neither called nor spoken of any more, whatever was under way."""
        self.link.keep()
        waiting: Deferred[Flow] = self.link.opened()
        self.link.leave("it is no member any more")
        self.assertIn("no member any more", str(self.failureResultOf(waiting, ConnectFailed).value))
        self.link.keep()
        wire = self.connector.connected()
        self.link.leave("it is no member any more")
        self.assertTrue(wire.aborted)
        self.end(wire)
        self.link.keep()
        wire = self.proven()
        flow = self.flow()
        self.link.leave("it is no member any more")
        self.assertFalse(flow.is_open)
        self.end(wire)
        self.link.keep()
        self.connector.fail(ConnectionRefusedError())
        self.link.leave("it is no member any more")
        self.net.clock.advance(10.0)
        self.assertEqual((self.lost, len(self.means.asked)), ([REFUSED], 4))
        self.assertTrue(self.link.is_over)

    def test_dead(self) -> None:
        """The connection with a member that is dead is cut: a host that hangs would take seconds to let it end."""
        for is_dead in (False, True):
            self.link.keep()
            wire = self.proven()
            self.link.leave("it is no member any more", is_dead)
            self.assertEqual(wire.aborted, is_dead)
            self.end(wire)


class FlowTests(LinkTestCase):
    def test_limits(self) -> None:
        """A member's connection is bounded by what members need, whatever phones may do."""
        config = MemberConfig(host="127.0.0.1", port=0, handshake_seconds=2.5)
        phones = LimitsConfig(max_head_bytes=100_000, max_body_bytes=1_000_000, message_seconds=7.0)
        limits = member_limits(phones, config)
        self.assertEqual((limits.connect_seconds, limits.handshake_seconds, limits.message_seconds), (2.5, 2.5, 7.0))
        self.assertEqual((limits.max_head_bytes, limits.max_body_bytes), (MAX_HEAD_BYTES, 1_000_000))
        self.assertEqual(limits.max_write_buffer_bytes, MAX_WRITE_BUFFER_BYTES)

    def test_reading_on(self) -> None:
        """While the member does not read what we write we go on reading what it writes, up to the bound."""
        self.link.opened()
        wire = self.proven()
        flow = self.flow()
        flow.pauseProducing()
        self.assertEqual(wire.producerState, "producing")
        for _ in range(4):
            flow.write(b"x" * 50_000)
        self.assertTrue(flow.is_open)
        wire.receive(OPTIONS)
        self.assertEqual(self.net.user.data, [OPTIONS])
        flow.resumeProducing()
        flow.pauseProducing()
        for _ in range(4):
            flow.write(b"x" * 50_000)
        self.assertTrue(flow.is_open)

    def test_not_after_the_end(self) -> None:
        """What comes behind the end of a connection that we closed is not looked at; line ends alone mean nothing."""
        self.link.opened()
        wire = self.proven()
        flow = self.flow()
        wire.sent()
        wire.receive(b"\r\n\r\n\r\n")
        self.assertEqual(wire.sent(), b"")
        flow.close("a reason")
        wire.receive(OPTIONS)
        self.assertEqual(self.net.user.data, [])
        self.assertIn("member b", repr(flow))
