"""How many calls registrars say they have."""

from twisted.trial.unittest import SynchronousTestCase

from balancer.nodes.counting import MOST_REGISTRARS, RegistrarCounts
from rollcall.media.reports import Counts


def told(registrar: str, **calls: int) -> Counts:
    """Return what a registrar tells."""
    return Counts(at=0.0, registrar=registrar, calls=calls)


class RegistrarCountsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.counts = RegistrarCounts(believed_seconds=5.0)

    def test_sum(self) -> None:
        """The calls of all registrars add up, the last word of each; the oldest word says how old the sum is."""
        self.counts.heard(told("r1", fs=3), 10.0)
        self.counts.heard(told("r2", fs=4, other=9), 11.0)
        self.counts.heard(told("r1", fs=2), 12.0)
        self.assertEqual(self.counts.counted("fs", 12.0), (6, 11.0))
        self.assertEqual(self.counts.counted("idle", 12.0), (0, 11.0))

    def test_gone_registrars(self) -> None:
        """A registrar that has not told for long counts no longer; without any nothing is known."""
        self.counts.heard(told("r1", fs=3), 10.0)
        self.counts.heard(told("r2", fs=4), 13.0)
        self.assertEqual(self.counts.counted("fs", 15.0), (4, 13.0))
        self.assertIsNone(self.counts.counted("fs", 18.0))

    def test_bounds(self) -> None:
        """Made-up registrars do not fill the memory, and negative counts do not make room."""
        for number in range(MOST_REGISTRARS + 10):
            self.counts.heard(told(f"r{number}", fs=1), 10.0)
        self.assertEqual(self.counts.counted("fs", 10.0), (MOST_REGISTRARS, 10.0))
        self.counts.heard(told("r1", fs=-1000), 10.0)
        self.assertEqual(self.counts.counted("fs", 10.0), (MOST_REGISTRARS - 1, 10.0))
