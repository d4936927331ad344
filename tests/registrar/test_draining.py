"""A node that is drained: nobody new, connections closed at a pace, those in use last, and all of it undone."""

from collections.abc import Sequence

from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from registrar.draining import REASON, Draining, Stage
from rollcall.cluster.config import ClusterConfig
from rollcall.net.flow import Flow
from rollcall.net.wheel import TimerWheel
from tests.flows import MemoryFlow, a_flow

PATIENCE = 20.0


class DrainingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.connections: list[MemoryFlow] = []
        self.waited_on: set[Flow] = set()
        self.said: list[object] = []
        self.is_taken = False
        self.draining = self.a_draining(10.0)

    def a_draining(self, pace: float, grace: float = 0.0) -> Draining:
        """Return what closes so many connections in a second, after a grace."""
        config = ClusterConfig(drain_grace_seconds=grace, drain_flows_per_second=pace, drain_patience_seconds=PATIENCE)
        draining = Draining(TimerWheel(self.clock), self, lambda: self.waited_on, config)
        draining.on_change.append(self.said.append)
        draining.on_leave.append(lambda: self.said.append("leave"))
        return draining

    def stop_accepting(self) -> None:
        """Note it."""
        self.said.append("accept no more")

    def accept_again(self) -> None:
        """Note it, unless the address is taken."""
        if self.is_taken:
            raise OSError("address taken")
        self.said.append("accept again")

    def flows(self) -> Sequence[Flow]:
        """Return all connections."""
        return self.connections

    def connect(self, number: int) -> list[MemoryFlow]:
        """Have so many more connections."""
        flows = [a_flow("TCP") for _ in range(number)]
        self.connections += flows
        return flows

    def open(self) -> int:
        """Return how many connections are open."""
        return sum(flow.is_open for flow in self.connections)

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        for _ in range(round(seconds / 0.05)):
            self.clock.advance(0.05)

    def test_pace(self) -> None:
        """Connections are closed one after the other: in no second more than the pace, and not many less."""
        for pace in (1, 10, 50, 333):
            draining = self.a_draining(pace)
            self.connections = []
            self.connect(pace * 4)
            draining.wish(True)
            left = [self.open()]
            for _ in range(100):
                self.wait(0.05)
                left.append(self.open())
            closed = [before - after for before, after in zip(left, left[20:], strict=False)]
            self.assertLessEqual(max(closed), pace)
            self.assertEqual(left[-1], 0)
            draining.stop()

    def test_slow_pace(self) -> None:
        """A pace may be less than one in a second."""
        draining = self.a_draining(0.5)
        self.connect(4)
        draining.wish(True)
        self.wait(4.5)
        self.assertEqual(self.open(), 2)
        draining.stop()

    def test_late_looks(self) -> None:
        """A process that was busy does not close at once what it has missed."""
        self.connect(100)
        self.draining.wish(True)
        self.clock.advance(5)
        self.assertGreaterEqual(self.open(), 98)

    def test_said(self) -> None:
        """Nobody new is let in from the first moment on, and whoever wants to know is told."""
        self.connect(3)
        self.assertEqual((self.draining.refuses_new, self.draining.problem), (False, None))
        self.draining.wish(True)
        self.assertEqual(self.said, [True, "accept no more", "leave"])
        self.assertTrue(self.draining.refuses_new)
        self.assertEqual(self.draining.problem, "draining, 3 connections are left")
        self.wait(1)
        self.assertEqual(self.draining.problem, "draining, 0 connections are left")
        self.assertEqual({flow.close_reason for flow in self.connections}, {REASON})

    def test_grace(self) -> None:
        """All are told at once; until directors have heard it nobody is refused and nothing is closed."""
        draining = self.a_draining(10.0, grace=3.0)
        self.connect(3)
        draining.wish(True)
        self.assertEqual((self.said, draining.is_draining, draining.refuses_new), ([True], True, False))
        self.assertEqual(draining.problem, "draining, 3 connections are left")
        self.wait(2.9)
        self.assertEqual((self.open(), draining.refuses_new), (3, False))
        self.wait(0.2)
        self.assertEqual((self.said[1:], draining.refuses_new), (["accept no more", "leave"], True))
        self.wait(1.0)
        self.assertEqual((self.open(), draining.stage, draining.refuses_new), (0, Stage.EMPTY, True))
        draining.stop()

    def test_undone_in_grace(self) -> None:
        """What is undone in time has closed nothing, and listens as it did."""
        draining = self.a_draining(10.0, grace=3.0)
        self.connect(3)
        draining.wish(True)
        self.wait(1)
        draining.wish(False)
        self.wait(10)
        self.assertEqual((self.said, self.open(), draining.stage), ([True, False], 3, Stage.SERVING))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_wished_again(self) -> None:
        """A wish that is repeated changes nothing."""
        self.connect(30)
        for _ in range(20):
            self.draining.wish(True)
            self.wait(0.05)
        self.assertEqual(self.said, [True, "accept no more", "leave"])
        self.assertGreaterEqual(self.open(), 20)

    def test_in_use_last(self) -> None:
        """Connections that somebody may still need come after the others, and those that are waited on last of all."""
        held, waited_on, *_ = self.connect(12)
        held.holds = waited_on.holds = 1
        self.waited_on = {waited_on}
        self.draining.wish(True)
        self.wait(1.0)
        self.assertTrue(held.is_open)
        self.wait(1.0)
        self.assertEqual([flow for flow in self.connections if flow.is_open], [waited_on])
        self.waited_on = set()
        self.wait(1.1)
        self.assertFalse(waited_on.is_open)

    def test_unread(self) -> None:
        """A phone that has just said something hears the answer before its connection is closed."""
        asking, _ = self.connect(2)
        asking.unread = b"INVITE"
        self.draining.wish(True)
        self.wait(3)
        self.assertEqual([flow for flow in self.connections if flow.is_open], [asking])
        asking.unread = b""
        self.wait(1.2)
        self.assertFalse(asking.is_open)

    def test_never_read(self) -> None:
        """What is never read holds a connection only for so long."""
        (flow,) = self.connect(1)
        flow.unread = b"INVITE"
        self.draining.wish(True)
        self.wait(PATIENCE - 1)
        self.assertTrue(flow.is_open)
        self.wait(3)
        self.assertFalse(flow.is_open)

    def test_patience(self) -> None:
        """A request that nobody answers holds its connection only for so long."""
        (flow,) = self.connect(1)
        self.waited_on = {flow}
        self.draining.wish(True)
        self.wait(PATIENCE - 1)
        self.assertTrue(flow.is_open)
        self.wait(3)
        self.assertFalse(flow.is_open)

    def test_later_connections(self) -> None:
        """Connections that come while it drains, such as those that we open, are closed as well."""
        self.draining.wish(True)
        self.wait(5)
        (flow,) = self.connect(1)
        self.wait(1.2)
        self.assertFalse(flow.is_open)

    def test_drained(self) -> None:
        """The log tells when the last connection has gone, once."""
        self.connect(2)
        with capturedLogs() as events:
            self.draining.wish(True)
            self.wait(10)
        told = [event["log_format"] for event in events]
        self.assertEqual(told.count("drained: no connection is left"), 1)
        self.assertEqual(self.draining.closed, 2)

    def test_undone(self) -> None:
        """When it is undone the node takes whoever comes, and closes nobody any more; it may be drained again."""
        self.connect(30)
        self.draining.wish(True)
        self.wait(1)
        self.draining.wish(False)
        self.draining.wish(False)
        self.assertEqual(self.said, [True, "accept no more", "leave", "accept again", False])
        self.assertEqual((self.draining.refuses_new, self.draining.problem), (False, None))
        left = self.open()
        self.wait(10)
        self.assertEqual((self.open(), self.clock.getDelayedCalls()), (left, []))
        self.draining.wish(True)
        self.wait(10)
        self.assertEqual(self.open(), 0)

    def test_cannot_be_undone(self) -> None:
        """As long as its address is taken a node stays drained, and a later wish undoes that."""
        self.draining.wish(True)
        self.is_taken = True
        self.draining.wish(False)
        self.assertTrue(self.draining.refuses_new)
        self.is_taken = False
        self.draining.wish(False)
        self.assertFalse(self.draining.refuses_new)

    def test_listener_breaks(self) -> None:
        """Whoever breaks when he is told of it keeps it from no other."""
        self.draining.on_change.insert(0, lambda drained: 1 // 0)
        self.draining.wish(True)
        self.assertEqual(self.said, [True, "accept no more", "leave"])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
