"""The answers of one view, put into the form of the wire once: data with what helps along, or why there is none.

A name without records below which there are some exists (RFC 8020); what is missing is told with the SOA, which says
for how long (RFC 2308). An answer for ANY has one set of records only (RFC 8482 §4.1).
"""

from collections.abc import Iterator, Sequence
from io import BytesIO
from struct import Struct

from attrs import frozen
from dns.name import Name
from dns.rdatatype import RdataType
from dns.rrset import RRset

from registrar.distribution.dns.snapshot import View
from registrar.distribution.dns.wire import HEADER_BYTES, IN, POINTER, Rcode, Type

_QUESTION = Struct("!HH")
_NUMBERS = Struct("!HHI")
_LENGTH = Struct("!H")

ADDRESSES = (RdataType.A, RdataType.AAAA)

# Answers that nothing is there: who asks for names of every length in each of many zones shall not fill the memory.
MOST_MISSED = 10_000


@frozen
class Compiled:
    """What follows the question in an answer, its OPT not included; names in it point to the question."""

    rcode: Rcode
    body: bytes
    answers: int = 0
    authorities: int = 0
    additionals: tuple[tuple[int, int], ...] = ()
    """Where each set of additional records ends in `body`, and how many records there are up to there."""

    needed: int = 0
    """How much of `body` may not be left out."""

    def fitting(self, room: int) -> tuple[bytes, int] | None:
        """Return what fits into `room` bytes and the number of additional records in it; None when too little does.

        Additional records may be missing without a word (RFC 2181 §9).
        """
        if len(self.body) <= room:
            return self.body, self.additionals[-1][1] if self.additionals else 0
        if self.needed > room:
            return None
        end, count = max(((end, count) for end, count in self.additionals if end <= room), default=(self.needed, 0))
        return self.body[:end], count


class CompiledView:
    """Finds answers in one view; each that is found is compiled when it is first asked for."""

    def __init__(self, view: View, origins: Sequence[Name]) -> None:
        self._view = view
        self._origins = {_wire(origin): origin for origin in origins}
        self._names = view.indexed(origins).names
        self._compiled: dict[tuple[bytes, int], Compiled] = {}
        self._missed: dict[tuple[bytes, int, Rcode], Compiled] = {}

    def origin(self, name: bytes) -> bytes | None:
        """Return the zone that a name is in; None when it is in none of ours."""
        at = 0
        while name[at:] not in self._origins:
            if not name[at]:
                return None
            at += 1 + name[at]
        return name[at:]

    def find(self, name: bytes, kind: int) -> Compiled | None:
        """Return the answer for a name in lower case; None when it is in no zone of ours."""
        found = self._compiled.get((name, kind))
        if found is not None:
            return found
        here = self._names.get(name)
        if here:
            rrsets = self._view.rrsets
            found_at = min(here.values(), key=lambda key: _size(rrsets[key])) if kind == Type.ANY else here.get(kind)
            if found_at is not None:
                compiled = self._compiled[name, kind] = self._data(rrsets[found_at], kind)
                return compiled
        origin = self.origin(name)
        if origin is None:
            return None
        return self._missing(name, origin, Rcode.NXDOMAIN if here is None else Rcode.NOERROR)

    def _data(self, rrset: RRset, kind: int) -> Compiled:
        file, compress = BytesIO(), dict[Name, int]()
        file.write(bytes(HEADER_BYTES))
        rrset.name.to_wire(file, compress)
        file.write(_QUESTION.pack(kind, IN))
        start = file.tell()
        count = rrset.to_wire(file, compress, want_shuffle=False)
        needed = file.tell()
        additionals, total = [], 0
        for more in self._additional(rrset):
            total += more.to_wire(file, compress, want_shuffle=False)
            additionals.append((file.tell() - start, total))
        return Compiled(Rcode.NOERROR, file.getvalue()[start:], count, 0, tuple(additionals), needed - start)

    def _additional(self, rrset: RRset) -> Iterator[RRset]:
        """Yield what who asked for this asks for next (RFC 2782, RFC 3403 §3), each once."""
        rrsets, seen = self._view.rrsets, {(rrset.name, rrset.rdtype)}
        waiting = [rrset]
        for each in waiting:
            for target, kinds in _targets(each):
                for kind in kinds:
                    more = rrsets.get((target, kind))
                    if more is not None and (target, kind) not in seen:
                        seen.add((target, kind))
                        waiting.append(more)
                        yield more

    def _missing(self, name: bytes, origin: bytes, rcode: Rcode) -> Compiled:
        """Return that nothing is there: it is the same for all names of the same length."""
        at = HEADER_BYTES + len(name) - len(origin)
        compiled = self._missed.get((origin, at, rcode))
        if compiled is None:
            # the SOA's owner is the end of the name that was asked for
            soa = self._view.rrsets[self._origins[origin], RdataType.SOA]
            body = _LENGTH.pack(POINTER << 8 | at) + _soa_wire(soa)
            if len(self._missed) >= MOST_MISSED:
                self._missed.clear()
            compiled = self._missed[origin, at, rcode] = Compiled(rcode, body, 0, 1, (), len(body))
        return compiled


def _targets(rrset: RRset) -> Iterator[tuple[Name, tuple[RdataType, ...]]]:
    for rdata in rrset:
        if rrset.rdtype in (RdataType.SRV, RdataType.NS):
            yield rdata.target, ADDRESSES
        elif rrset.rdtype == RdataType.NAPTR:
            # RFC 3403 §6.2, RFC 3958 §2: "s" leads to SRV, "a" to addresses
            yield rdata.replacement, (RdataType.SRV,) if rdata.flags.lower() == b"s" else ADDRESSES


def _wire(name: Name) -> bytes:
    return name.to_digestable()


def _size(rrset: RRset) -> int:
    return sum(len(rdata.to_wire() or b"") for rdata in rrset)


def _soa_wire(rrset: RRset) -> bytes:
    """Return a SOA without its owner. Its TTL says how long nothing may be known to be there (RFC 2308 §3)."""
    soa = rrset[0]
    rdata = soa.to_wire() or b""
    return _NUMBERS.pack(Type.SOA, IN, min(rrset.ttl, soa.minimum)) + _LENGTH.pack(len(rdata)) + rdata
