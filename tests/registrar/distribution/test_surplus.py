"""How many connections are too many, by what the leases say."""

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from registrar.distribution.surplus import LEAST_SHARE, hindrance, surplus
from rollcall.cluster.nodes import Node


def a_node(name: str, connections: int, capacity: int = 1000, weight: int = 50, draining: bool = False) -> Node:
    return Node(node=name, epoch=1, host="192.0.2.1", port=5070, started_at=0.0, capacity=capacity, draining=draining,
                connections=connections, weight=weight)


class SurplusTests(SynchronousTestCase):
    def of_a(self, *nodes: Node, tolerance: float = 0.1, is_moving: bool = False) -> int:
        """Return the surplus of the first node."""
        return surplus(nodes, nodes[0].node, tolerance, is_moving)

    def test_new_node(self) -> None:
        """Those that were there give the new one its share, together no more than that."""
        nodes = a_node("a", 300), a_node("b", 310), a_node("c", 0)
        self.assertEqual([surplus(nodes, name, 0.1, False) for name in "abc"], [97, 107, 0])

    def test_capacity(self) -> None:
        """The share of a node goes by what it is to carry."""
        self.assertEqual(self.of_a(a_node("a", 600, 2000), a_node("b", 300)), 0)
        self.assertEqual(self.of_a(a_node("a", 600), a_node("b", 300, 2000)), 300)

    def test_tolerance(self) -> None:
        """A small surplus is left alone, and once some are moved it goes on to the share itself."""
        nodes = a_node("a", 550), a_node("b", 460)
        self.assertEqual((self.of_a(*nodes), self.of_a(*nodes, is_moving=True)), (0, 45))
        self.assertEqual(self.of_a(*nodes, tolerance=0.05), 45)
        self.assertEqual(self.of_a(a_node("a", 505), a_node("b", 505), is_moving=True), 0)
        self.assertEqual(self.of_a(a_node("a", 506), a_node("b", 505), is_moving=True), 0)

    def test_few(self) -> None:
        """A handful on an idle node is not sent round, however uneven it is."""
        least = round(1000 * LEAST_SHARE)
        self.assertEqual(self.of_a(a_node("a", 2 * least), a_node("b", 0)), 0)
        self.assertEqual(self.of_a(a_node("a", 2 * least + 2), a_node("b", 0)), least + 1)

    def test_who_counts(self) -> None:
        """Nodes that phones cannot come to, because they start, drain or are full, are no reason to send any away."""
        other = a_node("b", 0)
        for away in (evolve(other, weight=0), evolve(other, weight=0, draining=True), evolve(other, capacity=0)):
            self.assertEqual(self.of_a(a_node("a", 900), away), 0)
        self.assertEqual(self.of_a(a_node("a", 1000, weight=0), other), 500)
        self.assertEqual(self.of_a(a_node("a", 900)), 0)
        self.assertEqual(surplus([other], "a", 0.1, False), 0)

    def test_hindrances(self) -> None:
        """Nobody moves anything while a node drains, or when there is only one."""
        self.assertIsNone(hindrance([a_node("a", 1), a_node("b", 1)]))
        self.assertEqual(hindrance([a_node("a", 1)]), "there is no other node")
        self.assertEqual(hindrance([a_node("a", 1), a_node("b", 1), a_node("c", 1, draining=True)]),
                         "a node is being drained")
