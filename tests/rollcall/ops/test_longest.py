"""The longest of what took time lately."""

from twisted.trial.unittest import SynchronousTestCase

from rollcall.ops.longest import PERIOD_SECONDS, Longest


class LongestTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.now = 1000.0
        self.longest = Longest(lambda: self.now)

    def read_after(self, seconds: float) -> float:
        """Return the longest time as it is told after a while."""
        self.now += seconds
        return self.longest.read()

    def test_the_longest_is_told_to_all(self) -> None:
        """Whoever asks within a period is told the same."""
        for seconds in (0.2, 0.3, 0.1):
            self.longest.note(seconds)
        self.assertEqual([self.longest.read(), self.read_after(1)], [0.3, 0.3])

    def test_forgotten_after_two_periods(self) -> None:
        """A time is told in its own period and in the next."""
        self.longest.note(0.3)
        self.assertEqual(self.read_after(PERIOD_SECONDS), 0.3)
        self.longest.note(0.1)
        self.assertEqual([self.read_after(PERIOD_SECONDS), self.read_after(PERIOD_SECONDS)], [0.3, 0.1])
        self.assertEqual(self.longest.read(), 0.0)
