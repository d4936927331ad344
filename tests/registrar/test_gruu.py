"""Tests of registrar.gruu: public and temporary GRUUs (RFC 5627)."""

import attrs
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from registrar.bindings import Binding
from registrar.gruu import Gruu, GruuMaker, NoSuchGruu, canonical_instance
from rollcall.sip.uri import SipUri, parse_sip_uri
from tests.registrar.examples import ALICE, NOW, PHONE, TABLET, A, B, a_binding

KEY, OLD_KEY, FOREIGN_KEY = b"k" * 32, b"o" * 32, b"f" * 32
GENERATION = int(NOW * 1000)


def uri_of(text: str) -> SipUri:
    """Return the URI as the proxy sees it in a Request-URI."""
    return parse_sip_uri(text)


class PublicTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.gruus = GruuMaker([KEY])

    def test_public(self) -> None:
        """A public GRUU is the address-of-record with the instance in `gr`, as in the RFC's §3.2."""
        self.assertEqual(
            self.gruus.public("sip:callee@example.com", TABLET),
            "sip:callee@example.com;gr=urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6",
        )

    def test_secure(self) -> None:
        """For a sips contact it is a sips URI (RFC 5630 §5.2.1)."""
        self.assertTrue(self.gruus.public(ALICE, PHONE, secure=True).startswith("sips:alice@example.com;gr="))

    def test_comes_back(self) -> None:
        """What is made is understood, however odd the instance."""
        for instance in (PHONE, "urn:x:a;b=c@d?e>\"\\", "no urn", "urn:x:\udcff", "%41"):
            uri = uri_of(self.gruus.public(ALICE, instance))
            self.assertTrue(self.gruus.is_gruu(uri))
            self.assertEqual(self.gruus.resolve(uri, "example.com"), Gruu(ALICE, canonical_instance(instance), None))

    def test_spelling(self) -> None:
        """The instance is compared by the rules of its URN, and the domain's alias stands for the domain."""
        uri = uri_of(f"sip:alice@alias.example.net;gr={PHONE.upper()}")
        self.assertEqual(self.gruus.resolve(uri, "example.com"), Gruu(ALICE, PHONE, None))

    def test_neither(self) -> None:
        """A `gr` without value whose user is no temporary one is none of ours."""
        with self.assertRaises(NoSuchGruu):
            self.gruus.resolve(uri_of("sip:alice@example.com;gr"), "example.com")
        self.assertFalse(self.gruus.is_gruu(uri_of("sip:alice@example.com;user=phone")))


class TemporaryTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.gruus = GruuMaker([KEY])

    def token(self, text: str) -> str:
        """Return the hidden part of a temporary GRUU."""
        user = uri_of(text).user
        assert user is not None
        return user.removeprefix("tgruu.")

    def test_comes_back(self) -> None:
        """What is made is understood by whoever has the key."""
        text = self.gruus.temporary(ALICE, PHONE, GENERATION)
        self.assertEqual(GruuMaker([KEY]).resolve(uri_of(text), "example.com"), Gruu(ALICE, PHONE, GENERATION))

    @given(st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=90),
           st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=200),
           st.integers(0, 2**48 - 1))
    def test_anything_comes_back(self, user: str, instance: str, generation: int) -> None:
        """Every user, instance and generation comes back, in a URI that parses."""
        text = self.gruus.temporary(f"sip:{user}@example.com", instance, generation)
        expected = Gruu(f"sip:{user}@example.com", instance, generation)
        self.assertEqual(self.gruus.resolve(uri_of(text), "example.com"), expected)

    def test_hides_its_content(self) -> None:
        """Neither user nor instance can be read, no two GRUUs are equal, and all usual ones have the same length."""
        texts = [self.gruus.temporary(f"sip:{user}@example.com", instance, GENERATION)
                 for user in ("a", "alice.with.a.long.name") for instance in (PHONE, TABLET) for _ in range(50)]
        self.assertEqual(len(set(texts)), len(texts))
        self.assertEqual(len(set(map(len, texts))), 1)
        self.assertFalse(any("alice" in text or "000a95a0e128" in text for text in texts))
        # Not even the first block of two of one phone is the same.
        self.assertEqual(len({self.token(text)[:8] for text in texts}), len(texts))

    def test_secure(self) -> None:
        """For a sips contact it is a sips URI."""
        self.assertTrue(self.gruus.temporary(ALICE, PHONE, 1, secure=True).startswith("sips:tgruu."))

    def test_keys_rotate(self) -> None:
        """The first key makes, every key reads, and an unknown key's are none of ours."""
        rotated = GruuMaker([KEY, OLD_KEY])
        old = GruuMaker([OLD_KEY]).temporary(ALICE, PHONE, 1)
        self.assertEqual(rotated.resolve(uri_of(old), "example.com").instance, PHONE)
        with self.assertRaises(NoSuchGruu):
            GruuMaker([OLD_KEY]).resolve(uri_of(rotated.temporary(ALICE, PHONE, 1)), "example.com")

    def test_another_domain(self) -> None:
        """A GRUU of one domain is none in another."""
        text = self.gruus.temporary(ALICE, PHONE, 1)
        with self.assertRaises(NoSuchGruu):
            self.gruus.resolve(uri_of(text.replace("example.com", "example.org")), "example.org")

    def test_tampered(self) -> None:
        """A changed, cut, lengthened or empty token is none of ours."""
        text = self.gruus.temporary(ALICE, PHONE, 1)
        token = self.token(text)
        changed = ("B" if token[0] == "A" else "A") + token[1:]
        for forged in (changed, token[:-8], token[:21], f"{token}AAAA", "", "A", "!!!!", "%C3%A9"):
            with self.assertRaises(NoSuchGruu):
                self.gruus.resolve(uri_of(text.replace(token, forged)), "example.com")

    def test_weak_keys(self) -> None:
        """No key, or one that could be guessed, is refused."""
        for secrets in ([], [b"short"], [KEY, b""]):
            with self.assertRaises(ValueError):
                GruuMaker(secrets)


class ContactsTests(SynchronousTestCase):
    def phone(self, uri: str, **changes: object) -> Binding:
        """Return a binding of the phone."""
        return a_binding(uri, instance=PHONE, generation=5, **changes)

    def test_contacts_of_the_instance(self) -> None:
        """Only the instance's live bindings are reached, the latest first (§6.1)."""
        early, late = self.phone(A), self.phone(B, refreshed_at=NOW + 5)
        others = self.phone(A, expires_at=NOW), a_binding(A), attrs.evolve(early, instance=TABLET)
        for gruu in (Gruu(ALICE, PHONE, None), Gruu(ALICE, PHONE, 5)):
            self.assertEqual(gruu.contacts((early, late, *others), NOW), (late, early))

    def test_public_without_contacts(self) -> None:
        """A public GRUU without contacts leads nowhere, for now (§5.3)."""
        self.assertEqual(Gruu(ALICE, PHONE, None).contacts((a_binding(A),), NOW), ())

    def test_temporary_ends(self) -> None:
        """A temporary GRUU ends with the last contact of its instance, or with its generation (§5.1, §5.3)."""
        later = attrs.evolve(self.phone(A), generation=6)
        for bindings in ((), (a_binding(A),), (self.phone(A, expires_at=NOW),), (later,)):
            with self.assertRaises(NoSuchGruu):
                Gruu(ALICE, PHONE, 5).contacts(bindings, NOW)


class CanonicalInstanceTests(SynchronousTestCase):
    def test_spelling(self) -> None:
        """A UUID is compared without case; of other URNs only "urn" and the namespace are (RFC 2141 §5)."""
        for text, expected in (
            ("URN:UUID:F81D4FAE-7DEC-11D0-A765-00A0C91E6BF6", TABLET),
            ("URN:Example:Case", "urn:example:Case"),
            ("something:Else", "something:Else"),
            ("urn:nothing", "urn:nothing"),
        ):
            self.assertEqual(canonical_instance(text), expected)
            self.assertEqual(canonical_instance(expected), expected)
