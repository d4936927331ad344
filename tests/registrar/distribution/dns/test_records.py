"""The records that clients see."""

from unittest.mock import patch

import dns.name
import dns.rdatatype
import dns.rrset
from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from registrar.distribution.dns.config import NameServerConfig
from registrar.distribution.dns.fitness import Offer
from registrar.distribution.dns.records import Records, Told
from registrar.distribution.dns.snapshot import View
from rollcall.net.config import ListenerConfig
from tests.registrar.distribution.dns.sites import a_config, a_layout

TOLD = Told((Offer("fra", 10, 400), Offer("ams", 20, 300), Offer("nyc", 20, 100)), 30)
SERIAL = 1_800_000_000


def texts(view: View, name: str, kind: str) -> list[str]:
    """Return the TTL and the records of a name and type, as zone files have them."""
    rrset = view.rrsets.get((dns.name.from_text(name), dns.rdatatype.from_text(kind)))
    return [] if rrset is None else [f"{rrset.ttl} {record}" for record in rrset]


class RecordsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.config = a_config()
        self.records = Records(self.config, a_layout())
        self.view = self.records.view("fra,ams,nyc", TOLD, SERIAL)

    def test_naptr(self) -> None:
        """NAPTR names the transports that are listened on, encrypted ones first (RFC 3263 §4.1, RFC 7118 §5.5)."""
        self.assertEqual(texts(self.view, "example.com", "NAPTR"), [
            '3600 10 50 "s" "SIPS+D2T" "" _sips._tcp.example.com.',
            '3600 20 50 "s" "SIPS+D2W" "" _sips._wss.example.com.',
            '3600 30 50 "s" "SIP+D2T" "" _sip._tcp.example.com.', '3600 40 50 "s" "SIP+D2W" "" _sip._ws.example.com.',
            '3600 50 50 "s" "SIP+D2U" "" _sip._udp.example.com.'])

    def test_srv(self) -> None:
        """SRV has the sites with priority and weight, at the port of the transport."""
        for name, port in (("_sip._udp", 5060), ("_sip._tcp", 5060), ("_sips._tcp", 5061), ("_sip._ws", 80),
                           ("_sips._wss", 443)):
            self.assertEqual(texts(self.view, f"{name}.example.com", "SRV"), [
                f"30 10 400 {port} fra.example.com.", f"30 20 300 {port} ams.example.com.",
                f"30 20 100 {port} nyc.example.com."])

    def test_only_what_is_listened_on(self) -> None:
        """A transport without a listener has no records; two ports are two records."""
        listeners = [ListenerConfig(name=f"udp{port}", transport="udp", host="192.0.2.1", port=port)
                     for port in (5060, 5070)]
        view = Records(self.config, a_layout(listeners=listeners)).view("v", evolve(TOLD, offers=TOLD.offers[:1]), 1)
        self.assertEqual(len(texts(view, "example.com", "NAPTR")), 1)
        self.assertEqual(texts(view, "_sip._udp.example.com", "SRV"),
                         ["30 10 400 5060 fra.example.com.", "30 10 400 5070 fra.example.com."])
        self.assertEqual(texts(view, "_sip._tcp.example.com", "SRV"), [])

    def test_hosts(self) -> None:
        """Each site has a host with its addresses, which stay when it does not live."""
        for host, kind, address in (
            ("fra", "A", "192.0.2.10"), ("fra", "AAAA", "2001:db8::10"), ("ams", "A", "192.0.2.20"),
            ("nyc", "A", "198.51.100.30"), ("nyc", "AAAA", "2001:db8:1::30"),
        ):
            self.assertEqual(texts(self.view, f"{host}.example.com", kind), [f"3600 {address}"])
        self.assertEqual(texts(self.view, "ams.example.com", "AAAA"), [])

    def test_addresses_of_the_domain(self) -> None:
        """Who asks for addresses only gets those of the best sites, but not of one with a small share."""
        self.assertEqual(texts(self.view, "example.com", "A"), ["30 192.0.2.10"])
        self.assertEqual(texts(self.view, "example.com", "AAAA"), ["30 2001:db8::10"])
        for weight, addresses in ((100, ["30 192.0.2.20"]), (250, ["30 192.0.2.10", "30 192.0.2.20"])):
            told = Told((Offer("fra", 10, weight), Offer("ams", 10, 400), Offer("nyc", 20, 400)), 30)
            self.assertEqual(texts(self.records.view("v", told, 1), "example.com", "A"), addresses)

    def test_made_when_asked(self) -> None:
        """What there is is known at once, though nothing that follows sites is made before it is asked for."""
        domains = [f"d{number}.example.org" for number in range(50)]
        records = Records(self.config, a_layout(domains=domains))
        with patch.object(dns.rrset.RRset, "__init__", side_effect=AssertionError("made")):
            views = [records.view(name, told, SERIAL) for name, told in (
                ("all", TOLD), ("without", evolve(TOLD, offers=(Offer("ams", 10, 400), *TOLD.offers[2:]))))]
            for view, has_ipv6 in zip(views, (True, False), strict=True):
                self.assertEqual((dns.name.from_text(domains[7]), dns.rdatatype.AAAA) in view.rrsets, has_ipv6)
                self.assertNotIn((dns.name.from_text("example.org"), dns.rdatatype.A), view.rrsets)
                self.assertEqual(len(set(view.rrsets)), len(view.rrsets))
        for view in views:
            for key, rrset in view.rrsets.items():
                self.assertEqual((rrset.name, rrset.rdtype), key)
                self.assertTrue(len(rrset))
            self.assertEqual(sorted(key for keys in view.indexed(()).zones.values() for key in keys),
                             sorted(view.rrsets))
        self.assertRaises(KeyError, lambda: views[1].rrsets[dns.name.from_text(domains[7]), dns.rdatatype.AAAA])

    def test_zone(self) -> None:
        """Each zone has SOA and NS, with the addresses of name servers in it."""
        self.assertEqual(texts(self.view, "example.com", "SOA"), [
            "3600 ns-fra.example.com. hostmaster.example.com. 1800000000 60 10 604800 30"])
        self.assertEqual(texts(self.view, "example.com", "NS"), [
            "3600 ns-fra.example.com.", "3600 ns-ams.example.com.", "3600 ns-nyc.example.com."])
        self.assertEqual(texts(self.view, "ns-nyc.example.com", "AAAA"), ["3600 2001:db8:1::30"])

    def test_zones(self) -> None:
        """Every domain has all of it, with hosts of its own; a zone below another has no SOA."""
        servers = (NameServerConfig(name="ns.example.net"),)
        layout = a_layout(a_config(name_servers=servers), domains=("example.com", "eu.example.com", "example.org"))
        view = Records(self.config, layout).view("v", TOLD, 7)
        for name in ("example.com", "eu.example.com", "example.org"):
            self.assertEqual(texts(view, f"_sip._udp.{name}", "SRV")[0], f"30 10 400 5060 fra.{name}.")
            self.assertEqual(texts(view, f"fra.{name}", "A"), ["3600 192.0.2.10"])
            self.assertEqual(len(texts(view, name, "NAPTR")), 5)
            self.assertEqual(len(texts(view, name, "SOA")), name != "eu.example.com")
            self.assertEqual(len(texts(view, name, "NS")), name != "eu.example.com")
        self.assertEqual(texts(view, "ns.example.net", "A"), [])

    def test_keys(self) -> None:
        """Every RRset stands under its own name and type, the name absolute and in lower case."""
        for (name, kind), rrset in self.view.rrsets.items():
            self.assertEqual((name, kind), (rrset.name, rrset.rdtype))
            self.assertTrue(name.is_absolute())
            self.assertEqual(name.to_text(), name.to_text().lower())
