"""The choice of a node: least load, filters, regions, and chance among equals."""

import random

from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from balancer.selection import Load, MediaNode, NoNode, Reason, Selected, Wanted, select

ANY = Wanted()


def a_node(id: str, **values: object) -> MediaNode:
    """Return a node with defaults."""
    return MediaNode(**{"id": id, "address": "192.0.2.1:22222", "capacity": 10, **values})  # type: ignore[arg-type]


def chosen(loads: list[Load], wanted: Wanted = ANY, chance: float = 0.0) -> str | Reason:
    """Return the id of the selected node, or why there is none."""
    outcome = select(loads, wanted, lambda: chance)
    return outcome.node.id if isinstance(outcome, Selected) else outcome.reason


LOADS = st.builds(
    Load,
    st.builds(
        MediaNode,
        id=st.sampled_from("abcdef"),
        address=st.just("192.0.2.1:22222"),
        capacity=st.integers(1, 5),
        region=st.sampled_from(["", "east"]),
        weight=st.integers(1, 5),
        groups=st.sampled_from([(), ("g",), ("g", "h")]),
        draining=st.booleans(),
    ),
    placements=st.integers(0, 6),
)


class SelectTests(SynchronousTestCase):
    def test_least_load(self) -> None:
        """The node with the smallest share of its capacity in use is chosen, not the one with the fewest calls."""
        loads = [Load(a_node("small", capacity=4), 2), Load(a_node("large", capacity=100), 20)]
        self.assertEqual(chosen(loads), "large")

    def test_no_nodes(self) -> None:
        """Without any node there is none to choose."""
        self.assertEqual(chosen([]), Reason.NO_NODE)

    def test_draining_nodes_get_nothing(self) -> None:
        """A draining node is left out however idle it is; if all drain, that is the reason."""
        draining = Load(a_node("a", draining=True), 0)
        self.assertEqual(chosen([draining, Load(a_node("b"), 9)]), "b")
        self.assertEqual(chosen([draining]), Reason.DRAINING)

    def test_full_nodes_get_nothing(self) -> None:
        """A full node is left out; if every node that works is full, that is the reason."""
        full = Load(a_node("a"), 10)
        self.assertEqual(chosen([full, Load(a_node("b"), 9)]), "b")
        self.assertEqual(chosen([full, Load(a_node("c", draining=True), 0)]), Reason.FULL)

    def test_groups(self) -> None:
        """A call of a group goes to the nodes of that group and to those that serve everybody."""
        loads = [Load(a_node("gold", groups=("gold", "test")), 0), Load(a_node("open"), 5)]
        self.assertEqual(chosen(loads, Wanted(group="gold")), "gold")
        self.assertEqual(chosen(loads, Wanted(group="silver")), "open")
        self.assertEqual(chosen(loads), "open")
        self.assertEqual(chosen(loads[:1], Wanted(group="silver")), Reason.NO_NODE)

    def test_regions(self) -> None:
        """The wanted region is kept to even when another has less load, until it is full or not there."""
        loads = [Load(a_node("east", region="east"), 9), Load(a_node("west", region="west"), 0)]
        self.assertEqual(chosen(loads, Wanted(region="east")), "east")
        self.assertEqual(chosen(loads, Wanted(region="north")), "west")
        full = [Load(loads[0].node, 10), loads[1]]
        self.assertEqual(chosen(full, Wanted(region="east")), "west")

    def test_chance_among_equals(self) -> None:
        """Nodes of equal load get calls by chance in proportion to their weights."""
        loads = [Load(a_node("a", weight=1), 1), Load(a_node("b", weight=3), 1), Load(a_node("c"), 2)]
        self.assertEqual([chosen(loads, chance=each / 8) for each in range(8)], ["a"] * 2 + ["b"] * 6)

    def test_even_spread(self) -> None:
        """Many calls that do not end fill nodes in proportion to their capacities."""
        chance = random.Random(7).random
        loads = {node.id: Load(node, 0) for node in (a_node("a", capacity=100), a_node("b", capacity=300))}
        for _ in range(200):
            outcome = select(loads.values(), ANY, chance)
            assert isinstance(outcome, Selected)
            loads[outcome.node.id] = evolve(loads[outcome.node.id], placements=loads[outcome.node.id].placements + 1)
        self.assertEqual([load.placements for load in loads.values()], [50, 150])

    @given(
        st.lists(LOADS),
        st.sampled_from([ANY, Wanted("g"), Wanted("h", "east"), Wanted(None, "east")]),
        st.floats(0, 1, exclude_max=True),
    )
    def test_whatever_there_is(self, loads: list[Load], wanted: Wanted, chance: float) -> None:
        """A selected node may always have the call, and there is one whenever some node may."""
        outcome = select(loads, wanted, lambda: chance)
        possible = [
            load.node
            for load in loads
            if load.state == "up" and (not load.node.groups or wanted.group in load.node.groups)
        ]
        if isinstance(outcome, NoNode):
            self.assertEqual(possible, [])
        else:
            self.assertIn(outcome.node, possible)
