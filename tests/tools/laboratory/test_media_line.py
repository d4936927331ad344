"""The lines of the synthetic phones: how long they hold packets."""

from random import Random

from twisted.trial.unittest import SynchronousTestCase

from tools.laboratory.media_line import Path, Paths


class LineTests(SynchronousTestCase):
    def test_order(self) -> None:
        """Packets come out in order, none faster than the delay, and on average later by the jitter."""
        line = Paths(usual=Path(delay_ms=30, jitter_ms=10)).line("A", "host", Random(1))
        outs = [line.passed(number * 1.0) for number in range(5000)]
        took = [out - number for number, out in enumerate(outs)]
        self.assertGreaterEqual(min(took), 0.030)
        self.assertAlmostEqual(sum(took) / len(took), 0.040, places=3)
        close = [line.passed(9000 + number * 0.001) for number in range(1000)]
        self.assertEqual(close, sorted(close))

    def test_paths(self) -> None:
        """Each carrier has its own way to each node; all others have the usual one, here without jitter."""
        paths = Paths({("A", "one"): Path(delay_ms=100, jitter_ms=0)}, Path(delay_ms=5, jitter_ms=0))
        for carrier, host, took in (("A", "one", 0.1), ("A", "two", 0.005), ("B", "one", 0.005)):
            self.assertAlmostEqual(paths.line(carrier, host, Random(1)).passed(10.0), 10.0 + took)

    def test_seed(self) -> None:
        """The same seed makes the same delays."""
        one, other = (Paths().line("A", "host", Random("s")) for _ in range(2))
        self.assertEqual([one.passed(at) for at in range(9)], [other.passed(at) for at in range(9)])
