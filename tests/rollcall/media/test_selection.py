"""The choice of a media node: who may have a call, who gets it, and how own calls count."""

from collections import Counter
from random import Random
from typing import Any

from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from rollcall.media.emodel import r_factor
from rollcall.media.selection import (
    LAPSE_SECONDS,
    ON_THE_WAY_SECONDS,
    PACKET_MS,
    Board,
    Chosen,
    NoNode,
    Placements,
    Reason,
    Wanted,
    region_of,
)
from rollcall.media.snapshot import MediaNode, NodeState, Policy, Quality, Rule, Snapshot

CALLS = 2000


def a_node(name: str, **values: Any) -> MediaNode:
    return evolve(MediaNode(id=name, address="192.0.2.1:22222", capacity=100), **values)


def a_snapshot(*nodes: MediaNode, **values: Any) -> Snapshot:
    return evolve(Snapshot(published_at=100.0, nodes={node.id: node for node in nodes}), **values)


class Chooser:
    """Chooses by one snapshot, again and again, without placing."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.board = Board(snapshot)
        self.placements = Placements()
        self.random = Random(7).random

    def choose(self, *sides: str, **values: Any) -> str | Reason:
        chosen = self.board.choose(evolve(Wanted(sides=sides), **values), self.placements, self.random)
        return chosen.node.id if isinstance(chosen, Chosen) else chosen.reason

    def shares(self, *sides: str, **values: Any) -> dict[str | Reason, float]:
        counted = Counter(self.choose(*sides, call_id=f"call{number}", **values) for number in range(CALLS))
        return {name: count / CALLS for name, count in counted.items()}


class CodecTests(SynchronousTestCase):
    def test_bears_loss_worse(self) -> None:
        """A codec that bears loss worse keeps to the way without it, where G.711 takes the shorter one."""
        snapshot = a_snapshot(a_node("far"), a_node("near"), rule=Rule(margin_r=0.0), paths={
            ("c/r", "far"): Quality(0.0, 160.0), ("c/r", "near"): Quality(0.0115, 30.0)})
        chooser = Chooser(snapshot)
        self.assertEqual(chooser.choose("c/r"), "near")
        self.assertEqual(chooser.choose("c/r", codec="opus"), "near")
        self.assertEqual(chooser.choose("c/r", codec="g729"), "far")


class WhoMayTests(SynchronousTestCase):
    def test_group(self) -> None:
        """Only nodes of the wanted group get a call."""
        chooser = Chooser(a_snapshot(a_node("a"), a_node("b", groups=("robots",)), a_node("c", groups=("x", "robots"))))
        self.assertEqual(set(chooser.shares()), {"a"})
        self.assertEqual(set(chooser.shares(group="robots")), {"b", "c"})
        self.assertEqual(chooser.choose(group="nobody"), Reason.NO_NODE)

    def test_states(self) -> None:
        """Nodes that are down, draining or drained get nothing."""
        nodes = [a_node(state.name, state=state) for state in NodeState]
        self.assertEqual(set(Chooser(a_snapshot(*nodes)).shares()), {"UP"})

    def test_suspect(self) -> None:
        """A suspect node gets a call only when no other can have it: not one that is far away or has lost more."""
        suspect = a_node("s", state=NodeState.SUSPECT)
        far = a_snapshot(a_node("a"), suspect, paths={("c/r", "a"): Quality(0.2, 300.0)})
        self.assertEqual(set(Chooser(far).shares("c/r")), {"a"})
        full = a_snapshot(a_node("a", sessions=100), suspect)
        self.assertEqual(set(Chooser(full).shares("c/r")), {"s"})

    def test_reasons(self) -> None:
        """When nobody can have a call, the reason is what could change soonest."""
        down, draining = a_node("d", state=NodeState.DOWN), a_node("e", state=NodeState.DRAINING)
        full = a_node("f", sessions=100)
        for nodes, reason in [
            ([], Reason.NO_NODE), ([down], Reason.DOWN), ([down, draining], Reason.DRAINING),
            ([down, draining, full], Reason.FULL), ([evolve(full, state=NodeState.SUSPECT)], Reason.FULL),
        ]:
            self.assertEqual(Chooser(a_snapshot(*nodes)).choose(), reason)

    def test_without(self) -> None:
        """A node that has just failed the call does not get it again, even as the last one."""
        for policy in ("quality", "random", "weighted", "round-robin", "hash", "least-loaded"):
            chooser = Chooser(a_snapshot(a_node("a"), a_node("b"), rule=Rule(policy=policy)))
            self.assertEqual(set(chooser.shares(without=frozenset({"a"}))), {"b"})
            self.assertEqual(chooser.choose(without=frozenset({"a", "b"})), Reason.DOWN)

    def test_full_by_own_calls(self) -> None:
        """Own calls fill a node as polled ones do."""
        chooser = Chooser(a_snapshot(a_node("a", capacity=3, sessions=1)))
        for _ in range(2):
            self.assertEqual(chooser.choose(), "a")
            chooser.placements.placed("a", 100.0)
        self.assertEqual(chooser.choose(), Reason.FULL)


class QualityTests(SynchronousTestCase):
    def test_loss(self) -> None:
        """Calls of a group leave a node that loses its packets; those of other groups do not."""
        chooser = Chooser(a_snapshot(a_node("a"), a_node("b"), paths={("c/r", "a"): Quality(0.08, 20.0)}))
        self.assertEqual(set(chooser.shares("c/r")), {"b"})
        self.assertEqual(set(chooser.shares("d/r", "c/r")), {"b"})
        self.assertEqual(set(chooser.shares("d/r")), {"a", "b"})

    def test_both_legs(self) -> None:
        """R is of the whole way: losses of both legs combine, and delays add up."""
        paths = {("c/r", "a"): Quality(0.05, 60.0), ("d/r", "a"): Quality(0.10, 90.0)}
        board = Board(a_snapshot(a_node("a"), paths=paths))
        chosen = board.choose(Wanted(sides=("c/r", "d/r")), Placements(), Random(1).random)
        assert isinstance(chosen, Chosen)
        self.assertAlmostEqual(chosen.r, r_factor(1 - 0.95 * 0.9, 150.0 + PACKET_MS))

    def test_least_bad(self) -> None:
        """When every way is bad, the least bad gets the calls."""
        paths = {("c/r", "a"): Quality(0.30, 50.0), ("c/r", "b"): Quality(0.15, 50.0)}
        self.assertEqual(set(Chooser(a_snapshot(a_node("a"), a_node("b"), paths=paths)).shares("c/r")), {"b"})

    def test_nearly_as_good(self) -> None:
        """Nodes within the margin share the calls, the less loaded more of them."""
        paths = {("c/r", "a"): Quality(0.0, 20.0), ("c/r", "b"): Quality(0.0, 40.0), ("c/r", "c"): Quality(0.02, 20.0)}
        nodes = (a_node("a", sessions=50), a_node("b", sessions=10), a_node("c"))
        self.assertEqual(Chooser(a_snapshot(*nodes, paths=paths)).shares("c/r"), {"b": 1.0})
        even = [evolve(node, sessions=5) for node in nodes[:2]]
        self.assertEqual(set(Chooser(a_snapshot(*even, nodes[2], paths=paths)).shares("c/r")), {"a", "b"})

    def test_two_of_many(self) -> None:
        """Of many that are as good the least loaded does not get everything, so that nobody runs there in a herd."""
        nodes = [a_node(f"n{number:02}", sessions=number) for number in range(20)]
        shares = Chooser(a_snapshot(*nodes)).shares("c/r")
        self.assertApproximates(shares["n00"], 2 / 20, 0.03)
        self.assertNotIn("n19", shares)

    def test_load_penalty(self) -> None:
        """Beyond the free load a node loses R in a straight line, until calls go to the next best."""
        paths = {("c/r", "b"): Quality(0.02, 20.0)}
        better = r_factor(0.0, 20.0 + PACKET_MS) - r_factor(0.02, 20.0 + PACKET_MS)
        rule = Rule(margin_r=0.0)
        tips = rule.free_load + (1 - rule.free_load) * better / rule.load_penalty
        priors = {("r", ""): Quality(0.0, 20.0)}
        for load, expected in [(tips - 0.01, "a"), (tips + 0.01, "b")]:
            nodes = (a_node("a", capacity=1000, sessions=int(load * 1000)), a_node("b"))
            chooser = Chooser(a_snapshot(*nodes, paths=paths, priors=priors, rule=rule))
            self.assertEqual(set(chooser.shares("c/r")), {expected})

    def test_weight(self) -> None:
        """Equals get calls by their weights."""
        shares = Chooser(a_snapshot(a_node("a", weight=3), a_node("b"), a_node("c"))).shares("c/r")
        self.assertGreater(shares["a"], shares["b"] + 0.1)

    def test_distance(self) -> None:
        """Where nobody has reported, a site's prior decides: of this region, of all, and else whether it is near."""
        nodes = (a_node("a", site="east"), a_node("b", site="west"))
        rule = Rule(margin_r=0.5)
        self.assertEqual(set(Chooser(a_snapshot(*nodes, rule=rule)).shares("c/west")), {"b"})
        priors = {("west", "east"): Quality(0.0, 5.0), ("", "west"): Quality(0.0, 100.0)}
        self.assertEqual(set(Chooser(a_snapshot(*nodes, rule=rule, priors=priors)).shares("c/west")), {"a"})
        everywhere = {("", ""): Quality(0.01, 50.0)}
        board = Board(a_snapshot(*nodes, priors=everywhere))
        self.assertAlmostEqual(board.rating("c/west", "a"), r_factor(0.01, 50.0 + PACKET_MS))

    def test_without_sides(self) -> None:
        """A call of which nothing is known goes by load."""
        nodes = (a_node("a", site="east", sessions=60), a_node("b", site="west", sessions=20))
        self.assertEqual(set(Chooser(a_snapshot(*nodes)).shares()), {"b"})

    @given(st.lists(st.tuples(st.integers(0, 100), st.floats(0, 0.5), st.floats(0, 400)), min_size=1, max_size=12),
           st.integers(0, 1000))
    def test_within_the_margin(self, rows: list[tuple[int, float, float]], seed: int) -> None:
        """Whoever is chosen has room, and a score within the margin of the best."""
        nodes = [a_node(f"n{number}", sessions=sessions) for number, (sessions, _, _) in enumerate(rows)]
        paths = {("c/r", f"n{number}"): Quality(loss, delay) for number, (_, loss, delay) in enumerate(rows)}
        snapshot = a_snapshot(*nodes, paths=paths)
        chosen = Board(snapshot).choose(Wanted(sides=("c/r",)), Placements(), Random(seed).random)
        scores = {node.id: self.score(snapshot, node) for node in nodes if node.sessions < node.capacity}
        if not scores:
            self.assertEqual(chosen, NoNode(Reason.FULL))
        else:
            assert isinstance(chosen, Chosen)
            self.assertGreaterEqual(scores[chosen.node.id], max(scores.values()) - snapshot.rule.margin_r - 1e-9)

    def score(self, snapshot: Snapshot, node: MediaNode) -> float:
        quality, rule = snapshot.paths["c/r", node.id], snapshot.rule
        over = max(0.0, node.sessions / node.capacity - rule.free_load) / (1 - rule.free_load)
        return r_factor(quality.loss, quality.delay_ms + PACKET_MS) - rule.load_penalty * over


class OtherPoliciesTests(SynchronousTestCase):
    def chooser(self, policy: Policy, *nodes: MediaNode) -> Chooser:
        return Chooser(a_snapshot(*nodes, rule=Rule(policy=policy)))

    def test_random(self) -> None:
        """random: each the same share, whatever its weight, load and ways."""
        chooser = self.chooser("random", a_node("a", weight=9), a_node("b", sessions=99))
        self.assertApproximates(chooser.shares()["a"], 0.5, 0.05)

    def test_weighted(self) -> None:
        """weighted: by weight alone."""
        chooser = self.chooser("weighted", a_node("a", weight=3), a_node("b", sessions=99))
        self.assertApproximates(chooser.shares()["a"], 0.75, 0.05)

    def test_round_robin(self) -> None:
        """round-robin: one after the other, by id, also from one snapshot to the next."""
        chooser = self.chooser("round-robin", a_node("b"), a_node("c"), a_node("a"))
        self.assertEqual([chooser.choose() for _ in range(4)], ["a", "b", "c", "a"])
        chooser.board = Board(chooser.board.snapshot)
        self.assertEqual(chooser.choose(), "b")

    def test_hash(self) -> None:
        """hash: by Call-ID, the same from everybody; by weight; where that node cannot, the next one."""
        nodes = (a_node("a"), a_node("b", weight=2), a_node("c"))
        first, second = self.chooser("hash", *nodes), self.chooser("hash", *reversed(nodes))
        calls = [f"{number}@phone" for number in range(300)]
        places = [first.choose(call_id=call) for call in calls]
        self.assertEqual(places, [second.choose(call_id=call) for call in calls])
        self.assertApproximates(places.count("b") / len(calls), 0.5, 0.1)
        full = self.chooser("hash", nodes[0], evolve(nodes[1], sessions=100), nodes[2])
        moved = [full.choose(call_id=call) for call in calls]
        self.assertEqual({(old, new) for old, new in zip(places, moved, strict=True) if old != new}, {("b", "c")})

    def test_least_loaded(self) -> None:
        """least-loaded: the smallest share of its capacity in use, own calls counted; by weight among equals."""
        nodes = (a_node("a", sessions=9, capacity=90), a_node("b", sessions=1, capacity=10))
        chooser = self.chooser("least-loaded", *nodes)
        self.assertEqual(set(chooser.shares()), {"a", "b"})
        chooser.placements.placed("a", 0.0)
        self.assertEqual(set(chooser.shares()), {"b"})


class PlacementsTests(SynchronousTestCase):
    def test_in_the_poll(self) -> None:
        """A call placed before a poll is in that poll's figure; clocks of two hosts are never compared."""
        placements = Placements()
        for moment in (10.0, 11.0, 12.0):
            placements.placed("a", moment)
        # polled 1.2 s before it was published, and we follow it at 12.5 by our own clock
        followed = a_snapshot(a_node("a", polled_at=7000.0 - 1.2), published_at=7000.0)
        placements.followed(followed, 11.7 + ON_THE_WAY_SECONDS)
        self.assertEqual(placements.count("a"), 2)
        placements.followed(followed, 13.2 + ON_THE_WAY_SECONDS)
        self.assertEqual(placements.count("a"), 0)

    def test_never_polled(self) -> None:
        """Calls on a node that was not polled yet stay counted, and others are not mixed up with them."""
        placements = Placements()
        placements.placed("a", 10.0)
        placements.placed("b", 10.0)
        placements.followed(a_snapshot(a_node("a"), a_node("b", polled_at=99.9)), 20.0)
        self.assertEqual((placements.count("a"), placements.count("b"), placements.count("c")), (1, 0, 0))

    def test_node_gone(self) -> None:
        """A node that is not there any more takes its calls with it."""
        placements = Placements()
        placements.placed("a", 10.0)
        placements.followed(a_snapshot(a_node("b")), 11.0)
        self.assertEqual(placements.counts, {})

    def test_lapse(self) -> None:
        """Where nobody polls any more, calls count for a while only; a full node is chosen again then."""
        chooser = Chooser(a_snapshot(a_node("a", capacity=2)))
        for moment in (10.0, 11.0):
            chooser.placements.placed("a", moment)
        self.assertEqual(chooser.choose(), Reason.FULL)
        chooser.placements.lapse(10.0 + LAPSE_SECONDS)
        self.assertEqual((chooser.choose(), chooser.placements.count("a")), ("a", 1))

    def test_region_of(self) -> None:
        """The region of an access group stands behind its last slash; there is none where nothing is known."""
        self.assertEqual([region_of(group) for group in ("tel/north", "AS1/", "")], ["north", "", ""])
