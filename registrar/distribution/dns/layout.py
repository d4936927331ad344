"""What the zones consist of, as far as the configuration says it: names, places with addresses, services, name servers.

The host of a site is `<site>.<domain>` in each domain, so that no zone needs another one to be understood.
"""

from collections.abc import Iterable, Mapping, Sequence, Set
from functools import cached_property

import dns.exception
import dns.name
from attrs import frozen
from dns.name import Name

from registrar.distribution.dns.config import DnsConfig, NameServerConfig
from rollcall.cluster.config import SiteConfig
from rollcall.net.config import ListenerConfig
from rollcall.net.listening import WILDCARDS
from rollcall.ops.allowed import NotAllowed, is_address

ONLY_PLACE = "registrar"
"""The host where there are no sites."""

MOST_OCTETS = 200
"""Of a domain's name, so that the longest name made of it is one (RFC 1035 §2.3.4): a site's comes first."""


@frozen
class Service:
    """A transport by which phones may come, in DNS' words (RFC 3263 §4.1, RFC 7118 §5.5)."""

    naptr: str
    """What NAPTR records call it."""
    prefix: str
    """What stands before the domain in the names of SRV records."""


SERVICES: Mapping[str, Service] = {
    "tls": Service("SIPS+D2T", "_sips._tcp"),
    "wss": Service("SIPS+D2W", "_sips._wss"),
    "tcp": Service("SIP+D2T", "_sip._tcp"),
    "ws": Service("SIP+D2W", "_sip._ws"),
    "udp": Service("SIP+D2U", "_sip._udp"),
}
"""By transport, those first that shall be liked best: encrypted ones, then those over which NATs stay open longest.

No standard names the SRV records of WebSockets (RFC 7118 registers only the NAPTR services); these names are what most
libraries look for, and whoever follows NAPTR finds them anyhow.
"""


@frozen
class Place:
    """A site, or all that there is where there are none."""

    name: str
    addresses: tuple[str, ...]


@frozen
class NameServer:
    """Who answers for a zone, with its addresses when it is in one of ours."""

    name: Name
    addresses: tuple[str, ...]


@frozen(slots=False)
class Layout:
    """All of it. What depends on the state of sites is not here."""

    names: tuple[Name, ...]
    """The domains of phones, each with NAPTR, SRV and addresses of its own."""

    places: tuple[Place, ...]

    ports: Mapping[str, tuple[int, ...]]
    """The ports by transport, in the order of SERVICES."""

    given_name_servers: tuple[NameServer, ...]
    """Empty: there is one at each place."""

    mailbox: tuple[bytes, ...] | None
    """The labels of whom to write to, without the root; None for hostmaster in the zone."""

    @cached_property
    def origins(self) -> tuple[Name, ...]:
        """The zones: the names that are not below another one."""
        known = frozenset(self.names)
        return tuple(name for name in self.names if name == dns.name.root or not _is_below(name.parent(), known))

    def host(self, place: str, name: Name) -> Name:
        """Return the host name of a place in a domain."""
        return _below(place, name)

    def name_servers(self, origin: Name) -> tuple[NameServer, ...]:
        """Return who answers for a zone."""
        if self.given_name_servers:
            return self.given_name_servers
        if [place.name for place in self.places] == [ONLY_PLACE]:
            return (NameServer(_below("ns", origin), self.places[0].addresses),)
        return tuple(NameServer(_below(f"ns-{place.name}", origin), place.addresses) for place in self.places)

    def hostmaster(self, origin: Name) -> Name:
        """Return whom to write to about a zone, as SOA has it (RFC 1035 §8)."""
        return _below("hostmaster", origin) if self.mailbox is None else Name((*self.mailbox, b""))

    def hosts(self) -> dict[Name, tuple[str, ...]]:
        """Return the addresses of all hosts, those of places and name servers. Raises NotAllowed: two have one name."""
        found: dict[Name, tuple[str, ...]] = {}
        names, origins = frozenset(self.names), frozenset(self.origins)
        for name in self.names:
            for place in self.places:
                _claim(found, self.host(place.name, name), place.addresses, names)
        for server in dict.fromkeys(server for origin in self.origins for server in self.name_servers(origin)):
            if not _is_below(server.name, origins):
                continue
            if server.addresses:
                _claim(found, server.name, server.addresses, names)
            elif server.name not in found:
                raise NotAllowed(f"addresses for {_text(server.name)}, which is in our own zone", "dns.name_servers")
        return found


def lay_out(config: DnsConfig, domains: Iterable[str], listeners: Sequence[ListenerConfig],
            sites: Sequence[SiteConfig]) -> Layout:
    """Return what the zones consist of; `domains` are those of the registrar, addresses among them.

    Raises NotAllowed, which names the setting: the sections do not fit together.
    """
    chosen = _chosen(config, listeners)
    layout = Layout(
        names=_names(config.domains or [name for name in domains if not is_address(name)]),
        places=_places(config, chosen, sites), ports=_ports(chosen),
        given_name_servers=tuple(_name_server(each) for each in config.name_servers), mailbox=_mailbox(config))
    _check_routes(config, sites)
    layout.hosts()
    return layout


def _names(texts: Iterable[str]) -> tuple[Name, ...]:
    names = tuple(dict.fromkeys(_name(text, "dns.domains") for text in texts))
    if not names:
        raise NotAllowed("a host name, for no [[domain]] has one", "dns.domains", [])
    return names


def _name(text: str, key: str) -> Name:
    try:
        name = dns.name.from_text(text.lower())
    except dns.exception.DNSException:
        raise NotAllowed("host names", key, text) from None
    if sum(len(label) + 1 for label in name.labels) > MOST_OCTETS:
        raise NotAllowed(f"host names of at most {MOST_OCTETS} characters", key, text)
    return name


def _chosen(config: DnsConfig, listeners: Sequence[ListenerConfig]) -> list[ListenerConfig]:
    known = {listener.name: listener for listener in listeners}
    for name in config.listeners:
        if name not in known:
            raise NotAllowed("names of [[listen]]: " + ", ".join(known), "dns.listeners", name)
    return [known[name] for name in config.listeners or known]


def _places(config: DnsConfig, listeners: Sequence[ListenerConfig], sites: Sequence[SiteConfig]) -> tuple[Place, ...]:
    if not sites:
        return (Place(ONLY_PLACE, config.addresses or _said(listeners)),)
    if len({site.name.lower() for site in sites}) < len(sites):
        raise NotAllowed("names that differ in more than capitals, which host names do not know", "site.name")
    for site in sites:
        if not site.addresses:
            raise NotAllowed(f"addresses for the site {site.name}, which [dns] leads phones to", "site.addresses", [])
    return tuple(Place(site.name, site.addresses) for site in sites)


def _said(listeners: Sequence[ListenerConfig]) -> tuple[str, ...]:
    """Return the addresses that the listeners have or are said to have."""
    hosts = dict.fromkeys((listener.advertise_host or listener.host).strip("[]") for listener in listeners)
    if not all(is_address(host) and "%" not in host and host not in WILDCARDS for host in hosts):
        raise NotAllowed("the addresses by which phones reach us, which the listeners do not say", "dns.addresses", [])
    return tuple(hosts)


def _ports(listeners: Sequence[ListenerConfig]) -> dict[str, tuple[int, ...]]:
    """Return the ports by transport. A port that the kernel chooses nobody could know before."""
    ports: dict[str, tuple[int, ...]] = {}
    for transport in SERVICES:
        of_it = [each for each in listeners if each.transport == transport]
        found = tuple(dict.fromkeys(each.advertise_port or each.port for each in of_it))
        if 0 in found:
            raise NotAllowed("an advertise_port where port is 0, for [dns] tells it", "listen.port", 0)
        if found:
            ports[transport] = found
    return ports


def _name_server(config: NameServerConfig) -> NameServer:
    return NameServer(_name(config.name, "dns.name_servers"), config.addresses)


def _mailbox(config: DnsConfig) -> tuple[bytes, ...] | None:
    local, at, domain = config.hostmaster.rpartition("@")
    if not at:
        return None
    labels = (local.encode(), *_name(domain, "dns.hostmaster").labels[:-1])
    try:
        Name((*labels, b""))
    except dns.exception.DNSException:
        raise NotAllowed("a shorter mail address, for it is told as a host name", "dns.hostmaster",
                         config.hostmaster) from None
    return labels


def _check_routes(config: DnsConfig, sites: Sequence[SiteConfig]) -> None:
    known = {site.name for site in sites}
    for route in config.routes:
        for rank in route.sites:
            if unknown := sorted({*rank.split("|")} - known):
                raise NotAllowed("names of [[site]]: " + (", ".join(sorted(known)) or "there is none"),
                                 "dns.routes", unknown[0])


def _claim(found: dict[Name, tuple[str, ...]], name: Name, addresses: tuple[str, ...], taken: Set[Name]) -> None:
    if name in taken or found.get(name, addresses) != addresses:
        raise NotAllowed(f"names of which none is another one's: {_text(name)} would be two things", "dns.domains")
    found[name] = addresses


def _is_below(name: Name, names: Set[Name]) -> bool:
    """Say whether a name is one of these, or below one."""
    labels = name.labels
    return any(Name(labels[first:]) in names for first in range(len(labels)))


def _below(label: str, name: Name) -> Name:
    return Name((label.lower().encode(), *name.labels))


def _text(name: Name) -> str:
    return name.to_text(omit_final_dot=True)
