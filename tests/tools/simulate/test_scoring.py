"""What runs say."""

from random import Random

from twisted.trial.unittest import SynchronousTestCase

from tools.simulate.running import Outcome
from tools.simulate.scoring import Result, bootstrap, by_policy, paired, result


def a_result(policy: str, seed: int, bad: float = 0.0, world: str = "w", peak: float = 0.8) -> Result:
    """Return one with little in it."""
    return Result(world=world, seed=seed, policy=policy, calls=10, bad=bad, mean=80.0, peak=peak, busiest=0.7,
                  refused=0)


class ScoringTests(SynchronousTestCase):
    """Means and intervals."""

    def test_result(self) -> None:
        """Calls whose mean R is below 70 are bad ones."""
        outcome = Outcome(ratings={"a": 69.9, "b": 70.0, "c": 90.1, "d": 50.0}, refused=1, peak=0.9, busiest=0.8)
        found = result("w", 3, "p", outcome)
        self.assertEqual((found.calls, found.bad, found.mean, found.refused), (4, 0.5, 70.0, 1))

    def test_bootstrap(self) -> None:
        """The interval holds the mean, and is about two standard errors to each side."""
        random = Random(1)
        found = bootstrap([random.gauss(5.0, 1.0) for _ in range(100)])
        self.assertLess(found.low, found.mean)
        self.assertLess(found.mean, found.high)
        self.assertLess(abs((found.high - found.low) / 4 - 0.1), 0.03)
        self.assertEqual(bootstrap([2.0, 2.0]).low, 2.0)

    def test_paired(self) -> None:
        """Differences are taken seed by seed, so that what all share in a world does not widen the interval."""
        ours = [a_result("a", seed, bad=0.1 * seed) for seed in range(5)]
        theirs = [a_result("b", seed, bad=0.1 * seed + 0.01) for seed in range(5)]
        found = paired(ours, theirs, lambda each: each.bad)
        self.assertAlmostEqual(found.low, -0.01)
        self.assertAlmostEqual(found.high, -0.01)

    def test_other_seeds(self) -> None:
        """Different seeds cannot be compared."""
        with self.assertRaisesRegex(ValueError, "seeds"):
            paired([a_result("a", 1)], [a_result("b", 2)], lambda each: each.bad)

    def test_by_policy(self) -> None:
        """Results of a world are grouped by policy and sorted by seed."""
        rows = [a_result("b", 2), a_result("a", 1), a_result("b", 1), a_result("a", 1, world="other")]
        found = by_policy(rows, "w")
        self.assertEqual({policy: [each.seed for each in some] for policy, some in found.items()},
                         {"b": [1, 2], "a": [1]})
