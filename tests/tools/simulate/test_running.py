"""Playing calls with a policy."""

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from tests.tools.simulate.worlds import a_call, a_world
from tools.simulate.demand import Call
from tools.simulate.running import Play, Stage
from tools.simulate.truth import mean_rating
from tools.simulate.world import Way, World


class Fixed:
    """Chooses by a list, and remembers what it is told."""

    def __init__(self, *nodes: str) -> None:
        self.nodes = nodes
        self.told: list[tuple[str, str, float]] = []
        self.refused: list[frozenset[str]] = []

    def choose(self, call: Call, now: float, refused: frozenset[str]) -> str | None:
        self.refused.append(refused)
        return next((node for node in self.nodes if node not in refused), None)

    def placed(self, call: Call, node: str, now: float) -> None:
        self.told.append((call.id, node, now))

    def ended(self, call: Call, now: float) -> None:
        self.told.append((call.id, "", now))


class StageTests(SynchronousTestCase):
    """Time on a stage."""

    def test_order(self) -> None:
        """What is to happen happens in order of time, and of asking at the same time."""
        stage, seen = Stage(a_world(), 1), list[tuple[float, str]]()
        for at, what in [(2.0, "c"), (1.0, "a"), (1.0, "b"), (100.0, "never")]:
            stage.later(at, lambda now, what: seen.append((now, what)), what)
        stage.run()
        self.assertEqual(seen, [(1.0, "a"), (1.0, "b"), (2.0, "c")])

    def test_every(self) -> None:
        """What is repeated happens at its interval until the world ends."""
        stage, seen = Stage(a_world(), 1), list[float]()
        stage.every(30.0, 5.0, seen.append)
        stage.run()
        self.assertEqual(seen, [5.0, 35.0, 65.0, 95.0])


class PlayTests(SynchronousTestCase):
    """What becomes of calls."""

    def play(self, policy: Fixed, *calls: Call, world: World | None = None) -> Play:
        self.stage = Stage(world or a_world(), 1)
        play = Play(self.stage, policy)
        self.outcome = play.play(calls)
        return play

    def test_policy_is_told(self) -> None:
        """The policy is told where a call is and when it has ended; its node is free again then."""
        policy = Fixed("west1")
        self.play(policy, a_call(1, at=10.0, seconds=33.0))
        self.assertEqual(policy.told, [("call-1", "west1", 10.0), ("call-1", "", 43.0)])
        self.assertEqual(self.stage.sessions, {"west1": 0, "east1": 0})

    def test_rated_by_truth(self) -> None:
        """A call's rating is that of its node's true ways; one below 70 is bad."""
        world = a_world(west1=Way(0.05, 0.05, 20.0, 2.0))
        self.play(Fixed("west1"), a_call(), world=world)
        expected = mean_rating(world.epochs[0], a_call(), "west1", 0.1)
        self.assertAlmostEqual(self.outcome.ratings["call-1"], expected)
        self.assertLess(expected, 70.0)
        self.assertEqual(self.outcome.bad, 1.0)

    def test_change_midway(self) -> None:
        """What changes during a call counts for the time that it lasts."""
        world, worse = a_world(), a_world(west1=Way(0.2, 0.2, 20.0, 2.0)).epochs[0]
        world = evolve(world, edges=[0.0, 20.0], epochs=[world.epochs[0], worse])
        self.play(Fixed("west1"), a_call(seconds=80.0), world=world)
        parts = [mean_rating(epoch, a_call(), "west1", 0.1) for epoch in world.epochs]
        self.assertAlmostEqual(self.outcome.ratings["call-1"], (20 * parts[0] + 60 * parts[1]) / 80)

    def test_full_node_refuses(self) -> None:
        """A full node refuses, and the policy is asked again; with all of them full the call is bad."""
        calls = [a_call(number, at=number / 100) for number in range(21)]
        policy = Fixed("west1", "east1")
        self.play(policy, *calls)
        self.assertEqual([node for _, node, _ in policy.told if node], ["west1"] * 10 + ["east1"] * 10)
        self.assertEqual(policy.refused[-1], frozenset(["west1"]))
        self.assertEqual(self.outcome.refused, 1)
        self.assertEqual(self.outcome.ratings["call-20"], 0.0)
        self.assertEqual(self.outcome.peak, 1.0)

    def test_cut_at_the_end(self) -> None:
        """A call that outlasts the world is rated by what there was of it."""
        self.play(Fixed("west1"), a_call(at=90.0, seconds=500.0))
        self.assertGreater(self.outcome.ratings["call-1"], 80.0)
