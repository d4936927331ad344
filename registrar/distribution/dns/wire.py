"""What a DNS query says (RFC 1035 §4.1), with EDNS (RFC 6891) and its client's subnet (RFC 7871), from its bytes.

Nothing is kept and nothing is sent here. Whatever the bytes are, there is a Query or a WireError.
"""

from enum import IntEnum
from struct import Struct

from attrs import define

HEADER_BYTES = 12
LEAST_PAYLOAD = 512  # RFC 6891 §6.2.3: what is less means 512
POINTER = 0xC0

_COUNTS = Struct("!HHHH")
_TYPE_CLASS = Struct("!HH")
_RECORD = Struct("!HHIH")
_OPTION = Struct("!HH")
_SUBNET = Struct("!HBB")
_SERIAL = Struct("!I")

# A query has a SOA in its authority section when it is an IXFR (RFC 1995 §3), and an OPT and a signature at its end.
MAX_AUTHORITY = 1
MAX_ADDITIONAL = 2
MAX_NAME = 255
MAX_LABEL = 63
# SOA's five numbers, of which the serial is the first (RFC 1035 §3.3.13).
SOA_NUMBERS = 20

# bits in the second half of a header, and of OPT's flags
RESPONSE, AUTHORITATIVE, TRUNCATED, RECURSION_DESIRED = 0x80, 0x04, 0x02, 0x01
OPCODE = 0x78
DNSSEC_OK = 0x8000

SUBNET_OPTION = 8
BITS = {1: 32, 2: 128}
"""Of an address of each family (RFC 7871 §6)."""

IN = 1


class Type(IntEnum):
    """The types of records that are special here (RFC 1035, RFC 2782, RFC 3403, RFC 6891 and others)."""

    A = 1
    NS = 2
    SOA = 6
    AAAA = 28
    SRV = 33
    NAPTR = 35
    OPT = 41
    TKEY = 249
    TSIG = 250
    IXFR = 251
    AXFR = 252
    MAILB = 253
    MAILA = 254
    ANY = 255


class Rcode(IntEnum):
    """What became of a query (RFC 1035 §4.1.1, RFC 6891 §9)."""

    NOERROR = 0
    FORMERR = 1
    SERVFAIL = 2
    NXDOMAIN = 3
    NOTIMP = 4
    REFUSED = 5
    BADVERS = 16


@define
class Subnet:
    """The network that a query is asked for (RFC 7871 §6)."""

    family: int
    bits: int
    prefix: bytes
    """As it came: no more bytes than `bits` needs."""

    @property
    def address(self) -> bytes:
        """The first address of the network, 4 or 16 bytes."""
        return self.prefix.ljust(BITS[self.family] // 8, b"\0")


@define
class Edns:
    """What the OPT record of a query says."""

    payload: int
    version: int
    dnssec_ok: bool
    subnet: Subnet | None = None
    has_others: bool = False
    """Whether there are options other than the subnet, such as cookies: the like does not come twice."""


@define
class Query:
    """One question."""

    flags: int
    """The first byte of the header's flags."""

    name_end: int
    """Where the name that begins at HEADER_BYTES ends."""

    name: bytes
    """In lower case, as on the wire."""

    type: int
    class_: int
    edns: Edns | None
    serial: int | None
    """What an IXFR has already."""


class WireError(Exception):
    """A message that is answered with an error only."""

    def __init__(self, rcode: Rcode, question_end: int = HEADER_BYTES, edns: Edns | None = None) -> None:
        """The question up to `question_end` can be repeated to who asked."""
        super().__init__(rcode.name)
        self.rcode = rcode
        self.question_end = question_end
        self.edns = edns


def is_query(data: bytes) -> bool:
    """Whether a message may be answered at all. Answers are not, or two servers could go on for ever."""
    return len(data) >= HEADER_BYTES and not data[2] & RESPONSE


def parse_query(data: bytes) -> Query:
    """Return what a message asks; `is_query` has said yes to it. Raises WireError."""
    if not data[2] & OPCODE:
        return _parsed(data)
    try:
        query = _parsed(data)
    except WireError:  # other rules than ours may hold for what is in it
        raise WireError(Rcode.NOTIMP) from None
    raise WireError(Rcode.NOTIMP, query.name_end + _TYPE_CLASS.size, query.edns)


def opt_record(edns: Edns, payload: int, rcode: int = 0, scope: int = 0) -> bytes:
    """Return the OPT record of an answer: we take `payload` bytes; `scope` is how much of the subnet mattered."""
    options = b""
    if edns.subnet is not None:
        subnet = edns.subnet
        value = _SUBNET.pack(subnet.family, subnet.bits, scope) + subnet.prefix
        options = _OPTION.pack(SUBNET_OPTION, len(value)) + value
    flags = (rcode >> 4) << 24 | (DNSSEC_OK if edns.dnssec_ok else 0)  # RFC 3225 §3: the bit is copied
    return b"\0" + _RECORD.pack(Type.OPT, payload, flags, len(options)) + options


def suffixes(name: bytes) -> list[bytes]:
    """Return a name on the wire and all above it, the root last."""
    found, at = [], 0
    while name[at]:
        found.append(name[at:])
        at += 1 + name[at]
    found.append(b"\0")
    return found


def _parsed(data: bytes) -> Query:
    questions, answers, authorities, additionals = _COUNTS.unpack_from(data, 4)
    if questions != 1 or answers or authorities > MAX_AUTHORITY or additionals > MAX_ADDITIONAL:
        raise WireError(Rcode.FORMERR)
    name_end = _name_end(data, HEADER_BYTES)
    at = name_end + _TYPE_CLASS.size
    if at > len(data):
        raise WireError(Rcode.FORMERR)
    kind, class_ = _TYPE_CLASS.unpack_from(data, name_end)
    try:
        serial, edns = _records(data, at, authorities, additionals)
    except WireError as error:
        raise WireError(error.rcode, at, error.edns) from None
    name = data[HEADER_BYTES:name_end].lower()
    return Query(data[2], name_end, name, kind, class_, edns, serial if kind == Type.IXFR else None)


def _name_end(data: bytes, at: int, may_point: bool = False) -> int:
    """Return where a name ends. The one of a question has nothing before it that it could point to."""
    start, length = at, len(data)
    while at < length:
        label = data[at]
        at += 1
        if not label:
            if at - start > MAX_NAME:
                break
            return at
        if label >= POINTER and may_point:
            return at + 1
        if label > MAX_LABEL:
            break
        at += label
    raise WireError(Rcode.FORMERR)


def _records(data: bytes, at: int, authorities: int, additionals: int) -> tuple[int | None, Edns | None]:
    """Return the serial of an IXFR and what OPT says."""
    serial: int | None = None
    edns: Edns | None = None
    for index in range(authorities + additionals):
        name_at = at
        at = _name_end(data, at, may_point=True)
        if at + _RECORD.size > len(data):
            raise WireError(Rcode.FORMERR, edns=edns)
        kind, class_, ttl, length = _RECORD.unpack_from(data, at)
        at += _RECORD.size + length
        if at > len(data):
            raise WireError(Rcode.FORMERR, edns=edns)
        if kind == Type.OPT:
            # RFC 6891 §6.1.1: at most one, owned by the root
            if edns is not None or data[name_at] or index < authorities:
                raise WireError(Rcode.FORMERR, edns=edns)
            edns = _edns(class_, ttl, data[at - length:at])
        elif kind == Type.SOA and index < authorities and length >= SOA_NUMBERS:
            serial = _SERIAL.unpack_from(data, at - SOA_NUMBERS)[0]
    if at != len(data):
        raise WireError(Rcode.FORMERR, edns=edns)
    return serial, edns


def _edns(class_: int, ttl: int, options: bytes) -> Edns:
    plain = Edns(max(class_, LEAST_PAYLOAD), ttl >> 16 & 0xFF, bool(ttl & DNSSEC_OK), None, False)
    if plain.version or not options:
        return plain
    at, subnet, has_others = 0, None, False
    while at < len(options):
        value_at = at + _OPTION.size
        if value_at > len(options):
            raise WireError(Rcode.FORMERR, edns=plain)
        code, length = _OPTION.unpack_from(options, at)
        at = value_at + length
        if at > len(options) or (code == SUBNET_OPTION and subnet is not None):
            raise WireError(Rcode.FORMERR, edns=plain)
        if code == SUBNET_OPTION:
            subnet = _subnet(options[value_at:at], plain)
        else:
            has_others = True
    plain.subnet, plain.has_others = subnet, has_others
    return plain


def _subnet(value: bytes, plain: Edns) -> Subnet:
    """Return the subnet; what is malformed in it is FORMERR (RFC 7871 §6, §7.1.1, §7.2.1)."""
    if len(value) < _SUBNET.size:
        raise WireError(Rcode.FORMERR, edns=plain)
    family, bits, scope = _SUBNET.unpack_from(value)
    prefix = value[_SUBNET.size:]
    # A family of 0 says, with 0 bits, that nothing is to be told of the client.
    if scope or bits > BITS.get(family, 0) or (family and family not in BITS) or len(prefix) != (bits + 7) // 8:
        raise WireError(Rcode.FORMERR, edns=plain)
    if bits % 8 and prefix[-1] & 0xFF >> bits % 8:
        raise WireError(Rcode.FORMERR, edns=plain)
    return Subnet(family, bits, prefix)
