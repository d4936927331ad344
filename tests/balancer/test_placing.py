"""Placements: counted once, released, and forgotten in time."""

from itertools import count

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from balancer.placing import Placement, PlacementConfig, Placing
from rollcall.media.selection import NoNode, Reason, Wanted
from rollcall.media.snapshot import MediaNode, NodeState, Rule, Snapshot


def a_node(id: str, **values: object) -> MediaNode:
    """Return a node with defaults."""
    return MediaNode(**{"id": id, "address": "192.0.2.1:22222", "capacity": 10, **values})  # type: ignore[arg-type]


def a_snapshot(*nodes: MediaNode, policy: str = "least-loaded", at: float = 0.0) -> Snapshot:
    """Return one of these nodes; without figures, so that what was placed decides."""
    rule = Rule(policy=policy)  # type: ignore[arg-type]
    return Snapshot(published_at=at, rule=rule, nodes={node.id: node for node in nodes})


class PlacingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.nodes = (a_node("a", capacity=2), a_node("b", capacity=2))
        self.placing = self.a_placing()

    def a_placing(self, **limits: float) -> Placing:
        """Return one over both nodes."""
        numbers = count(1)
        config = PlacementConfig(**{"max_call_seconds": 100, **limits})  # type: ignore[arg-type]
        placing = Placing(config, lambda: 0.0, lambda: f"p{next(numbers)}")
        placing.follow(a_snapshot(*self.nodes), 0)
        return placing

    def place(self, call_id: str, now: float = 0, without: frozenset[str] = frozenset()) -> str:
        """Return the node and the placement of a call, or why there is none."""
        outcome = self.placing.place(Wanted(call_id=call_id, without=without), now)
        if isinstance(outcome, Placement):
            return f"{outcome.node.id} {outcome.id}"
        return outcome.reason.value

    def test_placements_count(self) -> None:
        """Each placed call counts on its node, so that the next one goes elsewhere, until all are full."""
        self.assertEqual([self.place(f"call{number}") for number in range(5)], ["a p1", "b p2", "a p3", "b p4", "full"])
        self.assertEqual(self.placing.calls(0), {"a": 2, "b": 2})

    def test_the_same_call_stays(self) -> None:
        """A call that is asked for again keeps node and placement and counts once, even when all are full."""
        for number in range(4):
            self.place(f"call{number}")
        self.assertEqual(self.place("call1"), "b p2")
        self.assertEqual(self.placing.calls(0), {"a": 2, "b": 2})

    def test_another_node(self) -> None:
        """A call whose node has died, is gone, or has just failed it gets another; then the first has one call less."""
        self.assertEqual(self.place("call"), "a p1")
        self.assertEqual(self.place("call", without=frozenset("a")), "b p2")
        self.placing.follow(a_snapshot(self.nodes[0], evolve(self.nodes[1], state=NodeState.DOWN)), 1)
        self.assertEqual(self.place("call", 1), "a p3")
        self.placing.follow(a_snapshot(self.nodes[1]), 2)
        self.assertEqual(self.place("call", 2), "b p4")
        self.assertEqual(self.placing.calls(2), {"b": 1})

    def test_draining(self) -> None:
        """A call stays on a node that drains, but new ones do not come to it."""
        self.place("call")
        self.placing.follow(a_snapshot(evolve(self.nodes[0], state=NodeState.DRAINING), self.nodes[1]), 1)
        self.assertEqual([self.place("call", 1), self.place("new", 1)], ["a p1", "b p2"])

    def test_polls_count(self) -> None:
        """What a node's own count holds is not counted beside it."""
        self.place("call", 0)
        self.placing.follow(a_snapshot(evolve(self.nodes[0], sessions=1, polled_at=10.0), self.nodes[1], at=10.0), 10)
        self.assertEqual(self.placing.uncounted.count("a"), 0)
        self.assertEqual([self.place(f"new{number}", 10) for number in range(4)], ["b p2", "a p3", "b p4", "full"])

    def test_release(self) -> None:
        """A released placement is gone once; releasing it again, or nothing, does no harm."""
        self.place("call")
        self.assertTrue(self.placing.release("p1", 0))
        self.assertFalse(self.placing.release("p1", 0))
        self.assertFalse(self.placing.release("other", 0))
        self.assertEqual(self.placing.calls(0), {})

    def test_lapse(self) -> None:
        """A placement that nobody released lapses after its time, and not before."""
        self.place("call1", now=0)
        self.place("call2", now=50)
        self.assertEqual(self.placing.calls(99), {"a": 1, "b": 1})
        self.assertEqual(self.placing.calls(100), {"b": 1})
        self.assertFalse(self.placing.release("p1", now=100))
        self.assertEqual(self.placing.calls(150), {})

    def test_asking_again_renews(self) -> None:
        """A call that is asked for again is alive, and lapses later; others lapse at their own time."""
        self.place("call1", now=0)
        self.place("call2", now=10)
        self.place("call1", now=60)
        self.assertEqual(sum(self.placing.calls(110).values()), 1)
        self.assertEqual(self.placing.calls(160), {})

    def test_bound(self) -> None:
        """No more placements than allowed are remembered; the oldest go first."""
        self.placing = self.a_placing(max_calls=2)
        for number in range(3):
            self.place(f"call{number}")
        self.assertFalse(self.placing.release("p1", 0))
        self.assertTrue(self.placing.release("p3", 0))

    def test_what_is_wanted(self) -> None:
        """What a call wants reaches the choice."""
        self.placing.follow(a_snapshot(a_node("a", groups=("gold",))), 0)
        self.assertEqual(self.placing.place(Wanted(call_id="c"), 0), NoNode(Reason.NO_NODE))
        self.assertIsInstance(self.placing.place(Wanted("gold", call_id="c"), 0), Placement)

    def test_choose_only(self) -> None:
        """A choice whose end nobody tells counts until the node's own count holds it, and is no placement."""
        self.placing.choose(Wanted(), 0)
        self.assertEqual((self.placing.uncounted.count("a"), self.placing.calls(0)), (1, {}))
