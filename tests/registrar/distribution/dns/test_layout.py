"""What zones consist of, and configurations that make none."""

from collections.abc import Sequence
from typing import Any

import dns.name
from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from registrar.config import RegistrarConfig
from registrar.distribution.dns.config import NameServerConfig
from registrar.distribution.dns.layout import NameServer, Place
from rollcall.cluster.config import SiteConfig
from rollcall.net.config import ListenerConfig
from rollcall.ops.allowed import NotAllowed
from rollcall.ops.config import ConfigError, loads
from tests.registrar.distribution.dns.sites import LISTENERS, SITES, a_config, a_layout

UDP = ListenerConfig(name="udp", transport="udp", host="192.0.2.1")


def names(*texts: str) -> tuple[dns.name.Name, ...]:
    """Return domain names."""
    return tuple(map(dns.name.from_text, texts))


class LayoutTests(SynchronousTestCase):
    def test_names(self) -> None:
        """All host names among the domains are known; one below another belongs to its zone. Addresses are none."""
        layout = a_layout(domains=("Example.com", "192.0.2.1", "eu.example.com", "2001:db8::1", "example.org."))
        self.assertEqual(layout.names, names("example.com", "eu.example.com", "example.org"))
        self.assertEqual(layout.origins, names("example.com", "example.org"))

    def test_domains_of_its_own(self) -> None:
        """Domains given for DNS count instead of those of SIP: a zone below the domain can be delegated alone."""
        layout = a_layout(a_config(domains=("sip.example.com",)))
        self.assertEqual(layout.names, names("sip.example.com"))

    def test_name_servers(self) -> None:
        """Without name servers given there is one at each site, in the zone, with its addresses."""
        layout = a_layout()
        (origin,) = layout.origins
        self.assertEqual(layout.name_servers(origin)[0],
                         NameServer(names("ns-fra.example.com")[0], ("192.0.2.10", "2001:db8::10")))
        self.assertEqual(layout.hosts()[layout.name_servers(origin)[2].name], SITES[2].addresses)
        self.assertEqual(layout.hosts()[layout.host("ams", origin)], ("192.0.2.20",))
        self.assertEqual(layout.hostmaster(origin).to_text(), "hostmaster.example.com.")

    def test_given_name_servers(self) -> None:
        """Those given count for all zones; only what is in one of them has addresses there."""
        given = (NameServerConfig(name="ns1.example.net"), NameServerConfig(name="a.example.com", addresses=("::1",)),
                 NameServerConfig(name="fra.example.com"))
        layout = a_layout(a_config(name_servers=given, hostmaster="dns.admin@example.net"))
        self.assertEqual([each.name.to_text() for each in layout.name_servers(layout.origins[0])],
                         ["ns1.example.net.", "a.example.com.", "fra.example.com."])
        self.assertEqual(set(layout.hosts()), {*names("a.example.com"), *(
            layout.host(site.name, layout.origins[0]) for site in SITES)})
        self.assertEqual(layout.hostmaster(layout.origins[0]).to_text(), r"dns\.admin.example.net.")

    def test_only_place(self) -> None:
        """Without sites there is one host, at the addresses of the listeners or those given."""
        both = (UDP, ListenerConfig(name="6", transport="udp", host="::", advertise_host="[2001:db8::1]"))
        layout = a_layout(a_config(routes=()), listeners=both, sites=())
        self.assertEqual(layout.places, (Place("registrar", ("192.0.2.1", "2001:db8::1")),))
        self.assertEqual([each.name.to_text() for each in layout.name_servers(layout.origins[0])], ["ns.example.com."])
        given = a_layout(a_config(routes=(), addresses=("198.51.100.1",)), listeners=both, sites=())
        self.assertEqual(given.places, (Place("registrar", ("198.51.100.1",)),))

    def test_ports(self) -> None:
        """Ports are what phones are told; encrypted transports come first. Listeners can be left out."""
        listeners = (UDP, ListenerConfig(name="more", transport="udp", port=5070, advertise_port=5080), *LISTENERS[1:])
        ports = a_layout(listeners=listeners).ports
        self.assertEqual(list(ports.items()),
                         [("tls", (5061,)), ("wss", (443,)), ("tcp", (5060,)), ("ws", (80,)), ("udp", (5060, 5080))])
        self.assertEqual(a_layout(a_config(listeners=("more",)), listeners=listeners).ports, {"udp": (5080,)})


class MistakeTests(SynchronousTestCase):
    def refused(self, key: str, **given: Any) -> str:
        """Return what is said to be allowed; the key is named."""
        problem = self.assertRaises(NotAllowed, a_layout, **given)
        self.assertEqual(problem.key, key)
        return str(problem.allowed)

    def test_no_names(self) -> None:
        """Without a host name there is no zone; one that leaves no room for hosts is refused."""
        self.refused("dns.domains", domains=("192.0.2.1",))
        self.refused("dns.domains", config=a_config(domains=(".".join(["a" * 60] * 4),)))

    def test_unknown_names(self) -> None:
        """Listeners and sites that there are not are named."""
        self.assertIn("udp, tcp", self.refused("dns.listeners", config=a_config(listeners=("sctp",))))
        self.assertIn("ams, fra", self.refused("dns.routes", sites=SITES[:2]))
        self.assertIn("there is none", self.refused("dns.routes", sites=()))

    def test_no_addresses(self) -> None:
        """A site without addresses, and listeners that do not say theirs."""
        self.assertIn("site mad", self.refused("site.addresses", sites=(*SITES, SiteConfig(name="mad"))))
        self.assertRaises(ValueError, SiteConfig, name="mad", addresses=("fe80::1%eth0",))
        for listener in (evolve(UDP, host="0.0.0.0"), evolve(UDP, host="fe80::1%eth0"),
                         evolve(UDP, advertise_host="sip.example.com")):
            self.refused("dns.addresses", config=a_config(routes=()), listeners=(listener,), sites=())

    def test_unknown_port(self) -> None:
        """A port that the kernel chooses cannot be told."""
        self.refused("listen.port", listeners=(ListenerConfig(name="udp", transport="udp", port=0),))

    def test_two_of_one_name(self) -> None:
        """A host and a domain of the same name, two hosts of one, and a name server without an address."""
        self.assertIn("fra.example.com", self.refused("dns.domains", domains=("example.com", "fra.example.com")))
        twins = (SiteConfig(name="a", addresses=("192.0.2.1",)), SiteConfig(name="ns-a", addresses=("192.0.2.2",)))
        self.assertIn("ns-a", self.refused("dns.domains", config=a_config(routes=()), sites=twins))
        same = (SiteConfig(name="a", addresses=("192.0.2.1",)), SiteConfig(name="A", addresses=("192.0.2.2",)))
        self.refused("site.name", config=a_config(routes=()), sites=same)
        server = NameServerConfig(name="ns.example.com")
        self.assertIn("ns.example.com", self.refused("dns.name_servers", config=a_config(name_servers=(server,))))


FILE = """
[[domain]]
name = "example.com"
[[listen]]
name = "udp"
transport = "udp"
host = "192.0.2.1"
[[site]]
name = "fra"
addresses = ["192.0.2.10"]
[[site]]
name = "ams"
addresses = ["192.0.2.20"]
[location]
kind = "redis"
[cluster]
site = "fra"
[dns]
listen = ["127.0.0.1:53"]
"""


class FileTests(SynchronousTestCase):
    def mistakes(self, *lines: str, text: str = FILE) -> list[str]:
        """Return the keys of what is wrong when these lines are added."""
        problems: Sequence[Any] = self.assertRaises(
            ConfigError, loads, text + "\n".join(lines), RegistrarConfig).problems
        return [problem.key for problem in problems]

    def test_sound(self) -> None:
        """A file with routes and name servers is read."""
        config = loads(FILE + 'routes = [{ group = "a/DE", sites = ["fra|ams"] }]\n'
                              'name_servers = [{ name = "ns1.example.net" }]', RegistrarConfig)
        self.assertEqual(config.zones.origins, names("example.com"))
        self.assertEqual(config.dns.routes[0].sites, ("fra|ams",))

    def test_between_sections(self) -> None:
        """What does not fit to other sections is found when the file is read, if there is a name server."""
        wrong = 'routes = [{ group = "a/DE", sites = ["par"] }]'
        self.assertEqual(self.mistakes(wrong), ["dns.routes"])
        loads(FILE.replace("[dns]\nlisten", "[dns]\n# listen") + wrong, RegistrarConfig)

    def test_values(self) -> None:
        """Values that cannot be are named."""
        for line, key in (
            ('routes = [{ group = "DE", sites = ["fra"] }]', "dns.routes[0].group"),
            ('routes = [{ group = "/", sites = ["fra"] }]', "dns.routes[0].group"),
            ('routes = [{ group = "a/b", sites = [] }]', "dns.routes[0].sites"),
            ('routes = [{ group = "a/b", sites = ["fra", "ams|fra"] }]', "dns.routes[0].sites"),
            ('routes = [{ group = "a/b", sites = ["fra"] }, { group = "a/b", sites = ["ams"] }]', "dns.routes"),
            ('domains = ["192.0.2.1"]', "dns.domains"), ('hostmaster = "me"', "dns.hostmaster"),
            (f'hostmaster = "{60 * "ü"}@example.com"', "dns.hostmaster"),
            ('name_servers = [{ name = "192.0.2.1" }]', "dns.name_servers[0].name"),
            ('name_servers = [{ name = "ns1", addresses = ["fe80::1%eth0"] }]', "dns.name_servers[0].addresses"),
            ('addresses = ["fe80::1%eth0"]', "dns.addresses"),
            ("ttl_changing_seconds = 31", "dns.ttl_changing_seconds"), ("look_seconds = 0", "dns.look_seconds"),
            ("overloaded_below = 0.3", "dns.overloaded_below"),
        ):
            self.assertEqual(self.mistakes(line), [key], line)
