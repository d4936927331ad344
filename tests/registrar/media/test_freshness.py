"""What the log says of balancers that publish, or do not."""

from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from registrar.media.freshness import Freshness
from rollcall.cluster.snapshots import FRESH_SECONDS
from rollcall.media.snapshot import Snapshot
from tests.registrar.media.scripted import a_node


class Followed:
    """What is asked of Following."""

    def __init__(self) -> None:
        self.is_fresh = False
        self.version = ""
        self.problem: str | None = None
        self.snapshot = Snapshot()


class FreshnessTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.following = Followed()
        self.freshness = Freshness(self.clock, self.following)  # type: ignore[arg-type]
        self.freshness.start()

    def told(self, seconds: float = FRESH_SECONDS) -> list[str]:
        """Return what the log says while time passes."""
        with capturedLogs() as events:
            self.clock.pump([1.0] * round(seconds))
        return [formatEvent(event) for event in events]

    def test_never(self) -> None:
        """Where nothing was ever published that is told once, with what is known of the reason, and not at once."""
        self.following.problem = "Redis is away"
        self.assertEqual(self.told(FRESH_SECONDS - 1), [])
        self.assertEqual(self.told(10), [
            "no balancer has published anything, so no media node is known (Redis is away)"])

    def test_fresh_and_not(self) -> None:
        """The first snapshot is told with its nodes, that nobody publishes any more, and that somebody does again."""
        self.following.is_fresh, self.following.version = True, "7-1"
        self.following.snapshot = Snapshot(nodes={name: a_node(name) for name in ("m2", "m1")})
        self.assertEqual(self.told(10), ["balancers publish, version 7-1; media nodes: m1, m2"])
        self.following.is_fresh = False
        self.assertEqual(self.told(10), [
            "no balancer publishes any more: calls are placed by what was published last"])
        self.following.is_fresh, self.following.version = True, "8-1"
        self.assertEqual(self.told(10), ["balancers publish, version 8-1; media nodes: m1, m2"])

    def test_stop(self) -> None:
        """After its end nothing is left to be done."""
        self.freshness.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])
