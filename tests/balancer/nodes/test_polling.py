"""When nodes are asked, and what comes of it."""

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from balancer.nodes.asking import Answer, Unanswered
from balancer.nodes.config import NodeConfig
from balancer.nodes.polling import Polling
from balancer.nodes.registry import Nodes
from rollcall.media.snapshot import NodeState
from tests.balancer.nodes.examples import LIMITS, M1, M2, a_load


class ScriptedAsking:
    """Keeps who was asked; answers come when the test says so."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.moments: dict[str, list[float]] = {}
        self.waiting: dict[str, Deferred[Answer]] = {}
        self.broken = False

    async def ask(self, node: NodeConfig, seconds: float) -> Answer:
        self.moments.setdefault(node.id, []).append(round(self._clock.seconds(), 3))
        if self.broken:
            raise RuntimeError("a mistake of ours")
        self.waiting[node.id] = Deferred()
        return await self.waiting[node.id]

    def answer(self, name: str, sessions: int = 0) -> None:
        self.waiting.pop(name).callback(Answer(a_load(sessions)))

    def fail(self, name: str, is_refused: bool = False) -> None:
        self.waiting.pop(name).errback(Unanswered("silence", is_refused))


class PollingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.nodes = Nodes([M1, M2], LIMITS)
        self.asking = ScriptedAsking(self.clock)
        self.polling = Polling(self.clock, self.nodes, self.asking, lambda: 0.5)
        self.polling.startService()

    def state(self, name: str) -> NodeState:
        return self.nodes.nodes(self.clock.seconds())[name].state

    def test_pace(self) -> None:
        """All are asked at the beginning, and each again a second after its answer; none waits for another."""
        self.clock.advance(0.25)
        self.asking.answer("m1", sessions=3)
        self.assertEqual(self.nodes.nodes(0.25)["m1"].sessions, 3)
        self.assertEqual(self.nodes.nodes(0.25)["m1"].polled_at, 0.0)
        self.clock.advance(1.0)
        self.asking.answer("m1")
        self.clock.advance(1.0)
        self.assertEqual(self.asking.moments, {"m1": [0.0, 1.25, 2.25], "m2": [0.0]})

    def test_who_owes_answers_is_asked_sooner(self) -> None:
        """After a missed answer it is asked again 0.2 s later, until it is down; then at the usual pace."""
        for wait in (0.2, 0.2, 1.0, 1.0):
            self.asking.fail("m1")
            self.clock.advance(wait)
        self.assertEqual(self.asking.moments["m1"], [0.0, 0.2, 0.4, 1.4, 2.4])
        self.assertIs(self.state("m1"), NodeState.DOWN)

    def test_nobody_listens(self) -> None:
        """Where nobody listens it is down with the second question."""
        self.asking.fail("m1", is_refused=True)
        self.clock.advance(0.2)
        self.asking.fail("m1", is_refused=True)
        self.assertIs(self.state("m1"), NodeState.DOWN)

    def test_joining_and_leaving(self) -> None:
        """A node that joins is asked at once; one that leaves is asked no more, and its answer is not waited for."""
        joined = NodeConfig(id="m9", address="192.0.2.9:22222")
        self.nodes.announce(joined, 15.0, 0.0)
        self.assertEqual(self.asking.moments["m9"], [0.0])
        self.nodes.withdraw("m9", 0.0)
        self.clock.advance(5.0)
        self.assertEqual(self.asking.moments["m9"], [0.0])
        self.nodes.announce(joined, 20.0, 5.0)
        self.asking.answer("m9")
        self.nodes.withdraw("m9", 5.0)
        self.clock.advance(5.0)
        self.assertEqual(self.asking.moments["m9"], [0.0, 5.0])

    def test_the_forgotten(self) -> None:
        """A node that neither announces itself nor answers is forgotten, and asked no more."""
        self.nodes.announce(NodeConfig(id="m9", address="192.0.2.9:22222"), 15.0, 0.0)
        for _ in range(100):
            self.asking.fail("m9")
            self.clock.advance(1.0)
            if "m9" not in self.nodes.nodes(self.clock.seconds()):
                break
        self.assertEqual(self.clock.seconds(), 75.0 + 1.0)
        self.assertNotIn("m9", self.asking.waiting)

    def test_a_mistake_of_ours(self) -> None:
        """What breaks while a node is asked is logged, and the node asked again."""
        self.asking.broken = True
        self.asking.fail("m1")
        self.clock.pump([0.2] * 2)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 2)
        self.assertIs(self.state("m1"), NodeState.DOWN)
        self.asking.broken = False
        self.clock.advance(1.0)
        self.asking.answer("m1")
        self.assertIs(self.state("m1"), NodeState.SUSPECT)

    def test_stopping(self) -> None:
        """After the end nobody is asked, and nothing is left with the reactor."""
        self.asking.answer("m1")
        self.polling.stopService()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.nodes.announce(NodeConfig(id="m9", address="192.0.2.9:22222"), 15.0, 0.0)
        self.assertNotIn("m9", self.asking.moments)
