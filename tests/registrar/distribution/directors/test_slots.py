"""Slots of nodes: exact shares, little movement, the same everywhere."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from registrar.distribution.directors.slots import SLOTS, ranges, table

NODES = {"node1": 100, "node2": 100, "node3": 50, "node4": 100}


class TableTests(SynchronousTestCase):
    @given(st.dictionaries(st.sampled_from([f"node{number}" for number in range(8)]), st.integers(0, 253), min_size=1))
    def test_shares(self, weights: dict[str, int]) -> None:
        """Every slot has a node, each its share of them to about one slot; a weight of 0 gets none."""
        found = table(weights)
        total = sum(weights.values())
        self.assertEqual(len(found), SLOTS if total else 0)
        for name, weight in weights.items():
            share = SLOTS * weight / total if total else 0
            self.assertLessEqual(abs(found.count(name) - share), len(weights) + 1)
            self.assertTrue(weight or name not in found)

    def test_drain(self) -> None:
        """When a node is drained, few slots of others change: a director that is new moves what is in those."""
        before, after = table(NODES), table({**NODES, "node3": 0})
        moved = [one for one, other in zip(before, after, strict=True) if one != other]
        self.assertGreaterEqual(len(moved), before.count("node3"))
        self.assertLess(len(moved), before.count("node3") + SLOTS // 10)

    def test_order(self) -> None:
        """The order in which nodes are listed changes nothing."""
        self.assertEqual(table(NODES), table(dict(reversed(NODES.items()))))

    def test_ranges(self) -> None:
        """Runs of a node become ranges, of which no slot is left out."""
        self.assertEqual(ranges(["a", "a", "b", "a"]), [(0, 1, "a"), (2, 2, "b"), (3, 3, "a")])
        found = ranges(table(NODES))
        self.assertEqual([first for first, _, _ in found[1:]], [last + 1 for _, last, _ in found[:-1]])
        self.assertEqual((found[0][0], found[-1][1]), (0, SLOTS - 1))
