"""Tests of rollcall.ops.collecting."""

import gc

from twisted.trial.unittest import SynchronousTestCase

from rollcall.ops.collecting import THRESHOLDS, Collecting
from rollcall.ops.longest import PERIOD_SECONDS
from rollcall.ops.metrics import Metrics


class CollectingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.addCleanup(gc.enable)
        gc.disable()  # collections happen when a test says so
        gc.collect()
        self.flushLoggedErrors()  # of what a failed test has left, and that a collection now finds
        self.now = 0.0
        self.step = 0.0
        self.metrics = Metrics(process=False)
        self.collecting = Collecting(self.metrics, self.clock)
        self.before = gc.get_threshold()
        self.collecting.startService()
        self.addCleanup(self.collecting.stopService)

    def clock(self) -> float:
        """Return the time, which goes on by a step whenever somebody looks."""
        self.now += self.step
        return self.now

    def collect(self, seconds: float) -> None:
        """Make one collection that takes so long."""
        self.step = seconds
        gc.collect(0)
        self.step = 0.0

    def test_what_is_there_stays_in_peace(self) -> None:
        """Once it runs, what was there before is never walked over again, and collections are rarer."""
        self.assertGreater(gc.get_freeze_count(), 10_000)
        self.assertLess(len(gc.get_objects()), 10_000)
        self.assertEqual(gc.get_threshold(), THRESHOLDS)

    def test_garbage_is_found(self) -> None:
        """Cycles made afterwards are still collected."""
        cycle: list[object] = []
        cycle.append(cycle)
        del cycle
        self.assertGreaterEqual(gc.collect(), 1)

    def test_leaves_everything_as_it_was(self) -> None:
        """Stopped, it has undone what it did and hears nothing any more, and may be stopped once more."""
        for _ in range(2):
            self.collecting.stopService()
            self.assertEqual((gc.get_threshold(), gc.get_freeze_count()), (self.before, 0))
        self.collect(1.0)
        self.assertEqual(self.collecting.longest(), 0.0)

    def test_pauses(self) -> None:
        """The time that collections took is counted, and the longest is known."""
        for seconds in (0.25, 2.0, 0.5):
            self.collect(seconds)
        page = self.metrics.render().decode()
        self.assertIn("\nrollcall_gc_pause_seconds_total 2.75\n", page)
        self.assertIn("\nrollcall_gc_pause_longest_seconds 2.0\n", page)

    def test_the_longest_is_forgotten(self) -> None:
        """A long pause is told for a minute at least, to all who ask, and then no more."""
        self.collect(2.0)
        self.now += PERIOD_SECONDS
        self.assertEqual([self.collecting.longest() for _ in range(3)], [2.0] * 3)
        self.collect(0.5)
        self.now += PERIOD_SECONDS
        self.assertEqual([self.collecting.longest() for _ in range(2)], [2.0, 0.5])
