"""What a balancer believes now, put together."""

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from balancer.present import INHERITED_SECONDS, Present
from rollcall.media.snapshot import MediaNode, PathKey, Quality, Rule, Snapshot

NODE = MediaNode(id="m1", address="192.0.2.1:22222")
RULE = Rule(policy="random")
WAY: PathKey = ("x/DE", "m1")


class PresentTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.nodes = {"m1": NODE}
        self.paths: dict[PathKey, Quality] = {}
        self.seen: list[Snapshot] = []
        self.present = Present(
            self.clock, lambda: 1000.0 + self.clock.seconds(), 0.5, RULE, lambda now: dict(self.nodes),
            lambda now: dict(self.paths), lambda: {("", ""): Quality(0.0, 9.0)}, lambda: {"x.example": "gold"})
        self.present.on_snapshot.append(self.seen.append)

    def test_all_of_it(self) -> None:
        """A snapshot has all that is known, at its moment."""
        self.paths[WAY] = Quality(0.1, 20.0)
        self.present.startService()
        self.assertEqual(self.seen, [Snapshot(
            published_at=1000.0, rule=RULE, nodes={"m1": NODE}, tenants={"x.example": "gold"}, paths=self.paths,
            priors={("", ""): Quality(0.0, 9.0)})])
        self.clock.pump([0.25] * 4)
        self.assertEqual([each.published_at for each in self.seen], [1000.0, 1000.5, 1001.0])
        self.assertEqual(self.present.snapshot, self.seen[-1])

    def test_hurry(self) -> None:
        """What happens in one turn gives one further snapshot, at once."""
        self.present.startService()
        for _ in range(3):
            self.present.hurry()
        self.clock.advance(0)
        self.assertEqual(len(self.seen), 2)

    def test_the_end(self) -> None:
        """After the end there is nothing more."""
        self.present.startService()
        self.present.hurry()
        self.present.stopService()
        self.present.hurry()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_ways_to_nobody(self) -> None:
        """A way to a node that is not there any more is left out."""
        self.paths["x/DE", "gone"] = Quality(0.1, 20.0)
        self.present.startService()
        self.assertEqual(self.present.snapshot.paths, {})

    def test_inherited(self) -> None:
        """For a while after its start a balancer believes what the master said of ways it has heard nothing of."""
        ours, theirs = Quality(0.1, 20.0), Quality(0.3, 30.0)
        self.paths[WAY] = ours
        self.present.startService()
        self.present.inherit(Snapshot(paths={WAY: theirs, ("x/US", "m1"): theirs, ("x/US", "m2"): theirs}))
        self.clock.advance(0.5)
        self.assertEqual(self.present.snapshot.paths, {WAY: ours, ("x/US", "m1"): theirs})
        self.clock.pump([0.5] * round(2 * INHERITED_SECONDS + 2))
        self.assertEqual(self.present.snapshot.paths, {WAY: ours})
        self.present.inherit(Snapshot(paths={("x/US", "m1"): theirs}))
        self.clock.advance(0.5)
        self.assertEqual(self.present.snapshot.paths, {WAY: ours})

    def test_a_mistake(self) -> None:
        """What goes wrong once is logged, and the last snapshot stays until the next."""
        self.present.startService()
        self.paths = None  # type: ignore[assignment]
        self.clock.advance(0.5)
        self.assertEqual(len(self.flushLoggedErrors(TypeError)), 1)
        self.paths = {}
        self.clock.advance(0.5)
        self.assertEqual(len(self.seen), 2)
