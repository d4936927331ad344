"""Placements: counted once, released, and forgotten in time."""

from itertools import count

from twisted.trial.unittest import SynchronousTestCase

from balancer.placing import Nodes, Placement, PlacementConfig
from balancer.selection import NoNode, Reason, Wanted
from tests.balancer.test_selection import a_node

ANY = Wanted()


class NodesTests(SynchronousTestCase):
    def setUp(self) -> None:
        numbers = count(1)
        self.nodes = Nodes(
            [a_node("a", capacity=2), a_node("b", capacity=2)],
            PlacementConfig(max_call_seconds=100),
            random=lambda: 0.0,
            new_id=lambda: f"p{next(numbers)}",
        )

    def place(self, call_id: str, now: float = 0) -> str:
        """Return the node and the placement of a call, or why there is none."""
        outcome = self.nodes.place(call_id, ANY, now)
        if isinstance(outcome, Placement):
            return f"{outcome.node.id} {outcome.id}"
        return outcome.reason.value

    def counts(self, now: float = 0) -> list[int]:
        return [load.placements for load in self.nodes.loads(now)]

    def test_placements_count(self) -> None:
        """Each placed call counts on its node, so that the next one goes elsewhere, until all are full."""
        self.assertEqual([self.place(f"call{number}") for number in range(5)], ["a p1", "b p2", "a p3", "b p4", "full"])
        self.assertEqual(self.counts(), [2, 2])

    def test_the_same_call_stays(self) -> None:
        """A call that is asked for again keeps node and placement and counts once, even when all are full."""
        for number in range(4):
            self.place(f"call{number}")
        self.assertEqual(self.place("call1"), "b p2")
        self.assertEqual(self.counts(), [2, 2])

    def test_release(self) -> None:
        """A released placement makes room once; releasing it again, or nothing, does no harm."""
        self.place("call")
        self.assertTrue(self.nodes.release("p1", 0))
        self.assertFalse(self.nodes.release("p1", 0))
        self.assertFalse(self.nodes.release("other", 0))
        self.assertEqual(self.counts(), [0, 0])
        self.assertEqual(self.place("call"), "a p2")

    def test_lapse(self) -> None:
        """A placement that nobody released lapses after its time, and not before."""
        self.place("call1", now=0)
        self.place("call2", now=50)
        self.assertEqual(self.counts(now=99), [1, 1])
        self.assertEqual(self.counts(now=100), [0, 1])
        self.assertFalse(self.nodes.release("p1", now=100))
        self.assertEqual(self.counts(now=150), [0, 0])

    def test_asking_again_renews(self) -> None:
        """A call that is asked for again is alive, and lapses later; others lapse at their own time."""
        self.place("call1", now=0)
        self.place("call2", now=10)
        self.place("call1", now=60)
        self.assertEqual(self.counts(now=110), [1, 0])
        self.assertEqual(self.counts(now=160), [0, 0])

    def test_lapsed_calls_make_room(self) -> None:
        """Nothing needs to look in between: the room is there when the next call asks."""
        for number in range(4):
            self.place(f"call{number}", now=0)
        self.assertEqual(self.place("late", now=100), "a p5")
        self.assertEqual(self.counts(now=100), [1, 0])

    def test_what_is_wanted(self) -> None:
        """What a call wants reaches the choice."""
        nodes = Nodes([a_node("a", groups=("gold",))], PlacementConfig(), random=lambda: 0.0)
        self.assertEqual(nodes.place("call", ANY, 0), NoNode(Reason.NO_NODE))
        self.assertIsInstance(nodes.place("call", Wanted("gold"), 0), Placement)
