"""What phones that were disturbed are judged by."""

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from tests.tools.bench.samples import TALLY
from tools.bench.undisturbed import Stretch, verdict

CALM = Stretch(happening="nothing else", long_turns=0, longest_ms=12.5, collection_ms=1.0, tally=TALLY)


class VerdictTests(SynchronousTestCase):
    def test_calm(self) -> None:
        """While no turn is long and all phones are served, there is nothing to say."""
        self.assertEqual(verdict([CALM, CALM]), [])

    def test_long_turn(self) -> None:
        """One turn of more than 50 ms is named with what happened then, and how long it was."""
        (sentence,) = verdict([CALM, evolve(CALM, happening="a walk", long_turns=1, longest_ms=61.2)])
        self.assertIn("a walk: 1 turns over 50 ms, longest 61.2 ms", sentence)

    def test_refused_phones(self) -> None:
        """A turn is not kept short by refusing phones."""
        (sentence,) = verdict([evolve(CALM, tally=evolve(TALLY, failed=3)), CALM])
        self.assertIn("nothing else", sentence)
