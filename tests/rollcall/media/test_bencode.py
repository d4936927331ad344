"""Bencode of the ng protocol."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from rollcall.media.bencode import MAX_DEPTH, Incomplete, decode, decode_from, encode

VALUES = st.recursive(
    st.integers(-(2**63), 2**63 - 1) | st.binary(max_size=40),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)


class BencodeTests(SynchronousTestCase):
    def test_what_is_encoded_is_decoded(self) -> None:
        """Any value comes back as it was, texts as bytes."""

        @given(VALUES)
        def there_and_back(value: Any) -> None:
            self.assertEqual(decode(encode(value)), value)

        there_and_back()

    def test_as_the_protocol_has_it(self) -> None:
        """Integers, strings, lists and dictionaries look as BEP 3 says; a truth is 1."""
        for value, data in (
            (7, b"i7e"), (-3, b"i-3e"), (True, b"i1e"), ("ping", b"4:ping"), (b"\xff", b"1:\xff"), ("ü", b"2:\xc3\xbc"),
            (["a", 1], b"l1:ai1ee"), ((), b"le"), ({"b": 1, "a": {}}, b"d1:ade1:bi1ee"),
        ):
            self.assertEqual(encode(value), data)

    def test_other_values_are_refused(self) -> None:
        """A value that bencode has no form for is no guess."""
        for value in (None, 1.5, {1: 2}.keys()):
            self.assertRaises(TypeError, encode, value)

    def test_every_beginning_is_incomplete(self) -> None:
        """A value that is cut off anywhere is known to be incomplete, so that the rest can be waited for."""
        data = encode({"result": "ok", "list": ["a", -12, {"k": "v"}]})
        for end in range(len(data)):
            self.assertRaises(Incomplete, decode_from, data[:end], 0)

    def test_malformed_is_told_from_incomplete(self) -> None:
        """What no further byte can mend is malformed."""
        for data in (b"x", b"i1x", b"ie", b"i--1e", b"i+1e", b"-1:", b"2-", b"l7-7", b"d1:ai1ei2ee", b"dle1:ae",
                     b"1" * 30, b"i" + b"1" * 30, b"i1e4:rest"):
            with self.assertRaises(ValueError) as caught:
                decode(data)
            self.assertNotIsInstance(caught.exception, Incomplete)

    def test_depth_is_bounded(self) -> None:
        """Nobody exhausts our stack: the deepest allowed is read, one more is not."""
        nested: Any = 1
        for _ in range(MAX_DEPTH):
            nested = [nested]
        self.assertEqual(decode(encode(nested)), nested)
        self.assertRaises(ValueError, decode, encode([nested]))

    @given(st.binary(max_size=200))
    def test_noise(self, data: bytes) -> None:
        """Whatever comes is a value or a ValueError."""
        try:
            decode(data)
        except ValueError:
            return
