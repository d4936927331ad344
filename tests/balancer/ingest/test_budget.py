"""How many reports are taken in a second."""

from twisted.trial.unittest import SynchronousTestCase

from balancer.ingest.budget import MOST_SENDERS, Budget


class BudgetTests(SynchronousTestCase):
    def test_one_sender(self) -> None:
        """A sender's flood ends at its own bound, leaves the others theirs, and is over with the second."""
        budget = Budget(in_all=10, per_sender=3)
        self.assertEqual([budget.admits("a", 5.0) for _ in range(5)], [True] * 3 + [False] * 2)
        self.assertTrue(budget.admits("b", 5.9))
        self.assertTrue(budget.admits("a", 6.0))

    def test_all(self) -> None:
        """All together have a bound, too, and what was refused uses up nothing."""
        budget = Budget(in_all=4, per_sender=3)
        self.assertEqual([budget.admits(name, 1.0) for name in "aaaabb"], [True] * 3 + [False, True, False])

    def test_many_at_once(self) -> None:
        """What comes together is taken together, or not at all."""
        budget = Budget(in_all=10, per_sender=5)
        self.assertEqual([budget.admits("a", 1.0, count) for count in (4, 2, 1)], [True, False, True])

    def test_many_senders(self) -> None:
        """No number of senders takes more memory: those beyond share one count."""
        budget = Budget(in_all=10_000, per_sender=2)
        taken = [budget.admits(f"host-{number}", 1.0) for number in range(MOST_SENDERS + 5)]
        self.assertEqual(taken.count(False), 3)
