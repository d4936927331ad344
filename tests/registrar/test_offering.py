"""Tests of which algorithms are offered to whom (RFC 8760 §§2.3, 3)."""

from twisted.trial.unittest import SynchronousTestCase

from registrar.offering import Offers

ALL = ("SHA-256", "SHA-512-256", "MD5")
LINPHONE = "Linphone-Desktop/5.1"


class OffersTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.offers = Offers(ALL, ("Linphone", "Trunk"))

    def test_most_phones(self) -> None:
        """Most phones are offered the one algorithm that every phone knows."""
        self.assertEqual(self.offers.to("Grandstream GXP"), ("MD5",))
        self.assertFalse(self.offers.chooses("Grandstream GXP"))

    def test_choosing(self) -> None:
        """A phone that chooses is offered all that its user's hashes allow, the best first."""
        self.assertTrue(self.offers.chooses(LINPHONE))
        self.assertEqual(self.offers.to(LINPHONE, ("MD5", "SHA-256")), ("SHA-256", "MD5"))
        self.assertEqual(self.offers.to("TRUNK 7", ("MD5",)), ("MD5",))

    def test_after_a_try(self) -> None:
        """A phone that does not choose is offered one algorithm that there is a hash for."""
        self.assertEqual(self.offers.to("Grandstream", ("SHA-256", "SHA-512-256")), ("SHA-512-256",))

    def test_no_hash(self) -> None:
        """A user without any hash hears what everybody hears."""
        self.assertEqual(self.offers.to(LINPHONE, ()), ALL)
        self.assertEqual(self.offers.to("Grandstream", ()), ("MD5",))

    def test_unknown_user(self) -> None:
        """An unknown user is held to have the hashes that the latest known user had."""
        self.assertEqual(self.offers.held_of(None), ALL)
        self.assertEqual(self.offers.held_of({"MD5": "0" * 32, "AKAv1-MD5": ""}), ("MD5",))
        self.assertEqual(self.offers.held_of(None), ("MD5",))

    def test_everybody_chooses(self) -> None:
        """With "*" every phone is offered all."""
        self.assertEqual(Offers(ALL, ("*",)).to("anything", ("MD5", "SHA-256")), ("SHA-256", "MD5"))

    def test_one_algorithm(self) -> None:
        """Where one algorithm is accepted nobody chooses."""
        offers = Offers(("MD5",), ("*",))
        self.assertEqual((offers.chooses(LINPHONE), offers.to(LINPHONE, ("SHA-256",))), (False, ("MD5",)))
