"""So many connections in a second, saved up for a moment, and the dear ones seldom."""

from twisted.trial.unittest import SynchronousTestCase

from rollcall.net.accept_budget import LEAST_PAUSE_SECONDS, AcceptBudget

NOW = 1000.0


class AcceptBudgetTests(SynchronousTestCase):
    def test_at_first(self) -> None:
        """What comes in a tenth of a second may come at once."""
        self.assertEqual(AcceptBudget(500).room(1, NOW), 50)
        self.assertEqual(AcceptBudget(500).room(10, NOW), 5)

    def test_pace(self) -> None:
        """What was spent comes back with time, and no more of it than was there at first."""
        budget = AcceptBudget(500)
        budget.room(1, NOW)
        for _ in range(50):
            budget.spend(1)
        self.assertEqual(budget.room(1, NOW), 0)
        self.assertEqual(budget.room(1, NOW + 0.0201), 10)
        self.assertEqual(budget.room(1, NOW + 3600), 50)

    def test_in_all(self) -> None:
        """Whoever takes what there is at every moment gets the rate."""
        budget, accepted = AcceptBudget(500), 0
        for tick in range(1000):
            for _ in range(budget.room(10, NOW + tick / 100) or 0):
                budget.spend(10)
                accepted += 1
        self.assertTrue(495 <= accepted <= 505, accepted)

    def test_pause(self) -> None:
        """Who has to wait is told how long."""
        budget = AcceptBudget(500)
        budget.room(1, NOW)
        budget.spend(50)
        self.assertAlmostEqual(budget.pause_seconds(10), 0.02)
        self.assertEqual(budget.pause_seconds(1), LEAST_PAUSE_SECONDS)

    def test_dear(self) -> None:
        """One that costs more than can be saved up is accepted when something is there, and paid for afterwards."""
        budget = AcceptBudget(50)
        self.assertEqual(budget.room(10, NOW), 1)
        budget.spend(10)
        self.assertEqual(budget.room(10, NOW + 0.09), 0)
        self.assertEqual(budget.room(10, NOW + 0.11), 1)

    def test_dear_beside_cheap(self) -> None:
        """However many cheap ones come, and however early in each turn, a fair part is left for dear ones."""
        for turn_seconds in (0.005, 0.01, 0.02):
            budget, units = AcceptBudget(5000), {1: 0, 10: 0}
            for turn in range(round(2 / turn_seconds)):
                for cost in units:
                    for _ in range(budget.room(cost, NOW + turn * turn_seconds) or 0):
                        budget.spend(cost)
                        units[cost] += cost
            self.assertGreater(units[10], 500)
            self.assertGreater(units[1], 500)
            self.assertTrue(9_500 <= sum(units.values()) <= 10_600, units)

    def test_no_limit(self) -> None:
        """Without a rate as many are accepted as come."""
        budget = AcceptBudget(0)
        budget.spend(1000)
        self.assertIsNone(budget.room(10, NOW))

    def test_clock_set_back(self) -> None:
        """A clock that is set back takes nothing away."""
        budget = AcceptBudget(500)
        budget.room(1, NOW)
        budget.spend(50)
        budget.room(1, NOW - 3600)
        self.assertEqual(budget.room(1, NOW - 3600 + 0.0201), 10)
