"""What a churn is judged by."""

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from tools.laboratory.churned import Churned, verdict

GOOD = Churned(
    registrars_killed=7, masters_killed=5, answers={"REGISTER 200": 30_000}, moves=5000, calls=3600, cut_off=20,
    failed=(), refused=(), looks=30, lost=(), differences=(), trouble=(), memory=[50 << 20, 60 << 20, 61 << 20])


class VerdictTests(SynchronousTestCase):
    """What makes a churn a bad one."""

    def test_good(self) -> None:
        """Callers who were cut off before the answer are nobody's fault, and memory may vary a little."""
        self.assertEqual(verdict(GOOD), [])

    def test_whatever_happened(self) -> None:
        """One call, one REGISTER, one binding, one difference, one line of a log is enough, and is told in full."""
        words = ["user7: so it was"]
        for bad in (evolve(GOOD, failed=words), evolve(GOOD, refused=words), evolve(GOOD, lost=words),
                    evolve(GOOD, differences=words), evolve(GOOD, trouble=words)):
            (sentence,) = verdict(bad)
            self.assertIn(words[0], sentence)

    def test_growth(self) -> None:
        """Memory that grows after the second third is a leak."""
        memory = [30 << 20, 40 << 20, 50 << 20, 55 << 20, 60 << 20, 67 << 20]
        (sentence,) = verdict(evolve(GOOD, memory=memory))
        self.assertIn("from 60.0 to 67.0 MiB", sentence)

    def test_nothing_was_tried(self) -> None:
        """A run without looks or calls proves nothing."""
        for bad in (evolve(GOOD, looks=0), evolve(GOOD, calls=0)):
            self.assertEqual(len(verdict(bad)), 1)

    def test_nobody_was_killed(self) -> None:
        """Nor does one in which nothing was killed."""
        for bad in (evolve(GOOD, registrars_killed=0), evolve(GOOD, masters_killed=0)):
            (sentence,) = verdict(bad)
            self.assertIn("killed", sentence)
