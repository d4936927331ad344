"""Tables of zones, URIs and the targets that RFC 3263 makes of them."""

from collections import Counter
from collections.abc import Sequence
from random import Random

from attrs import frozen
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from rollcall.sip.headers import parse_via
from rollcall.sip.targets import (
    MAX_SERVERS,
    MAX_TARGETS,
    Naptr,
    Preferences,
    Question,
    Record,
    Search,
    Srv,
    Target,
    locate,
    locate_response,
    order_servers,
    response_address,
)
from rollcall.sip.uri import parse_sip_uri


def lowest(low: int, high: int) -> int:
    """Choose so that order among equal weights is that of the records."""
    return low


PREFERENCES = Preferences(choose=lowest)

Zone = dict[Question, Sequence[Record]]

# RFC 3263 §4.1's example, its addresses added.
EXAMPLE: Zone = {
    Question("example.com", "NAPTR"): [
        Naptr(100, 50, "s", "SIP+D2U", "", "_sip._udp.example.com"),
        Naptr(50, 50, "s", "SIPS+D2T", "", "_sips._tcp.example.com"),
        Naptr(90, 50, "S", "sip+d2t", "", "_sip._tcp.example.com"),
    ],
    Question("_sips._tcp.example.com", "SRV"): [Srv(0, 0, 5061, "server1.example.com")],
    Question("_sip._tcp.example.com", "SRV"): [
        Srv(0, 0, 5060, "server1.example.com"),
        Srv(1, 0, 5070, "server2.example.com"),
    ],
    Question("_sip._udp.example.com", "SRV"): [Srv(0, 0, 5060, "server1.example.com")],
    Question("server1.example.com", "A"): ["192.0.2.1"],
    Question("server1.example.com", "AAAA"): ["2001:db8::1"],
    Question("server2.example.com", "A"): ["192.0.2.2", "192.0.2.3"],
    Question("example.com", "A"): ["192.0.2.9"],
}


def run(search: Search, zone: Zone) -> tuple[list[Target], list[Question]]:
    """Answer a search from a zone; return its targets and all it asked."""
    asked: list[Question] = []
    try:
        questions = next(search)
        while True:
            asked.extend(questions)
            questions = search.send([zone.get(question, ()) for question in questions])
    except StopIteration as found:
        return found.value, asked


def targets(uri: str, zone: Zone, preferences: Preferences = PREFERENCES, large: bool = False) -> list[Target]:
    """Return where a request to `uri` goes."""
    return run(locate(parse_sip_uri(uri), preferences, large), zone)[0]


def udp(host: str, port: int = 5060) -> Target:
    """Short for a table."""
    return Target("UDP", host, port)


def tcp(host: str, port: int = 5060) -> Target:
    """Short for a table."""
    return Target("TCP", host, port)


def tls(host: str, port: int = 5061, name: str = "example.com") -> Target:
    """Short for a table."""
    return Target("TLS", host, port, name)


class NumericTests(SynchronousTestCase):
    TABLE = (
        ("sip:192.0.2.1", [udp("192.0.2.1")]),
        ("sip:192.0.2.1:5080", [udp("192.0.2.1", 5080)]),
        ("sip:192.0.2.1;transport=tcp", [tcp("192.0.2.1")]),
        ("sip:192.0.2.1;transport=TLS", [tls("192.0.2.1", 5061, "192.0.2.1")]),
        ("sips:192.0.2.1", [tls("192.0.2.1", 5061, "192.0.2.1")]),
        ("sips:192.0.2.1:5071;transport=tcp", [tls("192.0.2.1", 5071, "192.0.2.1")]),
        ("sip:[2001:db8::1]", [udp("2001:db8::1")]),
        ("sip:[2001:db8::1]:5070;transport=tcp", [tcp("2001:db8::1", 5070)]),
        ("sip:example.com;maddr=192.0.2.7", [udp("192.0.2.7")]),
        ("sip:example.com:5090;maddr=192.0.2.7;transport=tcp", [tcp("192.0.2.7", 5090)]),
    )

    def test_numeric_hosts(self) -> None:
        """A numeric host is used as it is, UDP for sip: and TLS for sips: when no transport is given (§4.1, §4.2)."""
        for uri, expected in self.TABLE:
            found, asked = run(locate(parse_sip_uri(uri), PREFERENCES), {})
            self.assertEqual((found, asked), (expected, []), uri)


class NameTests(SynchronousTestCase):
    def test_port_skips_services(self) -> None:
        """A name with a port is only asked for its addresses (§4.2)."""
        found, asked = run(locate(parse_sip_uri("sip:example.com:5060"), PREFERENCES), EXAMPLE)
        self.assertEqual(found, [udp("192.0.2.9")])
        self.assertEqual(asked, [Question("example.com", "A"), Question("example.com", "AAAA")])

    def test_port_and_sips(self) -> None:
        """With a port and no transport, sips: means TLS."""
        self.assertEqual(targets("sips:example.com:5071", EXAMPLE), [tls("192.0.2.9", 5071)])

    def test_transport_asks_its_service(self) -> None:
        """A transport given explicitly skips NAPTR and asks its own SRV records (§4.2)."""
        found, asked = run(locate(parse_sip_uri("sip:example.com;transport=tcp"), PREFERENCES), EXAMPLE)
        expected = [
            tcp("192.0.2.1"),
            tcp("2001:db8::1"),
            tcp("192.0.2.2", 5070),
            tcp("192.0.2.3", 5070),
        ]
        self.assertEqual(found, expected)
        self.assertEqual(asked[0], Question("_sip._tcp.example.com", "SRV"))

    def test_tls_uses_the_sips_service(self) -> None:
        """TLS is asked for by _sips, for sip: and for sips: with transport=tcp alike (§4.2)."""
        expected = [tls("192.0.2.1"), tls("2001:db8::1")]
        self.assertEqual(targets("sip:example.com;transport=tls", EXAMPLE), expected)
        self.assertEqual(targets("sips:example.com;transport=tcp", EXAMPLE), expected)

    def test_transport_without_service(self) -> None:
        """Without SRV records the name's own addresses are used at the transport's default port (§4.2)."""
        zone: Zone = {Question("example.com", "A"): ["192.0.2.9"]}
        self.assertEqual(targets("sip:example.com;transport=tcp", zone), [tcp("192.0.2.9")])
        self.assertEqual(targets("sip:example.com;transport=tls", zone), [tls("192.0.2.9")])
        self.assertEqual(targets("sip:example.com", zone), [udp("192.0.2.9")])
        self.assertEqual(targets("sips:example.com", zone), [tls("192.0.2.9")])

    def test_impossible_transports(self) -> None:
        """Transports that nobody knows, that we cannot open, or that sips: forbids lead nowhere."""
        for uri in (
            "sip:192.0.2.1;transport=sctp",
            "sip:192.0.2.1;transport=foo",
            "sip:192.0.2.1;transport=ws",
            "sips:192.0.2.1;transport=udp",
            "sips:192.0.2.1;transport=wss",
        ):
            self.assertEqual(run(locate(parse_sip_uri(uri), PREFERENCES), EXAMPLE), ([], []), uri)

    def test_trailing_dot_and_case(self) -> None:
        """example.com and EXAMPLE.COM. are the same name."""
        self.assertEqual(targets("sips:EXAMPLE.COM.", EXAMPLE), targets("sips:example.com", EXAMPLE))

    def test_websocket_when_we_could(self) -> None:
        """Who can open WebSockets finds them at port 80 or 443 (RFC 7118 §5.5)."""
        able = Preferences(transports=("UDP", "WS", "WSS"), choose=lowest)
        zone: Zone = {Question("example.com", "A"): ["192.0.2.9"]}
        self.assertEqual(targets("sip:example.com;transport=ws", zone, able), [Target("WS", "192.0.2.9", 80)])
        self.assertEqual(
            targets("sips:example.com;transport=ws", zone, able), [Target("WSS", "192.0.2.9", 443, "example.com")]
        )


class NaptrTests(SynchronousTestCase):
    def test_order_decides(self) -> None:
        """The record of the lowest order that we support is followed (§4.1)."""
        self.assertEqual(targets("sip:example.com", EXAMPLE), [tls("192.0.2.1"), tls("2001:db8::1")])

    def test_unsupported_are_discarded(self) -> None:
        """Records for transports that we cannot open do not count."""
        plain = Preferences(transports=("UDP", "TCP"), choose=lowest)
        self.assertEqual(targets("sip:example.com", EXAMPLE, plain)[0], tcp("192.0.2.1"))

    def test_sips_keeps_only_sips(self) -> None:
        """A sips: URI discards every service that is not SIPS (§4.1)."""
        zone = dict(EXAMPLE)
        zone[Question("example.com", "NAPTR")] = [
            Naptr(1, 1, "s", "SIP+D2U", "", "_sip._udp.example.com"),
            Naptr(2, 1, "s", "SIPS+D2T", "", "_sips._tcp.example.com"),
        ]
        self.assertEqual(targets("sips:example.com", zone)[0], tls("192.0.2.1"))

    def test_preference_within_order(self) -> None:
        """Of the same order the lower preference comes first (RFC 2915 §2)."""
        zone = dict(EXAMPLE)
        zone[Question("example.com", "NAPTR")] = [
            Naptr(1, 20, "s", "SIP+D2T", "", "_sip._tcp.example.com"),
            Naptr(1, 10, "s", "SIP+D2U", "", "_sip._udp.example.com"),
        ]
        self.assertEqual(targets("sip:example.com", zone)[0], udp("192.0.2.1"))

    def test_foreign_records(self) -> None:
        """Records with a regular expression, another flag or another service are not ours."""
        zone = dict(EXAMPLE)
        zone[Question("example.com", "NAPTR")] = [
            Naptr(1, 1, "u", "SIP+D2U", "", "_sip._udp.example.com"),
            Naptr(2, 1, "s", "SIP+D2U", "!.*!x!", "_sip._udp.example.com"),
            Naptr(3, 1, "s", "E2U+sip", "", "_sip._udp.example.com"),
            Naptr(4, 1, "s", "SIP+D2T", "", "_sip._tcp.example.com"),
        ]
        self.assertEqual(targets("sip:example.com", zone)[0], tcp("192.0.2.1"))

    def test_empty_service_moves_on(self) -> None:
        """A NAPTR record that leads to no server does not hide the next one."""
        zone = dict(EXAMPLE)
        del zone[Question("_sips._tcp.example.com", "SRV")]
        self.assertEqual(targets("sip:example.com", zone)[0], tcp("192.0.2.1"))

    def test_replacement_in_another_domain(self) -> None:
        """The SRV name may lie in another domain; the server's name stays that of the URI (§4.1)."""
        zone: Zone = {
            Question("example.com", "NAPTR"): [Naptr(1, 1, "s", "SIPS+D2T", "", "_sips._tcp.Provider.net.")],
            Question("_sips._tcp.provider.net", "SRV"): [Srv(0, 0, 5061, "sip.provider.net.")],
            Question("sip.provider.net", "A"): ["192.0.2.5"],
        }
        self.assertEqual(targets("sip:example.com", zone), [tls("192.0.2.5")])


class WithoutNaptrTests(SynchronousTestCase):
    def test_services_in_our_order(self) -> None:
        """Without NAPTR the services of our transports are asked one after the other, until one is there (§4.1)."""
        zone: Zone = {
            Question("_sip._tcp.example.com", "SRV"): [Srv(0, 0, 5062, "server1.example.com")],
            Question("server1.example.com", "A"): ["192.0.2.1"],
        }
        found, asked = run(locate(parse_sip_uri("sip:example.com"), PREFERENCES), zone)
        self.assertEqual(found, [tcp("192.0.2.1", 5062)])
        names = [question.name for question in asked if question.kind == "SRV"]
        self.assertEqual(names, ["_sip._udp.example.com", "_sip._tcp.example.com"])

    def test_sips_asks_sips_only(self) -> None:
        """For sips: only _sips is asked (§4.1)."""
        _, asked = run(locate(parse_sip_uri("sips:example.com"), PREFERENCES), {})
        self.assertEqual([question.name for question in asked if question.kind == "SRV"], ["_sips._tcp.example.com"])

    def test_service_decidedly_absent(self) -> None:
        """A lone "." means there is no such service: the name's addresses are not tried instead (RFC 2782)."""
        zone: Zone = {
            Question("_sip._udp.example.com", "SRV"): [Srv(0, 0, 0, ".")],
            Question("_sip._tcp.example.com", "SRV"): [Srv(0, 0, 0, "")],
            Question("example.com", "A"): ["192.0.2.9"],
        }
        found, asked = run(locate(parse_sip_uri("sip:example.com"), PREFERENCES), zone)
        self.assertEqual(found, [])
        self.assertEqual({question.kind for question in asked}, {"NAPTR", "SRV"})

    def test_nothing_known(self) -> None:
        """A name without any record has no targets."""
        self.assertEqual(targets("sip:example.com", {}), [])


class LargeTests(SynchronousTestCase):
    def test_streams_before_datagrams(self) -> None:
        """A large request tries TCP at the same place before UDP, which stays as a way out (RFC 3261 §18.1.1)."""
        self.assertEqual(
            targets("sip:192.0.2.1:5070;transport=udp", {}, large=True),
            [tcp("192.0.2.1", 5070), udp("192.0.2.1", 5070)],
        )
        self.assertEqual(targets("sip:192.0.2.1", {}, large=True), [tcp("192.0.2.1")])

    def test_datagram_services_are_not_asked(self) -> None:
        """A domain that leaves the choice is asked for its stream services."""
        zone: Zone = {
            Question("_sip._udp.example.com", "SRV"): [Srv(0, 0, 5060, "server1.example.com")],
            Question("_sip._tcp.example.com", "SRV"): [Srv(0, 0, 5062, "server1.example.com")],
            Question("server1.example.com", "A"): ["192.0.2.1"],
        }
        self.assertEqual(targets("sip:example.com", zone, large=True), [tcp("192.0.2.1", 5062)])

    def test_without_tcp(self) -> None:
        """Who has only UDP sends even that by UDP."""
        only = Preferences(transports=("UDP",))
        self.assertEqual(targets("sip:192.0.2.1", {}, only, large=True), [udp("192.0.2.1")])


class OrderTests(SynchronousTestCase):
    def test_priority_first(self) -> None:
        """A lower priority number always comes before a higher one."""
        records = [Srv(2, 9, 1, "c"), Srv(1, 1, 1, "a"), Srv(1, 1, 1, "b"), Srv(3, 0, 1, "d")]
        priorities = [record.priority for record in order_servers(records, Random(1).randint)]
        self.assertEqual(priorities, [1, 1, 2, 3])

    def test_weights(self) -> None:
        """The first of a priority is chosen in proportion to its weight (RFC 2782's example: a quarter, three)."""
        records = [Srv(0, 1, 9, "slow"), Srv(0, 3, 9, "fast")]
        choose = Random(7).randint
        first = Counter(order_servers(records, choose)[0].target for _ in range(4000))
        # randint(0, 4) falls on 0 or 1 for the first of weight 1: the RFC's own rounding.
        self.assertApproximates(first["slow"] / 4000, 2 / 5, 0.03)

    def test_large_weights(self) -> None:
        """With weights as operators use them the share is the weight's."""
        records = [Srv(0, 100, 9, "slow"), Srv(0, 300, 9, "fast")]
        choose = Random(7).randint
        first = Counter(order_servers(records, choose)[0].target for _ in range(4000))
        self.assertApproximates(first["slow"] / 4000, 0.25, 0.03)

    def test_zero_weight_is_rare(self) -> None:
        """A weight of 0 beside others has a very small chance."""
        records = [Srv(0, 0, 9, "spare"), Srv(0, 1000, 9, "main")]
        choose = Random(7).randint
        first = Counter(order_servers(records, choose)[0].target for _ in range(2000))
        self.assertLess(first["spare"], 20)

    @given(
        st.lists(
            st.builds(Srv, st.integers(0, 3), st.integers(0, 65535), st.just(1), st.sampled_from("abc")), max_size=9
        ),
        st.randoms(use_true_random=False),
    )
    def test_nothing_is_lost(self, records: list[Srv], random: Random) -> None:
        """Whatever the weights, each record comes up once."""
        ordered = order_servers(records, random.randint)
        self.assertEqual(Counter(ordered), Counter(records))

    def test_bounds(self) -> None:
        """Somebody's huge zone does not make us try everything."""
        zone: Zone = {
            Question("_sip._udp.example.com", "SRV"): [Srv(0, 0, 5060, f"s{n}.example.com") for n in range(100)],
            **{Question(f"s{n}.example.com", "A"): [f"192.0.2.{n}"] * 5 for n in range(100)},
        }
        found, asked = run(locate(parse_sip_uri("sip:example.com"), PREFERENCES), zone)
        self.assertEqual(len(found), MAX_TARGETS)
        self.assertEqual(len([question for question in asked if question.kind == "A"]), MAX_SERVERS)


@frozen
class Case:
    """A Via and where its response goes."""

    via: str
    transport: str
    host: str
    port: int


class ResponseTests(SynchronousTestCase):
    TABLE = (
        Case("SIP/2.0/UDP 192.0.2.1", "UDP", "192.0.2.1", 5060),
        Case("SIP/2.0/UDP 192.0.2.1:5070", "UDP", "192.0.2.1", 5070),
        Case("SIP/2.0/UDP phone.example.com:5070;received=192.0.2.9", "UDP", "192.0.2.9", 5070),
        Case("SIP/2.0/UDP 10.1.1.1:4540;received=192.0.2.1;rport=9988", "UDP", "192.0.2.1", 9988),
        Case("SIP/2.0/UDP 10.1.1.1:4540;rport=9988", "UDP", "10.1.1.1", 4540),
        Case("SIP/2.0/UDP 10.1.1.1:4540;received=192.0.2.1;rport", "UDP", "192.0.2.1", 4540),
        Case("SIP/2.0/UDP 10.1.1.1:4540;received=192.0.2.1;rport=0", "UDP", "192.0.2.1", 4540),
        Case("SIP/2.0/UDP 10.1.1.1:4540;received=192.0.2.1;rport=65535", "UDP", "192.0.2.1", 65535),
        Case("SIP/2.0/UDP 10.1.1.1:4540;received=192.0.2.1;rport=65536", "UDP", "192.0.2.1", 4540),
        Case("SIP/2.0/UDP 10.1.1.1:4540;received=192.0.2.1;rport=1", "UDP", "192.0.2.1", 1),
        Case("SIP/2.0/UDP 10.1.1.1:4540;received=192.0.2.1;rport=1x", "UDP", "192.0.2.1", 4540),
        Case("SIP/2.0/UDP 10.1.1.1;maddr=224.0.1.75;received=192.0.2.1;rport=9", "UDP", "224.0.1.75", 5060),
        Case("SIP/2.0/TCP 10.1.1.1:4540;received=192.0.2.1;rport=9988", "TCP", "192.0.2.1", 4540),
        Case("SIP/2.0/TCP 10.1.1.1;maddr=192.0.2.77", "TCP", "10.1.1.1", 5060),
        Case("SIP/2.0/tls phone.example.com", "TLS", "phone.example.com", 5061),
        Case("SIP/2.0/WS df7jal23ls0d.invalid", "WS", "df7jal23ls0d.invalid", 80),
        Case("SIP/2.0/WSS df7jal23ls0d.invalid", "WSS", "df7jal23ls0d.invalid", 443),
        Case("SIP/2.0/UDP [2001:db8::1]:5070;received=2001:db8::2;rport=7", "UDP", "2001:db8::2", 7),
        Case("SIP/2.0/UDP [2001:db8::1]", "UDP", "2001:db8::1", 5060),
    )

    def test_response_address(self) -> None:
        """maddr, received and rport, or sent-by say where a response goes (RFC 3261 §18.2.2, RFC 3581 §4)."""
        for case in self.TABLE:
            found = response_address(parse_via(case.via))
            self.assertEqual(found, (case.transport, case.host, case.port), case.via)

    def locate(self, via: str, zone: Zone) -> tuple[list[Target], list[Question]]:
        return run(locate_response(parse_via(via), PREFERENCES), zone)

    def test_numeric_sent_by(self) -> None:
        """A numeric sent-by is the place itself (§5)."""
        self.assertEqual(self.locate("SIP/2.0/TCP 192.0.2.1:5070", {}), ([tcp("192.0.2.1", 5070)], []))

    def test_name_and_port(self) -> None:
        """A name with a port is asked for its addresses (§5)."""
        found, asked = self.locate("SIP/2.0/TCP example.com:5070", EXAMPLE)
        self.assertEqual(found, [tcp("192.0.2.9", 5070)])
        self.assertEqual({question.kind for question in asked}, {"A", "AAAA"})

    def test_name_without_port(self) -> None:
        """A name without a port is asked for its service: _sips for TLS, _sip otherwise (§5)."""
        found, _ = self.locate("SIP/2.0/TLS example.com", EXAMPLE)
        self.assertEqual(found, [tls("192.0.2.1"), tls("2001:db8::1")])
        found, _ = self.locate("SIP/2.0/UDP example.com", EXAMPLE)
        self.assertEqual(found, [udp("192.0.2.1"), udp("2001:db8::1")])

    def test_browsers_have_no_service(self) -> None:
        """A WebSocket client's made-up name is looked up at most by address."""
        found, asked = self.locate("SIP/2.0/WSS df7jal23ls0d.invalid", {})
        self.assertEqual(found, [])
        self.assertEqual({question.kind for question in asked}, {"A", "AAAA"})
