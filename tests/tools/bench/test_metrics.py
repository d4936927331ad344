"""What is read of a server's metrics."""

from twisted.trial.unittest import SynchronousTestCase

from tools.bench.metrics import Pauses, highest, pauses
from tools.bench.processes import free_port

TEXT = """\
# HELP rollcall_turn_longest_seconds The longest turn.
# TYPE rollcall_turn_longest_seconds gauge
rollcall_turn_longest_seconds{worker="0"} 0.01
rollcall_turn_longest_seconds{worker="1"} 0.25
rollcall_turn_longest_seconds_more 7.0
rollcall_gc_pause_longest_seconds 1.5e-03
"""


class MetricsTests(SynchronousTestCase):
    """Gauges of pauses."""

    def test_highest(self) -> None:
        """Of several workers' values the highest counts; a name that only begins alike is another metric."""
        self.assertEqual(highest(TEXT, "rollcall_turn_longest_seconds"), 0.25)
        self.assertEqual(highest(TEXT, "rollcall_gc_pause_longest_seconds"), 0.0015)
        self.assertIsNone(highest(TEXT, "rollcall_turn_longest"))

    def test_or_longer(self) -> None:
        """The longer one is kept of each, and what is not known does not count."""
        self.assertEqual(Pauses(1.0, 5.0).or_longer(Pauses(2.0, None)), Pauses(2.0, 5.0))
        self.assertEqual(Pauses().or_longer(Pauses()), Pauses())

    def test_nobody_answers(self) -> None:
        """A server without metrics has no pauses that anybody knows of."""
        self.assertEqual(pauses(free_port()), Pauses())
