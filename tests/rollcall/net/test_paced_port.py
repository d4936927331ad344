"""Twisted's ports accept at the pace of the budget, and not while handshakes wait."""

from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from rollcall.net.config import LimitsConfig
from rollcall.net.connections import Connections, Tallies
from rollcall.net.paced_port import PacedPort
from rollcall.net.wheel import TimerWheel
from tests.rollcall.net.fakes import RecordingUser


class BacklogPort:
    """A port as Twisted's, with a backlog of connections."""

    def __init__(self, backlog: int) -> None:
        self.backlog = backlog
        self.accepted = 0
        self.numberAccepts = 100
        self.connected = self.reads = True

    def doRead(self) -> None:
        """Accept as many as there are and may be, and learn from that as Twisted's port does."""
        some = min(self.backlog, self.numberAccepts)
        self.backlog -= some
        self.accepted += some
        self.numberAccepts = self.numberAccepts + 20 if some == self.numberAccepts else max(1, some)

    def stopReading(self) -> None:
        self.reads = False

    def startReading(self) -> None:
        self.reads = True

    def stopListening(self) -> str:
        self.connected = self.reads = False
        return "stopped"


class PacedPortTests(SynchronousTestCase):
    """100 connections a second, each of which costs 2 of 200; 20 units are saved up."""

    def setUp(self) -> None:
        """Make a port with 1,000 waiting connections."""
        self.clock = Clock()
        self.clock.advance(1000)
        self.tallies = Tallies()
        self.connections = Connections(
            TimerWheel(self.clock), RecordingUser(), LimitsConfig(accepts_per_second=200), self.tallies)
        self.is_busy = False
        self.port: Any = BacklogPort(1000)
        self.paced = PacedPort(self.port, self.connections, 8, 2, lambda: self.is_busy, self.clock)

    def turn(self) -> None:
        """Let the reactor look at the port."""
        if self.port.reads:
            self.port.doRead()

    def test_in_a_turn(self) -> None:
        """A turn accepts so many at most."""
        self.turn()
        self.assertEqual(self.port.accepted, 8)

    def test_in_a_second(self) -> None:
        """A second accepts as many as the budget has, and what it had saved up; the others wait in the backlog."""
        for _ in range(1000):
            self.turn()
            self.clock.advance(0.001)
        self.assertTrue(100 <= self.port.accepted <= 111, self.port.accepted)
        self.assertGreater(self.tallies.accepts_put_off, 10)

    def test_few(self) -> None:
        """A port with few connections pays for these."""
        self.port.backlog = 3
        self.turn()
        self.assertEqual(self.connections.budget.room(2, self.clock.seconds()), 7)

    def test_handshakes_first(self) -> None:
        """While handshakes wait nobody is accepted; soon after they are done somebody is."""
        self.is_busy = True
        self.turn()
        self.clock.advance(0.006)
        self.turn()
        self.assertEqual((self.port.accepted, self.port.reads), (0, False))
        self.is_busy = False
        self.clock.advance(0.006)
        self.turn()
        self.assertEqual(self.port.accepted, 8)

    def test_stopped_while_it_waits(self) -> None:
        """A port that is stopped while it waits begins no more, and nothing is left of it."""
        self.is_busy = True
        self.turn()
        self.assertEqual(self.paced.stopListening(), "stopped")
        self.assertEqual(self.clock.getDelayedCalls(), [])
