"""Tests of rollcall.sip.headers and of the grammar below it."""

from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from rollcall.sip.errors import ParseError
from rollcall.sip.headers import (
    STAR,
    AuthHeader,
    CSeq,
    NameAddr,
    Via,
    check_name_addr,
    delta_seconds,
    option_tags,
    parse_authorization,
    parse_contacts,
    parse_cseq,
    parse_max_forwards,
    parse_name_addr,
    parse_qvalue,
    parse_via,
    quote,
)
from rollcall.sip.message import Request
from tests.rollcall.sip.test_grammar import LINES, NAMES, PARAMS, TEXTS, TOKENS


class ViaTests(SynchronousTestCase):
    def test_values(self) -> None:
        """Transport, sent-by and parameters are found with and without white space (RFC 3261 §20.42)."""
        branch: dict[str, str | None] = {"branch": "z9hG4bK87asdks7"}
        for text, via in (
            (
                "SIP/2.0/UDP erlang.bell-telephone.com:5060;branch=z9hG4bK87asdks7",
                Via("UDP", "erlang.bell-telephone.com", 5060, branch),
            ),
            (
                "SIP/2.0/UDP 192.0.2.1:5060 ;received=192.0.2.207 ;branch=z9hG4bK77asjd",
                Via("UDP", "192.0.2.1", 5060, {"received": "192.0.2.207", "branch": "z9hG4bK77asjd"}),
            ),
            (
                "SIP / 2.0 / UDP first.example.com: 4000;ttl=16 ;maddr=224.2.0.1 ;branch=z9hG4bKa7c6a8dlze.1",
                Via(
                    "UDP",
                    "first.example.com",
                    4000,
                    {"ttl": "16", "maddr": "224.2.0.1", "branch": "z9hG4bKa7c6a8dlze.1"},
                ),
            ),
            ("SIP/2.0/UDP [::1]:5060;rport", Via("UDP", "[::1]", 5060, {"rport": None})),
            ("sip/2.0/ws df7jal23ls0d.invalid;branch=z9hG4bK87asdks7", Via("WS", "df7jal23ls0d.invalid", None, branch)),
            ("SIP/2.0/TLS [2001:db8::9:1]", Via("TLS", "[2001:db8::9:1]")),
            ("SIP/2.0/UDP\thost : 00080 ; rport = 5", Via("UDP", "host", 80, {"rport": "5"})),
            ("SIP/7.0/UDP c.example.com", Via("UDP", "c.example.com", protocol="SIP/7.0")),
        ):
            self.assertEqual(parse_via(text), via, text)
            self.assertEqual(parse_via(str(via)), via, text)

    def test_properties(self) -> None:
        """The branch and sent-by are at hand; both are absent when they are absent."""
        via = parse_via("SIP/2.0/UDP [::1]:5060;branch=z9hG4bKx")
        self.assertEqual((via.branch, via.sent_by), ("z9hG4bKx", "[::1]:5060"))
        via = parse_via("SIP/2.0/UDP h")
        self.assertEqual((via.branch, via.sent_by), (None, "h"))

    def test_stamped(self) -> None:
        """A Via may be changed and written, as a server must that adds received and rport (RFC 3581 §4)."""
        via = parse_via("SIP/2.0/UDP 10.1.1.1:4540;rport;branch=z9hG4bKkjshdyff")
        via.params["received"] = "192.0.2.1"
        via.params["rport"] = "9988"
        self.assertEqual(str(via), "SIP/2.0/UDP 10.1.1.1:4540;rport=9988;branch=z9hG4bKkjshdyff;received=192.0.2.1")

    def test_malformed(self) -> None:
        """What is no Via value is refused."""
        for text in (
            "", "SIP/2.0/UDP", "SIP/2.0/UDP ", "SIP/2.0 h", "SIP/2.0/UDP/h", "SIP/2.0/UDPh", "/2.0/UDP h",
            "SIP/2.0/UDP h:",
            "SIP/2.0/UDP h:65536", "SIP/2.0/UDP h:x", "SIP/2.0/UDP h:1 2", "SIP/2.0/UDP h,", "SIP/2.0/UDP h;;",
            "SIP/2.0/UDP h;",
            "SIP/2.0/UDP h x", "SIP/2.0/UDP ::1", "SIP/2.0/UDP [::1", "SIP/2.0/UDP [x]", "SIP/2.0/UDP é",
            "SIP/2.0/UDP h\0",
            "SIP/2.0/UDP h;branch=a;branch=b", "SIP/2.0/UDP h, SIP/2.0/UDP i", "SIP/2.0/UDP h;x, SIP/2.0/UDP i",
            "SIP/2.0/UDP 192.0.2.15;;,;,,", "SIP/2.0/UDP h:" + "9" * 5000,
        ):  # fmt: skip
            self.assertRaises(ParseError, parse_via, text)


class NameAddrTests(SynchronousTestCase):
    CASES: tuple[tuple[str, str, str, dict[str, str | None]], ...] = (
        (
            '"A. G. Bell" <sip:agb@bell-telephone.com> ;tag=a48s',
            "A. G. Bell",
            "sip:agb@bell-telephone.com",
            {"tag": "a48s"},
        ),
        (
            "sip:+12125551212@server.phone2net.com;tag=887s",
            "",
            "sip:+12125551212@server.phone2net.com",
            {"tag": "887s"},
        ),
        (
            "Anonymous <sip:c8oqz84zk7z@privacy.org>;tag=hyh8",
            "Anonymous",
            "sip:c8oqz84zk7z@privacy.org",
            {"tag": "hyh8"},
        ),
        (
            '"Mr. Watson" <sip:watson@worcester.bell-telephone.com> ;q=0.7; expires=3600',
            "Mr. Watson",
            "sip:watson@worcester.bell-telephone.com",
            {"q": "0.7", "expires": "3600"},
        ),
        (
            "The Operator <sip:operator@cs.columbia.edu>;tag=287447",
            "The Operator",
            "sip:operator@cs.columbia.edu",
            {"tag": "287447"},
        ),
        ("<sips:bob@192.0.2.4>;expires=60", "", "sips:bob@192.0.2.4", {"expires": "60"}),
        ("caller<sip:caller@example.com>;tag=323", "caller", "sip:caller@example.com", {"tag": "323"}),
        ('"a\\"<b>,;c" <sip:x;lr?y=z>', 'a"<b>,;c', "sip:x;lr?y=z", {}),
        ('""<sip:x>', "", "sip:x", {}),
        ("Jürgen Groß <sip:x@h>", "Jürgen Groß", "sip:x@h", {}),
        ("\t sip:x ;\tlr", "", "sip:x", {"lr": None}),
        ("tel:+1-201-555-0123;tag=x", "", "tel:+1-201-555-0123", {"tag": "x"}),
        (
            '<sip:a@h;ob>;+sip.instance="<urn:uuid:0>";reg-id=1',
            "",
            "sip:a@h;ob",
            {"+sip.instance": '"<urn:uuid:0>"', "reg-id": "1"},
        ),
    )

    def test_values(self) -> None:
        """Display names, URIs and header parameters are told apart (RFC 3261 §20.10)."""
        for text, display, uri, params in self.CASES:
            address = NameAddr(display, uri, params)
            self.assertEqual(parse_name_addr(text), address, text)
            self.assertEqual(parse_name_addr(str(address)), address, text)
            check_name_addr(text)

    def test_tag(self) -> None:
        """The tag is the header's, never the URI's."""
        self.assertEqual(parse_name_addr("<sip:a@h;tag=no>;Tag=Yes").tag, "Yes")
        self.assertIsNone(parse_name_addr("<sip:a@h;tag=no>").tag)

    def test_malformed(self) -> None:
        """What is no address is refused, also by those who only check."""
        for text in (
            "", "*", "sip", "<>", "<sip>", "<sip:>", "sip:", "< sip:a@h>", "<sip:a@h >", "<sip:a b@h>", "<sip:a@h",
            "sip:a@h>",
            "a, b <sip:a@h>", "Bell, Alexander <sip:a.g.bell@example.com>", '"a <sip:a@h>', 'a" <sip:a@h>',
            '"a" b <sip:a@h>',
            "sip:a@h?x=y", "sip:a@h,b", "sip:a@h b", "<sip:a@h>x", "<sip:a@h>,", "<sip:a@h>;", "<sip:a@h>;tag=a;TAG=b",
            "<sip:a@h><sip:b@h>", "a@b <sip:a@h>", "<1:a>", "<a@h>", "<sip:a\0@h>", "<sip:a@h>\r\n", '"a\\" <sip:a@h>',
        ):  # fmt: skip
            self.assertRaises(ParseError, parse_name_addr, text)
            self.assertRaises(ParseError, check_name_addr, text)


def a_register(*contacts: str) -> Request:
    return Request.new("REGISTER", "sip:h", [("m", contact) for contact in contacts])


class ContactTests(SynchronousTestCase):
    def test_contacts(self) -> None:
        """Contacts come in order, from one line or many."""
        contacts = parse_contacts(a_register('"a,b" <sip:a,@h>;q=1, sip:b@h', "<sip:c@h>"))
        assert contacts is not STAR
        self.assertEqual([contact.uri for contact in contacts], ["sip:a,@h", "sip:b@h", "sip:c@h"])

    def test_none(self) -> None:
        """No Contact and an empty one are no contacts."""
        self.assertEqual(parse_contacts(a_register()), ())
        self.assertEqual(parse_contacts(a_register("")), ())

    def test_star(self) -> None:
        """The star stands alone (RFC 3261 §10.3 step 6)."""
        self.assertIs(parse_contacts(a_register("*")), STAR)
        for contacts in (["*", "*"], ["*, <sip:a@h>"], ["<sip:a@h>", "*"], ["*;expires=0"]):
            self.assertRaises(ParseError, parse_contacts, a_register(*contacts))

    def test_empty_element(self) -> None:
        """An empty element among contacts is an error."""
        self.assertRaises(ParseError, parse_contacts, a_register("<sip:a@h>,,<sip:b@h>"))


class ScalarTests(SynchronousTestCase):
    def test_cseq(self) -> None:
        """A CSeq is a number below 2**31 and a method (RFC 3261 §8.1.1.5)."""
        for text, cseq in (
            ("4711 INVITE", CSeq(4711, "INVITE")),
            ("0009 \t INVITE", CSeq(9, "INVITE")),
            ("0 x%y", CSeq(0, "x%y")),
            ("0" * 5000 + "1 A", CSeq(1, "A")),
            ("2147483647 ACK", CSeq(2147483647, "ACK")),
        ):
            self.assertEqual(parse_cseq(text), cseq)
            self.assertEqual(parse_cseq(str(cseq)), cseq)

    def test_malformed_cseq(self) -> None:
        """Other numbers and other texts are refused."""
        for text in (
            "",
            "1",
            "INVITE",
            "1INVITE",
            "-1 A",
            "1 A B",
            "1 A@",
            "2147483648 A",
            "9" * 5000 + " A",
            "١ A",
            "1 A ",
        ):
            self.assertRaises(ParseError, parse_cseq, text)

    def test_delta_seconds(self) -> None:
        """More seconds than 32 bits hold count as that many; what is no number is refused (RFC 3261 §20.19)."""
        top = 2**32 - 1
        for text, seconds in (
            ("0", 0),
            ("0060", 60),
            (str(top), top),
            (str(top - 1), top - 1),
            (str(top + 1), top),
            ("1" + "0" * 100, top),
            ("9" * 9999, top),
        ):
            self.assertEqual(delta_seconds(text), seconds)
        for text in ("", " 1", "-1", "+1", "1.5", "1e3", "٣", "60;x", "Sun", "²", "0" * 60000 + "\0"):
            self.assertRaises(ParseError, delta_seconds, text)

    def test_max_forwards(self) -> None:
        """More hops than 255 count as 255 (RFC 3261 §20.22, RFC 4475 §3.1.2.4)."""
        self.assertEqual(
            [parse_max_forwards(text) for text in ("0", "0068", "255", "256", "9" * 50)], [0, 68, 255, 255, 255]
        )
        self.assertRaises(ParseError, parse_max_forwards, "many")

    def test_qvalue(self) -> None:
        """A q value comes in thousandths."""
        for text, thousandths in (
            ("0", 0),
            ("0.", 0),
            ("0.5", 500),
            ("0.33", 330),
            ("0.001", 1),
            ("1", 1000),
            ("1.", 1000),
            ("1.000", 1000),
        ):
            self.assertEqual(parse_qvalue(text), thousandths)
        for text in ("", "2", "1.1", "0.1234", "-0.5", ".5", "1.0000", "0.5 ", "٠"):
            self.assertRaises(ParseError, parse_qvalue, text)

    def test_option_tags(self) -> None:
        """Option tags of all lines come in lower case; empty lists and elements are none."""
        request = Request.new(
            "OPTIONS", "sip:h", [("k", "100rel, Path"), ("Supported", ""), ("Supported", "gruu,,path")]
        )
        self.assertEqual(option_tags(request, "Supported"), {"100rel", "path", "gruu"})
        self.assertEqual(option_tags(request, "Require"), frozenset())
        request.set("Require", "not a token")
        self.assertRaises(ParseError, option_tags, request, "Require")


DIGEST = (
    'Digest username="bob", realm="biloxi.com", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093", uri="sip:bob@biloxi.com",'
    ' qop=auth, nc=00000001, cnonce="0a4f113b", response="6629fae49393a05397450978507c4ef1"'
)


class AuthorizationTests(SynchronousTestCase):
    def test_digest(self) -> None:
        """Parameters come unquoted under their names in lower case (RFC 3261 §20.7)."""
        header = parse_authorization(DIGEST)
        self.assertEqual(header.scheme, "Digest")
        self.assertEqual(header.params["username"], "bob")
        self.assertEqual((header.params["qop"], header.params["nc"]), ("auth", "00000001"))
        self.assertEqual(len(header.params), 8)

    def test_odd_forms(self) -> None:
        """Escapes, commas in quotes, white space and unknown names are read as RFC 3261 §25.1 says."""
        for text, params in (
            ('Digest username="a\\"b\\\\", realm=""', {"username": 'a"b\\', "realm": ""}),
            ('Digest realm="a, b=c",nonce="x"', {"realm": "a, b=c", "nonce": "x"}),
            ("Digest Realm = \"x\" ,\t stale=FALSE", {"realm": "x", "stale": "FALSE"}),
            ("Digest qop=\"auth,auth-int\"", {"qop": "auth,auth-int"}),
            ("digest  opaque-data=here", {"opaque-data": "here"}),
            ('Digest uri=sip:h;x, username="é"', {"uri": "sip:h;x", "username": "é"}),
            ("Digest realm=\"=\"", {"realm": "="}),
            ("Digest", {}),
            ("Digest ", {}),
            ("Basic dXNlcjpwYXNz==", {}),
            ("Bearer a=", {}),
            ('Digest realm="a\\\\b"', {"realm": "a\\b"}),
            ('Digest realm="\\a"', {"realm": "a"}),
            ("Digest nonce=b,", {"nonce": "b"}),
        ):  # fmt: skip
            self.assertEqual(parse_authorization(text).params, params, text)

    def test_malformed(self) -> None:
        """Credentials that are not a list of parameters, or have one twice, are refused."""
        for text in (
            "",
            " ",
            '"Digest" a=b',
            "Digest a b",
            "Digest a=b c=d",
            'Digest a="b',
            'Digest realm="a"b',
            "Digest a=b,,c=d",
            "Digest ,a=b",
            'Digest nonce="a",nonce="b"',
            "Digest nonce=a, Nonce=b",
            'Digest realm="',
            'Digest realm="a", b"',
            "Digest =b",
            'Digest realm="a"",nonce="b"',
        ):
            self.assertRaises(ParseError, parse_authorization, text)


HOSTS = st.one_of(st.from_regex(r"\A[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}\Z"), st.ip_addresses(v=6).map(lambda a: f"[{a}]"))
VIAS = st.builds(
    Via,
    TOKENS.map(str.upper),
    HOSTS,
    st.none() | st.integers(0, 65535),
    PARAMS,
    TOKENS.map(lambda version: f"SIP/{version}"),
)
SIP_URIS = st.from_regex(r"\A[a-z][a-z0-9+.-]{0,4}:[!#-;=?-~]{1,20}\Z")
ADDRESSES = st.builds(NameAddr, LINES, SIP_URIS, PARAMS)
CREDENTIALS = st.lists(
    st.sampled_from(["realm=", "nonce=", "uri=", "qop=", ",", ", ", '"', '""', '"a"', "b", " ", "=", "\\", "é", "\0"]),
    min_size=1,
    max_size=12,
).map("".join)
PARSERS = (
    parse_via,
    parse_name_addr,
    check_name_addr,
    parse_cseq,
    parse_authorization,
    parse_qvalue,
    parse_max_forwards,
    delta_seconds,
    lambda text: parse_contacts(a_register(text)),
    lambda text: option_tags(a_register(text), "contact"),
)


class PropertyTests(SynchronousTestCase):
    @settings(max_examples=200, deadline=None)
    @given(VIAS)
    def test_via_round_trip(self, via: Via) -> None:
        """A Via written and parsed is the same."""
        self.assertEqual(parse_via(str(via)), via)

    @settings(max_examples=200, deadline=None)
    @given(ADDRESSES)
    def test_address_round_trip(self, address: NameAddr) -> None:
        """An address written and parsed is the same, alone and among others."""
        self.assertEqual(parse_name_addr(str(address)), address)
        self.assertEqual(parse_contacts(a_register(f"{address}, {address}", str(address))), (address,) * 3)

    @settings(max_examples=200, deadline=None)
    @given(st.dictionaries(NAMES, LINES, min_size=1, max_size=6))
    def test_credentials_round_trip(self, params: dict[str, str]) -> None:
        """Credentials come out as they were written, in whatever form of their names."""
        text = "Digest " + ", ".join(f"{name}={quote(value)}" for name, value in params.items())
        self.assertEqual(parse_authorization(text), AuthHeader("Digest", params))

    @settings(max_examples=400, deadline=None)
    @given(CREDENTIALS)
    def test_credentials_quick_and_slow(self, text: str) -> None:
        """Credentials mean the same whether the usual form is met, or one escape leads the long way round."""
        quick = _params_or_none(f"Digest {text}")
        if quick and not text.rstrip().endswith(","):
            self.assertEqual(_params_or_none(f'Digest {text}, x="\\y"'), {**quick, "x": "y"})
        elif quick is None:
            self.assertIsNone(_params_or_none(f'Digest {text}, x="\\y"'))

    @settings(max_examples=400, deadline=None)
    @given(TEXTS)
    @example("a " * 20000)
    @example("0" * 60000 + "\0")
    @example("<" * 20000)
    @example("SIP/2.0/UDP " + "a" * 20000 + "\0")
    def test_only_parse_errors(self, text: str) -> None:
        """No text makes any parser raise anything but ParseError."""
        for parser in PARSERS:
            try:
                parser(text)
            except ParseError as error:
                self.assertEqual(error.status, 400)

    @settings(max_examples=300, deadline=None)
    @given(TEXTS)
    def test_checking_agrees_with_parsing(self, text: str) -> None:
        """check_name_addr refuses exactly what parse_name_addr refuses."""
        self.assertEqual(_refuses(check_name_addr, text), _refuses(parse_name_addr, text))


def _params_or_none(text: str) -> dict[str, str] | None:
    try:
        return parse_authorization(text).params
    except ParseError:
        return None


def _refuses(parser: object, text: str) -> bool:
    try:
        parser(text)  # type: ignore[operator]
    except ParseError:
        return True
    return False
