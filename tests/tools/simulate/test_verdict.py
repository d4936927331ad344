"""Whether claims are borne out."""

from twisted.trial.unittest import SynchronousTestCase

from tests.tools.simulate.test_scoring import a_result
from tools.simulate.scoring import Result
from tools.simulate.verdict import broken


def some(policy: str, *bad: float, world: str = "troubled") -> list[Result]:
    """Return a result for each seed."""
    return [a_result(policy, seed, bad=each, world=world) for seed, each in enumerate(bad)]


class VerdictTests(SynchronousTestCase):
    """What is said of results."""

    def test_fewer(self) -> None:
        """Fewer bad calls in every world of a seed are a claim kept; the oracle may have fewer still."""
        results = [*some("quality", 0.05, 0.06, 0.07), *some("hash", 0.1, 0.12, 0.15), *some("oracle", 0.0, 0.0, 0.0)]
        self.assertEqual(broken(results, "quality", "equal"), [])

    def test_not_shown(self) -> None:
        """Fewer on average is not enough where the interval holds none."""
        results = [*some("quality", 0.05, 0.05, 0.05), *some("hash", 0.04, 0.3, 0.04)]
        self.assertEqual(broken(results, "quality", "equal"),
                         ["troubled: bad calls are not shown to be fewer than with hash (+7.67 points)"])

    def test_equal_ways(self) -> None:
        """Where all ways are equal the rule must not lose calls that balancing by load alone does not lose."""
        results = [*some("quality", 0.010, 0.012, world="equal"), *some("hash", 0.0, 0.0, world="equal"),
                   *some("least-load (polled)", 0.01, 0.012, world="equal"),
                   *some("least-load (exact)", 0.0, 0.0, world="equal")]
        self.assertEqual(broken(results, "quality", "equal"),
                         ["equal: more calls may be bad than with least-load (exact) (+1.20 points)"])
