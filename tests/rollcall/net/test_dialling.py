"""Connections that we open, on a reactor that connects nothing by itself."""

import socket
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionRefusedError, TimeoutError, UserError
from twisted.internet.interfaces import IProtocol
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from rollcall.net.config import KeepaliveConfig
from rollcall.net.dialling import Destination, Dialling
from rollcall.net.flow import ConnectFailed, Flow
from tests.rollcall.net.fakes import OK, OPTIONS, Net, Wire, a_listener


class FakeConnector:
    """A connection in the making; its transport is a socket that is not connected."""

    def __init__(self, factory: Any) -> None:
        self.factory = factory
        self.socket = socket.socket()
        self.transport = self
        self.stopped = False

    def getHandle(self) -> socket.socket:
        return self.socket

    def stopConnecting(self) -> None:
        self.stopped = True
        self.fail(UserError())

    def fail(self, error: Exception) -> None:
        self.factory.clientConnectionFailed(self, Failure(error))

    def connected(self) -> Wire:
        """TCP is there."""
        wire = Wire(("198.51.100.1", 5060))
        wire.connect(self.factory.buildProtocol(None))
        return wire


class FakeReactor:
    """Keeps what it was asked to connect."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, int, float]] = []

    def connectTCP(self, host: str, port: int, factory: Any, timeout: float) -> FakeConnector:
        self.asked.append((host, port, timeout))
        self.connector = FakeConnector(factory)
        factory.startedConnecting(self.connector)
        return self.connector


class Layered(Protocol):
    """Stands for TLS before a protocol."""

    def __init__(self, inner: IProtocol) -> None:
        self.inner = inner


class DiallingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.net = Net()
        self.reactor: Any = FakeReactor()
        self.ended: list[Dialling] = []

    def dial(self, transport: str = "TCP") -> "Deferred[Flow]":
        self.dialling = Dialling(
            Destination(transport, "198.51.100.1", 5060),
            self.net.connections,
            a_listener(),
            KeepaliveConfig(idle=77),
            lambda protocol: protocol,
            self.ended.append,
        )
        self.dialling.dial(self.reactor)
        self.connector = self.reactor.connector
        self.addCleanup(self.connector.socket.close)
        return self.dialling.opened()

    def test_opens(self) -> None:
        """The flow comes once TCP is there; all who wait get it, and who asks later."""
        first = self.dial()
        second = self.dialling.opened()
        self.assertEqual(self.reactor.asked, [("198.51.100.1", 5060, 5.0)])
        self.assertNoResult(first)
        self.connector.connected()
        flow = self.successResultOf(first)
        self.assertIs(self.successResultOf(second), flow)
        self.assertIs(self.successResultOf(self.dialling.opened()), flow)
        self.assertEqual((flow.id, flow.peer, flow.transport), (1, ("198.51.100.1", 5060), "TCP"))
        self.assertEqual(flow.listener, a_listener())
        self.assertEqual(self.net.tallies.opened, 1)

    def test_both_ways(self) -> None:
        """What we opened carries messages, and is no stranger that has to prove itself."""
        opened = self.dial()
        wire = self.connector.connected()
        flow = self.successResultOf(opened)
        flow.write(OPTIONS)
        self.assertEqual(wire.sent(), OPTIONS)
        wire.receive(OK)
        self.assertEqual(self.net.user.messages, [(OK, flow)])
        self.assertEqual(len(self.net.wheel), 0)
        self.assertFalse(self.dialling.flow.came_directly)

    def test_watched(self) -> None:
        """The kernel watches connections that we open, too."""
        self.dial()
        idle = self.connector.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE)
        self.assertEqual(idle, 77)

    def test_refused(self) -> None:
        """All who wait learn why nothing came of it."""
        for error, words in ((ConnectionRefusedError(), "refused"), (TimeoutError(), "timeout")):
            waiting = [self.dial(), self.dialling.opened()]
            self.connector.fail(error)
            for each in waiting:
                reason = str(self.failureResultOf(each, ConnectFailed).value)
                self.assertIn("TCP 198.51.100.1:5060", reason)
                self.assertIn(words, reason.lower())
            self.assertIs(self.ended[-1], self.dialling)

    def test_lost_before_tls(self) -> None:
        """A connection that ends before TLS is there is a failure, and no flow that the user hears of."""
        opened = self.dial("TLS")
        self.connector.connected().end()
        self.failureResultOf(opened, ConnectFailed)
        self.assertEqual(self.net.user.closed, [])
        self.assertEqual(self.ended, [self.dialling])

    def test_slow_tls(self) -> None:
        """A TLS handshake that takes too long is a failure."""
        opened = self.dial("TLS")
        wire = self.connector.connected()
        self.net.clock.advance(10.1)
        self.assertTrue(wire.aborted)
        wire.end()
        reason = str(self.failureResultOf(opened, ConnectFailed).value)
        self.assertIn("the handshake took too long", reason)

    def test_ended_later(self) -> None:
        """The end of an open flow is told to the user, and to who keeps the connections that we opened."""
        opened = self.dial()
        wire = self.connector.connected()
        flow = self.successResultOf(opened)
        wire.end()
        self.assertEqual(self.net.user.closed, [(flow, "closed by the peer")])
        self.assertEqual(self.ended, [self.dialling])

    def test_give_up(self) -> None:
        """An attempt can be given up; on a connection that is there that does nothing."""
        opened = self.dial()
        self.dialling.give_up()
        self.assertTrue(self.connector.stopped)
        self.failureResultOf(opened, ConnectFailed)
        opened = self.dial()
        self.connector.connected()
        self.dialling.give_up()
        self.assertFalse(self.connector.stopped)
        self.assertTrue(self.successResultOf(opened).is_open)

    def test_one_of_two_gives_up(self) -> None:
        """Somebody who stops waiting does not end the attempt for the others."""
        first = self.dial()
        second = self.dialling.opened()
        first.addErrback(lambda _: None)
        first.cancel()
        self.connector.connected()
        self.assertTrue(self.successResultOf(second).is_open)

    def test_secured(self) -> None:
        """What TLS puts before the flow is what TCP gets."""
        self.dial()
        self.dialling._secured = Layered
        protocol = self.dialling.buildProtocol(None)
        self.assertIsInstance(protocol, Layered)
        self.assertIs(protocol.inner, self.dialling.flow)
