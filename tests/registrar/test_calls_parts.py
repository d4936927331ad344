"""Parts of calls as lines on disk: whatever a phone may write into its headers."""

from zlib import crc32

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from registrar.calls.parts import CALL_ID_CHARS, TAG_CHARS, NoPart, answered, bounded, ended, line_of, part_of
from tests.registrar.call_records import a_failure, an_answer, an_end
from tests.registrar.examples import NOW

# What a message may hold: bytes that are no UTF-8 stand in it as lone surrogates.
TEXTS = st.binary(max_size=300).map(lambda data: data.decode("utf-8", "surrogateescape"))


class LineTests(SynchronousTestCase):
    def test_all_kinds(self) -> None:
        """A line gives back what was written."""
        for part in (an_answer(), a_failure(), an_end(quality='{"other": {}}')):
            self.assertEqual(part_of(line_of(part)), part)

    @given(TEXTS, TEXTS, TEXTS, TEXTS)
    def test_any_text(self, call_id: str, one: str, other: str, caller: str) -> None:
        """Whatever phones call themselves is one line, within the columns, and in UTF-8."""
        part = answered(call_id, (one, other), (caller, caller), NOW, NOW, 200, "n1")
        line = line_of(part)
        self.assertEqual((line.count(b"\n"), part_of(line)), (1, part))
        self.assertTrue(len(part.call_id) <= CALL_ID_CHARS and len(part.tag_high) <= TAG_CHARS)
        self.assertTrue(part.call_id.encode("utf-8") or not call_id)

    def test_torn(self) -> None:
        """A line that lacks anything at all is none."""
        line = line_of(an_answer())
        for length in range(len(line) - 1):
            self.assertRaises(NoPart, part_of, line[:length])
        self.assertRaises(NoPart, part_of, line.replace(b"alice", b"malic", 1))

    def test_something_else(self) -> None:
        """A whole line that is no part of a call, as of another release, is none either."""
        for text in (b'{"call_id": 7}', b"[]", b"\xff"):
            line = b"%08x %b\n" % (crc32(text), text)
            self.assertRaises(NoPart, part_of, line)


class BoundedTests(SynchronousTestCase):
    def test_long_names(self) -> None:
        """Names that are too long stay different from each other, and are the same wherever they are written."""
        long = ["x" * 500 + str(number) for number in range(3)]
        cut = [bounded(text, CALL_ID_CHARS) for text in long]
        self.assertEqual(({len(text) for text in cut}, len(set(cut))), ({CALL_ID_CHARS}, 3))
        self.assertEqual(cut, [bounded(text, CALL_ID_CHARS) for text in long])

    def test_both_ways(self) -> None:
        """The two sides of a call name the same one, whoever of them hangs up."""
        tags = "é" * 200, "b"
        ends = [ended("call", sides, NOW, None) for sides in (tags, tags[::-1])]
        self.assertEqual({(end.tag_low, end.tag_high) for end in ends}, {("b", bounded(tags[0], TAG_CHARS))})
