"""The records of the zones, by which a client finds its sites (RFC 3263, RFC 2782, RFC 3403, RFC 1035)."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial

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
from registrar.distribution.dns.snapshot import Index, Key, RRsets, View, index_of

NAPTR_PREFERENCE = 50
"""All of one order have the same, for there is one record of each order."""


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
        self._changing: dict[Key, Callable[[Told, int], Sequence[Rdata]]] = {}
        for origin in layout.origins:
            self._changing[origin, SOA] = partial(self._soa, origin)
        for domain in layout.names:
            for kind in (A, AAAA):
                self._changing[domain, kind] = partial(self._best, kind)
            for transport, ports in layout.ports.items():
                self._changing[self._owners[domain, transport], SRV] = partial(self._servers, ports, domain)
        self._indexes: dict[frozenset[RdataType], Index] = {}

    def view(self, name: str, told: Told, serial: int) -> View:
        """Return what a client of this kind sees."""
        # A domain has no AAAA, say, when the best sites have none.
        kinds = frozenset(kind for kind in (A, AAAA) if self._best(kind, told, serial))
        index = self._indexes.get(kinds)
        if index is None:
            changing = [key for key in self._changing if key[1] in (*kinds, SRV, SOA)]
            index = self._indexes[kinds] = index_of((*self._lasting, *changing), self._layout.origins)
        return View(name, _WhenAsked(self._lasting, partial(self._make, told, serial), index), index)

    def _make(self, told: Told, serial: int, key: Key) -> RRset:
        """Return records that follow the state of sites."""
        ttl = self._config.ttl_static_seconds if key[1] == SOA else told.ttl
        return _rrset(key, ttl, self._changing[key](told, serial))

    def _make_lasting(self) -> RRsets:
        layout, ttl = self._layout, self._config.ttl_static_seconds
        found: dict[Key, RRset] = {}
        for host, addresses in layout.hosts().items():
            _put_addresses(found, host, ttl, addresses)
        for origin in layout.origins:
            _put(found, (origin, NS), ttl, [NsRecord(IN, NS, server.name) for server in layout.name_servers(origin)])
        for domain in layout.names:
            _put(found, (domain, NAPTR), ttl, [
                # RFC 3263 §4.1: the order is what the domain wants, and the lowest that a client can do is taken
                NaptrRecord(IN, NAPTR, number * 10, NAPTR_PREFERENCE, b"s", SERVICES[transport].naptr.encode(), b"",
                            self._owners[domain, transport]) for number, transport in enumerate(layout.ports, 1)])
        return found

    def _soa(self, origin: Name, told: Told, serial: int) -> list[Rdata]:
        config, layout = self._config, self._layout
        return [SoaRecord(IN, SOA, layout.name_servers(origin)[0].name, layout.hostmaster(origin), serial,
                          config.refresh_seconds, config.retry_seconds, config.expire_seconds,
                          config.negative_ttl_seconds)]

    def _servers(self, ports: Sequence[int], domain: Name, told: Told, serial: int) -> list[Rdata]:
        return [SrvRecord(IN, SRV, offer.priority, offer.weight, port, self._hosts[domain, offer.site])
                for offer in told.offers for port in ports]

    def _best(self, kind: RdataType, told: Told, serial: int) -> list[Rdata]:
        """Return the addresses for who asks for nothing but addresses: of the sites that most clients are led to.

        There are no weights among addresses. So a site with less than half of the best one's is not among them.
        """
        first = [offer for offer in told.offers if offer.priority == told.offers[0].priority]
        most = max(offer.weight for offer in first)
        return _addresses(kind, [address for offer in first if offer.weight * 2 >= most
                                 for address in self._addresses[offer.site]])


class _WhenAsked(Mapping[Key, RRset]):
    """Records of which those that follow the state of sites are made when they are first asked for.

    With a thousand domains it takes seconds to make all of them, and hardly any are asked for until the next change.
    """

    def __init__(self, lasting: RRsets, make: Callable[[Key], RRset], index: Index) -> None:
        self._lasting = lasting
        self._make = make
        self._index = index
        self._made: dict[Key, RRset] = {}

    def __getitem__(self, key: Key) -> RRset:
        found = self._lasting.get(key) or self._made.get(key)
        if found is None:
            if key not in self:
                raise KeyError(key)
            found = self._made[key] = self._make(key)
        return found

    def __contains__(self, key: object) -> bool:
        if not isinstance(key, tuple):
            return False
        name, kind = key
        return kind in self._index.names.get(name.to_digestable(), ())

    def __iter__(self) -> Iterator[Key]:
        for kinds in self._index.names.values():
            yield from kinds.values()

    def __len__(self) -> int:
        return sum(map(len, self._index.names.values()))


def _service_name(transport: str, domain: Name) -> Name:
    service, protocol = SERVICES[transport].prefix.split(".")
    return Name((service.encode(), protocol.encode(), *domain.labels))


def _put_addresses(found: dict[Key, RRset], name: Name, ttl: int, addresses: Iterable[str]) -> None:
    for kind in (A, AAAA):
        _put(found, (name, kind), ttl, _addresses(kind, addresses))


def _addresses(kind: RdataType, addresses: Iterable[str]) -> list[Rdata]:
    unique = dict.fromkeys(addresses)
    if kind == A:
        return [ARecord(IN, A, each) for each in unique if ":" not in each]
    return [AaaaRecord(IN, AAAA, each) for each in unique if ":" in each]


def _put(found: dict[Key, RRset], key: Key, ttl: int, records: Sequence[Rdata]) -> None:
    if records:
        found[key] = _rrset(key, ttl, records)


def _rrset(key: Key, ttl: int, records: Sequence[Rdata]) -> RRset:
    rrset = RRset(key[0], IN, key[1])
    rrset.ttl = ttl
    # what add() does, but for checks that cost more than all the rest
    rrset.items = dict.fromkeys(records)
    return rrset
