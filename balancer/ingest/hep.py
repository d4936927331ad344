"""HEP, version 3: the form in which media nodes and capture agents send what they have seen (HEP rev 36 and 37).

    packet = "HEP3" length[2] chunk*         its length includes these six bytes
    chunk  = vendor[2] type[2] length[2] value    its length includes these six bytes, too

All numbers are in network order. Chunks of other vendors, and types that are not known here, are skipped.
"""

import hmac
import socket
import zlib
from struct import Struct, error

from attrs import define

MAGIC = b"HEP3"
HEAD_BYTES = 6
MOST_BYTES = 0xFFFF
"""What the length of a packet can say."""

V4_BYTES, V6_BYTES = 4, 16
RTCP, SIP = 5, 1
"""Payload types."""

_CHUNK = Struct("!HHH")
_LENGTH = Struct("!H")

# Types of chunks.
_SOURCE_V4, _TARGET_V4, _SOURCE_V6, _TARGET_V6, _SOURCE_PORT = 3, 4, 5, 6, 7
_SECONDS, _MICROSECONDS, _PAYLOAD_TYPE, _CAPTURE_ID, _AUTH_KEY = 9, 10, 11, 12, 14
_PAYLOAD, _COMPRESSED, _CORRELATION, _NODE_NAME = 15, 16, 17, 0x13

# Numbers and how many bytes they have. What has another length is not what its type says.
_NUMBERS = {_SOURCE_PORT: 2, _SECONDS: 4, _MICROSECONDS: 4, _PAYLOAD_TYPE: 1, _CAPTURE_ID: 4}


class HepError(ValueError):
    """What came is no HEP packet, or one that says too little."""


@define
class HepPacket:
    """What a packet says. Addresses are as the sender saw them, without brackets; empty texts and 0: not said."""

    at: float = 0.0
    """When the captured packet was seen, in seconds since the epoch."""
    source: str = ""
    source_port: int = 0
    target: str = ""
    payload_type: int = 0
    payload: bytes = b""
    capture_id: int = 0
    node_name: str = ""
    correlation_id: str = ""
    auth_key: bytes = b""


def parse_hep(data: bytes) -> HepPacket:
    """Return what one whole packet says. Raises HepError."""
    if data[:4] != MAGIC or len(data) < HEAD_BYTES or _LENGTH.unpack_from(data, 4)[0] != len(data):
        raise HepError("no whole packet of HEP 3")
    chunks = _chunks(data)
    for type, size in _NUMBERS.items():
        if type in chunks and len(chunks[type]) != size:
            raise HepError(f"chunk {type} has {len(chunks[type])} bytes")
    return HepPacket(
        at=_number(chunks, _SECONDS) + _number(chunks, _MICROSECONDS) / 1e6,
        source=_address(chunks, _SOURCE_V4, _SOURCE_V6), source_port=_number(chunks, _SOURCE_PORT),
        target=_address(chunks, _TARGET_V4, _TARGET_V6),
        payload_type=_number(chunks, _PAYLOAD_TYPE), payload=_payload(chunks),
        capture_id=_number(chunks, _CAPTURE_ID),
        node_name=_text(chunks, _NODE_NAME), correlation_id=_text(chunks, _CORRELATION),
        auth_key=chunks.get(_AUTH_KEY, b""))


def is_allowed(packet: HepPacket, key: str | None) -> bool:
    """Say whether a packet carries the key that is asked for, if any is."""
    return key is None or hmac.compare_digest(packet.auth_key.rstrip(b"\0"), key.encode())


class HepFramer:
    """Cuts a connection's bytes into packets, which share segments and are spread over several."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """Return the packets that are whole by now. Raises HepError when what comes is no HEP; nothing comes after."""
        data = self._rest + data if self._rest else data
        packets = []
        at, end = 0, len(data)
        while end - at >= HEAD_BYTES:
            length, = _LENGTH.unpack_from(data, at + 4)
            if data[at:at + 4] != MAGIC or length < HEAD_BYTES:
                raise HepError("no HEP 3 begins here")
            if end - at < length:
                break
            packets.append(data[at:at + length])
            at += length
        self._rest = data[at:]
        if not MAGIC.startswith(self._rest[:4]):
            raise HepError("no HEP 3 begins here")
        return packets


def _chunks(data: bytes) -> dict[int, bytes]:
    """Return the values of HEP's own chunks by type; the last of each counts."""
    chunks = {}
    at, end = HEAD_BYTES, len(data)
    unpack = _CHUNK.unpack_from
    while at < end:
        try:
            vendor, type, length = unpack(data, at)
        except error as problem:
            raise HepError("a chunk is cut off") from problem
        if length < HEAD_BYTES or at + length > end:
            raise HepError(f"chunk {type} does not fit")
        if vendor == 0:
            chunks[type] = data[at + HEAD_BYTES:at + length]
        at += length
    return chunks


def _number(chunks: dict[int, bytes], type: int) -> int:
    return int.from_bytes(chunks.get(type, b""), "big")


def _text(chunks: dict[int, bytes], type: int) -> str:
    value = chunks.get(type)
    return value.rstrip(b"\0").decode("utf-8", "replace") if value else ""


def _address(chunks: dict[int, bytes], v4: int, v6: int) -> str:
    value = chunks.get(v4)
    if value is not None and len(value) == V4_BYTES:
        return socket.inet_ntop(socket.AF_INET, value)
    value = chunks.get(v6)
    if value is not None and len(value) == V6_BYTES:
        text = socket.inet_ntop(socket.AF_INET6, value)
        return text[7:] if text.startswith("::ffff:") and "." in text else text
    return ""


def _payload(chunks: dict[int, bytes]) -> bytes:
    compressed = chunks.get(_COMPRESSED)
    if compressed is None:
        return chunks.get(_PAYLOAD, b"")
    unpacking = zlib.decompressobj()
    try:
        payload = unpacking.decompress(compressed, MOST_BYTES)
    except zlib.error as problem:
        raise HepError(f"its payload cannot be unpacked: {problem}") from problem
    if not unpacking.eof:
        raise HepError("its payload is too long, or cut off")
    return payload
