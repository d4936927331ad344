"""A link between two members that cannot be had for long."""

from typing import Any

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError
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


class UnreachableTests(SynchronousTestCase):
    def test_for_long(self) -> None:
        """A member that cannot be reached for hours is tried every second, and whoever needs it hears why not."""
        reactor: Any = MemoryReactorClock()
        lost: list[str] = []
        means: Any = Means(reactor, Connections(TimerWheel(reactor)))
        link = Link(Life("b", 8), means, lambda link, why: lost.append(why))
        link.address = ("192.0.2.7", 5070)
        link.keep()
        for number in range(ATTEMPTS):
            waiting: Deferred[Any] = link.opened()
            self.assertEqual(len(reactor.tcpClients), number + 1)
            dialling = reactor.tcpClients[-1][2]
            dialling.clientConnectionFailed(None, Failure(ConnectError("no route")))
            self.failureResultOf(waiting, ConnectFailed)
            reactor.advance(LONGEST_PAUSE_SECONDS)
        self.assertEqual(lost, [UNREACHABLE] * ATTEMPTS)
