"""Tests of rollcall.sip.replies."""

from twisted.trial.unittest import SynchronousTestCase

from rollcall.sip.errors import ParseError
from rollcall.sip.headers import parse_name_addr
from rollcall.sip.message import Request, parse_message
from rollcall.sip.replies import response_to, salvage_response

HEADERS = (
    ("Max-Forwards", "70"),
    ("To", "<sip:b@example.com>"),
    ("v", "SIP/2.0/UDP c;branch=z9hG4bKc, SIP/2.0/UDP b"),
    ("f", "<sip:a@example.com>;tag=1"),
    ("Call-ID", "1@192.0.2.1"),
    ("Via", "SIP/2.0/UDP a"),
    ("CSeq", "1 INVITE"),
    ("Timestamp", "54"),
    ("Contact", "<sip:a@192.0.2.1>"),
)


def a_request(to: str = "<sip:b@example.com>") -> Request:
    request = Request.new("INVITE", "sip:b@example.com", HEADERS, b"v=0")
    request.set("To", to)
    return request


class ResponseTests(SynchronousTestCase):
    def test_copied_fields(self) -> None:
        """A response has the request's Via list in order, From, To, Call-ID and CSeq, and no more (§8.2.6.2)."""
        response = response_to(a_request(), 404, to_tag="t")
        self.assertEqual(
            response.serialise(),
            b"SIP/2.0 404 Not Found\r\n"
            b"To: <sip:b@example.com>;tag=t\r\n"
            b"v: SIP/2.0/UDP c;branch=z9hG4bKc, SIP/2.0/UDP b\r\n"
            b"f: <sip:a@example.com>;tag=1\r\n"
            b"Call-ID: 1@192.0.2.1\r\n"
            b"Via: SIP/2.0/UDP a\r\n"
            b"CSeq: 1 INVITE\r\n"
            b"Content-Length: 0\r\n\r\n",
        )

    def test_own_fields(self) -> None:
        """Further fields come after those that were copied, and the reason may be another."""
        response = response_to(a_request(), 420, "No", headers=[("Unsupported", "x"), ("Warning", "y")])
        self.assertEqual([name for _, name, _ in response.fields[-2:]], ["Unsupported", "Warning"])
        self.assertEqual((response.status, response.reason), (420, "No"))
        self.assertIsNone(parse_name_addr(response.get("to") or "").tag)

    def test_timestamp(self) -> None:
        """Timestamp is copied into a 100, and into nothing else (§8.2.6.1)."""
        self.assertEqual(response_to(a_request(), 100).get("timestamp"), "54")
        self.assertIsNone(response_to(a_request(), 180).get("timestamp"))

    def test_tag(self) -> None:
        """A tag is added to a To without one, wherever something like a tag stands in it."""
        for to, expected in (
            ("sip:b@h", "sip:b@h;tag=T"),
            ("sip:b@h;x", "sip:b@h;x;tag=T"),
            ("<sip:b@h;tag=no>", "<sip:b@h;tag=no>;tag=T"),
            ('";tag=no" <sip:b@h>', '";tag=no" <sip:b@h>;tag=T'),
            ('<sip:b@h>;x=";tag=no"', '<sip:b@h>;x=";tag=no";tag=T'),
            ("<sip:b@h>;xtag=no", "<sip:b@h>;xtag=no;tag=T"),
            ("<sip:b@h>;tag=yes", "<sip:b@h>;tag=yes"),
            ("sip:b@h ; TAG = yes", "sip:b@h ; TAG = yes"),
            ('"b" <sip:b@h>;tag=yes', '"b" <sip:b@h>;tag=yes'),
            ('<sip:b@h>;x=">";tag=yes', '<sip:b@h>;x=">";tag=yes'),
            ('"b <sip:b@h>', '"b <sip:b@h>'),
        ):
            self.assertEqual(response_to(a_request(to), 200, to_tag="T").get("to"), expected)

    def test_doubled_fields(self) -> None:
        """Of fields that came twice against the rules, the response has the first (RFC 4475 §3.3.8)."""
        request = a_request()
        for name in ("To", "From", "Call-ID", "CSeq"):
            request.add(name, "second")
        self.assertNotIn(b"second", response_to(request, 400, to_tag="t").serialise())

    def test_missing_fields(self) -> None:
        """What the request lacks, the response lacks too (RFC 4475 §3.3.1)."""
        response = response_to(Request.new("INVITE", "sip:b", [("Via", "SIP/2.0/UDP a")]), 400, to_tag="t")
        self.assertEqual([name for _, name, _ in response.fields], ["Via"])

    def test_request_is_left_alone(self) -> None:
        """Changing the response does not change the request."""
        request = a_request()
        response_to(request, 200, to_tag="t").set("Via", "x")
        self.assertEqual(request, a_request())


BROKEN = (
    b"INVITE sip:b@example.com; lr SIP/2.0\r\n"
    b"v: SIP/2.0/UDP c;branch=z9hG4bKc,\r\n SIP/2.0/UDP b\r\n"
    b"No colon\r\n"
    b"From  : sip:a@example.com;tag=1\r\n"
    b"To: sip:b@example.com\r\n"
    b"Call-ID: 1@192.0.2.1\r\n"
    b"B\xffd: x\r\n"
    b"CSeq: 1 INVITE\r\n"
    b"\r\nCall-ID: 2\r\n"
)


class SalvageTests(SynchronousTestCase):
    def salvage(self, data: bytes) -> bytes:
        answer = salvage_response(data, ParseError("malformed request line"))
        return b"" if answer is None else answer.serialise()

    def tag(self, data: bytes) -> str | None:
        return parse_name_addr(parse_message(self.salvage(data)).get("to") or "").tag

    def test_answer(self) -> None:
        """What can be read of a broken request goes into its answer, with the reason and a tag."""
        self.assertEqual(
            self.salvage(BROKEN),
            b"SIP/2.0 400 malformed request line\r\n"
            b"v: SIP/2.0/UDP c;branch=z9hG4bKc, SIP/2.0/UDP b\r\n"
            b"From: sip:a@example.com;tag=1\r\n"
            b"To: sip:b@example.com;tag=" + (self.tag(BROKEN) or "").encode() + b"\r\n"
            b"Call-ID: 1@192.0.2.1\r\n"
            b"CSeq: 1 INVITE\r\n"
            b"Content-Length: 0\r\n\r\n",
        )

    def test_tag(self) -> None:
        """The same request gets the same tag again, another gets another (§8.2.7), and one in the request stays."""
        self.assertEqual(len(self.tag(BROKEN) or ""), 16)
        self.assertEqual(self.tag(BROKEN), self.tag(BROKEN))
        self.assertNotEqual(self.tag(BROKEN), self.tag(BROKEN.replace(b"Call-ID: 1", b"Call-ID: 3")))
        self.assertEqual(self.tag(BROKEN.replace(b"To: sip:b@example.com", b"To: sip:b;tag=x")), "x")

    def test_line_ends(self) -> None:
        """Whatever ends its lines, and whatever blank lines come first, a request is answered."""
        for data in (BROKEN.replace(b"\r\n", b"\n"), BROKEN.replace(b"\r\n", b"\r"), b"\r\n" + BROKEN):
            self.assertIn(b"Call-ID: 1@192.0.2.1\r\n", self.salvage(data))

    def test_status(self) -> None:
        """The answer has the status of the error."""
        answer = salvage_response(BROKEN, ParseError("SIP version not supported", 505))
        assert answer is not None
        self.assertEqual((answer.status, answer.reason), (505, "SIP version not supported"))

    def test_silence(self) -> None:
        """Responses, ACKs and what lacks a field that tells its sender of an answer are not answered."""
        for data in (
            b"",
            b"\r\n\r\n",
            b"INVITE",
            BROKEN.replace(b"INVITE sip", b"ACK sip"),
            BROKEN.replace(b"INVITE sip:b@example.com;", b"SIP/2.0 2000"),
            BROKEN.replace(b"INVITE sip:b@example.com;", b"sip/2.0 2000"),
            BROKEN.replace(b"CSeq: 1 INVITE", b"CSeq:"),
            BROKEN.replace(b"v: SIP/2.0/UDP c", b"v: SIP/2.0/UDP"),
            *(BROKEN.replace(name, b"X" + name) for name in (b"v: ", b"CSeq")),
        ):
            self.assertEqual(self.salvage(data), b"", data)

    def test_missing_fields(self) -> None:
        """Without From, To or Call-ID a request is answered with those that it has (RFC 4475 §3.3.1)."""
        for line in (b"From  : sip:a@example.com;tag=1\r\n", b"To: sip:b@example.com\r\n", b"Call-ID: 1@192.0.2.1\r\n"):
            answer = self.salvage(BROKEN.replace(line, b""))
            self.assertEqual(answer.count(b"\r\n"), self.salvage(BROKEN).count(b"\r\n") - 1)
            self.assertNotIn(line.partition(b":")[0].strip() + b":", answer)
        self.assertNotIn(b"Call-ID", self.salvage(BROKEN.replace(b"Call-ID: 1@192.0.2.1", b"Call-ID:")))

    def test_malformed_via(self) -> None:
        """A Via of which only the parameters are malformed goes back as it came (RFC 4475 §3.1.2.1)."""
        answer = self.salvage(BROKEN.replace(b"UDP c;branch=z9hG4bKc,", b"UDP c;;,;,"))
        self.assertIn(b"v: SIP/2.0/UDP c;;,;, SIP/2.0/UDP b\r\n", answer)

    def test_enormous(self) -> None:
        """Only the first 16 KiB are looked at."""
        self.assertEqual(self.salvage(BROKEN.replace(b"No colon", b"X" * 20000)), b"")
