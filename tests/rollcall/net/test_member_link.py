"""A link between two members that cannot be had for long."""

from typing import Any

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError, ConnectionRefusedError
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from rollcall.net.config import LimitsConfig
from rollcall.net.flow import ConnectFailed
from rollcall.net.member_handshake import Life
from rollcall.net.member_link import LONGEST_PAUSE_SECONDS, UNREACHABLE, Link
from rollcall.net.wheel import TimerWheel

ATTEMPTS = 1200
"""So many are made in twenty minutes; 2 to the power of 1,024 is no float any more."""


@frozen
class Connections:
    """What a link asks of all connections while it has none."""

    wheel: TimerWheel
    limits: LimitsConfig = LimitsConfig()


@frozen
class Means:
    """The Means of a link to a member that is never there."""

    reactor: Any
    connections: Any
    listener: Any = None
    transport: str = "TCP"


class NeverThereTests(SynchronousTestCase):
    """A member that we have never had a connection with."""

    def setUp(self) -> None:
        self.reactor: Any = MemoryReactorClock()
        self.lost: list[str] = []
        means: Any = Means(self.reactor, Connections(TimerWheel(self.reactor)))
        self.link = Link(Life("b", 8), means, lambda link, why: self.lost.append(why))
        self.link.address = ("192.0.2.7", 5070)
        self.link.keep()

    def refuse(self, error: Exception) -> None:
        """Let the attempt fail that is being made, and time pass until the next one."""
        dialling = self.reactor.tcpClients[-1][2]
        dialling.clientConnectionFailed(None, Failure(error))
        self.reactor.advance(LONGEST_PAUSE_SECONDS)

    def test_for_long(self) -> None:
        """It is tried every second for hours, and whoever needs it hears each time why he cannot have it."""
        for number in range(ATTEMPTS):
            waiting: Deferred[Any] = self.link.opened()
            self.assertEqual(len(self.reactor.tcpClients), number + 1)
            self.refuse(ConnectError("no route"))
            self.failureResultOf(waiting, ConnectFailed)
        self.assertEqual(self.lost, [UNREACHABLE] * ATTEMPTS)

    def test_refused(self) -> None:
        """That it refuses us proves no death: a firewall between us and a member that lives does the same."""
        for _ in range(3):
            self.refuse(ConnectionRefusedError())
        self.assertEqual(self.lost, [UNREACHABLE] * 3)
