"""Tests of where a request goes: names that are ours, ways to a phone, whom to ring, which answer to give back."""

from typing import Any

import attrs
from twisted.trial.unittest import SynchronousTestCase

from registrar.records import Binding, Source
from registrar.routing import (
    ByUri,
    Domains,
    OverDatagrams,
    OverFlow,
    ProxyConfig,
    ServedDomain,
    aor_of,
    aor_of_name,
    best_response,
    may_reach,
    merge_challenges,
    next_hop,
    target_groups,
    within_breadth,
)
from rollcall.sip.message import Response
from rollcall.sip.uri import parse_sip_uri
from tests.registrar.examples import NOW, PHONE, TABLET, a_binding, a_bound

GLOBAL, OTHER_GLOBAL = "8.8.4.4", "9.9.9.9"


def some_domains() -> Domains:
    """Return two domains, the second with aliases, behind listeners on 192.0.2.1 and IPv6."""
    domains = Domains([
        ServedDomain("Example.com"),
        ServedDomain("office.example", ("Büro.example".encode("idna").decode(), "192.0.2.1", "2001:DB8:0::1")),
    ])
    domains.answer_at("192.0.2.1", 5060)
    domains.answer_at("192.0.2.1", 5061)
    domains.answer_at("[2001:DB8:0::1]", 5060)
    domains.answer_at("edge.example.net", 5060)
    return domains


class DomainsTests(SynchronousTestCase):
    def served(self, uri: str) -> str | None:
        return some_domains().served(parse_sip_uri(uri))

    def is_ours(self, uri: str) -> bool:
        return some_domains().is_ours(parse_sip_uri(uri))

    def test_names(self) -> None:
        """A served name is found in any case, with a trailing dot, under sips, and with or without a user."""
        for uri in ("sip:alice@example.com", "sip:EXAMPLE.COM", "sips:alice@example.com.", "sip:a@example.com;x=1"):
            self.assertEqual(self.served(uri), "example.com", uri)

    def test_aliases(self) -> None:
        """An alias is answered with the name of its domain, addresses included, however IPv6 is written."""
        for host in ("xn--bro-hoa.example", "192.0.2.1", "[2001:db8::1]", "[2001:0DB8:0:0::1]"):
            self.assertEqual(self.served(f"sip:alice@{host}"), "office.example", host)

    def test_canonical_names(self) -> None:
        """Each domain has one name, in the order they were given."""
        self.assertEqual(some_domains().names, ["example.com", "office.example"])

    def test_served_also(self) -> None:
        """Further domains come and go; those that were there from the beginning stay, with their aliases, in front."""
        domains = some_domains()
        alias = parse_sip_uri("sip:alice@xn--bro-hoa.example")
        domains.serve_also(["Example.NET.", "xn--bro-hoa.example"])
        self.assertEqual(domains.names, ["example.com", "office.example", "example.net"])
        self.assertEqual(domains.served(parse_sip_uri("sip:alice@example.net")), "example.net")
        self.assertEqual(domains.served(alias), "office.example")
        domains.serve_also(["example.edu"])
        self.assertEqual(domains.names, ["example.com", "office.example", "example.edu"])
        self.assertEqual((domains.served(parse_sip_uri("sip:alice@example.net")), domains.served(alias)),
                         (None, "office.example"))

    def test_others(self) -> None:
        """Neither subdomains, nor parents, nor strangers are served."""
        for host in ("sub.example.com", "com", "example.org", "192.0.2.2", "[2001:db8::2]", "edge.example.net"):
            self.assertIsNone(self.served(f"sip:alice@{host}"), host)

    def test_ports_of_addresses(self) -> None:
        """An address serves with a port of ours: with another one it is a phone's on the same host."""
        self.assertEqual(self.served("sip:alice@192.0.2.1:5061"), "office.example")
        self.assertEqual(self.served("sip:alice@[2001:db8::1]:5060"), "office.example")
        self.assertIsNone(self.served("sip:alice@192.0.2.1:49152"))
        self.assertIsNone(self.served("sip:alice@[2001:db8::1]:49152"))

    def test_ports_of_names(self) -> None:
        """A name serves with any port: a proxy in front of us may have brought it."""
        self.assertEqual(self.served("sip:alice@example.com:5070"), "example.com")

    def test_routes(self) -> None:
        """A Route is ours when it names a listener, or a domain that we serve."""
        for uri in ("sip:192.0.2.1", "sip:token@192.0.2.1:5061;transport=tls;lr", "sip:edge.example.net:5060;lr",
                    "sip:EDGE.example.net.;lr", "sip:example.com;lr", "sip:[2001:db8:0:0::1]:5060;lr"):
            self.assertTrue(self.is_ours(uri), uri)
        for uri in ("sip:192.0.2.1:5070", "sip:192.0.2.2;lr", "sip:proxy.example.com;lr"):
            self.assertFalse(self.is_ours(uri), uri)

    def test_vias(self) -> None:
        """A Via is ours when it names a listener; a served domain's name may be anybody's behind it."""
        domains = some_domains()
        for sent_by in ("192.0.2.1:5060", "192.0.2.1", "EDGE.example.net:5060", "[2001:db8::1]:5060", "[2001:DB8::1]"):
            self.assertTrue(domains.is_own_via(sent_by), sent_by)
        for sent_by in ("192.0.2.1:49152", "192.0.2.2:5060", "example.com:5060", "[2001:db8::2]", "[::1", "a b", ""):
            self.assertFalse(domains.is_own_via(sent_by), sent_by)


class AorTests(SynchronousTestCase):
    def test_of_uri(self) -> None:
        """The address-of-record has the domain's own name, and the user without escapes that say nothing."""
        uri = parse_sip_uri("sips:%61lice;day=1:secret@192.0.2.1:5061;transport=tls")
        self.assertEqual(aor_of(uri, "office.example"), "sip:alice;day=1@office.example")

    def test_of_name(self) -> None:
        """A subscriber's name gives the same address-of-record as a URI that writes it."""
        for name, uri in (("alice", "sip:alice@x"), ("+49 30", "sip:+49%2030@x"), ("a#b", "sip:a%23b@x"),
                          ("jürgen", "sip:j%C3%BCrgen@x"), ("50%", "sip:50%25@x")):
            self.assertEqual(aor_of_name(name, "x"), aor_of(parse_sip_uri(uri), "x"), name)


class NextHopTests(SynchronousTestCase):
    """RFC 5626 §7, RFC 3327 §5.4."""

    def udp(self, contact: str, host: str = GLOBAL, port: int = 49152, **changes: Any) -> Binding:
        """Return a binding that came by UDP from `host`."""
        return a_binding(contact, source=Source("UDP", host, port, "udp", "n1", 1), **changes)

    def test_connection(self) -> None:
        """A binding made over a connection is reached over it, whatever its contact says."""
        for contact in ("sip:alice@10.0.0.7:5060;transport=tcp", "sip:abc@x7d.invalid;transport=ws"):
            self.assertEqual(next_hop(a_bound(contact, 7)), OverFlow(7))

    def test_path(self) -> None:
        """A Path comes before all else, in its order: the phone's own proxy knows the way."""
        path = ("<sip:edge.example.net;lr>", "<sip:token@inner.example.net;lr;ob>")
        self.assertEqual(next_hop(attrs.evolve(a_bound("sip:alice@10.0.0.7", 7), path=path)), ByUri(path))

    def test_outbound_by_datagram(self) -> None:
        """An outbound flow over UDP is used from the same listener to where it came from (RFC 5626 §7)."""
        binding = self.udp(f"sip:alice@{GLOBAL}:5060", reg_id=1, instance=PHONE)
        self.assertEqual(next_hop(binding), OverDatagrams("udp", GLOBAL, 49152))

    def test_behind_a_nat(self) -> None:
        """A contact with a private address is of no use: the phone is reached where it spoke from."""
        for host in ("10.0.0.7", "192.168.1.7:5062", "172.16.0.7", "100.64.0.7", "169.254.1.7", "[fd00::7]",
                     "[fe80::7]", "x7d.invalid"):
            self.assertEqual(next_hop(self.udp(f"sip:alice@{host}")), OverDatagrams("udp", GLOBAL, 49152), host)

    def test_same_private_network(self) -> None:
        """A private address that is the source is no NAT: its contact holds, with the port it names."""
        self.assertEqual(
            next_hop(self.udp("sip:alice@10.0.0.7:5062", "10.0.0.7")), OverDatagrams("udp", "10.0.0.7", 5062))
        self.assertEqual(next_hop(self.udp("sip:alice@10.0.0.7", "10.0.0.7")), OverDatagrams("udp", "10.0.0.7", 5060))
        self.assertEqual(next_hop(self.udp("sip:a@[FD00::7]", "fd00::7")), OverDatagrams("udp", "fd00::7", 5060))

    def test_public_contact(self) -> None:
        """A contact that anybody can reach is reached there, from the listener that the phone knows."""
        self.assertEqual(
            next_hop(self.udp(f"sip:alice@{OTHER_GLOBAL}:5062")), OverDatagrams("udp", OTHER_GLOBAL, 5062))

    def test_named_contact(self) -> None:
        """A contact that is a name is looked up."""
        self.assertEqual(next_hop(self.udp("sip:alice@phone.example.com")), ByUri())

    def test_other_transport(self) -> None:
        """A contact that asks for another transport, a multicast address or sips is not sent datagrams."""
        for contact in (f"sip:alice@{GLOBAL};transport=tcp", f"sip:alice@{GLOBAL};transport=TLS",
                        f"sip:alice@{GLOBAL};maddr=192.0.2.9", f"sips:alice@{GLOBAL}"):
            self.assertEqual(next_hop(self.udp(contact)), ByUri(), contact)
        self.assertEqual(
            next_hop(self.udp(f"sip:alice@{GLOBAL};transport=UDP")), OverDatagrams("udp", GLOBAL, 5060))

    def test_other_family(self) -> None:
        """An IPv6 contact cannot be reached from the IPv4 socket that took its REGISTER."""
        self.assertEqual(next_hop(self.udp("sip:alice@[2606:4700::1111]")), ByUri())

    def test_behind_a_proxy(self) -> None:
        """A REGISTER that a proxy passed on without Path says nothing about where the phone spoke from."""
        self.assertEqual(next_hop(self.udp("sip:alice@10.0.0.7", direct=False)), ByUri())

    def test_connection_that_binds_nothing(self) -> None:
        """A binding by TCP that is not bound to its connection is found by its contact."""
        source = Source("TCP", GLOBAL, 49152, "tcp", "n1", 1, 7)
        self.assertEqual(next_hop(a_binding("sip:alice@10.0.0.7", source=source)), ByUri())

    def test_other_schemes(self) -> None:
        """A contact of another scheme has no address."""
        self.assertEqual(next_hop(self.udp("tel:+4930123456")), ByUri())


    def test_address_of_many(self) -> None:
        """A multicast address in a contact is no phone's: it is reached where it spoke from."""
        for host in ("224.0.1.75", "239.1.1.1"):
            self.assertEqual(next_hop(self.udp(f"sip:alice@{host}")), OverDatagrams("udp", GLOBAL, 49152), host)


class MayReachTests(SynchronousTestCase):
    def test_phones_and_servers(self) -> None:
        """Every address of one machine may be asked for, private ones too."""
        for host in (GLOBAL, OTHER_GLOBAL, "10.0.0.7", "2606:4700::1111", "[2606:4700::1111]", "fd00::7"):
            self.assertTrue(may_reach(host, GLOBAL), host)

    def test_this_machine(self) -> None:
        """Loopback is for who is there: admin sites and databases listen there and trust whoever comes."""
        for host in ("127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"):
            self.assertFalse(may_reach(host, GLOBAL), host)
            self.assertFalse(may_reach(host, "10.0.0.7"), host)
            self.assertTrue(may_reach(host, "127.0.0.1"), host)
            self.assertTrue(may_reach(host, "::1"), host)

    def test_this_link(self) -> None:
        """The same holds for what is on this link alone, as the metadata of virtual machines is."""
        for host in ("169.254.169.254", "fe80::7", "::ffff:169.254.169.254"):
            self.assertFalse(may_reach(host, GLOBAL), host)
            self.assertTrue(may_reach(host, "fe80::9%eth0"), host)

    def test_nobody_and_everybody(self) -> None:
        """What is no machine's address is never sent to, whoever asks; 0.0.0.0 would be this machine."""
        for host in ("0.0.0.0", "::", "::ffff:0.0.0.0", "255.255.255.255", "224.0.0.1", "239.1.1.1", "ff02::1"):
            for asker in (GLOBAL, "127.0.0.1", "::1"):
                self.assertFalse(may_reach(host, asker), host)


class TargetGroupsTests(SynchronousTestCase):
    """RFC 3261 §16.6, RFC 5626 §7."""

    def rung(self, *bindings: Binding, now: float = NOW, max_branches: int = 16,
             secure_only: bool = False) -> list[list[list[str]]]:
        """Return the contacts by group and phone, the best way to each phone first."""
        groups = target_groups(bindings, now, max_branches, secure_only)
        return [[[way.contact for way in (one.binding, *one.alternates)] for one in group] for group in groups]

    def test_none(self) -> None:
        """Without bindings there is nobody to ring."""
        self.assertEqual(self.rung(), [])

    def test_by_q(self) -> None:
        """Contacts of one q ring together, those of a higher q before."""
        self.assertEqual(
            self.rung(a_binding("sip:a@x", q=500), a_binding("sip:b@x", q=1000), a_binding("sip:c@x", q=500),
                      a_binding("sip:d@x", q=0)),
            [[["sip:b@x"]], [["sip:a@x"], ["sip:c@x"]], [["sip:d@x"]]],
        )

    def test_lapsed(self) -> None:
        """A binding is used up to the moment that it lapses."""
        binding = a_binding("sip:a@x", expires_at=NOW + 60)
        self.assertEqual(self.rung(binding, now=NOW + 59.9), [[["sip:a@x"]]])
        self.assertEqual(self.rung(binding, now=NOW + 60), [])

    def test_one_flow_per_instance(self) -> None:
        """Of one phone's flows the newest is tried, the others wait: never two at a time (RFC 5626 §7)."""
        flows = [
            a_bound(f"sip:alice@flow{number}", number, instance=PHONE, reg_id=number, refreshed_at=NOW + age)
            for number, age in ((1, 10), (2, 30), (3, 20))
        ]
        tablet = a_bound("sip:alice@tablet", 9, instance=TABLET)
        self.assertEqual(
            self.rung(*flows, tablet),
            [[["sip:alice@flow2", "sip:alice@flow3", "sip:alice@flow1"], ["sip:alice@tablet"]]],
        )

    def test_flows_of_different_q(self) -> None:
        """A phone whose flows differ in q is rung in the group of the highest, and in no other."""
        self.assertEqual(
            self.rung(a_binding("sip:a@one", instance=PHONE, reg_id=1, q=300),
                      a_binding("sip:a@two", instance=PHONE, reg_id=2, q=700), a_binding("sip:a@three", q=300)),
            [[["sip:a@two", "sip:a@one"]], [["sip:a@three"]]],
        )

    def test_without_instance(self) -> None:
        """Contacts that name no instance are phones of their own."""
        self.assertEqual(self.rung(a_binding("sip:a@x"), a_binding("sip:a@y")), [[["sip:a@x"], ["sip:a@y"]]])

    def test_secure_only(self) -> None:
        """A call to a sips URI reaches only phones behind TLS, or behind a proxy reached by TLS (§26.2.2)."""
        def over(transport: str) -> Binding:
            return a_binding(f"sip:a@{transport}", source=Source(transport, GLOBAL, 1, "x", "n1", 1, 1))

        behind = a_binding("sip:a@behind", path=("<SIPS:edge.example.net;lr>", "<sip:inner.example.net;lr>"))
        open_path = a_binding("sip:a@open", path=("<sip:edge.example.net;lr>", "<sips:inner.example.net;lr>"))
        bindings = [over(transport) for transport in ("UDP", "TCP", "TLS", "WS", "WSS")] + [behind, open_path]
        self.assertEqual(self.rung(*bindings, secure_only=True), [[["sip:a@TLS"], ["sip:a@WSS"], ["sip:a@behind"]]])
        self.assertEqual(len(self.rung(*bindings)[0]), 7)

    def test_other_schemes(self) -> None:
        """A contact that is no SIP URI cannot be rung."""
        self.assertEqual(self.rung(a_binding("mailto:alice@example.com"), a_binding("SIP:a@x")), [[["SIP:a@x"]]])

    def test_at_most(self) -> None:
        """No more phones than allowed are rung, the best of them; alternates do not count (RFC 5393 §5)."""
        bindings = [a_binding(f"sip:a@{number}", q=number * 100) for number in range(10)]
        second_flow = a_binding("sip:a@second", q=850, instance=PHONE)
        first_flow = a_binding("sip:a@first", q=950, instance=PHONE)
        self.assertEqual(
            self.rung(*bindings, first_flow, second_flow, max_branches=3),
            [[["sip:a@first", "sip:a@second"]], [["sip:a@9"]], [["sip:a@8"]]],
        )


class BestResponseTests(SynchronousTestCase):
    """RFC 3261 §16.7 step 6."""

    def best(self, *statuses: int) -> int | None:
        response = best_response([Response.new(status) for status in statuses])
        return response.status if response else None

    def test_table(self) -> None:
        """6xx first, then the lowest class, in it what helps to try again, a phone's own word before its absence."""
        for statuses, best in (
            ((), None),
            ((503, 407, 501, 404), 407),  # the RFC's example
            ((404, 603, 302), 603),
            ((604, 600), 604),
            ((404, 302, 503), 302),
            ((500, 486), 486),
            ((404, 486, 401), 401),
            ((486, 415), 415),
            ((486, 420), 420),
            ((486, 484), 484),
            ((408, 486), 486),
            ((480, 486), 486),
            ((487, 486), 486),
            ((430, 404), 404),
            ((481, 404), 404),
            ((408, 480), 408),
            ((486, 404), 486),
            ((503, 504), 504),
            ((503, 408), 408),
            ((503, 503), 503),
        ):
            self.assertEqual(self.best(*statuses), best, statuses)


class MergeChallengesTests(SynchronousTestCase):
    """RFC 3261 §16.7 step 7."""

    def challenge(self, status: int, *challenges: str) -> Response:
        name = "WWW-Authenticate" if status == 401 else "Proxy-Authenticate"
        return Response.new(status, headers=[(name, value) for value in challenges])

    def test_all_are_collected(self) -> None:
        """The answer has the challenges of every 401 and 407, "without modification"."""
        best = self.challenge(407, 'Digest realm="a", nonce="1"')
        others = [
            self.challenge(401, 'Digest realm="b", nonce="2", algorithm=SHA-256', 'Digest realm="b", nonce="2"'),
            Response.new(486),
            self.challenge(407, 'Digest realm="c", nonce="3"'),
        ]
        merge_challenges(best, [others[0], best, *others[1:]])
        self.assertEqual(
            best.get_all("Proxy-Authenticate"), ['Digest realm="a", nonce="1"', 'Digest realm="c", nonce="3"'])
        self.assertEqual(
            best.get_all("WWW-Authenticate"),
            ['Digest realm="b", nonce="2", algorithm=SHA-256', 'Digest realm="b", nonce="2"'])

    def test_other_answers(self) -> None:
        """Any other answer is left alone."""
        best = Response.new(486)
        merge_challenges(best, [best, self.challenge(401, 'Digest realm="b", nonce="2"')])
        self.assertEqual(best.fields, [])


class ProxyConfigTests(SynchronousTestCase):
    def test_timer_c(self) -> None:
        """Timer C "MUST be larger than 3 minutes" (§16.6 step 11)."""
        self.assertRaises(ValueError, ProxyConfig, timer_c_seconds=180.0)
        self.assertGreater(ProxyConfig().timer_c_seconds, 180)

    def test_strangers(self) -> None:
        """Strangers are challenged or accepted; there is no third way."""
        self.assertRaises(ValueError, ProxyConfig, strangers="relay")


class WithinBreadthTests(SynchronousTestCase):
    """RFC 5393 §5.3.3."""

    def test_shared(self) -> None:
        """Groups are cut to the breadth there is, and what there is is shared by those tried at a time."""
        table = (
            ([[1]], 60, ([[1]], 60)),
            ([[1, 2, 3], [4]], 60, ([[1, 2, 3], [4]], 20)),
            ([[1, 2, 3], [4]], 2, ([[1, 2], [3], [4]], 1)),
            ([[1, 2]], 1, ([[1], [2]], 1)),
        )
        for groups, breadth, expected in table:
            self.assertEqual(within_breadth(groups, breadth), expected)
