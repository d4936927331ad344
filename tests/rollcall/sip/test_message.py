"""Tests of rollcall.sip.message: reading, checking and writing messages."""

from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from rollcall.sip.errors import ParseError
from rollcall.sip.message import (
    MAX_FIELDS,
    Message,
    Request,
    Response,
    check_request,
    check_response,
    parse_message,
    salvage_response,
)
from rollcall.sip.names import KEYS, canonical

HEADERS = (
    ("Via", "SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKa"),
    ("From", "<sip:a@example.com>;tag=1"),
    ("To", "<sip:b@example.com>"),
    ("Call-ID", "1@192.0.2.1"),
    ("CSeq", "1 OPTIONS"),
)


def data_of(*lines: str, start: str = "OPTIONS sip:b@example.com SIP/2.0", body: bytes = b"") -> bytes:
    return "\r\n".join([start, *lines, "", ""]).encode("utf-8", "surrogateescape") + body


def parsed(*lines: str, start: str = "OPTIONS sip:b@example.com SIP/2.0", body: bytes = b"") -> Message:
    return parse_message(data_of(*lines, start=start, body=body))


class StartLineTests(SynchronousTestCase):
    def test_request(self) -> None:
        """A request line gives the method as it is and the raw Request-URI (RFC 3261 §7.1)."""
        for line, method, uri in (
            ("OPTIONS sip:b@example.com SIP/2.0", "OPTIONS", "sip:b@example.com"),
            ("options sip:b@example.com sip/2.0", "options", "sip:b@example.com"),
            ("NEW.method! any:thing Sip/2.0", "NEW.method!", "any:thing"),
        ):
            request = parsed("l: 0", start=line)
            assert isinstance(request, Request)
            self.assertEqual((request.method, request.uri), (method, uri))

    def test_response(self) -> None:
        """A status line gives the status and whatever phrase there is, or none (RFC 3261 §7.2)."""
        for line, status, reason in (
            ("SIP/2.0 200 OK", 200, "OK"),
            ("sip/2.0 699 a  b ", 699, "a  b "),
            ("SIP/2.0 100 ", 100, ""),
            ("SIP/2.0 100", 100, ""),
        ):
            response = parsed("l: 0", start=line)
            assert isinstance(response, Response)
            self.assertEqual((response.status, response.reason), (status, reason))

    def test_malformed(self) -> None:
        """Start lines of other forms are refused with 400."""
        for line in (
            "OPTIONS", "OPTIONS sip:b", "OPTIONS  sip:b SIP/2.0", "OPTIONS sip:b  SIP/2.0",
            "OPTIONS sip:b SIP/2.0 ", " OPTIONS sip:b SIP/2.0", "OPTIONS\tsip:b\tSIP/2.0",
            "OPTIONS sip:b; lr SIP/2.0", "O@ sip:b SIP/2.0", "é sip:b SIP/2.0", " sip:b SIP/2.0",
            "OPTIONS  SIP/2.0", "OPTIONS sip:b HTTP/1.1", "OPTIONS sip:b SIP/2", "OPTIONS sip:b SIP/٢.0",
            "SIP/2.0", "SIP/2.0 ", "SIP/2.0 20 OK", "SIP/2.0 2000 OK", "SIP/2.0 099 X", "SIP/2.0 700 X",
            "SIP/2.0 2x0 OK", "SIP/2.0  200 OK", "SIP/2.0 ²00 OK", "SIP/2.0 2²0 OK", "SIP/2.0 -20 OK",
            "SIP/2.0 4294967301 better not break the receiver",
        ):  # fmt: skip
            error = self.assertRaises(ParseError, parsed, "l: 0", start=line)
            self.assertEqual(error.status, 400, line)

    def test_versions(self) -> None:
        """Another version of SIP is answered with 505 (RFC 3261 §21.5.6)."""
        for line in ("OPTIONS sip:b SIP/7.0", "OPTIONS sip:b SIP/2.1", "OPTIONS sip:b sip/02.0", "SIP/3.0 200 OK"):
            error = self.assertRaises(ParseError, parsed, "l: 0", start=line)
            self.assertEqual(error.status, 505, line)

    def test_blank_lines_before(self) -> None:
        """CRLFs before the start line are ignored (RFC 3261 §7.5)."""
        data = data_of("l: 0")
        self.assertEqual(parse_message(b"\r\n" * 3 + data), parse_message(data))
        self.assertEqual(parse_message(b"\r\n" + data), parse_message(data))

    def test_nothing(self) -> None:
        """Nothing, and nothing but blank lines, is no message."""
        for data in (b"", b"\r\n", b"\r\n\r\n", b"\r\n" * 20000, b"\0", b"\r", b"\n\n", b"\xff\r\n\r\n", b"jaK"):
            self.assertRaises(ParseError, parse_message, data)


class FieldTests(SynchronousTestCase):
    def test_white_space_and_case(self) -> None:
        """Names and values are the same with any white space around them, and names in any case (RFC 3261 §7.3.1)."""
        for line in (
            "Subject:            lunch",
            "Subject      :      lunch",
            "SUBJECT\t:lunch",
            "subject: lunch \t",
            "s:lunch",
            "S : lunch",
        ):
            self.assertEqual(parsed(line).get("subject"), "lunch")

    def test_names_for_asking(self) -> None:
        """Fields are asked for by any form of their name, and keep the name they came with."""
        message = parsed("i: 1", "X-Own: 2", "v: SIP/2.0/UDP a")
        for name in ("call-id", "Call-ID", "i", "I", "CALL-ID", "cAlL-iD"):
            self.assertEqual(message.get(name), "1")
        self.assertEqual(message.get("x-oWn"), "2")
        self.assertEqual([name for _, name, _ in message.fields], ["i", "X-Own", "v"])
        self.assertEqual([key for key, _, _ in message.fields], ["call-id", "x-own", "via"])

    def test_compact_forms(self) -> None:
        """Every compact form is its long form (RFC 3261 §7.3.3)."""
        for compact, name in zip(
            "abcdefijkmnorstuvxy",
            (
                "Accept-Contact",
                "Referred-By",
                "Content-Type",
                "Request-Disposition",
                "Content-Encoding",
                "From",
                "Call-ID",
                "Reject-Contact",
                "Supported",
                "Contact",
                "Identity-Info",
                "Event",
                "Refer-To",
                "Subject",
                "To",
                "Allow-Events",
                "Via",
                "Session-Expires",
                "Identity",
            ),
            strict=True,
        ):
            self.assertEqual(parsed(f"{compact}: x").get(name), "x")
            self.assertEqual(parsed(f"{compact.upper()}: x").get(name), "x")
        self.assertEqual(canonical("l"), "content-length")

    def test_folding(self) -> None:
        """A line break with the white space that follows it is one space (RFC 3261 §7.3.1)."""
        message = parsed(
            "Subject: I know you're there,",
            "         pick up the phone",
            "\tand talk to me!",
            "X:",
            " y",
            "Z: a",
            " ",
            " b:c",
            "W:",
            "\t ",
        )
        self.assertEqual(message.get("Subject"), "I know you're there, pick up the phone and talk to me!")
        self.assertEqual(message.get("X"), "y")
        self.assertEqual(message.get("Z"), "a  b:c")
        self.assertEqual(message.get("W"), "")

    def test_folding_with_tabs(self) -> None:
        """A tab folds as well as a space, with and without a colon behind it."""
        self.assertEqual(parsed("X: a", "\tb").get("X"), "a b")
        self.assertEqual(parsed("X: a", "\tb: c").get("X"), "a b: c")

    def test_folded_content_length(self) -> None:
        """Content-Length may be folded as any other."""
        self.assertEqual(parsed("Content-Length:", " 2", body=b"okay").body, b"ok")

    def test_folded_start_line(self) -> None:
        """A start line cannot be folded."""
        self.assertRaises(ParseError, parsed, " Subject: x")

    def test_malformed(self) -> None:
        """A line without a colon, or with a name that is no token, makes the message malformed."""
        for line in (
            "Subject",
            "Via",
            ": x",
            "Sub ject: x",
            "é: x",
            "a@b: x",
            "\0: x",
            "Subject\r: x",
            "a\x0b: x",
            "\x0bSubject: x",
        ):
            error = self.assertRaises(ParseError, parsed, "Call-ID: 1", line, "l: 0")
            self.assertEqual(error.status, 400)

    def test_line_ends(self) -> None:
        """A lone CR or LF is an error wherever it stands before the body, and nothing in it."""
        good = data_of("Call-ID: 1", "l: 4", body=b"\n\r\r\n")
        self.assertEqual(parse_message(good).body, b"\n\r\r\n")
        for data in (
            good.replace(b"Call-ID: 1\r\n", b"Call-ID: 1\n"),
            good.replace(b"Call-ID: 1\r\n", b"Call-ID: 1\r"),
            good.replace(b"1\r\nl", b"1\n\rl"),
            good.replace(b"SIP/2.0\r\n", b"SIP/2.0\n"),
            good.replace(b"1\r\n", b"1\r\r\n"),
            good.replace(b"\r\n", b"\n"),
        ):
            self.assertNotEqual(data, good)
            self.assertEqual(self.assertRaises(ParseError, parse_message, data).status, 400)

    def test_no_end(self) -> None:
        """Without the empty line the message is not whole (RFC 3261 §7)."""
        self.assertRaises(ParseError, parse_message, data_of("l: 0")[:-2])

    def test_any_bytes(self) -> None:
        """Values may hold NULs, controls and bytes that are no UTF-8, and are written as they came."""
        data = data_of("Subject: a\0\x0b\x1c\x7f\u2028b", "X: \udcff\udcfe é", "l: 0")
        message = parse_message(data)
        self.assertEqual(message.get("subject"), "a\0\x0b\x1c\x7f\u2028b")
        self.assertIn(b"X: \xff\xfe \xc3\xa9\r\n", message.serialise())

    def test_only_blanks_are_trimmed(self) -> None:
        """What Unicode calls white space belongs to the value."""
        self.assertEqual(parsed("Subject: \u3000a\x1f\xa0").get("subject"), "\u3000a\x1f\xa0")

    def test_number_of_fields(self) -> None:
        """More fields than any element needs are refused with 513."""
        most = [f"X-{n}: y" for n in range(MAX_FIELDS - 1)]
        self.assertEqual(len(parsed(*most).fields), MAX_FIELDS - 1)
        self.assertEqual(self.assertRaises(ParseError, parsed, *most, "Z: y").status, 513)

    def test_names_remembered(self) -> None:
        """Strangers cannot make the table of names grow without end, and their names still work."""
        parsed(f"{'X' * 65}: y", f"{'X' * 64}: y")
        self.assertNotIn("X" * 65, KEYS)
        for n in range(5000):
            self.assertEqual(parsed(f"Flood-{n}: y").get(f"fLOOD-{n}"), "y")
        self.assertLess(len(KEYS), 3000)


class BodyTests(SynchronousTestCase):
    def test_length(self) -> None:
        """The body is as long as Content-Length says; without one it reaches to the end (RFC 3261 §18.3)."""
        self.assertEqual(parsed("l: 2", body=b"okay").body, b"ok")
        self.assertEqual(parsed("Content-Length: 0000000004", body=b"okay").body, b"okay")
        self.assertEqual(parsed("X: y", body=b"ok\r\n\r\nay\0\xff").body, b"ok\r\n\r\nay\0\xff")
        self.assertEqual(parsed("l: 1", "Content-Length: 01", body=b"okay").body, b"o")

    def test_wrong_lengths(self) -> None:
        """A length that is none, differs from another, or exceeds the datagram, is refused with 400."""
        for lines in (
            ["l: 5"], ["l: -1"], ["l: +4"], ["l: four"], ["l:"], ["l: 4;x"], ["l: 4 4"], ["l: ٤"], ["l: ²"],
            ["l: " + "9" * 11], ["l: " + "9" * 5000], ["l: 4", "Content-Length: 3"], ["l: 4", "CONTENT-length: x"],
        ):  # fmt: skip
            error = self.assertRaises(ParseError, parsed, *lines, body=b"okay")
            self.assertEqual(error.status, 400)

    def test_content_length_is_no_field(self) -> None:
        """Content-Length follows from the body, whatever anyone sets."""
        message = parsed("Content-Length: 2", "X: y", body=b"okay")
        self.assertEqual([name for _, name, _ in message.fields], ["X"])
        for change in (message.set, message.add, message.prepend):
            change("Content-Length", "99")
            change("l", "99")
        message.remove("Content-Length")
        self.assertEqual((message.get("l"), message.get_all("content-length")), ("2", ["2"]))
        message.body = b"longer"
        self.assertEqual(message.serialise().count(b"Content-Length: 6\r\n\r\nlonger"), 1)
        self.assertEqual(message.serialise().count(b"99"), 0)
        self.assertEqual(Request.new("A", "sip:b", [("Content-Length", "9")]).fields, [])


class CheckTests(SynchronousTestCase):
    def request(self, **changes: str | None) -> Request:
        request = Request.new("OPTIONS", "sip:b@example.com", HEADERS)
        for name, value in changes.items():
            name = name.replace("_", "-")
            request.remove(name)
            for text in (value or "").split("|") if value is not None else ():
                request.add(name, text)
        return request

    def test_good(self) -> None:
        """A request with what every request must have passes; Max-Forwards may be missing (RFC 3261 §8.1.1, §16.3)."""
        check_request(self.request())
        check_request(self.request(max_forwards="0070"))
        check_request(self.request(max_forwards="300"))
        check_request(self.request(to="isbn:2983792873", **{"from": "<http://www.example.com>"}))
        check_request(self.request(via="SIP/2.0/UDP a, SIP/2.0/UDP b|broken"))

    def test_missing(self) -> None:
        """Via, From, To, Call-ID and CSeq are mandatory, and may not be empty."""
        for name in ("via", "from", "to", "call_id", "cseq"):
            for value in (None, ""):
                error = self.assertRaises(ParseError, check_request, self.request(**{name: value}))
                self.assertEqual(error.status, 400, name)

    def test_twice(self) -> None:
        """From, To, Call-ID, CSeq and Max-Forwards come once (RFC 4475 §3.3.8)."""
        for name, value in (
            ("from", "sip:a"),
            ("to", "sip:a"),
            ("call_id", "1"),
            ("cseq", "1 OPTIONS"),
            ("max_forwards", "70"),
        ):
            self.assertRaises(ParseError, check_request, self.request(**{name: f"{value}|{value}"}))

    def test_malformed(self) -> None:
        """Each of them is well-formed, and so is the Request-URI."""
        for name, value in (
            ("via", "SIP/2.0/UDP"), ("via", ", SIP/2.0/UDP a"), ("via", 'SIP/2.0/UDP a;x="'), ("from", "a"),
            ("to", "<sip:b"), ("cseq", "1"), ("cseq", "2147483648 OPTIONS"), ("cseq", "1 options"),
            ("cseq", "1 INVITE"), ("max_forwards", "-1"), ("max_forwards", ""),
        ):  # fmt: skip
            self.assertRaises(ParseError, check_request, self.request(**{name: value}))
        for uri in ("<sip:b@h>", "sip:2001:db8::10", "sip:b@h?Route=%3Csip:c%3E", "b", "sip:\x01", ""):
            request = self.request()
            request.uri = uri
            self.assertRaises(ParseError, check_request, request)

    def test_method_of_cseq(self) -> None:
        """A CSeq of another method is an error of the sender, or our ignorance of its method (RFC 4475 §3.1.2.18)."""
        for method, status in (("OPTIONS", 400), ("NEWMETHOD", 501)):
            request = self.request(cseq="1 INVITE")
            request.method = method
            self.assertEqual(self.assertRaises(ParseError, check_request, request).status, status)

    def test_other_schemes(self) -> None:
        """A Request-URI of another scheme is for those to refuse who route by it (RFC 3261 §16.3 step 2)."""
        request = self.request()
        request.uri = "tel:+1-201-555-0123?x"
        check_request(request)

    def test_response(self) -> None:
        """A response needs the same fields, and its CSeq may name any method."""
        check_response(Response.new(200, headers=[*HEADERS[:4], ("CSeq", "1 INVITE")]))
        for name, _ in HEADERS:
            response = Response.new(200, headers=HEADERS)
            response.remove(name)
            self.assertRaises(ParseError, check_response, response)


NAMES = st.one_of(
    st.text("abXY09-.!%*_+`'~", min_size=1, max_size=8), st.sampled_from(["Via", "i", "to", "CSeq", "SUBJECT"])
)
CHARS = st.characters(exclude_characters="\r\n", exclude_categories=["Cs"])
# Values as the parser gives them: any bytes but line ends, trimmed.
VALUES = st.one_of(
    st.text(CHARS, max_size=12),
    st.binary(max_size=12).map(
        lambda data: data.decode("utf-8", "surrogateescape").replace("\r", "").replace("\n", "")
    ),
).map(lambda text: text.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape").strip(" \t"))
HEADER_LISTS = st.lists(st.tuples(NAMES, VALUES).filter(lambda header: header[0] not in "lL"), max_size=8)
REQUESTS = st.builds(
    Request.new,
    st.text("aZ9-.!%*_+`'~", min_size=1, max_size=9),
    st.from_regex(r"\A[a-z]{1,5}:[!-~é]{1,20}\Z"),
    HEADER_LISTS,
    st.binary(max_size=30),
)
RESPONSES = st.builds(Response.new, st.integers(100, 699), VALUES, HEADER_LISTS, st.binary(max_size=30))
LINES = st.sampled_from(
    [
        "Via: SIP/2.0/UDP a",
        "From: sip:a;tag=1",
        "To: sip:b",
        "Call-ID: 1",
        "CSeq: 1 A",
        "l: 0",
        "l:",
        " folded",
        "\t",
        ":",
        "x",
        "a\0: b",
    ]
)
PIECES = st.one_of(LINES.map(str.encode), st.binary(max_size=12))
NEARLY = st.builds(
    lambda start, pieces, end: start + b"\r\n" + b"\r\n".join(pieces) + end,
    st.sampled_from(
        [b"A sip:b SIP/2.0", b"SIP/2.0 200 OK", b"ACK sip:b SIP/2.0", b"A sip:b SIP/3.0", b"A b", b"", b"\r\n"]
    ),
    st.lists(PIECES, max_size=9),
    st.sampled_from([b"\r\n\r\n", b"\r\n\r\nbody", b"\n\n", b""]),
)


class PropertyTests(SynchronousTestCase):
    @settings(max_examples=300, deadline=None)
    @given(st.one_of(REQUESTS, RESPONSES))
    def test_round_trip(self, message: Request | Response) -> None:
        """A message written and parsed is the same message."""
        again = parse_message(message.serialise())
        self.assertEqual(again, message)
        self.assertEqual(again.fields, message.fields)
        self.assertEqual(again.serialise(), message.serialise())

    @settings(max_examples=500, deadline=None)
    @given(st.one_of(st.binary(), NEARLY))
    @example(b"A sip:b SIP/2.0\r\n" + b"a:b\r\n " * 200 + b"\r\n\r\n")
    @example(b"A sip:b SIP/2.0\r\nX: " + b" \t" * 20000 + b"\r\n\r\n")
    @example(b"A sip:b SIP/2.0\r\nTo: " + b"<" * 20000 + b"\r\n\r\n")
    def test_only_parse_errors(self, data: bytes) -> None:
        """No bytes make the parser or the checks raise anything but ParseError; what parses can be written."""
        try:
            message = parse_message(data)
            self.assertEqual(parse_message(message.serialise()), message)
            if isinstance(message, Request):
                check_request(message)
            else:
                check_response(message)
        except ParseError as error:
            self.assertIn(error.status, {400, 505, 513})

    @settings(max_examples=500, deadline=None)
    @given(st.one_of(st.binary(), NEARLY))
    @example(b"A\r\n" + b" " * 40000)
    def test_salvage_never_raises(self, data: bytes) -> None:
        """Salvage gives an answer that is a response, or none; never an error, and nothing to an ACK or a response."""
        answer = salvage_response(data, ParseError("broken", 400))
        if answer is not None:
            check = parse_message(answer.serialise())
            assert isinstance(check, Response)
            self.assertEqual((check.status, check.reason), (400, "broken"))
            self.assertFalse(data.lstrip(b"\r\n").startswith((b"ACK ", b"SIP/")))
