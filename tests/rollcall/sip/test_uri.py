"""Tests of rollcall.sip.uri."""

from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from rollcall.sip.errors import ParseError
from rollcall.sip.uri import (
    MAX_REMEMBERED_CHARS,
    OtherUri,
    SipUri,
    parse_often,
    parse_sip_uri,
    parse_uri,
    unescape,
)

# The sets of RFC 3261 §19.1.4, in its order, and those that RFC 5954 §4.2 adds.
EQUIVALENT = (
    ("sip:%61lice@atlanta.com;transport=TCP", "sip:alice@AtLanTa.CoM;Transport=tcp"),
    ("sip:carol@chicago.com", "sip:carol@chicago.com;newparam=5"),
    ("sip:carol@chicago.com", "sip:carol@chicago.com;security=on"),
    ("sip:carol@chicago.com;newparam=5", "sip:carol@chicago.com;security=on"),
    (
        "sip:biloxi.com;transport=tcp;method=REGISTER?to=sip:bob%40biloxi.com",
        "sip:biloxi.com;method=REGISTER;transport=tcp?to=sip:bob%40biloxi.com",
    ),
    (
        "sip:alice@atlanta.com?subject=project%20x&priority=urgent",
        "sip:alice@atlanta.com?priority=urgent&subject=project%20x",
    ),
    ("sip:carol@chicago.com", "sip:carol@chicago.com;security=off"),
    ("sip:bob@[::ffff:192.0.2.128]", "sip:bob@[::ffff:c000:280]"),
    ("sip:bob@[2001:db8::9:1]", "sip:bob@[2001:db8::9:01]"),
    ("sip:bob@[0:0:0:0:0:FFFF:129.144.52.38]", "sip:bob@[::FFFF:129.144.52.38]"),
)
DIFFERENT = (
    ("SIP:ALICE@AtLanTa.CoM;Transport=udp", "sip:alice@AtLanTa.CoM;Transport=UDP"),
    ("sip:bob@biloxi.com", "sip:bob@biloxi.com:5060"),
    ("sip:bob@biloxi.com", "sip:bob@biloxi.com;transport=udp"),
    ("sip:bob@biloxi.com", "sip:bob@biloxi.com:6000;transport=tcp"),
    ("sip:carol@chicago.com", "sip:carol@chicago.com?Subject=next%20meeting"),
    ("sip:bob@phone21.boxesbybob.com", "sip:bob@192.0.2.4"),
    ("sip:carol@chicago.com;security=on", "sip:carol@chicago.com;security=off"),
)
# The rules of §19.1.4 that have no example there: the rule, both URIs, whether they match.
RULES = (
    ("a SIP and SIPS URI are never equivalent", "sip:a@h", "sips:a@h", False),
    ("userinfo is case-sensitive", "sip:a:Pw@h", "sip:a:pw@h", False),
    ("a URI omitting the user will not match", "sip:h", "sip:a@h", False),
    ("a URI omitting the password will not match", "sip:a@h", "sip:a:@h", False),
    ("a user parameter in only one URI never matches", "sip:1@h", "sip:1@h;user=ip", False),
    ("a ttl parameter in only one URI never matches", "sip:a@h", "sip:a@h;ttl=1", False),
    ("a method parameter in only one URI never matches", "sip:a@h", "sip:a@h;method=INVITE", False),
    ("a maddr parameter in only one URI never matches", "sip:a@h;maddr=10.0.0.1", "sip:a@h", False),
    ("a parameter in both must match", "sip:a@h;ttl=1", "sip:a@h;ttl=2", False),
    ("values of parameters are case-insensitive", "sip:a@h;x=Ab", "sip:a@h;X=aB", True),
    ("a parameter with and without value differ", "sip:a@h;lr", "sip:a@h;lr=on", False),
    ("escapes in parameters are equivalent", "sip:a@h;%6Cr;x=%41", "sip:a@h;lr;x=a", True),
    ("the order of parameters is not significant", "sip:a@h;x=1;y=2", "sip:a@h;y=2;x=1", True),
    ("reserved characters differ from their escapes", "sip:a%3Bb@h", "sip:a;b@h", False),
    ("the case of an escape is not significant", "sip:a%3bb@h", "sip:a%3Bb@h", True),
    ("escapes are undone once", "sip:a%2541@h", "sip:aA@h", False),
    ("a number sign is its escape", "sip:*21#@h", "sip:*21%23@h", True),
    ("header components are never ignored", "sip:a@h?x=1", "sip:a@h?x=1&y=2", False),
    ("header names are case-insensitive", "sip:a@h?Subject=x", "sip:a@h?subject=x", True),
    ("a compact header name is its long form", "sip:a@h?s=x", "sip:a@h?subject=x", True),
    ("header values are compared", "sip:a@h?subject=x", "sip:a@h?subject=y", False),
    ("header names may be escaped", "sip:a@h?%73ubject=x", "sip:a@h?subject=x", True),
    ("header names that are no tokens are compared too", "sip:a@h?%00=x", "sip:a@h?%00=x&%00=x", False),
)


class ComparisonTests(SynchronousTestCase):
    def assert_matches(self, one: str, other: str, expected: bool, why: str = "") -> None:
        left, right = parse_sip_uri(one), parse_sip_uri(other)
        self.assertEqual(left.matches(right), expected, f"{why}: {one} | {other}")
        self.assertEqual(right.matches(left), expected, f"{why}: {other} | {one}")

    def test_equivalent(self) -> None:
        """The URIs that RFC 3261 §19.1.4 and RFC 5954 §4.2 call equivalent match, both ways round."""
        for one, other in EQUIVALENT:
            self.assert_matches(one, other, True)

    def test_different(self) -> None:
        """The URIs that RFC 3261 §19.1.4 calls not equivalent do not match, either way round."""
        for one, other in DIFFERENT:
            self.assert_matches(one, other, False)

    def test_rules(self) -> None:
        """The rules without an example hold."""
        for why, one, other, expected in RULES:
            self.assert_matches(one, other, expected, why)


class ParsingTests(SynchronousTestCase):
    def test_examples(self) -> None:
        """The example URIs of RFC 3261 §19.1.3 fall into their components."""
        tcp = (("transport", "tcp"),)
        for text, uri in (
            ("sip:alice@atlanta.com", SipUri("sip", "alice", None, "atlanta.com", None)),
            (
                "sip:alice:secretword@atlanta.com;transport=tcp",
                SipUri("sip", "alice", "secretword", "atlanta.com", None, tcp),
            ),
            (
                "sips:alice@atlanta.com?subject=project%20x&priority=urgent",
                SipUri("sips", "alice", None, "atlanta.com", None, (), "subject=project%20x&priority=urgent"),
            ),
            (
                "sip:+1-212-555-1212:1234@gateway.com;user=phone",
                SipUri("sip", "+1-212-555-1212", "1234", "gateway.com", None, (("user", "phone"),)),
            ),
            ("sips:1212@gateway.com", SipUri("sips", "1212", None, "gateway.com", None)),
            ("sip:alice@192.0.2.4", SipUri("sip", "alice", None, "192.0.2.4", None)),
            (
                "sip:atlanta.com;method=REGISTER?to=alice%40atlanta.com",
                SipUri("sip", None, None, "atlanta.com", None, (("method", "REGISTER"),), "to=alice%40atlanta.com"),
            ),
            ("sip:alice;day=tuesday@atlanta.com", SipUri("sip", "alice;day=tuesday", None, "atlanta.com", None)),
        ):
            self.assertEqual(parse_uri(text), uri)
            self.assertEqual(str(uri), text)

    def test_ports(self) -> None:
        """A port has at most 65535; leading zeros say nothing."""
        self.assertEqual(parse_sip_uri("sip:a@h:65535").port, 65535)
        self.assertEqual(parse_sip_uri("sip:a@[::1]:0005061").port, 5061)
        for text in ("sip:a@h:65536", "sip:a@h:", "sip:a@h:x", "sip:a@h:-1", "sip:a@h:" + "9" * 5000):
            self.assertRaises(ParseError, parse_uri, text)

    def test_hosts(self) -> None:
        """Names, trailing dots, underscores and addresses are hosts, in lower case and in RFC 5952's form."""
        for text, host in (
            ("sip:Example.COM", "example.com"),
            ("sip:example.com.", "example.com."),
            ("sip:a@my_host", "my_host"),
            ("sip:a@1host-.e2e", "1host-.e2e"),
            ("sip:a@df7jal23ls0d.invalid", "df7jal23ls0d.invalid"),
            ("sip:a@255.0.10.1", "255.0.10.1"),
            ("sip:a@[2001:DB8:0:0::9]", "[2001:db8::9]"),
            ("sip:a@[2001:db8:::192.0.2.1]", "[2001:db8::c000:201]"),
        ):
            self.assertEqual(parse_sip_uri(text).host, host)

    def test_malformed(self) -> None:
        """What no production of RFC 3261 §25.1 gives is refused with 400."""
        for text in (
            "", "sip", "sip:", ":h", "sip:@h", "sip:a@", "sip:a b@h", "sip:a@h ", " sip:a@h", "<sip:a@h>",
            "sip:a@b@h", "sips:a@b@h", "SIP:a@b@h",
            "sip:a@h..com", "sip:a@.com", "sip:a@h;", "sip:a@h;;lr", "sip:a@h;=x", "sip:a@h?", "sip:a@h;lr;LR",
            "sip:a@h;l%72;lr",
            "sip:a%4@h", "sip:a%zz@h", "sip:%@h", "sip:a@h%41", "sip:é@h", "sip:a\0@h", "sip:a@h\r\n", "sip:a\"b@h",
            "sip:2001:db8::10", "sip:a@[::1", "sip:a@::1", "sip:a@[]", "sip:a@[1:2]", "sip:a@[v1.x]", "sip:a@[:::::]",
            "sip:a@444.555.666.777", "sip:a@1.2.3", "sip:a@12", "sip:a@1.2.3.4.5", "sip:a@01.2.3.4",
            "http:", "1tel:5", "tel:+1 2", "urn:<x>", "sıp:a@h", "ſip:a@h",
        ):  # fmt: skip
            error = self.assertRaises(ParseError, parse_uri, text)
            self.assertEqual(error.status, 400)

    def test_other_schemes(self) -> None:
        """A URI of another scheme is kept whole, and refused with 416 where only SIP will do."""
        for text, scheme, rest in (
            ("tel:+358-555-1234567;postd=pp22", "tel", "+358-555-1234567;postd=pp22"),
            ("URN:service:sos", "urn", "service:sos"),
            ("http://www.example.com/?x=[1]#y", "http", "//www.example.com/?x=[1]#y"),
            ("nobodyKnowsThisScheme:totallyopaquecontent", "nobodyknowsthisscheme", "totallyopaquecontent"),
            ("sipx:a", "sipx", "a"),
        ):
            self.assertEqual(parse_uri(text), OtherUri(scheme, rest))
            self.assertEqual(self.assertRaises(ParseError, parse_sip_uri, text).status, 416)
        self.assertEqual(str(parse_uri("TEL:+1")), "tel:+1")

    def test_parameters(self) -> None:
        """param() gives the unescaped value, "" for a parameter without one, the default for none."""
        uri = parse_sip_uri("sip:h;LR;maddr=10.0.0.1;x=a%20b;y=")
        self.assertEqual(
            [uri.param(name) for name in ("lr", "maddr", "x", "y", "z")], ["", "10.0.0.1", "a b", "", None]
        )
        self.assertEqual(uri.param("z", "udp"), "udp")

    def test_changed_parameters(self) -> None:
        """Parameters are taken out and put in without touching the rest."""
        uri = parse_sip_uri("sips:a:b@h:1;lr;transport=tcp;x?s=y")
        self.assertEqual(str(uri.without_params("transport", "x", "none")), "sips:a:b@h:1;lr?s=y")
        self.assertEqual(str(uri.with_param("transport", "ws")), "sips:a:b@h:1;lr;x;transport=ws?s=y")
        self.assertEqual(str(uri.with_param("ob")), "sips:a:b@h:1;lr;transport=tcp;x;ob?s=y")

    def test_unescape(self) -> None:
        """Escapes are undone once, as UTF-8, and whatever is not UTF-8 survives."""
        self.assertEqual(unescape("%C3%A9%2541 %zz"), "é%41 %zz")
        self.assertEqual(unescape("%FF").encode("utf-8", "surrogateescape"), b"\xff")


class RememberedTests(SynchronousTestCase):
    def test_the_same_uri(self) -> None:
        """A usual URI is parsed once, a long one each time: nobody can have us keep a thousand of those."""
        usual, long = "sip:remembered.example.com", f"sip:{'x' * MAX_REMEMBERED_CHARS}@example.com"
        self.assertIs(parse_often(usual), parse_often(usual))
        self.assertEqual(parse_often(long), parse_uri(long))
        self.assertIsNot(parse_often(long), parse_often(long))


class AorTests(SynchronousTestCase):
    def test_canonical(self) -> None:
        """Whatever RFC 3261 §10.3 step 5 says makes no difference makes none."""
        for text, aor in (
            ("sip:alice@Example.COM", "sip:alice@example.com"),
            ("sips:alice:pw@example.com.:5061;transport=tls;user=phone?subject=x", "sip:alice@example.com"),
            ("sip:%61l%69ce@example.com", "sip:alice@example.com"),
            ("sip:Alice@example.com", "sip:Alice@example.com"),
            ("sip:null-%00-null@example.com", "sip:null-%00-null@example.com"),
            ("sip:j%40s0n%3a@example.com", "sip:j%40s0n%3A@example.com"),
            ("sip:a%2541@example.com", "sip:a%2541@example.com"),
            ("sip:a%3Bb%2c@example.com", "sip:a;b,@example.com"),
            ("sip:%c3%a9%ff@example.com", "sip:%C3%A9%FF@example.com"),
            ("sip:*21#@example.com", "sip:*21%23@example.com"),
            ("sip:user;par=u%40example.net@example.com", "sip:user;par=u%40example.net@example.com"),
            ("sip:a@[2001:DB8::0:1]", "sip:a@[2001:db8::1]"),
            ("sip:example.com", "sip:example.com"),
            ("sip:sips%3Auser%40example.com@example.net", "sip:sips%3Auser%40example.com@example.net"),
        ):
            self.assertEqual(parse_sip_uri(text).aor(), aor)


USERS = st.text("aZ09-_.!~*'()&=+$,;?/#", min_size=1, max_size=8)
ESCAPES = st.sampled_from(["%00", "%2F", "%41", "%c3%a9", "%FF", "%25", "%3b"])


def escaped(alphabet: str, min_size: int = 0) -> st.SearchStrategy[str]:
    parts = st.one_of(st.text(alphabet, min_size=1, max_size=6), ESCAPES)
    return st.lists(parts, min_size=min_size, max_size=4).map("".join)


HOSTS = st.one_of(
    st.from_regex(r"\A([a-z0-9][a-z0-9-]{0,5}\.){0,3}[a-z][a-z0-9]{0,4}\.?\Z"),
    st.ip_addresses(v=4).map(str),
    st.ip_addresses(v=6).map(lambda address: f"[{address}]"),
)
PARAM_CHARS = "ab09-_.!~*'()[]/:&+$"
PARAMS = st.lists(
    st.tuples(st.text(PARAM_CHARS, min_size=1, max_size=6), st.none() | escaped(PARAM_CHARS)),
    max_size=4,
    unique_by=lambda param: param[0],
).map(tuple)
USERINFO = st.one_of(
    st.just((None, None)),
    st.tuples(escaped("aZ09-_.!~*'()&=+$,;?/#", 1), st.none() | escaped("aZ09-_.!~*'()&=+$,")),
)
URIS = st.builds(
    lambda scheme, userinfo, host, port, params, headers: SipUri(
        scheme, userinfo[0], userinfo[1], host, port, params, headers
    ),
    st.sampled_from(["sip", "sips"]),
    USERINFO,
    HOSTS,
    st.none() | st.integers(0, 65535),
    PARAMS,
    st.none() | st.lists(escaped("ab09-_.!~*'()[]/?:+$=", 1), min_size=1, max_size=3).map("&".join),
)
# Nearly URIs, to reach further into the grammar than any text does.
NEARLY = st.builds(
    lambda uri, place, noise: str(uri)[:place] + noise + str(uri)[place:], URIS, st.integers(0, 40), st.text(max_size=2)
)


class PropertyTests(SynchronousTestCase):
    @settings(max_examples=300, deadline=None)
    @given(URIS)
    def test_round_trip(self, uri: SipUri) -> None:
        """A SIP URI written and parsed is the same URI."""
        self.assertEqual(parse_uri(str(uri)), uri)

    @settings(max_examples=200, deadline=None)
    @given(URIS, URIS)
    def test_matching_is_symmetric(self, one: SipUri, other: SipUri) -> None:
        """Every URI matches itself, whatever the order of its parameters, and what it matches matches it."""
        turned = SipUri(one.scheme, one.user, one.password, one.host, one.port, one.params[::-1], one.headers)
        self.assertTrue(one.matches(turned))
        self.assertEqual(one.matches(other), other.matches(one))

    @settings(max_examples=200, deadline=None)
    @given(URIS)
    def test_aor_is_canonical(self, uri: SipUri) -> None:
        """An address-of-record is a URI, and its own address-of-record."""
        self.assertEqual(parse_sip_uri(uri.aor()).aor(), uri.aor())

    @settings(max_examples=500, deadline=None)
    @given(st.one_of(st.text(), NEARLY, st.binary().map(lambda data: data.decode("utf-8", "surrogateescape"))))
    @example("sip:" + "a." * 20000 + "é")
    @example("sip:" + "a" * 50000)
    @example("sip:a@[" + ":" * 40 + "]")
    @example("sip:h;x=%\ud800")
    def test_only_parse_errors(self, text: str) -> None:
        """No text makes the parser raise anything but ParseError, and what it accepts can be worked with."""
        try:
            uri = parse_uri(text)
        except ParseError:
            return
        self.assertEqual(parse_uri(str(uri)), uri)
        if isinstance(uri, SipUri):
            self.assertTrue(uri.matches(parse_sip_uri(str(uri))))
            uri.aor()
