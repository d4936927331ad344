"""What a long run is judged by."""

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from tests.tools.bench.samples import TALLY
from tools.bench.soak import Slice, verdict


class SoakTests(SynchronousTestCase):
    """What makes a long run a bad one."""

    def a_run(self, *memory: int, failed: int = 0) -> list[Slice]:
        """Slices that ended with so much memory, the last one with failures."""
        good = [Slice(cpu_us=10.0, memory=value, tally=TALLY) for value in memory]
        return [*good[:-1], evolve(good[-1], tally=evolve(TALLY, failed=failed))]

    def test_good(self) -> None:
        """Growth in the first third is warming up."""
        self.assertEqual(verdict(self.a_run(50, 90, 100, 101, 102, 102)), [])

    def test_growth(self) -> None:
        """Memory that grows after that is a leak."""
        (sentence,) = verdict(self.a_run(50 << 20, 90 << 20, 100 << 20, 101 << 20, 103 << 20, 104 << 20))
        self.assertIn("from 100.0 to 104.0 MiB", sentence)

    def test_failure(self) -> None:
        """One failed REGISTER is enough."""
        (sentence,) = verdict(self.a_run(100, 100, 100, failed=1))
        self.assertIn("slice 3", sentence)
        self.assertIn("1 failures", sentence)
