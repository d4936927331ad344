"""Tests for rollcall.ops.turns: what counts as a turn, and what is told of it."""

import os
from itertools import chain
from select import EPOLLIN, epoll, poll
from typing import Any

from prometheus_client.parser import text_string_to_metric_families
from twisted.internet import reactor as real_reactor
from twisted.internet.defer import Deferred
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.task import deferLater
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase, TestCase

from rollcall.ops.longest import PERIOD_SECONDS
from rollcall.ops.metrics import Metrics
from rollcall.ops.turns import Turns


class PollingReactor:
    """As much of a reactor as is measured: it looks at its sockets when the test says so."""

    def __init__(self, poller: Any) -> None:
        self._poller = poller

    def look(self) -> list[tuple[int, int]]:
        """Do as EPollReactor.doPoll does at first."""
        return list(self._poller.poll(0, 10))


class TurnsCase(SynchronousTestCase):
    slow_seconds = 0.5

    def setUp(self) -> None:
        self.now = 100.0
        self.epoll = epoll()
        self.addCleanup(self.epoll.close)
        self.reactor = PollingReactor(self.epoll)
        self.metrics = Metrics(process=False)
        self.turns = Turns(self.reactor, self.metrics, self.slow_seconds, 3, lambda: self.now)
        self.turns.startService()

    def turn(self, seconds: float) -> None:
        """Let a turn end after so many seconds."""
        self.now += seconds
        self.reactor.look()

    def told(self) -> dict[str, float]:
        """Return the metrics of turns, without the beginning of their names."""
        samples = [sample for family in text_string_to_metric_families(self.metrics.render().decode())
                   for sample in family.samples]
        return {sample.name.removeprefix("rollcall_"): round(sample.value, 6) for sample in samples}


class MeasuringTests(TurnsCase):
    def test_turns(self) -> None:
        """The longest turn is told, and of those over 50 ms their number and the time that they took together."""
        self.turn(1000)  # before the first look there is no turn
        for seconds in (0.02, 0.3, 0.001, 0.0499, 0.1):
            self.turn(seconds)
        self.assertEqual(self.told(), {
            "turn_longest_seconds": 0.3, "turns_long_total": 2, "turns_long_seconds_total": 0.4})

    def test_waiting_is_no_turn(self) -> None:
        """The time in which the sockets are waited for counts for nothing."""
        made, asked = 0.0, 20.0
        ticks = iter([made, 0.0, 10.0, 10.25, 20.0, asked])  # it looks at 0 and 10.25, and wakes at 10 and 20
        turns = Turns(self.reactor, Metrics(process=False), 0.0, 3, ticks.__next__)
        self.turns.stopService()
        turns.startService()
        self.reactor.look()
        self.reactor.look()
        self.assertEqual(turns.longest(), 0.25)

    def test_events_come_through(self) -> None:
        """The reactor registers, changes and removes descriptors as ever, and gets their events."""
        ours, theirs = os.pipe()
        self.addCleanup(os.close, ours)
        self.addCleanup(os.close, theirs)
        self.reactor._poller.register(ours, 0)
        self.reactor._poller.modify(ours, EPOLLIN)
        os.write(theirs, b"x")
        self.assertEqual(self.reactor.look(), [(ours, EPOLLIN)])
        self.reactor._poller.unregister(ours)
        self.assertEqual(self.reactor.look(), [])

    def test_many_ready_sockets(self) -> None:
        """Of many that are ready only some have their turn, and all have had theirs before the first has another."""
        pipes = [os.pipe() for _ in range(8)]
        for ours, theirs in pipes:
            self.addCleanup(os.close, ours)
            self.addCleanup(os.close, theirs)
            os.write(theirs, b"x")
            self.reactor._poller.register(ours, EPOLLIN)
        turns = [[descriptor for descriptor, _ in self.reactor.look()] for _ in range(3)]
        self.assertEqual([len(turn) for turn in turns], [3, 3, 3])
        self.assertEqual(set(chain(*turns)), {ours for ours, _ in pipes})

    def test_a_wait_that_fails(self) -> None:
        """When looking at the sockets raises, the next turn begins then."""
        self.turn(0)
        self.epoll.close()
        self.assertRaises(ValueError, self.turn, 0)
        self.assertRaises(ValueError, self.turn, 0.25)
        self.assertRaises(ValueError, self.turn, 0)
        self.assertEqual(self.turns.longest(), 0.25)

    def test_forgetting(self) -> None:
        """A long turn is told for a minute at least, to all who ask, and not for ever."""
        self.turn(0)
        self.turn(0.2)
        self.assertEqual([self.told()["turn_longest_seconds"] for _ in range(2)], [0.2, 0.2])
        self.now += PERIOD_SECONDS
        self.reactor._poller._woke_at = self.now  # it slept
        self.assertEqual(self.told()["turn_longest_seconds"], 0.2)
        self.turn(0.03)
        self.assertEqual(self.told()["turn_longest_seconds"], 0.2)
        self.now += PERIOD_SECONDS
        self.assertEqual(self.told()["turn_longest_seconds"], 0.2)
        self.assertEqual(self.told()["turn_longest_seconds"], 0.03)
        self.assertEqual(self.told()["turns_long_total"], 1)

    def test_the_end(self) -> None:
        """After the service has stopped the reactor has its own epoll object again."""
        self.turns.stopService()
        self.assertIs(self.reactor._poller, self.epoll)
        self.turn(5)
        self.assertEqual(self.turns.longest(), 0.0)


class TellingTests(TurnsCase):
    def test_slow_turns(self) -> None:
        """A turn over the limit is a warning with its length, a shorter one is not."""
        self.turn(0)
        with capturedLogs() as events:
            self.turn(0.4999)
            self.turn(0.75)
        (event,) = events
        self.assertEqual((event["log_level"].name, event["log_rationed"]), ("warn", True))
        self.assertIn("0.750 s", formatEvent(event))

    def test_no_limit(self) -> None:
        """With a limit of 0 nothing is told, only counted."""
        self.turns.stopService()
        turns = Turns(self.reactor, Metrics(process=False), 0.0, 3, lambda: self.now)
        turns.startService()
        self.turn(0)
        with capturedLogs() as events:
            self.turn(9)
        self.assertEqual((events, turns.longest()), ([], 9))

    def test_other_reactors(self) -> None:
        """Where there is no epoll object nothing is measured, which is said once."""
        for reactor in (MemoryReactorClock(), PollingReactor(poll())):
            turns = Turns(reactor, Metrics(process=False), 0.5)
            with capturedLogs() as events:
                turns.startService()
            self.assertIn(type(reactor).__name__, formatEvent(events[0]))
            turns.stopService()
            self.assertEqual(turns.longest(), 0.0)


class RealReactorTests(TestCase):
    def test_a_turn_that_lasts(self) -> "Deferred[None]":
        """On Twisted's epoll reactor a timer that takes its time is a long turn, and waiting for it is none."""
        return Deferred.fromCoroutine(self._measure())

    async def _measure(self) -> None:
        reactor: Any = real_reactor
        assert isinstance(reactor, EPollReactor), "the tests are to run on the reactor of the product"
        now = 0.0

        def work() -> None:
            nonlocal now
            now += 5.0

        turns = Turns(reactor, Metrics(process=False), 0.0, 3, lambda: now)
        turns.startService()
        try:
            await deferLater(reactor, 0.001)
            await deferLater(reactor, 0.001, work)
            await deferLater(reactor, 0.001)
            self.assertEqual(turns.longest(), 5.0)
        finally:
            turns.stopService()
