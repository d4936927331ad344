"""Tests of the parser with the torture messages of RFC 4475 and RFC 5118."""

from twisted.trial.unittest import SynchronousTestCase

from rollcall.sip.errors import ParseError
from rollcall.sip.framing import FramingError, FramingLimits, StreamFramer
from rollcall.sip.headers import NameAddr, parse_contacts, parse_name_addr, parse_via
from rollcall.sip.message import Request, Response, check_request, check_response, parse_message, salvage_response
from rollcall.sip.uri import SipUri, parse_sip_uri, parse_uri
from tests.vectors.expectations import EXPECTATIONS, RFC4475, RFC5118, Expectation, InStream, Stage
from tests.vectors.torture import messages, rfc4475, rfc5118


def verdict(data: bytes) -> tuple[Stage, int | None]:
    """Return who refuses a message, and with which status."""
    try:
        message = parse_message(data)
    except ParseError as error:
        return Stage.PARSE, error.status
    try:
        if isinstance(message, Request):
            check_request(message)
        else:
            check_response(message)
    except ParseError as error:
        return Stage.CHECK, error.status
    return Stage.NOBODY, None


def fate(data: bytes) -> tuple[InStream, list[object]]:
    """Return what a framer makes of a message alone in a stream, and the messages it cut out."""
    try:
        events: list[object] = [*StreamFramer(FramingLimits()).receive_data(data)]
    except FramingError as error:
        return (InStream.SEVERAL if error.completed else InStream.LOST), [*error.completed]
    return (InStream.WHOLE if events == [data] else InStream.WAITS), events


class TableTests(SynchronousTestCase):
    def test_archives(self) -> None:
        """The archives hold 49 and 12 messages, and the table has a row for each."""
        self.assertEqual((len(rfc4475()), len(rfc5118())), (49, 12))
        self.assertEqual({row.name for row in RFC4475}, set(rfc4475()))
        self.assertEqual({row.name for row in RFC5118}, set(rfc5118()))
        self.assertEqual(len(EXPECTATIONS), 61)

    def test_verdicts(self) -> None:
        """Every message is accepted or refused where the table says, with the status it says."""
        for row in EXPECTATIONS:
            self.assertEqual(verdict(messages()[row.name]), (row.stage, row.refused), f"{row.name}: {row.quote}")

    def test_invalid_messages_that_pass(self) -> None:
        """Of the messages that the RFCs call invalid only those pass whose fault the parser has no business with."""
        passing = {row.name for row in EXPECTATIONS if not row.valid and row.refused is None}
        self.assertEqual(passing, {"baddate", "regbadct", "badbranch"})

    def test_refusals_are_allowed_answers(self) -> None:
        """What the parser refuses a request with is among the answers that the RFC allows."""
        for row in EXPECTATIONS:
            if row.request and row.refused is not None:
                self.assertIn(row.refused, row.answers, row.name)

    def test_streams(self) -> None:
        """A stream framer cuts out, waits for, or gives up on each message as the table says."""
        for row in EXPECTATIONS:
            self.assertEqual(fate(messages()[row.name])[0], row.in_stream, row.name)

    def test_unparsable_requests_are_answered(self) -> None:
        """A request that cannot be parsed still gets its answer, with the fields that make it one (§8.2.6.2)."""
        for row in EXPECTATIONS:
            if row.stage is Stage.PARSE:
                self.assert_salvaged(row)

    def assert_salvaged(self, row: Expectation) -> None:
        data = messages()[row.name]
        error = self.assertRaises(ParseError, parse_message, data)
        answer = salvage_response(data, error)
        if not row.request:
            self.assertIsNone(answer, row.name)
            return
        assert answer is not None, row.name
        self.assertEqual(answer.status, row.refused)
        self.assertIn(f"Call-ID: {answer.get('call-id')}".encode(), data)
        check_response(parse_answer(answer))
        self.assertIsNotNone(parse_name_addr(answer.get("to") or "").tag)

    def test_round_trip(self) -> None:
        """A message that parses is the same after it was written and parsed again."""
        for row in EXPECTATIONS:
            if row.stage is not Stage.PARSE:
                message = parse_message(messages()[row.name])
                self.assertEqual(parse_message(message.serialise()), message, row.name)

    def test_lone_line_feeds(self) -> None:
        """RFC 5118's messages as saved, with LF for CRLF, are refused and answered with 400."""
        for name, data in rfc5118().items():
            error = self.assertRaises(ParseError, parse_message, data)
            answer = salvage_response(data, error)
            assert answer is not None, name
            self.assertEqual(answer.status, 400)


def parse_answer(answer: Response) -> Response:
    parsed = parse_message(answer.serialise())
    assert isinstance(parsed, Response)
    return parsed


def request(name: str) -> Request:
    parsed = parse_message(messages()[name])
    assert isinstance(parsed, Request)
    return parsed


class DetailTests(SynchronousTestCase):
    def test_short_tortuous_invite(self) -> None:
        """Folding, white space, compact forms and mixed lists come out as if written plainly (RFC 4475 §3.1.1.1)."""
        invite = request("wsinv")
        vias = [parse_via(value) for value in invite.values("via")]
        self.assertEqual(
            [(via.transport, via.host, via.branch) for via in vias],
            [
                ("UDP", "192.0.2.2", "390skdjuw"),
                ("TCP", "spindle.example.com", "z9hG4bK9ikj8"),
                ("UDP", "192.168.255.111", "z9hG4bK30239"),
            ],
        )
        sender = parse_name_addr(invite.get("from") or "")
        self.assertEqual(
            (sender.display, sender.uri, sender.tag), ('J Rosenberg \\"', "sip:jdrosen@example.com", "98asjd8")
        )
        receiver = parse_name_addr(invite.get("to") or "")
        self.assertEqual((receiver.uri, receiver.tag), ("sip:vivekg@chair-dnrc.example.com", "1918181833n"))
        self.assertEqual(invite.get("subject"), "")
        self.assertEqual(invite.get("newfangledheader"), "newfangled value continued newfangled value")
        self.assertEqual(invite.get("unknownheaderwithunusualvalue"), ";;,,;;,;")
        (contact,) = contacts(invite)
        self.assertEqual(contact.display, 'Quoted string ""')
        self.assertEqual(contact.params, {"newparam": "newvalue", "secondparam": None, "q": "0.33"})

    def test_wide_range_of_characters(self) -> None:
        """Unusual characters stay where they are, in each production that allows them (RFC 4475 §3.1.1.2)."""
        unusual = request("intmeth")
        self.assertEqual(unusual.method, "!interesting-Method0123456789_*+`.%indeed'~")
        uri = parse_sip_uri(unusual.uri)
        self.assertEqual(uri.user, "1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*")
        self.assertEqual(uri.password, "&it+has=1,weird!*pas$wo~d_too.(doesn't-it)")
        self.assertEqual(parse_name_addr(unusual.get("to") or "").display, "BEL:\a NUL:\0 DEL:\x7f")
        sender = parse_name_addr(unusual.get("from") or "")
        self.assertEqual(sender.display, "token1~` token2'+_ token3*%!.-")
        self.assertEqual(sender.tag, "_token~1'+`*%!-.")
        self.assertEqual(sender.params["fromparam''~+*_!.-%"], '"работающий"')
        self.assertEqual(unusual.get("call-id"), "intmeth.word%ZK-!.*_+'@word`~)(><:\\/\"][?}{")
        self.assertEqual(unusual.get("extensionHeader-!.%*+_`'~"), "\ufeff大停電")

    def test_escapes(self) -> None:
        """An escape is undone once, where the grammar has escapes, and nowhere else (RFC 4475 §3.1.1.3, §3.1.1.5)."""
        invite = request("esc01")
        self.assertEqual(parse_sip_uri(invite.uri).user, "sips%3Auser%40example.com")
        self.assertEqual(parse_sip_uri(parse_name_addr(invite.get("to") or "").uri).aor(), "sip:user@example.com")
        (contact,) = contacts(invite)
        uri = parse_sip_uri(contact.uri)
        self.assertEqual(uri.param("lr"), "")
        self.assertEqual(uri.param("name"), "value%41")
        unknown = request("esc02")
        self.assertEqual(unknown.method, "RE%47IST%45R")
        self.assertEqual(
            [contact.uri for contact in contacts(unknown)],
            ["sip:alias1@host1.example.com", "sip:alias3@host3.example.com"],
        )

    def test_escaped_nulls(self) -> None:
        """A NUL in a user part ends nothing: two contacts, and the whole name (RFC 4475 §3.1.1.4)."""
        register = request("escnull")
        first, second = (parse_sip_uri(contact.uri) for contact in contacts(register))
        self.assertFalse(first.matches(second))
        aor = parse_sip_uri(parse_name_addr(register.get("to") or "").uri).aor()
        self.assertEqual(aor, "sip:null-%00-null@example.com")

    def test_long_values(self) -> None:
        """34 Via lines in every spelling keep their order (RFC 4475 §3.1.1.7)."""
        vias = [parse_via(value).host for value in request("longreq").values("via")]
        self.assertEqual(vias, [f"sip{n}.example.com" for n in range(33, 0, -1)] + ["host.example.com"])

    def test_extra_octets(self) -> None:
        """What follows the body in a datagram is dropped; in a stream it is further messages (RFC 4475 §3.1.1.8)."""
        data = messages()["dblreq"]
        self.assertEqual((request("dblreq").method, request("dblreq").body), ("REGISTER", b""))
        methods = [parse_message(event).start_line[:8] for event in fate(data)[1] if isinstance(event, bytes)]
        self.assertEqual(methods, ["REGISTER", "INVITE s"])

    def test_semicolon_in_user(self) -> None:
        """Parameters in the user part belong to the user (RFC 4475 §3.1.1.9)."""
        uri = parse_sip_uri(request("semiuri").uri)
        self.assertEqual((uri.user, uri.host, uri.params), ("user;par=u%40example.net", "example.com", ()))

    def test_transports(self) -> None:
        """Transports nobody has heard of are fine in Via (RFC 4475 §3.1.1.10)."""
        vias = [parse_via(value).transport for value in request("transports").values("via")]
        self.assertEqual(vias, ["UDP", "SCTP", "TLS", "UNKNOWN", "TCP"])

    def test_binary_body(self) -> None:
        """A body with NULs is framed by its length and kept as it is (RFC 4475 §3.1.1.11)."""
        body = request("mpart01").body
        self.assertEqual(len(body), 553)
        self.assertIn(b"\0", body)
        self.assertTrue(body.endswith(b"--7a9cbec02ceef655--\r\n"))

    def test_reason_phrases(self) -> None:
        """A reason phrase may be in any language, or empty (RFC 4475 §3.1.1.12, §3.1.1.13)."""
        unusual, empty = (parse_message(messages()[name]) for name in ("unreason", "noreason"))
        assert isinstance(unusual, Response) and isinstance(empty, Response)
        self.assertEqual((unusual.status, unusual.reason[:18]), (200, "= 2**3 * 5**2 но с"))
        self.assertEqual((empty.status, empty.reason), (100, ""))

    def test_contact_without_brackets(self) -> None:
        """Without <> a parameter is the header's, within them the URI's (RFC 4475 §3.3.12 to §3.3.14)."""
        (bare,) = contacts(request("cparam01"))
        self.assertEqual((bare.uri, bare.params), ("sip:+19725552222@gw1.example.net", {"unknownparam": None}))
        (enclosed,) = contacts(request("cparam02"))
        self.assertEqual((enclosed.uri, enclosed.params), ("sip:+19725552222@gw1.example.net;unknownparam", {}))
        (escaped,) = contacts(request("regescrt"))
        self.assertEqual(parse_sip_uri(escaped.uri).headers, "Route=%3Csip:sip.example.com%3E")

    def test_contact_that_needs_brackets(self) -> None:
        """A question mark in a URI without <> is an error for those who read Contact (RFC 4475 §3.1.2.13)."""
        self.assertRaises(ParseError, parse_contacts, request("regbadct"))

    def test_other_schemes(self) -> None:
        """URIs of any scheme parse; who needs a SIP URI says 416 (RFC 4475 §3.3.2 to §3.3.4)."""
        for name in ("unkscm", "novelsc"):
            self.assertNotIsInstance(parse_uri(request(name).uri), SipUri)
            self.assertEqual(self.assertRaises(ParseError, parse_sip_uri, request(name).uri).status, 416)
        self.assertEqual(parse_name_addr(request("unksm2").get("to") or "").uri, "isbn:2983792873")

    def test_ipv6_references(self) -> None:
        """A port is a port only outside the brackets; one colon too many is tolerated (RFC 5118 §4.3, §4.4, §4.10)."""
        ambiguous = parse_sip_uri(request("port-ambiguous").uri)
        self.assertEqual((ambiguous.host, ambiguous.port), ("[2001:db8::10:5070]", None))
        unambiguous = parse_sip_uri(request("port-unambiguous").uri)
        self.assertEqual((unambiguous.host, unambiguous.port), ("[2001:db8::10]", 5070))
        names = ("ipv6-bug-abnf-3-colons", "ipv6-correct-abnf-2-colons")
        bug, correct = (parse_sip_uri(request(name).uri) for name in names)
        self.assertTrue(bug.matches(correct))

    def test_received(self) -> None:
        """The received parameter holds an IPv6 address with or without brackets (RFC 5118 §4.5)."""
        names = ("via-received-param-with-delim", "via-received-param-no-delim")
        received = [parse_via(request(name).get("via") or "").params["received"] for name in names]
        self.assertEqual(received, ["[2001:db8::9:255]", "2001:db8::9:255"])

    def test_ipv4_mapped_addresses(self) -> None:
        """IPv4-mapped addresses stand in Via with a port behind the bracket (RFC 5118 §4.9)."""
        vias = [parse_via(value).sent_by for value in request("ipv4-mapped-ipv6").values("via")]
        self.assertEqual(vias, ["[::ffff:192.0.2.10]:19823", "[::ffff:192.0.2.2]"])


def contacts(message: Request) -> tuple[NameAddr, ...]:
    found = parse_contacts(message)
    assert isinstance(found, tuple)
    return found
