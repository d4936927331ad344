"""A herd that came at once does not come at once again."""

from collections import Counter
from random import Random

from twisted.trial.unittest import SynchronousTestCase

from registrar.avalanche.herd import Herd

RATE = 2000.0
PHONES = 10_000
GRANTED = 3600


class HerdTests(SynchronousTestCase):
    def test_every_day(self) -> None:
        """A phone now and then changes nothing."""
        herd = Herd(0.1, 0.5)
        self.assertFalse(any(herd.bound(now, RATE) for now in range(1000)))
        self.assertEqual(herd.jitter, 0.1)

    def test_it_comes_and_goes(self) -> None:
        """The width grows in steps while it comes, and is the usual one again some seconds after it has passed."""
        herd = Herd(0.1, 0.5)
        widths = [herd.jitter for _ in range(600) if herd.bound(50.0, RATE)]
        self.assertEqual([round(width, 3) for width in widths], [0.2, 0.3, 0.4, 0.5])
        self.assertFalse(herd.look(59.0))
        self.assertTrue(herd.look(60.1))
        self.assertEqual(herd.jitter, 0.1)

    def test_exact_times(self) -> None:
        """Where an operator wants no chance in granted times there is none."""
        herd = Herd(0.0, 0.5)
        self.assertFalse(any(herd.bound(1.0, RATE) for _ in range(10_000)))
        self.assertEqual(herd.jitter, 0.0)

    def test_wider_as_usual(self) -> None:
        """What an operator spreads always is not spread less in an avalanche."""
        herd = Herd(0.7, 0.5)
        self.assertFalse(any(herd.bound(1.0, RATE) for _ in range(10_000)))
        self.assertEqual(herd.jitter, 0.7)

    def peak(self, widest: float) -> int:
        """Return how many of a herd that came within two seconds refresh in the busiest second of the next round."""
        herd, chance, seconds = Herd(0.1, widest), Random(1), Counter[int]()
        for number in range(PHONES):
            now = number * 2.0 / PHONES
            herd.bound(now, RATE)
            # Phones refresh some while before the time is over; all of them the same while here.
            seconds[int(now + GRANTED - int(GRANTED * herd.jitter * chance.random()))] += 1
        return max(seconds.values())

    def test_next_round(self) -> None:
        """The peak of the next round is less than half of what it were, and a hundredth of the first one's."""
        usual, wide = self.peak(0.1), self.peak(0.5)
        self.assertLess(wide, usual / 2)
        self.assertLess(wide, PHONES / 2 / 100)
