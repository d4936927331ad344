"""Tests of rollcall.sip.grammar."""

from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from rollcall.sip.errors import ParseError
from rollcall.sip.grammar import first_comma, format_params, parse_params, quote, split_commas, unquote


class QuotingTests(SynchronousTestCase):
    def test_quote(self) -> None:
        """Quotation marks and backslashes are escaped, nothing else; line breaks cannot be and become spaces."""
        for text, quoted in (
            ("", '""'),
            ("a b", '"a b"'),
            ('say "hi"', '"say \\"hi\\""'),
            ("\\", '"\\\\"'),
            ("a\r\nb", '"a  b"'),
            ("\0é", '"\0é"'),
        ):
            self.assertEqual(quote(text), quoted)

    def test_unquote(self) -> None:
        """A quoted string loses its quotes and escapes; anything else stays as it is."""
        for text, plain in (
            ('""', ""),
            ('"a\\"b\\\\c\\d"', 'a"b\\cd'),
            ("token", "token"),
            ('"', '"'),
            ('"open', '"open'),
            ("", ""),
        ):
            self.assertEqual(unquote(text), plain)


class CommaTests(SynchronousTestCase):
    def test_split(self) -> None:
        """Commas separate values, except within quoted strings and <> (RFC 3261 §7.3.1)."""
        for text, values in (
            ("", []),
            (" \t ", []),
            ("a", ["a"]),
            (" a , b,c ", ["a", "b", "c"]),
            ("a,,b,", ["a", "", "b", ""]),
            ('"a,b" <sip:x,y@h>;p="1,2", <sip:z>', ['"a,b" <sip:x,y@h>;p="1,2"', "<sip:z>"]),
            ('"\\",", b', ['"\\","', "b"]),
            ('"<", <sip:a@h>', ['"<"', "<sip:a@h>"]),
            ('<sip:"@h>, b', ['<sip:"@h>', "b"]),
            ("a>,b", ["a>", "b"]),
        ):
            self.assertEqual(split_commas(text), values, text)

    def test_unterminated(self) -> None:
        """A quoted string or a "<" that is never closed hides where the values end."""
        for text in ('"a,b', 'a, "b', "<sip:a, b", 'a, "b\\"', '"a\\",b'):
            self.assertRaises(ParseError, split_commas, text)
            self.assertRaises(ParseError, first_comma, text) if not text.startswith("a") else None

    def test_first_comma(self) -> None:
        """The end of the first value is its comma, or the end of the text."""
        for text, place in (("", 0), ("ab", 2), ("a,b", 1), ('"a,b",c', 5), ("<a,b>,c", 5), (",", 0)):
            self.assertEqual(first_comma(text), place, text)


class ParamTests(SynchronousTestCase):
    def test_parameters(self) -> None:
        """Names come in lower case, values raw, None stands for no value; white space is allowed around ; and =."""
        for text, params in (
            ("", {}),
            (";lr", {"lr": None}),
            (";Tag=AbC;x=1;LR", {"tag": "AbC", "x": "1", "lr": None}),
            (" ; a = b\t;\tc ", {"a": "b", "c": None}),
            (';a="x;y=\\"z\\"";b', {"a": '"x;y=\\"z\\""', "b": None}),
            (";received=[2001:db8::1];x=a/b:c@d", {"received": "[2001:db8::1]", "x": "a/b:c@d"}),
            (';a=""', {"a": '""'}),
            (";a=é", {"a": "é"}),
            (";a=b ", {"a": "b"}),
            (";tag=a==;b=c= ", {"tag": "a==", "b": "c="}),
        ):
            self.assertEqual(parse_params(text), params, text)

    def test_malformed(self) -> None:
        """Empty parameters, names that are no tokens, stray quotes and doubled names are errors."""
        for text in (
            "a=b", ";", ";;", ";a;", ";=b", ";a=", ";a= ;b", ";a b", ";a=b c", ';a="b', ';a="b"c', ";a=b,", ";<a>",
            ";a=<b>",
            ";a@b", ";a;A", ';a=1 ;A="2"', ";é=1", ";a=\0", ";a\r\n", ";a=b\x7f",
        ):  # fmt: skip
            self.assertRaises(ParseError, parse_params, text)


TOKENS = st.text("abZ09-.!%*_+`'~", min_size=1, max_size=8)
NAMES = TOKENS.map(str.lower)
LINES = st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), max_size=20)
VALUES = st.one_of(st.none(), TOKENS, LINES.map(quote), st.ip_addresses().map(str))
PARAMS = st.dictionaries(NAMES, VALUES, max_size=4)
# What the grammar is made of, so that random texts come near it.
SCRAPS = st.lists(
    st.sampled_from([*'<>"\\,;=:/ \t*a1\0é', "SIP", "2.0", "UDP", "sip:", "[::1]", "\r\n"]),
    max_size=24,
).map("".join)
TEXTS = st.one_of(st.text(), SCRAPS, st.binary().map(lambda data: data.decode("utf-8", "surrogateescape")))


class PropertyTests(SynchronousTestCase):
    @settings(max_examples=200, deadline=None)
    @given(LINES)
    def test_quoting_round_trip(self, text: str) -> None:
        """What is quoted and unquoted is the same text, and one value of a list."""
        self.assertEqual(unquote(quote(text)), text)
        self.assertEqual(split_commas(quote(text)), [quote(text)])

    @settings(max_examples=200, deadline=None)
    @given(PARAMS)
    def test_params_round_trip(self, params: dict[str, str | None]) -> None:
        """Parameters written and parsed are the same."""
        self.assertEqual(parse_params(format_params(params)), params)

    @settings(max_examples=300, deadline=None)
    @given(TEXTS)
    @example('"' + "\\" * 20000)
    @example(";a" + " " * 20000 + "b")
    @example("<" * 20000)
    @example('"",' * 20000)
    def test_only_parse_errors(self, text: str) -> None:
        """No text makes any of them raise anything but ParseError, and the first value ends where it ends."""
        for parser in (parse_params, split_commas, first_comma):
            try:
                parser(text)
            except ParseError as error:
                self.assertEqual(error.status, 400)
        try:
            values = split_commas(text)
        except ParseError:
            return
        self.assertEqual(text[: first_comma(text)].strip(" \t"), values[0] if values else "")
