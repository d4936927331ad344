"""What is known of the lives of other nodes."""

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from rollcall.cluster.config import ClusterConfig
from rollcall.cluster.lives import MAX_REMEMBERED, Lives
from rollcall.cluster.nodes import Ended, Node

NOW = 1000.0
ME = Node(node="me", epoch=50, host="192.0.2.9", port=5070, started_at=NOW)
A = Node(node="a", epoch=5, host="192.0.2.1", port=5070, started_at=NOW - 100)
CONFIG = ClusterConfig(lease_seconds=3, renew_seconds=1)


class LivesTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.heard = 0
        self.lives = Lives(CONFIG, lambda: ME, self.hear)
        self.lives.learn("a", A, NOW)

    def hear(self) -> None:
        """Count that somebody unknown was spoken of."""
        self.heard += 1

    def test_ourselves(self) -> None:
        """This life of ours goes on, whatever others say; no earlier one does, and it ended when this one began."""
        self.assertTrue(self.lives.is_living("me", 50))
        self.assertFalse(self.lives.is_living("me", 49))
        self.assertEqual(self.lives.ended_at("me", 49), NOW)
        self.assertEqual(self.lives.node("me"), ME)

    def test_living(self) -> None:
        """Who has a lease lives, in the life that it names."""
        self.assertTrue(self.lives.is_living("a", 5))
        self.assertFalse(self.lives.is_living("a", 4))
        self.assertEqual((self.lives.node("a"), self.lives.nodes()), (A, (A, ME)))
        self.assertEqual((self.lives.ended_at("a", 5), self.lives.ended_at("a", 4)), (None, A.started_at))

    def test_lapsed(self) -> None:
        """Who has no lease any more is dead from then on."""
        self.lives.learn("a", None, NOW + 4)
        self.assertFalse(self.lives.is_living("a", 5))
        self.assertEqual((self.lives.ended_at("a", 5), self.lives.node("a")), (NOW + 4, None))
        self.assertEqual((self.lives.nodes(), self.lives.news), ((ME,), {("a", 5)}))

    def test_given_back(self) -> None:
        """A tombstone says when a life ended, but never a time to come."""
        for ended_at, known in ((NOW + 2, NOW + 2), (NOW + 9, NOW + 4)):
            lives = Lives(CONFIG, lambda: ME, self.hear)
            lives.learn("a", A, NOW)
            lives.learn("a", Ended(node="a", epoch=5, ended_at=ended_at), NOW + 4)
            self.assertFalse(lives.is_living("a", 5))
            self.assertEqual(lives.ended_at("a", 5), known)

    def test_older_tombstone(self) -> None:
        """The tombstone of an earlier life ends no later one."""
        self.lives.learn("a", Ended(node="a", epoch=4, ended_at=NOW), NOW)
        self.assertTrue(self.lives.is_living("a", 5))

    def test_new_life(self) -> None:
        """A node that lives anew has ended its life before; a lease of an old life brings that back no more."""
        again = evolve(A, epoch=6, started_at=NOW + 1)
        self.lives.learn("a", again, NOW + 2)
        self.lives.learn("a", A, NOW + 3)
        self.assertEqual((self.lives.is_living("a", 5), self.lives.is_living("a", 6)), (False, True))
        self.assertEqual((self.lives.ended_at("a", 5), self.lives.news), (NOW + 1, {("a", 5)}))

    def test_after_all(self) -> None:
        """Who was held up for longer than his lease, and goes on, lives again: his connections are still there."""
        self.lives.learn("a", None, NOW + 4)
        self.lives.learn("a", A, NOW + 5)
        self.assertTrue(self.lives.is_living("a", 5))
        self.assertEqual(self.lives.ended_at("a", 5), None)

    def test_not_read(self) -> None:
        """After leases could not be read, one that is missing proves nothing until all had time to renew theirs."""
        self.lives.unsure()
        self.lives.learn("a", None, NOW + 10)
        self.lives.learn("a", None, NOW + 13.9)
        self.assertTrue(self.lives.is_living("a", 5))
        self.lives.learn("a", None, NOW + 14)
        self.assertFalse(self.lives.is_living("a", 5))

    def test_one_not_read(self) -> None:
        """That one lease could not be read makes us doubt about no other."""
        self.lives.learn("b", evolve(A, node="b"), NOW)
        self.lives.unsure(("b", "unknown"))
        for name in ("a", "b"):
            self.lives.learn(name, None, NOW + 4)
        self.assertEqual((self.lives.is_living("a", 5), self.lives.is_living("b", 5)), (False, True))

    def test_refused_twice(self) -> None:
        """Who refuses two connections within the time of a renewal is dead, and a lease that is left proves nothing."""
        self.assertFalse(self.lives.refused("a", 5, NOW))
        self.assertTrue(self.lives.refused("a", 5, NOW + 0.5))
        self.lives.learn("a", A, NOW + 1)
        self.assertFalse(self.lives.is_living("a", 5))
        self.lives.learn("a", A, NOW + 4)
        self.assertTrue(self.lives.is_living("a", 5))

    def test_refused_seldom(self) -> None:
        """One refusal now and then ends nobody, nor does one of an earlier life."""
        refusals = [self.lives.refused("a", 5, NOW + at) for at in (0, 2, 4)]
        refusals += [self.lives.refused("a", 4, NOW + at) for at in (5, 5.1)]
        refusals += [self.lives.refused("nobody", 4, NOW + at) for at in (5, 5.1)]
        self.assertEqual(refusals, [False] * 7)
        self.assertTrue(self.lives.is_living("a", 5))

    def test_replaced(self) -> None:
        """A life that was replaced by a later one is over, whatever lease is left; nobody who is later is."""
        self.assertFalse(self.lives.replaced("a", 4, NOW))
        self.assertTrue(self.lives.replaced("a", 5, NOW))
        self.assertFalse(self.lives.replaced("a", 5, NOW))
        self.lives.learn("a", A, NOW + 1)
        self.assertFalse(self.lives.is_living("a", 5))
        self.lives.learn("a", evolve(A, epoch=6), NOW + 1)
        self.assertTrue(self.lives.is_living("a", 6))

    def test_heard_of(self) -> None:
        """One that only a binding names lives until its lease was looked for, which is asked for at once."""
        for node, epoch in (("b", 1), ("a", 6)):
            self.assertTrue(self.lives.is_living(node, epoch))
        self.assertEqual((self.heard, self.lives.names), (2, {"a", "b"}))
        self.lives.learn("b", evolve(A, node="b", epoch=1), NOW)
        self.lives.judge(self.lives.heard_of, NOW)
        self.assertEqual((self.lives.is_living("b", 1), self.lives.is_living("a", 6)), (True, False))
        self.assertEqual((self.lives.ended_at("a", 6), self.heard, self.lives.names), (NOW, 2, {"a", "b"}))

    def test_not_forgotten_at_once(self) -> None:
        """What is remembered of lives that are over has a bound, and the oldest goes first."""
        for epoch in range(MAX_REMEMBERED + 1):
            self.lives.learn("b", Ended(node="b", epoch=epoch, ended_at=NOW), NOW)
        self.assertEqual((self.lives.ended_at("b", 0), self.lives.ended_at("b", 1)), (None, NOW))
        for epoch in range(2 * MAX_REMEMBERED):
            self.lives.is_living("c", epoch)
        self.assertEqual(len(self.lives.heard_of), MAX_REMEMBERED)
