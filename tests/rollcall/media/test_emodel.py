"""The E-model: known ratings, and what has to be true of all of them."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from rollcall.media.emodel import CODECS, PERFECT_R, POOR_R, mos, r_factor

losses = st.floats(0.0, 1.0)
delays = st.floats(0.0, 5000.0)


class RFactorTests(SynchronousTestCase):
    def test_known_ratings(self) -> None:
        """R is what G.107's formulas give for some calls that were worked out by hand."""
        for loss, delay_ms, codec, expected in [
            (0.0, 0.0, "PCMU", 93.2),
            (0.0, 100.0, "PCMA", 90.8),
            (0.0, 277.3, "PCMU", 93.2 - 6.6552 - 11.0),
            (0.01, 0.0, "PCMU", 93.2 - 95 / 26.1),
            (0.08, 50.0, "PCMU", 92.0 - 95 * 8 / 33.1),
            (0.02, 0.0, "G729", 93.2 - 11 - 84 * 2 / 21),
        ]:
            self.assertAlmostEqual(r_factor(loss, delay_ms, codec), expected, places=6)

    def test_a_path_with_8_percent_loss_is_nearly_poor(self) -> None:
        """Over both legs, one of which loses 8 %, a call falls below POOR_R, and one that loses 1 % does not."""
        self.assertLess(r_factor(0.08, 100.0), POOR_R)
        self.assertGreater(r_factor(0.01, 100.0), POOR_R)

    def test_unknown_codec(self) -> None:
        """A codec that G.113 has no figures for counts as G.711."""
        self.assertEqual(r_factor(0.03, 80.0, "opus"), r_factor(0.03, 80.0, "PCMU"))

    @given(losses, losses, delays, delays, st.sampled_from([*CODECS, "opus"]))
    def test_more_is_worse(self, loss: float, other: float, delay: float, late: float, codec: str) -> None:
        """More loss or more delay never raises R, which stays from 0 to 93.2."""
        low, high = sorted((loss, other)), sorted((delay, late))
        better, worse = r_factor(low[0], high[0], codec), r_factor(low[1], high[1], codec)
        self.assertTrue(0.0 <= worse <= better <= PERFECT_R)

    @given(losses, delays, st.floats(1.0, 10.0))
    def test_bursts(self, loss: float, delay: float, burst: float) -> None:
        """Packets that are lost in a row disturb no less than those lost by chance."""
        self.assertLessEqual(r_factor(loss, delay, burst=burst), r_factor(loss, delay) + 1e-9)


class MosTests(SynchronousTestCase):
    def test_known_opinions(self) -> None:
        """MOS is as in G.107, Annex B."""
        for r, expected in [(-3.0, 1.0), (0.0, 1.0), (50.0, 2.575), (70.0, 3.597), (93.2, 4.409286), (100.0, 4.5)]:
            self.assertAlmostEqual(mos(r), expected, places=5)

    @given(st.floats(0.0, 120.0))
    def test_bounds(self, r: float) -> None:
        """An opinion is between 1 and 4.5."""
        self.assertTrue(1.0 <= mos(r) <= 4.5)
