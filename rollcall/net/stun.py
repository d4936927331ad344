"""The part of a STUN server that keeps UDP flows alive: answers to Binding requests (RFC 5626 §8, RFC 5389)."""

from ipaddress import ip_address
from struct import Struct, error

from rollcall.net.flow import Address

MAGIC_COOKIE = 0x2112A442
BINDING_REQUEST, BINDING_SUCCESS, BINDING_ERROR = 0x0001, 0x0101, 0x0111
ERROR_CODE, UNKNOWN_ATTRIBUTES, XOR_MAPPED_ADDRESS = 0x0009, 0x000A, 0x0020

# RFC 5389 §7.1 has requests fit 548 octets of IPv4; a longer one is nobody's keepalive.
MAX_REQUEST_BYTES = 548

# Attributes from here on may be ignored by who does not know them (RFC 5389 §15).
COMPREHENSION_OPTIONAL = 0x8000

# Those that a request may carry and that need nothing done here: USERNAME, MESSAGE-INTEGRITY, REALM, NONCE.
KNOWN = frozenset((0x0006, 0x0008, 0x0014, 0x0015))

HEADER = Struct("!HHI12s")
ATTRIBUTE = Struct("!HH")


def is_stun(datagram: bytes) -> bool:
    """Whether this is STUN and no SIP: a first octet of 0 or 1 and the magic cookie (RFC 5626 §8)."""
    return len(datagram) >= HEADER.size and datagram[0] <= 1 and datagram[4:8] == b"\x21\x12\xa4\x42"


def answer(datagram: bytes, source: Address) -> bytes | None:
    """Return the answer to a Binding request that came from `source`; None when it deserves none."""
    if not is_stun(datagram) or len(datagram) > MAX_REQUEST_BYTES:
        return None
    kind, length, _, transaction = HEADER.unpack_from(datagram)
    if kind != BINDING_REQUEST or length != len(datagram) - HEADER.size or length % 4:
        return None
    try:
        unknown = _unknown_attributes(datagram)
    except error:
        return None
    if unknown:
        body = _attribute(ERROR_CODE, b"\0\0\4\x14Unknown Attribute")
        body += _attribute(UNKNOWN_ATTRIBUTES, b"".join(each.to_bytes(2, "big") for each in unknown))
        return HEADER.pack(BINDING_ERROR, len(body), MAGIC_COOKIE, transaction) + body
    body = _attribute(XOR_MAPPED_ADDRESS, _xor_address(source, transaction))
    return HEADER.pack(BINDING_SUCCESS, len(body), MAGIC_COOKIE, transaction) + body


def _unknown_attributes(datagram: bytes) -> list[int]:
    """Return the attributes that a server has to understand and we do not; raises struct.error when they overrun."""
    unknown, at = [], HEADER.size
    while at < len(datagram):
        kind, length = ATTRIBUTE.unpack_from(datagram, at)
        at += ATTRIBUTE.size + length + -length % 4
        if kind < COMPREHENSION_OPTIONAL and kind not in KNOWN and kind not in unknown:
            unknown.append(kind)
    if at != len(datagram):
        raise error("an attribute is longer than its message")
    return unknown


def _attribute(kind: int, value: bytes) -> bytes:
    return ATTRIBUTE.pack(kind, len(value)) + value + bytes(-len(value) % 4)


def _xor_address(address: Address, transaction: bytes) -> bytes:
    """RFC 5389 §15.2: the port hides behind the cookie, the address behind the cookie and the transaction."""
    ip = ip_address(address[0].partition("%")[0])
    mask = (MAGIC_COOKIE.to_bytes(4, "big") + transaction)[: len(ip.packed)]
    hidden = bytes(octet ^ cover for octet, cover in zip(ip.packed, mask, strict=True))
    family = 1 if ip.version == 4 else 2
    return bytes((0, family)) + (address[1] ^ MAGIC_COOKIE >> 16).to_bytes(2, "big") + hidden
