"""The whole simulation, small."""

from pathlib import Path
from tempfile import TemporaryDirectory

from attrs import evolve
from click.testing import CliRunner
from twisted.trial.unittest import SynchronousTestCase

from tools.simulate import command
from tools.simulate.command import SUITES, WORLDS, main, simulate, smaller
from tools.simulate.policies import REFERENCE
from tools.simulate.scoring import by_policy


class SimulateTests(SynchronousTestCase):
    """Policies in small worlds."""

    def test_rule_beats_load_alone(self) -> None:
        """In troubled worlds the rule has fewer bad calls than the least load that is exact, and than a hash."""
        scenario = evolve(smaller(WORLDS["55 % load"]), troubled=0.15)
        rows = [row for seed in range(3)
                for row in simulate("small", scenario, seed, "baselines", ["least-load (exact)", "hash"])]
        bad = {policy: sum(row.bad for row in some) / len(some) for policy, some in by_policy(rows, "small").items()}
        self.assertGreater(bad["hash"], 1.3 * bad[REFERENCE])
        self.assertGreater(bad["least-load (exact)"], 1.3 * bad[REFERENCE])

    def test_same_again(self) -> None:
        """The same seed gives the same result."""
        scenario = evolve(smaller(WORLDS["55 % load"]), seconds=90.0)
        first, second = (simulate("small", scenario, 5, "baselines", ["hash"]) for _ in range(2))
        self.assertEqual(first, second)

    def test_all_policies_play(self) -> None:
        """Every policy of every suite gets through a world, and places every call of it."""
        scenario = evolve(smaller(WORLDS["55 % load"]), seconds=60.0, warm_up_seconds=20.0, capacities=(10,))
        for suite, policies in SUITES.items():
            rows = simulate("tiny", scenario, 1, suite)
            self.assertEqual([row.policy for row in rows], [*policies])
            self.assertEqual(len({row.calls for row in rows}), 1)
            self.assertGreater(rows[0].calls, 5)


class CommandTests(SynchronousTestCase):
    """`python -m tools.simulate`."""

    def setUp(self) -> None:
        self.folder = Path(self.enterContext(TemporaryDirectory()))

    def test_table_and_picture(self) -> None:
        """It prints the table, and writes it with the picture."""
        found = CliRunner().invoke(main, ["--small", "--seeds", "1", "--world", "equal ways", "--policy", "hash",
                                          "--out", str(self.folder)])
        self.assertEqual(found.exit_code, 0, found.output)
        self.assertIn("| hash |", found.stdout)
        self.assertIn("| hash |", (self.folder / "simulate-baselines.md").read_text(encoding="utf-8"))
        self.assertIn("<svg", (self.folder / "simulate-baselines.svg").read_text(encoding="utf-8"))

    def test_unknown_policy(self) -> None:
        """A policy that is not in the suite is named."""
        found = CliRunner().invoke(main, ["--policy", "magic"])
        self.assertNotEqual(found.exit_code, 0)
        self.assertIn("not in this suite: magic", found.output)

    def test_claims(self) -> None:
        """With --check it fails, and says why, where a claim is not borne out."""
        self.patch(command, "broken", lambda results, reference, equal: [f"{reference} of {len(results)}", equal])
        found = CliRunner().invoke(main, ["--small", "--seeds", "1", "--world", "55 % load", "--policy", "hash",
                                          "--check", "--out", str(self.folder)])
        self.assertEqual(found.exit_code, 1)
        self.assertIn("not shown:\nquality of 2\nequal ways", found.output)
