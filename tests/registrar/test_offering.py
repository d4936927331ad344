"""Tests of which algorithms are offered to whom (RFC 8760 §§2.3, 3)."""

from twisted.trial.unittest import SynchronousTestCase

from registrar.offering import Offers

ALL = ("SHA-256", "SHA-512-256", "MD5")
LINPHONE = "Linphone-Desktop/5.1"


class OffersTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.offers = Offers(ALL, ("Linphone", "Trunk"), b"a key")

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
        """An unknown user is held to be of a kind that known ones are, always of the same, whoever was known last."""
        self.assertEqual(self.offers.held_of("nobody", None, False), ALL)
        self.assertEqual(self.offers.held_of("alice", ({"MD5": "0" * 32, "AKAv1-MD5": ""}, {}), False), ("MD5",))
        self.assertEqual([self.offers.held_of("nobody", None, is_long) for is_long in (False, True)], [("MD5",), ()])
        self.offers.held_of("bob", ({"SHA-256": "0" * 64}, {}), False)
        names = [f"nobody{number}" for number in range(50)]
        seen = [self.offers.held_of(name, None, False) for name in names]
        self.assertEqual(set(seen), {("MD5",), ("SHA-256",)})
        for hashes in ({"MD5": ""}, {"SHA-256": ""}, {}):
            self.offers.held_of("alice", (hashes, {}), False)
            self.assertEqual([self.offers.held_of(name, None, False) for name in names], seen)

    def test_unknown_user_elsewhere(self) -> None:
        """Another process with the same key says the same of unknown users, in whatever order it saw known ones."""
        other = Offers(ALL, ("Linphone",), b"a key")
        kinds = [({"MD5": ""}, {}), ({"SHA-256": ""}, {}), ({"MD5": ""}, {"MD5": ""})]
        for offers, seen in ((self.offers, kinds), (other, reversed(kinds))):
            for kind in seen:
                offers.held_of("alice", kind, False)
        for number in range(50):
            name = f"nobody{number}"
            self.assertEqual(self.offers.held_of(name, None, True), other.held_of(name, None, True))

    def test_everybody_chooses(self) -> None:
        """With "*" every phone is offered all."""
        self.assertEqual(Offers(ALL, ("*",), b"").to("anything", ("MD5", "SHA-256")), ("SHA-256", "MD5"))

    def test_one_algorithm(self) -> None:
        """Where one algorithm is accepted nobody chooses."""
        offers = Offers(("MD5",), ("*",), b"")
        self.assertEqual((offers.chooses(LINPHONE), offers.to(LINPHONE, ("SHA-256",))), (False, ("MD5",)))
