"""Tags of subscriptions: they name their node to whoever has the key, and nobody else can make them."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from registrar.regevent.tags import Tags
from rollcall.sip.headers import parse_name_addr
from rollcall.sip.uri import parse_sip_uri

KEY = b"a key of more than 16 bytes"


class TagTests(SynchronousTestCase):
    def test_owner(self) -> None:
        """Every node with the key knows whose a tag is."""
        tag = Tags(KEY, "node-1.example", 1_800_000_000_123).new()
        self.assertEqual(Tags(KEY, "other", 1).owner(tag), ("node-1.example", 1_800_000_000_123))

    def test_place_in_messages(self) -> None:
        """A tag stands in a header parameter and in the user part of a URI as it is."""
        tags = Tags(KEY, "n" * 64, 1)
        for tag in (tags.new() for _ in range(50)):
            self.assertEqual(parse_name_addr(f"<sip:a@b>;tag={tag}").tag, tag)
            self.assertEqual(parse_sip_uri(f"sip:{tag}@192.0.2.1").user, tag)
            self.assertEqual(tags.owner(tag), ("n" * 64, 1))

    def test_never_the_same(self) -> None:
        """No two tags are the same."""
        tags = Tags(KEY, "n1", 1)
        self.assertEqual(len({tags.new() for _ in range(100)}), 100)

    def test_another_key(self) -> None:
        """Who has another key can neither make nor read one."""
        self.assertIsNone(Tags(KEY, "n1", 1).owner(Tags(b"another key of the same length", "n1", 1).new()))

    def test_short_key(self) -> None:
        """A key that could be guessed is refused."""
        with self.assertRaises(ValueError):
            Tags(b"short", "n1", 1)

    @given(st.text(max_size=200))
    def test_other_texts(self, text: str) -> None:
        """Whatever a peer writes into its tag is nobody's."""
        self.assertIsNone(Tags(KEY, "n1", 1).owner(text))
        self.assertIsNone(Tags(KEY, "n1", 1).owner(Tags(KEY, "n1", 1).new() + text + "A"))
