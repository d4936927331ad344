"""The records of the zones, by which a client finds its sites (RFC 3263, RFC 2782, RFC 3403, RFC 1035)."""

from collections.abc import Iterable, Sequence

from attrs import frozen
from dns.name import Name
from dns.rdata import Rdata
from dns.rdataclass import IN
from dns.rdatatype import AAAA, NAPTR, NS, SOA, SRV, A, RdataType
from dns.rdtypes.ANY.NS import NS as NsRecord
from dns.rdtypes.ANY.SOA import SOA as SoaRecord
from dns.rdtypes.IN.A import A as ARecord
from dns.rdtypes.IN.AAAA import AAAA as AaaaRecord
from dns.rdtypes.IN.NAPTR import NAPTR as NaptrRecord
from dns.rdtypes.IN.SRV import SRV as SrvRecord
from dns.rrset import RRset

from registrar.distribution.dns.config import DnsConfig
from registrar.distribution.dns.fitness import Offer
from registrar.distribution.dns.layout import SERVICES, Layout
from registrar.distribution.dns.snapshot import RRsets, View

NAPTR_PREFERENCE = 50
"""All of one order have the same, for there is one record of each order."""

Key = tuple[Name, RdataType]


@frozen
class Told:
    """What one kind of client is told of sites."""

    offers: tuple[Offer, ...]
    """The best first."""

    ttl: int
    """How long that may be kept."""


class Records:
    """Makes views. What no site's state changes is made once."""

    def __init__(self, config: DnsConfig, layout: Layout) -> None:
        self._config = config
        self._layout = layout
        self._addresses = {place.name: place.addresses for place in layout.places}
        self._owners = {(domain, transport): _service_name(transport, domain)
                        for domain in layout.names for transport in layout.ports}
        self._hosts = {(domain, place.name): layout.host(place.name, domain)
                       for domain in layout.names for place in layout.places}
        self._lasting = self._make_lasting()

    def view(self, name: str, told: Told, serial: int) -> View:
        """Return what a client of this kind sees."""
        found: dict[Key, RRset] = dict(self._lasting)
        for origin in self._layout.origins:
            _put(found, origin, SOA, self._config.ttl_static_seconds, [self._soa(origin, serial)])
        best = self._best(told.offers)
        for domain in self._layout.names:
            _put_addresses(found, domain, told.ttl, best)
            for transport, ports in self._layout.ports.items():
                _put(found, self._owners[domain, transport], SRV, told.ttl,
                     self._servers(told.offers, ports, domain))
        return View(name, found)

    def _make_lasting(self) -> RRsets:
        layout, ttl = self._layout, self._config.ttl_static_seconds
        found: dict[Key, RRset] = {}
        for host, addresses in layout.hosts().items():
            _put_addresses(found, host, ttl, addresses)
        for origin in layout.origins:
            _put(found, origin, NS, ttl, [NsRecord(IN, NS, server.name) for server in layout.name_servers(origin)])
        for domain in layout.names:
            _put(found, domain, NAPTR, ttl, [
                # RFC 3263 §4.1: the order is what the domain wants, and the lowest that a client can do is taken
                NaptrRecord(IN, NAPTR, number * 10, NAPTR_PREFERENCE, b"s", SERVICES[transport].naptr.encode(), b"",
                            self._owners[domain, transport]) for number, transport in enumerate(layout.ports, 1)])
        return found

    def _soa(self, origin: Name, serial: int) -> Rdata:
        config, layout = self._config, self._layout
        return SoaRecord(IN, SOA, layout.name_servers(origin)[0].name, layout.hostmaster(origin), serial,
                         config.refresh_seconds, config.retry_seconds, config.expire_seconds,
                         config.negative_ttl_seconds)

    def _servers(self, offers: Iterable[Offer], ports: Sequence[int], domain: Name) -> list[Rdata]:
        return [SrvRecord(IN, SRV, offer.priority, offer.weight, port, self._hosts[domain, offer.site])
                for offer in offers for port in ports]

    def _best(self, offers: Sequence[Offer]) -> tuple[str, ...]:
        """Return the addresses for who asks for nothing but addresses: of the sites that most clients are led to.

        There are no weights among addresses. So a site with less than half of the best one's is not among them.
        """
        first = [offer for offer in offers if offer.priority == offers[0].priority]
        most = max(offer.weight for offer in first)
        return tuple(address for offer in first if offer.weight * 2 >= most for address in self._addresses[offer.site])


def _service_name(transport: str, domain: Name) -> Name:
    service, protocol = SERVICES[transport].prefix.split(".")
    return Name((service.encode(), protocol.encode(), *domain.labels))


def _put_addresses(found: dict[Key, RRset], name: Name, ttl: int, addresses: Iterable[str]) -> None:
    unique = tuple(dict.fromkeys(addresses))
    _put(found, name, A, ttl, [ARecord(IN, A, each) for each in unique if ":" not in each])
    _put(found, name, AAAA, ttl, [AaaaRecord(IN, AAAA, each) for each in unique if ":" in each])


def _put(found: dict[Key, RRset], name: Name, kind: RdataType, ttl: int, records: Sequence[Rdata]) -> None:
    if records:
        rrset = RRset(name, IN, kind)
        rrset.ttl = ttl
        # what add() does, but for checks that cost more than all the rest
        rrset.items = dict.fromkeys(records)
        found[name, kind] = rrset
