"""What a tickle looks like, and how one process tells another whom to tickle. The standard library alone is used here.

A tickle is two packets that look as if they came from a connection which this host does not have:

- A bare ACK whose numbers lie outside of the window. The phone's kernel answers with an ACK that carries its own
  numbers (RFC 9293 §3.10.7.4, first check), to which this host's kernel, having no such connection, answers RST.
- A SYN+ACK, which a connection that is established answers in the same way (RFC 5961 §4). Linux' conntrack drops the
  ACK as INVALID, or does not translate its addresses, but lets a SYN+ACK through: it might answer a SYN that it has
  missed. So this one reaches phones behind stateful firewalls and NAT.

Whichever is answered first ends the connection; numbers half a turn apart are never both within the window.
"""

import struct
from collections.abc import Iterator
from socket import IPPROTO_TCP

RECORD = struct.Struct("!B x H H 16s 16s")
"""4 or 6, our port, the phone's port, our address, the phone's; IPv4 addresses in the first 4 bytes."""

MAX_RECORDS = 32
"""So many records make one message."""

ACK, SYN_ACK = 0x10, 0x12
TICKLES = ((ACK, 0), (SYN_ACK, 1 << 31))
"""The flags of each packet, and both of its numbers."""

WINDOW = 65535
HOPS = 64

_IP4 = struct.Struct("!BBHHHBBH4s4s")
_IP6 = struct.Struct("!IHBB16s16s")
_TCP = struct.Struct("!HHIIBBHHH")
_PSEUDO4 = struct.Struct("!4s4sBBH")
_PSEUDO6 = struct.Struct("!16s16sIxxxB")


def pack_record(source: bytes, source_port: int, target: bytes, target_port: int) -> bytes:
    """Return one record; addresses are packed, both of the same family. Raises ValueError when they are not."""
    if len(source) != len(target) or len(source) not in (4, 16):
        raise ValueError("no connection has such ends")
    return RECORD.pack(4 if len(source) == 4 else 6, source_port, target_port, source, target)


def unpack_records(message: bytes) -> Iterator[tuple[bytes, int, bytes, int]]:
    """Yield (source, its port, target, its port) of each record. Raises ValueError when this is no such message."""
    if not message or len(message) % RECORD.size or len(message) > RECORD.size * MAX_RECORDS:
        raise ValueError("not a message of records")
    for family, source_port, target_port, source, target in RECORD.iter_unpack(message):
        if family not in (4, 6) or not source_port or not target_port:
            raise ValueError("not a record of two ends")
        size = 4 if family == 4 else 16
        yield source[:size], source_port, target[:size], target_port


def packets(source: bytes, source_port: int, target: bytes, target_port: int) -> Iterator[bytes]:
    """Yield the whole IP packets of one tickle."""
    for flags, number in TICKLES:
        segment = _segment(source, source_port, target, target_port, flags, number)
        yield _header(source, target, len(segment)) + segment


def _segment(source: bytes, source_port: int, target: bytes, target_port: int, flags: int, number: int) -> bytes:
    fields = (source_port, target_port, number, number, _TCP.size // 4 << 4, flags, WINDOW)
    bare = _TCP.pack(*fields, 0, 0)
    if len(source) == 4:
        pseudo = _PSEUDO4.pack(source, target, 0, IPPROTO_TCP, len(bare))
    else:
        pseudo = _PSEUDO6.pack(source, target, len(bare), IPPROTO_TCP)
    return _TCP.pack(*fields, checksum(pseudo + bare), 0)


def _header(source: bytes, target: bytes, length: int) -> bytes:
    """Return the IP header; the kernel fills in the checksum and the identification of an IPv4 one."""
    if len(source) == 4:
        do_not_fragment = 0x4000
        return _IP4.pack(0x45, 0, _IP4.size + length, 0, do_not_fragment, HOPS, IPPROTO_TCP, 0, source, target)
    return _IP6.pack(6 << 28, length, IPPROTO_TCP, HOPS, source, target)


def checksum(data: bytes) -> int:
    """Return the Internet checksum of an even number of bytes (RFC 1071)."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
