"""Following the master's snapshots."""

from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from rollcall.cluster.snapshots import POLL_SECONDS, Publisher
from rollcall.media.following import SNAPSHOTS, Following
from rollcall.media.snapshot import (
    MediaNode,
    NodeState,
    Quality,
    Snapshot,
    difference,
    encode_change,
    encode_snapshot,
)
from tests.rollcall.cluster.stream_redis import StreamRedis

NODE = MediaNode(id="m1", address="192.0.2.1:22222")
FIRST = Snapshot(published_at=5.0, nodes={"m1": NODE}, paths={("de/x", "m1"): Quality(0.01, 20.0)},
                 tenants={"example.com": "gold"}, priors={("", ""): Quality(0.0, 50.0)})


class FollowingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.redis = StreamRedis(self.clock)
        self.publisher = Publisher(self.redis, SNAPSHOTS, 3)
        self.applied: list[Snapshot] = []
        self.following = Following(self.clock, self.redis, self.applied.append)
        self.following.start()
        self.addCleanup(lambda: self.successResultOf(Deferred.fromCoroutine(self.following.stop())))

    def publish(self, snapshot: Snapshot, old: Snapshot | None = None) -> None:
        """Publish a snapshot, or what is different from an old one."""
        sending = (self.publisher.whole(encode_snapshot(snapshot)) if old is None
                   else self.publisher.change(encode_change(difference(old, snapshot))))
        self.successResultOf(Deferred.fromCoroutine(sending))

    def test_before_any(self) -> None:
        """Before a master has published there are no nodes, and nothing is applied."""
        self.clock.advance(POLL_SECONDS)
        self.assertEqual((self.following.snapshot, self.applied), (Snapshot(), []))
        self.assertFalse(self.following.is_fresh)
        self.assertIsNone(self.following.age(self.clock.seconds()))

    def test_wholes_and_changes(self) -> None:
        """A whole and the changes behind it give the master's snapshot, each applied once."""
        self.publish(FIRST)
        self.clock.advance(POLL_SECONDS)
        second = evolve(FIRST, published_at=6.0, nodes={"m1": evolve(NODE, state=NodeState.DOWN)}, paths={})
        self.publish(second, FIRST)
        self.clock.advance(POLL_SECONDS)
        self.clock.advance(POLL_SECONDS)
        self.assertEqual(self.applied, [FIRST, second])
        self.assertEqual(self.following.snapshot, second)
        self.assertEqual((self.following.version, self.following.gaps), ("3-1", 0))
        self.assertTrue(self.following.is_fresh)

    def test_redis_away(self) -> None:
        """While Redis is away the last snapshot stays, and why is told."""
        self.publish(FIRST)
        self.clock.advance(POLL_SECONDS)
        self.redis.problem = "away"
        self.clock.pump([POLL_SECONDS] * 50)
        self.assertEqual(self.following.snapshot, FIRST)
        self.assertEqual((self.following.is_fresh, self.following.problem), (False, "away"))

    def test_hurry(self) -> None:
        """Who knows that something was published need not wait for the next look."""
        self.clock.advance(POLL_SECONDS)
        self.publish(FIRST)
        self.following.hurry()
        self.assertEqual(self.applied, [FIRST])
