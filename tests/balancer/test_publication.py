"""What the master publishes, and when; and what becomes of it where somebody follows."""

from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs, formatEvent

from balancer.publication import Publication, PublicationConfig
from balancer.standby import Mastership
from rollcall.media.following import SNAPSHOTS, Following
from rollcall.media.snapshot import MediaNode, NodeState, Quality, Snapshot
from tests.balancer.test_standby import LEASE, STEP, StandbyCase

CONFIG = PublicationConfig(publish_seconds=0.5, whole_seconds=5.0)
NODE = MediaNode(id="m1", address="192.0.2.1:22222")


def at(moment: float, state: NodeState = NodeState.UP, loss: float = 0.0) -> Snapshot:
    """Return what is known at a moment."""
    return Snapshot(published_at=moment, nodes={"m1": evolve(NODE, state=state)},
                    paths={("x/DE", "m1"): Quality(loss, 20.0)})


class PublicationTests(StandbyCase):
    def setUp(self) -> None:
        super().setUp()
        self.applied: list[Snapshot] = []
        self.following = Following(self.clock, self.redis, self.applied.append)
        self.following.start()
        self.is_ready = True

    def publication(self, mastership: Mastership) -> Publication:
        """Return a balancer's."""
        made = Publication(self.clock, self.redis, mastership, CONFIG, lambda: self.is_ready)
        made.start()
        return made

    def kinds(self) -> list[str]:
        """Return what the stream has."""
        return [fields[1].decode() for _, fields in self.redis.streams.get(SNAPSHOTS, [])]

    def test_whole_and_changes(self) -> None:
        """At first all is published, then what is different, and all again after a while, for those who come later."""
        publication = self.publication(self.balancer("b1"))
        for number in range(7):
            publication.offer(at(number))
            self.pass_time(0.9)
        self.assertEqual(self.kinds(), ["whole", *["change"] * 6, "whole"])
        self.assertEqual((publication.wholes, publication.changes), (2, 6))
        self.assertEqual(self.applied[-1], at(6))

    def test_at_once(self) -> None:
        """What is offered is published at once, and no follower waits for longer than he asks."""
        publication = self.publication(self.balancer("b1"))
        publication.offer(at(1))
        self.pass_time(0.3)
        publication.offer(at(2, NodeState.DOWN))
        self.pass_time(0.2 + STEP)
        self.assertEqual(self.applied[-1], at(2, NodeState.DOWN))

    def test_standby(self) -> None:
        """Who stands by publishes nothing; when it takes over it publishes all at once, under a greater fence."""
        first, second = self.balancer("b1"), self.balancer("b2")
        ours, theirs = self.publication(first), self.publication(second)
        ours.offer(at(1, loss=0.1))
        theirs.offer(at(1.1, loss=0.2))
        self.pass_time(1.0)
        self.assertEqual(self.applied, [at(1, loss=0.1)])
        self.kill(first)
        self.pass_time(LEASE + 0.3)
        self.assertEqual(self.applied[-1], at(1.1, loss=0.2))
        self.assertEqual(self.following.version, f"{second.fence}-0")

    def test_an_old_master(self) -> None:
        """A master who believes in his lease although another has published is refused, and asks for a new one."""
        first = self.balancer("b1")
        ours = self.publication(first)
        ours.offer(at(1))
        later = first.fence + 100
        self.redis.xadd(SNAPSHOTS, (later, 0), [b"kind", b"whole", b"before", b"", b"whole", b"x", b"data", b"{}"])
        ours.offer(at(2))
        self.assertEqual(self.told, ["b1 is the master", "b1 is not the master", "b1 is the master"])
        self.assertGreater(first.fence, later)
        self.pass_time(1.0)
        self.assertEqual(self.following.snapshot, at(2))

    def test_redis_away(self) -> None:
        """While Redis is away nothing piles up: only the newest is published when it is back, as a whole."""
        publication = self.publication(self.balancer("b1"))
        publication.offer(at(1))
        self.redis.problem = "away"
        for number in range(20):
            publication.offer(at(number))
            if number < 5:  # later it is no master any more
                self.assertEqual(publication.problem, "away")
            self.pass_time(0.2)
        self.redis.clear()
        self.redis.problem = None
        self.pass_time(1.5)
        self.assertEqual(self.kinds(), ["whole"])
        self.assertEqual(self.following.snapshot, at(19))

    def test_a_lease_that_lapses_without_redis(self) -> None:
        """A master that has lost Redis and then his lease does not say that publishing works again, for it does not."""
        publication = self.publication(self.balancer("b1"))
        publication.offer(at(1))
        self.redis.problem = "away"
        with capturedLogs() as events:
            publication.offer(at(2))
            self.pass_time(2 * LEASE)
        self.assertIsNone(publication.problem)
        told = [formatEvent(event) for event in events]
        self.assertIn("publishing the media nodes does not work: away", told)
        self.assertNotIn("publishing the media nodes works again", told)

    def test_not_ready(self) -> None:
        """A balancer that does not know its nodes yet tells nobody that they are doubtful."""
        self.is_ready = False
        publication = self.publication(self.balancer("b1"))
        publication.offer(at(1, NodeState.SUSPECT))
        self.pass_time(1.0)
        self.assertEqual(self.kinds(), [])
        self.is_ready = True
        publication.offer(at(2))
        self.assertEqual(self.kinds(), ["whole"])

    def test_the_end(self) -> None:
        """After the end nothing is published."""
        mastership = self.balancer("b1")
        publication = self.publication(mastership)
        publication.offer(at(1))
        for stop in (publication.stop, self.following.stop, mastership.stop):
            self.successResultOf(Deferred.fromCoroutine(stop()))
        publication.offer(at(2))
        self.assertEqual((self.kinds(), self.clock.getDelayedCalls()), (["whole"], []))
