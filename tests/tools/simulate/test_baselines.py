"""What others do."""

from collections import Counter

from twisted.trial.unittest import SynchronousTestCase

from tests.tools.simulate.worlds import EAST, WEST, a_call, a_world
from tools.simulate.baselines import BASELINES
from tools.simulate.running import Stage
from tools.simulate.world import Way

NOBODY: frozenset[str] = frozenset()


class BaselineTests(SynchronousTestCase):
    """Each by what it is known for; both nodes hold ten calls."""

    def setUp(self) -> None:
        self.stage = Stage(a_world(), 1)

    def counts(self, name: str, calls: int = 100) -> Counter[str | None]:
        policy = BASELINES[name](self.stage)
        return Counter(policy.choose(a_call(number), 0.0, NOBODY) for number in range(calls))

    def test_nobody_left(self) -> None:
        """All of them give up when every node has refused, and take the one that is left otherwise."""
        for name, make in BASELINES.items():
            policy = make(self.stage)
            self.assertIsNone(policy.choose(a_call(), 0.0, frozenset(["west1", "east1"])), name)
            self.assertEqual(policy.choose(a_call(), 0.0, frozenset(["west1"])), "east1", name)

    def test_round_robin(self) -> None:
        """Round-robin takes turns."""
        self.assertEqual(self.counts("round-robin"), {"west1": 50, "east1": 50})

    def test_exact_least_load(self) -> None:
        """Exact least load sees every call at once."""
        policy = BASELINES["least-load (exact)"](self.stage)
        self.stage.sessions["west1"] = 1
        self.assertEqual(policy.choose(a_call(), 0.0, NOBODY), "east1")

    def test_polled_least_load(self) -> None:
        """Polled least load runs to the node that was least loaded, however many do."""
        policy = BASELINES["least-load (polled)"](self.stage)
        self.stage.sessions["west1"] = 1
        self.stage.run()
        self.stage.sessions["east1"] = 9
        self.assertEqual(policy.choose(a_call(), 100.0, NOBODY), "east1")

    def test_two_choices(self) -> None:
        """Of two the less loaded is taken; with two nodes these are always both."""
        policy = BASELINES["two choices"](self.stage)
        self.stage.sessions["west1"] = 1
        self.stage.run()
        self.assertEqual({policy.choose(a_call(number), 100.0, NOBODY) for number in range(20)}, {"east1"})

    def test_hash(self) -> None:
        """The same call goes to the same node, and different ones to both."""
        self.assertEqual(self.counts("hash"), self.counts("hash"))
        self.assertEqual(set(self.counts("hash")), {"west1", "east1"})

    def test_static_map(self) -> None:
        """The static map keeps a call in its caller's region."""
        policy = BASELINES["static map"](self.stage)
        self.assertEqual(policy.choose(a_call(groups=(EAST, WEST)), 0.0, NOBODY), "east1")
        self.assertEqual(policy.choose(a_call(groups=(WEST, EAST)), 0.0, NOBODY), "west1")

    def test_ping(self) -> None:
        """All calls run to the node whose ping is quicker, which is seen from the proxy, and not from phones."""
        self.stage.world.distances["middle", "west"] = 10.0
        policy = BASELINES["ping latency"](self.stage)
        self.stage.run()
        chosen = {policy.choose(a_call(number, groups=(EAST, EAST)), 100.0, NOBODY) for number in range(20)}
        self.assertEqual(chosen, {"west1"})

    def test_oracle(self) -> None:
        """The oracle knows the true ways, and leaves a node that fills up."""
        self.stage = Stage(a_world(west1=Way(0.02, 0.02, 20.0, 2.0)), 1)
        self.assertEqual(self.counts("oracle"), {"east1": 100})
        self.stage.sessions["east1"] = 10
        self.assertEqual(self.counts("oracle"), {"west1": 100})
