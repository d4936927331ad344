"""What a compound RTCP packet says: RFC 3550 §6.4 (SR, RR) and §6.6 (BYE), RFC 3611 §4.7 (VoIP metrics)."""

from collections.abc import Iterator
from struct import Struct

from attrs import frozen

from rollcall.media.reports import Block, Sender

SR, RR, BYE, XR = 200, 201, 203, 207
VOIP_METRICS, VOIP_METRICS_WORDS = 7, 8
VERSION = 2
WORD = 4
HEAD_BYTES = 4

_HEAD = Struct("!BBH")
_SENDER = Struct("!IIIIII")
"""SSRC, the two halves of the NTP timestamp, RTP timestamp, packets, octets."""
_BLOCK = Struct("!IIIIII")
_SSRC = Struct("!I")
_XR_HEAD = Struct("!BBH")
_VOIP = Struct("!IBBBBHHHH")
"""SSRC of source, loss rate, discard rate, burst and gap densities, their durations, round trip, end system."""

SIGN_BIT, TWO_SIGN_BITS = 1 << 23, 1 << 24


class RtcpError(ValueError):
    """What came is no RTCP."""


@frozen
class Voip:
    """VoIP metrics of the stream of `ssrc`, since it began: fractions of 256, and milliseconds, 0 when unknown."""

    ssrc: int
    lost: int
    discarded: int
    round_trip_ms: int


@frozen
class Compound:
    """What one compound packet says."""

    ssrc: int
    """Who sent it."""
    sender: Sender | None = None
    blocks: tuple[Block, ...] = ()
    is_over: bool = False
    voip: Voip | None = None


def parse_rtcp(data: bytes) -> Compound:
    """Return what `data` says. Raises RtcpError when it is no compound of SR or RR first, as §6.1 asks for."""
    ssrc: int | None = None
    sender, blocks, is_over, voip = None, [], False, None
    for count, kind, body in _packets(data):
        if ssrc is None and kind in (SR, RR):
            ssrc, = _unpacked(_SSRC, body)
        if kind == SR:
            sender = _sender(body)
        if kind in (SR, RR):
            blocks += _blocks(body, _SENDER.size if kind == SR else WORD, count)
        elif kind == XR:
            voip = _voip(body) or voip
        elif kind == BYE:
            is_over = is_over or ssrc in _SSRC_LISTS[count].unpack_from(body.ljust(count * WORD, b"\0"))
    if ssrc is None:
        raise RtcpError("it has no SR and no RR")
    return Compound(ssrc, sender, tuple(blocks), is_over, voip)


def is_rtcp(data: bytes) -> bool:
    """Say whether bytes look like RTCP, and not like JSON or RTP (RFC 5761 §4)."""
    return len(data) >= 8 and data[0] >> 6 == VERSION and 192 <= data[1] <= 223


def signed(lost: int) -> int:
    """Return a cumulative number lost that stands in 24 bits: it is negative where packets came twice."""
    return lost - TWO_SIGN_BITS if lost & SIGN_BIT else lost


_SSRC_LISTS = [Struct(f"!{count}I") for count in range(32)]


def _packets(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Yield count, type and body of each packet."""
    at, end = 0, len(data)
    while end - at >= HEAD_BYTES:
        first, kind, words = _HEAD.unpack_from(data, at)
        length = HEAD_BYTES + words * WORD
        if first >> 6 != VERSION or at + length > end:
            # What follows the compound of SRTCP (RFC 3711 §3.4) is no packet.
            if at == 0:
                raise RtcpError("it is not RTCP, or cut off")
            return
        yield first & 0x1F, kind, data[at + HEAD_BYTES:at + length]
        at += length


def _unpacked(form: Struct, body: bytes, at: int = 0) -> tuple[int, ...]:
    if len(body) < at + form.size:
        raise RtcpError("a packet is too short for what it is")
    return form.unpack_from(body, at)


def _sender(body: bytes) -> Sender:
    _, seconds, fraction, rtp, packets, octets = _unpacked(_SENDER, body)
    return Sender(ntp_middle=middle(seconds, fraction), rtp=rtp, packets=packets, octets=octets)


def middle(seconds: int, fraction: int) -> int:
    """Return the middle 32 bits of an NTP timestamp, as LSR has them."""
    return (seconds & 0xFFFF) << 16 | fraction >> 16


def _blocks(body: bytes, begin: int, count: int) -> list[Block]:
    blocks = []
    for number in range(count):
        ssrc, loss, highest, jitter, lsr, dlsr = _unpacked(_BLOCK, body, begin + number * _BLOCK.size)
        blocks.append(Block(ssrc=ssrc, fraction=loss >> 24, lost=signed(loss & 0xFFFFFF), highest=highest,
                            jitter=jitter, lsr=lsr, dlsr=dlsr))
    return blocks


def _voip(body: bytes) -> Voip | None:
    """Return the VoIP metrics among the blocks of an extended report (RFC 3611 §4)."""
    at = WORD
    while len(body) - at >= _XR_HEAD.size:
        kind, _, words = _XR_HEAD.unpack_from(body, at)
        at += _XR_HEAD.size
        if kind == VOIP_METRICS and words == VOIP_METRICS_WORDS and len(body) - at >= words * WORD:
            ssrc, lost, discarded, _, _, _, _, round_trip, _ = _VOIP.unpack_from(body, at)
            return Voip(ssrc, lost, discarded, round_trip)
        at += words * WORD
    return None
