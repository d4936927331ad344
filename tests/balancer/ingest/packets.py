"""HEP and RTCP packets as tests need them, and nodes that are known."""

import socket
from collections.abc import Iterable
from struct import pack

SSRC, OTHER_SSRC = 0x0A0A0A0A, 0x0B0B0B0B
NODE, CAPTURE_ID, NODE_HOST = "m1", 2001, "192.0.2.11"


class Nodes:
    """One media node: m1."""

    def node_of(self, capture_id: int, name: str, host: str) -> str | None:
        """Return m1 for what is its, None for anything else."""
        return NODE if capture_id == CAPTURE_ID or name == NODE or host == NODE_HOST else None


def chunk(type: int, value: bytes, vendor: int = 0) -> bytes:
    """Return one chunk."""
    return pack("!HHH", vendor, type, 6 + len(value)) + value


def hep(*chunks: bytes) -> bytes:
    """Return a packet of these chunks."""
    body = b"".join(chunks)
    return b"HEP3" + pack("!H", 6 + len(body)) + body


def a_packet(payload: bytes = b"", *, type: int = 5, at: float = 0.0, source: str = "198.51.100.7",
             capture_id: int = CAPTURE_ID, call_id: str = "call@example.com",
             more: Iterable[bytes] = ()) -> bytes:
    """Return a packet about RTCP that a phone at `source` sent to a media node."""
    v6 = ":" in source
    chunks = [
        chunk(1, b"\x0a" if v6 else b"\x02"), chunk(2, b"\x11"),
        chunk(7, pack("!H", 40000)), chunk(8, pack("!H", 30001)),
        chunk(9, pack("!I", int(at))), chunk(10, pack("!I", round(at % 1 * 1e6))), chunk(11, bytes([type])),
        chunk(5 if v6 else 3, socket.inet_pton(socket.AF_INET6 if v6 else socket.AF_INET, source)),
        chunk(4, socket.inet_aton(NODE_HOST))]
    if capture_id:
        chunks.append(chunk(12, pack("!I", capture_id)))
    if call_id:
        chunks.append(chunk(17, call_id.encode()))
    return hep(*chunks, *more, chunk(15, payload))


def a_block(ssrc: int = OTHER_SSRC, fraction: int = 0, lost: int = 0, highest: int = 1000, jitter: int = 0,
            lsr: int = 0, dlsr: int = 0) -> bytes:
    """Return a report block."""
    return pack("!IIIIII", ssrc, fraction << 24 | lost & 0xFFFFFF, highest, jitter, lsr, dlsr)


def rtcp(kind: int, count: int, body: bytes) -> bytes:
    """Return one RTCP packet."""
    return pack("!BBH", 0x80 | count, kind, len(body) // 4) + body


def an_sr(*blocks: bytes, ssrc: int = SSRC, seconds: int = 0xDEADBEEF, fraction: int = 0x12345678) -> bytes:
    """Return a sender report."""
    return rtcp(200, len(blocks), pack("!IIIIII", ssrc, seconds, fraction, 24000, 50, 8000) + b"".join(blocks))


def an_rr(*blocks: bytes, ssrc: int = SSRC) -> bytes:
    """Return a receiver report."""
    return rtcp(201, len(blocks), pack("!I", ssrc) + b"".join(blocks))


def voip_metrics(ssrc: int = OTHER_SSRC, lost: int = 0, discarded: int = 0, round_trip_ms: int = 0) -> bytes:
    """Return an extended report with VoIP metrics (RFC 3611 §4.7), after a block of another kind."""
    receiver_time = pack("!BBHII", 4, 0, 2, 1, 2)
    metrics = pack("!BBHIBBBBHHHH16x", 7, 0, 8, ssrc, lost, discarded, 0, 0, 0, 0, round_trip_ms, 0)
    return rtcp(207, 0, pack("!I", SSRC) + receiver_time + metrics)
