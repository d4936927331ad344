"""What receivers get."""

from twisted.trial.unittest import SynchronousTestCase

from tests.tools.simulate.worlds import EAST, WEST, a_call, a_world
from tools.simulate.truth import Heard, heard, mean_rating, rating
from tools.simulate.world import Epoch, Sickness, Way


class TruthTests(SynchronousTestCase):
    """Ways, nodes and their load, as a receiver hears them."""

    def test_e_model(self) -> None:
        """The rating is that of G.107: 93.2 for a perfect way, and known values for loss, delay and codec."""
        self.assertEqual(rating(Heard(0.0, 0.0, 0.0, 0.0), "PCMU"), 93.2)
        self.assertAlmostEqual(rating(Heard(0.05, 0.0, 0.0, 0.0), "PCMU"), 93.2 - 95 * 5 / 30.1)
        self.assertAlmostEqual(rating(Heard(0.0, 0.0, 277.3, 0.0), "PCMU"), 93.2 - 0.024 * 277.3 - 11.0)
        self.assertAlmostEqual(rating(Heard(0.0, 0.0, 0.0, 0.0), "G729"), 82.2)
        self.assertEqual(rating(Heard(1.0, 0.0, 900.0, 0.0), "PCMU"), 0.0)

    def test_both_legs(self) -> None:
        """Losses of both legs combine, up from the speaker and down to the listener; delays add up."""
        epoch = a_world().epochs[0]
        epoch.ways[WEST, "west1"] = Way(0.1, 0.0, 10.0, 0.0)
        epoch.ways[EAST, "west1"] = Way(0.0, 0.5, 40.0, 0.0)
        there, back = heard(epoch, WEST, EAST, "west1", 0.0), heard(epoch, EAST, WEST, "west1", 0.0)
        self.assertAlmostEqual(there.loss, 0.55)
        self.assertAlmostEqual(there.delay_ms, 70.0)
        self.assertEqual(back.loss, 0.0)

    def test_load(self) -> None:
        """A node costs nothing up to 85 % of its capacity; from there packets wait, and are lost."""
        epoch = a_world().epochs[0]
        idle, busy, full = (heard(epoch, WEST, EAST, "west1", load) for load in (0.0, 0.85, 1.0))
        self.assertEqual(idle, busy)
        self.assertAlmostEqual(full.loss, 0.06)
        self.assertAlmostEqual(full.delay_ms - idle.delay_ms, 40.0)

    def test_sick_node(self) -> None:
        """A sick node loses packets of everybody."""
        epoch = a_world().epochs[0]
        ill = Epoch(epoch.ways, {**epoch.sick, "west1": Sickness(loss=0.1, delay_ms=5.0)})
        self.assertAlmostEqual(heard(ill, WEST, EAST, "west1", 0.0).loss, 0.1)
        self.assertEqual(heard(ill, WEST, EAST, "east1", 0.0).loss, 0.0)

    def test_jitter(self) -> None:
        """Phones wait for twice the jitter, and lose what they do not wait for."""
        epoch = a_world(west1=Way(0.0, 0.0, 20.0, 30.0)).epochs[0]
        got = heard(epoch, WEST, EAST, "west1", 0.0)
        self.assertAlmostEqual(got.jitter_ms, 42.4, places=1)
        self.assertAlmostEqual(got.delay_ms, 40.0 + 20.0 + 60.0)
        self.assertGreater(got.late, 0.0)

    def test_mean_of_both(self) -> None:
        """A call is worth the mean of both receivers' ratings."""
        epoch = a_world().epochs[0]
        epoch.ways[EAST, "west1"] = Way(0.0, 0.2, 20.0, 2.0)
        worse = rating(heard(epoch, WEST, EAST, "west1", 0.0), "PCMU")
        better = rating(heard(epoch, EAST, WEST, "west1", 0.0), "PCMU")
        self.assertAlmostEqual(mean_rating(epoch, a_call(groups=(WEST, EAST)), "west1", 0.0), (worse + better) / 2)
