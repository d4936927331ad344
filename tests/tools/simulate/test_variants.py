"""The rule without a part of it."""

from random import Random

from twisted.trial.unittest import SynchronousTestCase

from rollcall.media.selection import Board, Chosen, NoNode, Placements, Wanted
from rollcall.media.snapshot import MediaNode, Quality, Rule, Snapshot
from tools.simulate.variants import Candidate, Chooser, PlainBoard, any_of_them, least_loaded, less_loaded_of_two

SIDES = ("carrier1/west", "carrier2/east")


def a_snapshot(random: Random, rule: Rule) -> Snapshot:
    """Return one of eight nodes of random load and ways."""
    nodes = {f"n{number}": MediaNode(id=f"n{number}", address="192.0.2.1:1", capacity=100,
                                     sessions=random.randrange(110)) for number in range(8)}
    paths = {(side, node): Quality(random.uniform(0.0, 0.1), random.uniform(10.0, 150.0))
             for side in SIDES for node in nodes}
    return Snapshot(rule=rule, nodes=nodes, paths=paths)


def chosen(found: Chosen | NoNode) -> str:
    """Return the node's id."""
    assert isinstance(found, Chosen)
    return found.node.id


class PlainBoardTests(SynchronousTestCase):
    """It is the rule, so that leaving something out leaves nothing else out."""

    def test_best(self) -> None:
        """Without a margin it chooses what the registrars' board chooses."""
        random, wanted = Random(1), Wanted(sides=SIDES)
        for _ in range(200):
            snapshot = a_snapshot(random, Rule(margin_r=0.0))
            placements = Placements()
            placements.placed("n1", 0.0)
            plain = chosen(PlainBoard(snapshot).choose(wanted, placements, random.random))
            self.assertEqual(plain, chosen(Board(snapshot).choose(wanted, placements, random.random)))

    def test_within_the_margin(self) -> None:
        """With a margin both draw the same nodes about equally often."""
        random, wanted = Random(2), Wanted(sides=SIDES)
        for _ in range(20):
            snapshot = a_snapshot(random, Rule(margin_r=10.0))
            counts = [dict.fromkeys(snapshot.nodes, 0) for _ in range(2)]
            boards: tuple[Chooser, Chooser] = (PlainBoard(snapshot), Board(snapshot))
            for _ in range(400):
                for count, board in zip(counts, boards, strict=True):
                    count[chosen(board.choose(wanted, Placements(), random.random))] += 1
            for node in snapshot.nodes:
                self.assertLess(abs(counts[0][node] - counts[1][node]), 100, (snapshot, counts))

    def test_full(self) -> None:
        """Full nodes, and those that have refused, get no calls."""
        snapshot = Snapshot(nodes={"n1": MediaNode(id="n1", address="192.0.2.1:1", capacity=1, sessions=1),
                                   "n2": MediaNode(id="n2", address="192.0.2.2:1", capacity=1)})
        board, random = PlainBoard(snapshot), Random(3).random
        self.assertEqual(chosen(board.choose(Wanted(), Placements(), random)), "n2")
        self.assertIsInstance(board.choose(Wanted(without=frozenset(["n2"])), Placements(), random), NoNode)


class PickTests(SynchronousTestCase):
    """The last step."""

    def setUp(self) -> None:
        self.candidates = [Candidate(MediaNode(id=name, address="192.0.2.1:1"), load, 90.0)
                           for name, load in (("a", 0.1), ("b", 0.2), ("c", 0.3))]

    def test_picks(self) -> None:
        """One takes the least loaded, one any, and one never the most loaded of three."""
        random = Random(1).random
        names = {pick: {pick(self.candidates, random).node.id for _ in range(100)}
                 for pick in (least_loaded, any_of_them, less_loaded_of_two)}
        self.assertEqual(names, {least_loaded: {"a"}, any_of_them: {"a", "b", "c"}, less_loaded_of_two: {"a", "b"}})

    def test_only_one(self) -> None:
        """Where there is one only, it is taken."""
        for pick in (least_loaded, any_of_them, less_loaded_of_two):
            self.assertEqual(pick(self.candidates[:1], Random(1).random).node.id, "a")
