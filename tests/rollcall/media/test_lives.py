"""Whether a node was started again between two snapshots."""

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from rollcall.media.snapshot import LIFE_SECONDS, MediaNode, is_another_life

NODE = MediaNode(id="media1", address="192.0.2.21:22222", started_at=1000.0)


class LifeTests(SynchronousTestCase):
    def test_started_later(self) -> None:
        """Only a start that is clearly later is another life: balancers differ a little in what they believe."""
        for later, is_another in ((0.0, False), (LIFE_SECONDS, False), (LIFE_SECONDS + 1, True), (-100.0, False)):
            self.assertIs(is_another_life(NODE, evolve(NODE, started_at=1000.0 + later)), is_another)

    def test_unknown_start(self) -> None:
        """A node that does not say when it began is never another."""
        unknown = evolve(NODE, started_at=0.0)
        self.assertFalse(is_another_life(unknown, NODE))
        self.assertFalse(is_another_life(NODE, unknown))
