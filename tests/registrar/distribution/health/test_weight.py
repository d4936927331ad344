"""The weight of a node: free capacity in steps, which do not flap."""

from random import Random

from hypothesis import given
from hypothesis.strategies import integers, lists
from twisted.trial.unittest import SynchronousTestCase

from registrar.distribution.health.weight import Weight


class WeightTests(SynchronousTestCase):
    def test_free_share(self) -> None:
        """The weight is what is free, rounded up to a step."""
        for connections, weight in ((0, 100), (100, 90), (120, 90), (749, 30), (999, 5), (1000, 0), (1200, 0)):
            self.assertEqual(Weight(1000, 5).of(connections, False, False), weight, connections)

    def test_wants_nobody(self) -> None:
        """It is 0 at once while the node is drained or cannot serve, and what it was again afterwards."""
        weight = Weight(1000)
        reasons = ((False, False), (True, False), (False, True), (True, True), (False, False))
        self.assertEqual([weight.of(300, *why) for why in reasons], [70, 0, 0, 0, 70])

    def test_does_not_flap(self) -> None:
        """Who comes and goes about the border of a step does not move it; who goes on in one direction does."""
        weight, chance = Weight(1000, 5), Random(7)
        self.assertEqual({weight.of(500 + chance.randint(-20, 20), False, False) for _ in range(500)}, {50})
        said = [weight.of(connections, False, False) for connections in range(500, 1001)]
        self.assertEqual(said, sorted(said, reverse=True))
        self.assertEqual((len(set(said)), said[-1]), (11, 0))

    def test_full(self) -> None:
        """A full node takes phones again when half a step is free, not with each one that goes."""
        weight = Weight(1000, 5)
        loads = (1000, 999, 1000, 980, 975, 974)
        self.assertEqual([weight.of(each, False, False) for each in loads], [0, 0, 0, 0, 0, 5])

    def test_small(self) -> None:
        """A node for few phones is not taken for full while there is room for one."""
        weight = Weight(3, 50)
        self.assertEqual([weight.of(each, False, False) for each in (0, 1, 2, 3, 2, 1)], [100, 100, 100, 0, 50, 50])

    @given(lists(integers(0, 130), max_size=60), integers(1, 50))
    def test_bounds(self, loads: list[int], step: int) -> None:
        """It is never 0 with a step and more of room, never more than 0 without any, and never two steps off."""
        weight = Weight(100, step)
        for connections in loads:
            said = weight.of(connections, False, False)
            self.assertTrue(0 <= said <= 100)
            self.assertEqual(said == 0 and connections < 100 - step, False)
            if connections >= 100:
                self.assertEqual(said, 0)
            else:
                self.assertLess(abs(said - (100 - connections)), 2 * step)
