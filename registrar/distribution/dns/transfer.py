"""Whole zones for secondaries over TCP (RFC 5936): a transfer shows one snapshot, however long it takes."""

from collections.abc import Iterable, Iterator, Sequence
from io import SEEK_END, BytesIO
from ipaddress import ip_address, ip_network
from struct import Struct

from dns.name import Name
from dns.rdatatype import RdataType
from dns.rrset import RRset

from registrar.distribution.dns.config import DnsConfig
from registrar.distribution.dns.snapshot import Snapshot, View
from registrar.distribution.dns.wire import (
    AUTHORITATIVE,
    HEADER_BYTES,
    IN,
    RECURSION_DESIRED,
    RESPONSE,
    Query,
    opt_record,
)

# A message begins no further record beyond this. Names are compressed in the first 16 KiB only (RFC 1035 §4.1.4).
MESSAGE_BYTES = 16_000

_COUNTS = Struct("!HHHH")
_NUMBERS = Struct("!HHIH")


class Secondaries:
    """Who may transfer zones."""

    def __init__(self, config: DnsConfig) -> None:
        named = [place.rpartition(":")[0].strip("[]") for place in config.secondaries]
        self._networks = tuple(map(ip_network, (*named, *config.transfer_networks)))

    def may_transfer(self, host: bytes) -> bool:
        """Say whether a packed address is that of a secondary."""
        address = ip_address(host)
        return any(address in network for network in self._networks)


def messages(data: bytes, query: Query, origin: Name, snapshot: Snapshot, payload: int) -> Iterator[bytes]:
    """Yield the answer to an AXFR, or an IXFR, which gets the same or, when nothing is newer, the SOA (RFC 1995 §4).

    `data` is the query as it came.
    """
    view = snapshot.views[snapshot.default]
    soa = view.rrsets[origin, RdataType.SOA]
    is_known = query.serial is not None and _is_older(snapshot.serial, query.serial)
    records: Iterable[RRset] = (soa,) if is_known else _zone(view, soa, snapshot.origins)
    opt = opt_record(query.edns, payload) if query.edns is not None else b""
    head = data[:2] + bytes((RESPONSE | AUTHORITATIVE | query.flags & RECURSION_DESIRED, 0))
    message = _Message(data[HEADER_BYTES:query.name_end + 4])
    for rrset in records:
        for rdata in rrset:
            if message.is_full:
                yield message.ended(head, opt)
                message = _Message()  # RFC 5936 §2.2.1: the question is in the first message
            message.add(rrset, rdata.to_wire() or b"")
    yield message.ended(head, opt)


def _is_older(serial: int, other: int) -> bool:
    """Whether a serial is the same as another one, or older (RFC 1982)."""
    return (other - serial) % 2**32 < 2**31


def _zone(view: View, soa: RRset, origins: Sequence[Name]) -> Iterator[RRset]:
    """Yield the zone of a SOA, which comes first and last (RFC 5936 §2.2)."""
    yield soa
    for key in view.indexed(origins).zones[soa.name.to_digestable()]:
        rrset = view.rrsets[key]
        if rrset.rdtype != RdataType.SOA:
            yield rrset
    yield soa


class _Message:
    """One message of a transfer while it grows."""

    def __init__(self, question: bytes = b"") -> None:
        self._file = BytesIO(bytes(HEADER_BYTES) + question)
        self._file.seek(0, SEEK_END)
        self._compress: dict[Name, int] = {}
        self._has_question = bool(question)
        self._count = 0

    @property
    def is_full(self) -> bool:
        return self._file.tell() >= MESSAGE_BYTES

    def add(self, rrset: RRset, rdata: bytes) -> None:
        rrset.name.to_wire(self._file, self._compress)
        self._file.write(_NUMBERS.pack(rrset.rdtype, IN, rrset.ttl, len(rdata)) + rdata)
        self._count += 1

    def ended(self, head: bytes, opt: bytes) -> bytes:
        """Return it whole. `head` is its ID and flags."""
        body = self._file.getvalue()[HEADER_BYTES:]
        return head + _COUNTS.pack(self._has_question, self._count, 0, bool(opt)) + body + opt
