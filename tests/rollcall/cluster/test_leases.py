"""The lease of a node and those of the others, over time."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from rollcall.cluster.config import ClusterConfig
from rollcall.cluster.leases import Leases
from rollcall.cluster.nodes import Node, decode_lease, drain_key, encode_lease, epoch_key, lease_key
from rollcall.cluster.own_lease import CannotJoin
from rollcall.cluster.redis import RedisUnavailable
from tests.rollcall.cluster.lease_redis import LeaseRedis

NOW = 1000.0
CONFIG = ClusterConfig(lease_seconds=3, renew_seconds=1)


@contextmanager
def heard(said: list[str]) -> Iterator[None]:
    """Have what is logged said here, too."""

    @implementer(ILogObserver)
    def observe(event: LogEvent) -> None:
        said.append(formatEvent(event))

    globalLogPublisher.addObserver(observe)
    try:
        yield
    finally:
        globalLogPublisher.removeObserver(observe)


class LeasesCase(SynchronousTestCase):
    """Several nodes that share one Redis."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(NOW)
        self.redis = LeaseRedis(self.clock)
        self.over: list[str] = []
        self.started: list[Leases] = []
        self.draining: set[str] = set()

    def leases(self, name: str, epoch: int = 5) -> Leases:
        """Return the leases as a node sees them, not started."""
        node = Node(node=name, epoch=epoch, host="192.0.2.1", port=5070, started_at=NOW)

        def me() -> Node:
            return evolve(node, draining=name in self.draining)

        leases = Leases(self.clock, self.redis, CONFIG, me, self.clock.seconds, lambda: self.over.append(name))  # type: ignore[arg-type]
        self.redis.changed.append(leases.leases_changed)
        return leases

    def start(self, name: str, epoch: int = 5) -> Leases:
        """Return a started node."""
        leases = self.leases(name, epoch)
        self.successResultOf(Deferred.fromCoroutine(leases.start()))
        self.pass_(0.2)
        return leases

    def pass_(self, seconds: float) -> None:
        """Let time pass in small steps."""
        for _ in range(round(seconds * 20)):
            self.clock.advance(0.05)

    def kill(self, leases: Leases) -> None:
        """Have a node do nothing any more."""
        self.redis.changed.remove(leases.leases_changed)
        for call in (leases._next_beat, leases._next_look, leases._next_end):
            if call is not None and call.active():
                call.cancel()

    def names(self, leases: Leases) -> list[str]:
        """Return who lives."""
        return [node.node for node in leases.nodes()]


class StartTests(LeasesCase):
    def test_each_other(self) -> None:
        """Nodes that have started know each other, whoever came first."""
        a, b = self.start("a"), self.start("b")
        self.assertEqual((self.names(a), self.names(b)), (["a", "b"], ["a", "b"]))
        self.assertTrue(a.is_living("b", 5))
        self.assertEqual((a.problem, b.problem), (None, None))

    def test_same_name(self) -> None:
        """A second node of the same name cannot start while the first lives, and the first goes on."""
        first = self.start("a")
        twin = self.leases("a", 6)
        second = Deferred.fromCoroutine(twin.start())
        self.pass_(5)
        self.assertEqual((first.is_member, twin.is_member), (True, False))
        self.redis.values.pop(lease_key("a"))
        self.pass_(1)
        self.assertIn("there is a node a already, reached at ", str(self.failureResultOf(second, CannotJoin).value))
        self.assertEqual((first.problem, self.over), (None, []))

    def test_after_death(self) -> None:
        """A node that was killed starts as soon as the lease of its earlier life has lapsed, under a new epoch."""
        self.kill(self.start("a"))
        again = self.leases("a", 6)
        starting = Deferred.fromCoroutine(again.start())
        self.pass_(2)
        self.assertNoResult(starting)
        self.pass_(1.2)
        self.successResultOf(starting)
        self.assertEqual(again.problem, None)

    def test_clock_gone_back(self) -> None:
        """No life gets the epoch of an earlier one, even when nobody but Redis remembers that."""
        self.successResultOf(Deferred.fromCoroutine(self.start("a").stop()))
        refused = self.failureResultOf(Deferred.fromCoroutine(self.leases("a", 4).start()), CannotJoin)
        self.assertIn("node a has had epoch 5, but this process has 4", str(refused.value))
        self.assertEqual(refused.value.greatest_epoch, 5)

    def test_without_redis(self) -> None:
        """A node starts without a lease when Redis is away, says so, and takes it when Redis is back."""
        self.redis.is_away = True
        leases = self.leases("a")
        joined: list[bool] = []
        leases.on_nodes.append(lambda: joined.append(leases.is_member))
        starting = Deferred.fromCoroutine(leases.start())
        self.pass_(4)
        self.successResultOf(starting)
        self.assertEqual((leases.problem, any(joined)), ("it has no lease yet", False))
        self.redis.is_away = False
        self.pass_(1)
        self.assertTrue(any(joined))
        self.assertEqual((leases.problem, self.names(self.start("b"))), (None, ["a", "b"]))

    def late(self) -> Leases:
        """Return the leases of a node that has started without Redis, and found the lease of another life then."""
        leases = self.leases("a", 6)
        self.redis.is_away = True
        starting = Deferred.fromCoroutine(leases.start())
        self.pass_(4)
        self.successResultOf(starting)
        self.redis.is_away = False
        self.redis.put(lease_key("a"), encode_lease(Node(node="a", epoch=5, host="192.0.2.1", port=5070)), 3000)
        return leases

    def test_late_after_death(self) -> None:
        """Who could not take its lease at the start has it when that of its earlier life has lapsed."""
        leases = self.late()
        self.pass_(2)
        self.assertFalse(leases.is_member)
        self.pass_(2)
        self.assertEqual((leases.is_member, self.over), (True, []))

    def test_late_and_same_name(self) -> None:
        """It does not take it from another node that lives under its name, but ends."""
        leases = self.late()
        lease, _ = self.redis.values[lease_key("a")]
        for _ in range(6):
            self.pass_(1)
            self.assertEqual(self.redis.get(lease_key("a")), lease)
            self.redis.put(lease_key("a"), lease, 3000)
        self.assertEqual((leases.is_member, self.over), (False, ["a"]))

    def test_skew(self) -> None:
        """A clock that differs from that of Redis is warned of."""
        said: list[str] = []
        self.enterContext(heard(said))
        self.redis.skew = -60.0
        self.start("a")
        self.assertIn("this clock is 60.0 s ahead of that of Redis: bindings lapse sooner or later than phones were "
                      "told", said)


class LifeTests(LeasesCase):
    def setUp(self) -> None:
        super().setUp()
        self.a, self.b = self.start("a"), self.start("b")
        self.ended: list[Any] = []
        self.a.on_change.append(self.ended.append)
        self.shown: list[list[str]] = []
        self.a.on_nodes.append(lambda: self.shown.append(self.names(self.a)))

    def test_lives_on(self) -> None:
        """Leases are renewed for as long as their nodes live."""
        self.pass_(60)
        self.assertEqual((self.names(self.a), self.names(self.b), self.ended), (["a", "b"], ["a", "b"], []))

    def test_killed(self) -> None:
        """A node that does not renew its lease is dead for the others when that lapses, and they are told once."""
        self.pass_(0.5)
        self.kill(self.b)
        lapses_at = self.redis.values[lease_key("b")][1]
        self.pass_(lapses_at - self.clock.seconds() - 0.05)
        self.assertTrue(self.a.is_living("b", 5))
        self.pass_(0.15)
        self.assertFalse(self.a.is_living("b", 5))
        self.pass_(60)
        self.assertEqual((self.ended, self.shown), ([frozenset({("b", 5)})], [["a"]]))
        self.assertEqual(self.redis.members, {b"a"})

    def test_stopped(self) -> None:
        """A node that ends in order is known to be dead at once."""
        self.successResultOf(Deferred.fromCoroutine(self.b.stop()))
        self.pass_(0.2)
        self.assertEqual((self.ended, self.names(self.a)), ([frozenset({("b", 5)})], ["a"]))
        self.start("b", 6)
        self.assertEqual((self.a.is_living("b", 6), self.a.is_living("b", 5)), (True, False))

    def test_refused(self) -> None:
        """A node that refuses two connections is dead at once, though its lease would last for seconds."""
        self.kill(self.b)
        self.a.suspect("b", 5, "closed")
        self.a.suspect("b", 5, "refused")
        self.pass_(0.2)
        self.assertTrue(self.a.is_living("b", 5))
        self.a.suspect("b", 5, "connection refused")
        self.assertEqual((self.ended, self.redis.get(lease_key("b"))), ([frozenset({("b", 5)})], None))

    def test_replaced(self) -> None:
        """A node whose later life was met is not waited for: the earlier one is over at once."""
        self.kill(self.b)
        self.a.suspect("b", 5, "replaced")
        self.assertEqual((self.ended, self.redis.get(lease_key("b"))), ([frozenset({("b", 5)})], None))
        self.assertFalse(self.a.is_living("b", 5))

    def test_refused_and_living(self) -> None:
        """One that has refused and lives nevertheless has its lease again, and lives again for all."""
        for _ in range(2):
            self.a.suspect("b", 5, "refused")
        self.assertFalse(self.a.is_living("b", 5))
        self.pass_(4.2)
        self.assertTrue(self.a.is_living("b", 5))
        self.assertEqual(self.over, [])

    def test_redis_away(self) -> None:
        """While Redis is away everybody lives on, and afterwards too, for all had time to renew their leases."""
        self.redis.is_away = True
        self.pass_(30)
        self.assertEqual((self.names(self.a), self.ended), (["a", "b"], []))
        self.assertEqual(self.a.problem, "no answer")
        self.redis.is_away = False
        self.pass_(10)
        self.assertEqual((self.names(self.a), self.ended, self.a.problem, self.over), (["a", "b"], [], None, []))

    def test_died_while_redis_was_away(self) -> None:
        """Who has died meanwhile is found dead after the others had time to renew their leases."""
        self.redis.is_away = True
        self.kill(self.b)
        self.pass_(30)
        self.redis.is_away = False
        self.pass_(4)
        self.assertTrue(self.a.is_living("b", 5))
        self.pass_(2)
        self.assertFalse(self.a.is_living("b", 5))

    def test_redis_emptied(self) -> None:
        """A Redis that comes back with nothing kills nobody, and soon knows all again."""
        self.redis.values.clear()
        self.redis.members.clear()
        self.a.redis_connected()
        self.pass_(2)
        self.assertEqual((self.names(self.a), self.ended, self.redis.members), (["a", "b"], [], {b"a", b"b"}))

    def test_lapses_soon_after(self) -> None:
        """A lease that was nearly over when Redis came back was to be renewed meanwhile: its node lives on."""
        value, _ = self.redis.values[lease_key("b")]
        self.redis.put(lease_key("b"), value, 300)
        self.a.redis_connected()
        self.pass_(0.2)
        self.assertIsNotNone(self.redis.get(lease_key("b")))
        self.pass_(0.2)
        self.assertIsNone(self.redis.get(lease_key("b")))
        self.pass_(2)
        self.assertEqual((self.names(self.a), self.ended), (["a", "b"], []))

    def test_only_read(self) -> None:
        """While Redis reads and does not write no lease is renewed, and those that lapse prove nothing."""
        self.redis.is_full = True
        self.pass_(10)
        self.assertIsNone(self.redis.get(lease_key("b")))
        self.assertEqual((self.names(self.a), self.a.problem), (["a", "b"], "OOM command not allowed"))
        self.kill(self.b)
        self.redis.is_full = False
        self.pass_(4)
        self.assertEqual((self.names(self.a), self.ended), (["a", "b"], []))
        self.pass_(2)
        self.assertEqual(self.names(self.a), ["a"])

    def test_emptied(self) -> None:
        """Nobody dies because somebody has emptied Redis."""
        self.redis.values.clear()
        for node in (self.a, self.b):
            node.leases_changed()
            node.redis_connected()
        self.pass_(0.5)
        self.assertEqual((self.names(self.a), self.names(self.b), self.ended), (["a", "b"], ["a", "b"], []))

    def test_renewed_at_once(self) -> None:
        """Who has a lease renews it as soon as Redis is back, and does not wait for the next beat."""
        self.redis.values.clear()
        self.b.redis_connected()
        self.assertIsNotNone(self.redis.get(lease_key("b")))

    def test_one_server_away(self) -> None:
        """Of a Cluster one server may be away: the nodes whose leases it has live on, and others that die are seen."""
        c = self.start("c")
        self.redis.lost = {lease_key("b"), b"nodes"}
        self.kill(c)
        self.pass_(10)
        self.assertEqual((self.names(self.a), self.ended), (["a", "b"], [frozenset({("c", 5)})]))

    def test_heard_of(self) -> None:
        """A life that a binding names is looked for at once: one without a lease is over."""
        self.assertTrue(self.a.is_living("b", 6))
        self.assertTrue(self.a.is_living("x", 1))
        self.pass_(0.2)
        self.assertEqual((self.a.is_living("b", 6), self.a.is_living("x", 1)), (False, False))
        self.assertEqual(self.ended, [frozenset({("b", 6), ("x", 1)})])

    def test_no_lease(self) -> None:
        """What is no lease, or that of another name, is none."""
        self.redis.members |= {b"x", b"y", b"\xff"}
        self.redis.put(lease_key("x"), b"no JSON", 10_000)
        self.redis.values[lease_key("y")] = self.redis.values[lease_key("b")]
        self.pass_(1)
        self.assertEqual(self.names(self.a), ["a", "b"])

    def test_listener_breaks(self) -> None:
        """One listener that breaks keeps the news from no other."""
        self.a.on_change.insert(0, lambda ended: ended[0])  # type: ignore[index]
        self.successResultOf(Deferred.fromCoroutine(self.b.stop()))
        self.pass_(0.2)
        self.assertEqual(len(self.ended), 1)
        self.assertEqual(len(self.flushLoggedErrors(TypeError)), 1)


class DeclaredOverTests(LeasesCase):
    def setUp(self) -> None:
        super().setUp()
        self.a, self.b = self.start("a"), self.start("b")

    def fence(self, node: str, epoch: int) -> bool:
        """Have node a declare a life over."""
        return self.successResultOf(Deferred.fromCoroutine(self.a.fence(node, epoch)))

    def test_living(self) -> None:
        """Nobody who lives is declared over, nor one who lives without our knowing it yet."""
        self.assertFalse(self.fence("b", 5))
        for _ in range(2):
            self.a.suspect("b", 5, "refused")
        self.b.announce()
        self.assertFalse(self.fence("b", 5))
        self.assertEqual(self.over, [])

    def test_goes_on_too_late(self) -> None:
        """One that was held up for so long that his life was declared over ends when he goes on."""
        self.kill(self.b)
        self.pass_(5)
        self.assertTrue(self.fence("b", 5))
        self.assertTrue(self.fence("b", 5))
        self.b._beat()
        self.assertEqual(self.over, ["b"])
        self.assertNotEqual(self.b.problem, None)
        self.pass_(5)
        self.assertFalse(self.a.is_living("b", 5))
        self.assertEqual(self.over, ["b"])

    def test_later_life(self) -> None:
        """So does one that has had a later life meanwhile, even when that is over and has left no lease."""
        self.kill(self.b)
        self.pass_(5)
        self.kill(self.start("b", 6))
        self.redis.values.pop(lease_key("b"))
        self.b._beat()
        self.assertEqual((self.over, self.redis.get(lease_key("b"))), (["b"], None))

    def test_later_life_lives(self) -> None:
        """While the later life lives its lease is left alone."""
        self.kill(self.b)
        self.pass_(5)
        self.start("b", 6)
        self.b._beat()
        lease = decode_lease(self.redis.get(lease_key("b")) or b"")
        self.assertEqual((self.over, lease.epoch), (["b"], 6))

    def test_epoch_remembered(self) -> None:
        """The greatest epoch outlives the lease."""
        self.assertEqual(self.redis.get(epoch_key("b")), b"5")


class WishTests(LeasesCase):
    def setUp(self) -> None:
        super().setUp()
        self.a, self.b = self.start("a"), self.start("b")
        self.wishes: list[bool] = []
        self.b.on_wish.append(self.wishes.append)

    def wish(self, name: str, drained: bool) -> bool:
        """Have node a know that a node shall be drained."""
        return self.successResultOf(Deferred.fromCoroutine(self.a.wish(name, drained)))

    def test_drain(self) -> None:
        """A node hears within a renewal that it shall be drained, and that it need not be any more."""
        self.assertTrue(self.wish("b", True))
        self.pass_(1)
        self.assertEqual(self.wishes[-1:], [True])
        self.assertTrue(self.wish("b", False))
        self.pass_(1)
        self.assertEqual(self.wishes[-1:], [False])

    def test_ourselves(self) -> None:
        """Of itself a node hears it at once."""
        wishes: list[bool] = []
        self.a.on_wish.append(wishes.append)
        self.wish("a", True)
        self.assertEqual(wishes, [True])

    def test_next_life(self) -> None:
        """The wish is for one life: the next one is not drained."""
        self.wish("b", True)
        self.kill(self.b)
        self.pass_(5)
        again = self.leases("b", 6)
        again.on_wish.append(self.wishes.append)
        self.successResultOf(Deferred.fromCoroutine(again.start()))
        self.pass_(2)
        self.assertEqual(self.wishes[-1:], [False])

    def test_nobody(self) -> None:
        """A node that does not live cannot be drained."""
        self.assertFalse(self.wish("x", True))
        self.assertEqual(self.redis.get(drain_key("x")), None)

    def test_away(self) -> None:
        """Whoever wants it while Redis is away is told so."""
        self.redis.is_away = True
        self.failureResultOf(Deferred.fromCoroutine(self.a.wish("b", True)), RedisUnavailable)

    def test_said(self) -> None:
        """That a node drains is told by its lease at once."""
        self.draining.add("b")
        self.b.announce()
        self.pass_(0.2)
        node = self.a.node("b")
        assert node is not None
        self.assertTrue(node.draining)
