"""How many connections may be woken."""

from twisted.trial.unittest import SynchronousTestCase

from registrar.distribution.tickle.pacing import Pace


class PaceTests(SynchronousTestCase):
    def test_rate(self) -> None:
        """Over ten seconds in steps of 50 ms as many as the rate says are allowed."""
        pace = Pace(lambda: 300.0)
        self.assertAlmostEqual(sum(pace.lot(step * 0.05, 500) for step in range(201)), 3000, delta=1)

    def test_nothing_is_saved_up(self) -> None:
        """After a long pause no more than half a second's worth is allowed."""
        pace = Pace(lambda: 1000.0)
        pace.lot(0.0, 500)
        self.assertEqual(pace.lot(60.0, 1000), 500)

    def test_late(self) -> None:
        """A process that comes late again and again keeps the rate, but no second sees more than it."""
        pace = Pace(lambda: 1000.0)
        moments = [step * 0.05 if step % 7 else step * 0.05 + 0.3 for step in range(1, 400)]
        taken = [(now, pace.lot(now, 500)) for now in sorted(moments)]
        self.assertGreater(sum(count for _, count in taken), 18_000)
        for now, _ in taken:
            self.assertLessEqual(sum(count for at, count in taken if now - 1.0 < at <= now), 1000)

    def test_slow(self) -> None:
        """A rate of less than one in a tenth of a second lets single ones through, not none."""
        pace = Pace(lambda: 2.0)
        self.assertEqual(sum(pace.lot(step * 0.05, 500) for step in range(101)), 10)

    def test_most(self) -> None:
        """A lot has its most, and what is left over stays allowed."""
        pace = Pace(lambda: 10_000.0)
        pace.lot(0.0, 100)
        self.assertEqual((pace.lot(0.1, 600), pace.lot(0.1, 600)), (600, 400))

    def test_no_capacity(self) -> None:
        """A rate that goes down to nothing, or below, allows nothing."""
        pace = Pace(lambda: -1.0)
        self.assertEqual(sum(pace.lot(float(second), 500) for second in range(10)), 0)
