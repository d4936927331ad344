"""Two sites with name servers: what dig, dnspython, baresip and our own resolver find, and how a site goes."""

import re
import subprocess
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

import dns.edns
import dns.message
import dns.query
import dns.rdatatype
import pytest
from attrs import define
from twisted.internet import reactor
from twisted.trial.unittest import TestCase

from rollcall.net.config import ResolverConfig
from rollcall.net.resolver import Resolver
from rollcall.sip.uri import parse_sip_uri
from tests.cluster.hosts import PHONES_HOST
from tests.cluster.namespaces import DEVICE, NET4, NET6
from tests.cluster.sites_case import INTERNAL_PORT, SitesCase
from tests.interop.baresip import Account, Baresip
from tests.interop.process import Process, wait_until

Question = tuple[str, str]
"""Type and name."""

Sites = dict[str, tuple[int, int]]
"""Priority and weight by site."""

DOMAIN = "lab.test"
FRA, AMS = f"{NET4}.11", f"{NET4}.41"
FRA6, AMS6 = f"{NET6}:b", f"{NET6}:29"
SITES = {"fra": (FRA, FRA6), "ams": (AMS, AMS6)}
SIP_PORT, TLS_PORT, WS_PORT = 5060, 5061, 8080
TTL, TTL_CHANGING = 2, 1
WEIGHT = 100
WELL = {"fra": (10, WEIGHT), "ams": (20, WEIGHT)}
PREFIXES = """
100.64.1.0/24 telekom DE
100.64.2.0/24 kpn NL
100.64.3.0/24 orange FR
"""
ROUTES = [{"group": "telekom/DE", "sites": ["fra", "ams"]}, {"group": "kpn/*", "sites": ["ams"]},
          {"group": "*/FR", "sites": ["fra|ams"]}]


def site_sections(site: str, prefixes: Path) -> dict[str, Any]:
    """Return what a site's only registrar has: name server and phones at the usual ports, on IPv4 and IPv6."""
    ports = {"udp": SIP_PORT, "tcp": SIP_PORT, "tls": TLS_PORT, "ws": WS_PORT}
    return {
        "site": [{"name": name, "addresses": list(addresses), "members": [f"{addresses[0]}:{INTERNAL_PORT}"]}
                 for name, addresses in SITES.items()],
        "listen": [{"name": f"{transport}-{host}", "transport": transport, "host": host, "port": port}
                   for host in SITES[site] for transport, port in ports.items()],
        "dns": {"listen": [f"{SITES[site][0]}:53", f"[{SITES[site][1]}]:53"], "ttl_seconds": TTL,
                "ttl_changing_seconds": TTL_CHANGING, "routes": ROUTES, "return_seconds": 3.0},
        "access": {"prefix_file": str(prefixes)},
        "cluster": {"capacity": 100 * WEIGHT},
    }


@define
class Found:
    """The SRV records of an answer."""

    sites: Sites
    ttl: int
    scope: int | None
    """For how long a prefix the answer is, when the question told one."""


def ask(server: str, client: str = "", name: str = f"_sip._tcp.{DOMAIN}") -> Found:
    """Ask for SRV records, for a client in a network when one is given."""
    options: list[dns.edns.Option] = [dns.edns.ECSOption(client, 24)] if client else []
    query = dns.message.make_query(name, "SRV", use_edns=0, options=options)
    answer = dns.query.udp(query, server, timeout=5)
    rrset: Any = answer.answer[0]
    scopes = [option.scopelen for option in answer.options if isinstance(option, dns.edns.ECSOption)]
    sites = {record.target.labels[0].decode(): (record.priority, record.weight) for record in rrset}
    return Found(sites, rrset.ttl, scopes[0] if scopes else None)


def heard(questions: Callable[[], list[Question]], wanted: Question) -> bool | None:
    """Return True once a question was asked, None before."""
    return wanted in questions() or None


class DnsSitesTests(SitesCase, TestCase):
    """Both sites have a name server at the usual port."""

    sites: ClassVar[Mapping[str, int]] = {"fra": 1, "ams": 1}
    users = 3

    @classmethod
    def setUpClass(cls) -> None:
        prefixes = Path(cls.enterClassContext(TemporaryDirectory())) / "prefixes.txt"
        prefixes.write_text(PREFIXES)
        cls.own = {f"{site}-1": site_sections(site, prefixes) for site in SITES}
        super().setUpClass()

    def setUp(self) -> None:
        self.phones = self._network.host(PHONES_HOST)
        # All that this thread opens is on the phones' host.
        self.enterContext(self.phones.entered())
        for server in (FRA, AMS):
            self.wait_answer(server, lambda found: (found.sites, found.ttl) == (WELL, TTL))

    def wait_answer(self, server: str, accepts: Callable[[Found], bool]) -> Sites:
        """Return the sites in an answer of a server once the answer is accepted."""
        return wait_until(lambda: found if accepts(found := ask(server)) else None, "another answer", 30).sites

    def dig(self, *words: str) -> list[str]:
        """Return what dig prints as its short answer."""
        done = subprocess.run(["dig", "+short", "+norecurse", "+tries=1", *words], check=True, capture_output=True,
                              text=True, timeout=10)
        return sorted(done.stdout.splitlines())

    def watch_questions(self, file: Path) -> Callable[[], list[Question]]:
        """Let tcpdump write down from now on what is asked by UDP; return what reads it."""
        watching = Process(["tcpdump", "-l", "--immediate-mode", "-n", "-i", DEVICE, "udp", "dst", "port", "53"], file)
        self.addCleanup(watching.end)
        watching.wait_for_text("listening on")
        return lambda: re.findall(r"(\w+)\? (\S+)\. ", watching.text())

    def phone(self, number: int, transport: str) -> Baresip:
        """Return a phone that knows a domain and a name server, once it has registered; it has ended after the test."""
        user, folder = self.fra.users[number], Path(self._folder.name) / f"phone{number}"
        account = Account(user.username, user.password, DOMAIN, transport)
        phone = Baresip(account, folder, host=self.phones.ipv4, lines=f"dns_server {AMS}:53\n")
        self.addCleanup(phone.finish)
        phone.wait_registered()
        return phone

    def test_dig(self) -> None:
        """dig finds each type of record, over UDP, TCP and IPv6, at either site."""
        expected = {
            ("NAPTR", DOMAIN): [f'{order} 50 "s" "{service}" "" {prefix}.{DOMAIN}.' for order, service, prefix in (
                (10, "SIPS+D2T", "_sips._tcp"), (20, "SIP+D2T", "_sip._tcp"), (30, "SIP+D2W", "_sip._ws"),
                (40, "SIP+D2U", "_sip._udp"))],
            ("SRV", f"_sip._udp.{DOMAIN}"): [f"{priority} {WEIGHT} {SIP_PORT} {site}.{DOMAIN}."
                                             for site, (priority, _) in WELL.items()],
            ("SRV", f"_sips._tcp.{DOMAIN}"): [f"{priority} {WEIGHT} {TLS_PORT} {site}.{DOMAIN}."
                                             for site, (priority, _) in WELL.items()],
            ("A", DOMAIN): [FRA], ("AAAA", DOMAIN): [FRA6],
            ("A", f"ams.{DOMAIN}"): [AMS], ("AAAA", f"AMS.{DOMAIN}"): [AMS6],
            ("NS", DOMAIN): [f"ns-ams.{DOMAIN}.", f"ns-fra.{DOMAIN}."], ("A", f"ns-fra.{DOMAIN}"): [FRA],
            ("TXT", DOMAIN): [], ("A", f"nobody.{DOMAIN}"): [],
        }
        for number, ((kind, name), answer) in enumerate(expected.items()):
            way = (f"@{FRA}", f"@{AMS}", f"@{AMS6}")[number % 3], "+tcp" if number % 2 else "+notcp"
            self.assertEqual(self.dig(*way, name, kind), answer, (kind, name))
        (soa,) = self.dig(f"@{FRA}", DOMAIN, "SOA")
        self.assertRegex(soa, rf"^ns-fra\.{DOMAIN}\. hostmaster\.{DOMAIN}\. \d+ 60 10 604800 30$")

    def test_carriers(self) -> None:
        """Clients of three carriers get three orders, each for its own network only."""
        orders = {client: ask(AMS, client) for client in ("100.64.1.0", "100.64.2.0", "100.64.3.0", "192.0.2.0")}
        told = {client: {site: priority for site, (priority, _) in found.sites.items()}
                for client, found in orders.items()}
        self.assertEqual(told, {
            "100.64.1.0": {"fra": 10, "ams": 20}, "100.64.2.0": {"ams": 10, "fra": 20},
            "100.64.3.0": {"fra": 10, "ams": 10}, "192.0.2.0": {"fra": 10, "ams": 20}})
        self.assertEqual({found.scope for found in orders.values()}, {24})
        for client, found in orders.items():
            self.figure(f"a client in {client}/24 is told (priority, weight): {found.sites}")

    async def test_own_resolver(self) -> None:
        """Our own resolver finds both sites in order, by NAPTR, SRV and addresses; TLS when a URI asks for it."""
        resolver = Resolver(reactor, ResolverConfig(servers=(FRA,), hosts_file=None))
        for uri, transport, port in (("", "TLS", TLS_PORT), (";transport=udp", "UDP", SIP_PORT)):
            targets = await resolver.resolve(parse_sip_uri(f"sip:{DOMAIN}{uri}"))
            self.assertEqual([(each.transport, each.host, each.port) for each in targets],
                             [(transport, address, port) for address in (FRA, FRA6, AMS, AMS6)], uri)

    def test_site_dies(self) -> None:
        """The nodes of a site are killed: a client that keeps answers for their time sees it gone, and back later."""
        cached = ask(AMS)
        asked_at = died_at = time.monotonic()
        self.assertEqual((cached.ttl, set(cached.sites)), (TTL, {"fra", "ams"}))
        self.fra.registrars[0].kill()
        left_at = None
        while "fra" in cached.sites:
            if left_at is None and "fra" not in ask(AMS).sites:
                left_at = time.monotonic()
            if time.monotonic() > asked_at + cached.ttl:
                asked_at, cached = time.monotonic(), ask(AMS)
            self.assertLess(time.monotonic(), died_at + 60)
            time.sleep(0.02)
        gone_at = time.monotonic()
        left_at = left_at or gone_at
        self.assertEqual((set(cached.sites), cached.ttl), ({"ams"}, TTL_CHANGING))
        self.figure(f"a site killed is out of new answers after {left_at - died_at:.2f} s, for a client that kept an "
                    f"answer of {TTL} s after {gone_at - died_at:.2f} s")
        self.fra.registrars[0].start()
        # Returning, it shares with its stand-in what it will have alone.
        back = self.wait_answer(AMS, lambda found: [priority for priority, _ in found.sites.values()] == [10, 10])
        self.assertEqual(sum(weight for _, weight in back.values()), WEIGHT, back)
        self.wait_answer(AMS, lambda found: found.sites == WELL)

    def test_drain(self) -> None:
        """A site whose nodes are drained comes after the other one, at both name servers, until they are not."""
        node, began_at = self.fra.registrars[0], time.monotonic()
        node.post("/v1/nodes/fra-1/drain")
        for server in (FRA, AMS):
            told = self.wait_answer(server, lambda found: found.sites["fra"] > found.sites["ams"])
            self.assertEqual((told["ams"], told["fra"][0]), ((10, WEIGHT), 20))
        self.figure(f"a drained site comes after the other within {time.monotonic() - began_at:.1f} s")
        node.post("/v1/nodes/fra-1/drain", {"undo": True})
        for server in (FRA, AMS):
            self.wait_answer(server, lambda found: found.sites == WELL)

    @pytest.mark.long
    def test_sites_alone(self) -> None:
        """When the link between the sites is cut, each answers for itself; when it is back, both are told again."""
        self.cut()
        cut_at = time.monotonic()
        self.wait_answer(AMS, lambda found: set(found.sites) == {"ams"})
        self.wait_answer(FRA, lambda found: set(found.sites) == {"fra"})
        self.figure(f"the link between sites cut: each leads to itself alone after {time.monotonic() - cut_at:.1f} s")

    def test_baresip(self) -> None:
        """baresip registers with nothing but a domain and a name server, by NAPTR, SRV and addresses."""
        questions = self.watch_questions(Path(self._folder.name) / "questions")
        for number, transport, first in ((0, "", ("NAPTR", DOMAIN)), (1, "tcp", ("SRV", f"_sip._tcp.{DOMAIN}"))):
            self.phone(number, transport)
            wait_until(partial(heard, questions, first), f"the question {first}")
        contacts = {each["aor"]: each for each in self.fra.registrars[0].contacts()}
        self.assertEqual(sorted(contacts), [f"sip:user1@{DOMAIN}", f"sip:user2@{DOMAIN}"])
        self.figure(f"baresip asked {questions()} and registered by "
                    + ", ".join(each["transport"] for each in contacts.values()))
