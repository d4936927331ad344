"""What RTCP says when it comes as JSON: the form of Homer, in which HEP carries it as payload type 5.

rtpengine, resiprocate and captagent write all numbers as they stand in the packet: the NTP timestamp in seconds since
1900 and in 2**-32 s, though that is called "usec", and the packets lost as 24 bits without their sign. Asterisk writes
seconds since 1970 and microseconds, some of it in quotes, and 32-bit numbers with a sign. What is made of FreeSWITCH's
events has jitter with a fraction, and null for what it does not know. All of it is understood.
"""

from typing import TypeAlias

import msgspec

from balancer.ingest.rtcp import TWO_SIGN_BITS, Compound, RtcpError, middle, signed
from rollcall.media.reports import Block, Sender

NTP_BEGIN = 2_208_988_800
"""From 1900 to 1970, in seconds (RFC 868)."""
UNIX_SINCE = 1_000_000_000
"""Seconds since 1970 of a clock that somebody has set: 2001. A smaller number is a clock that began at 0."""
MICROSECONDS = 1_000_000

BITS_32 = 0xFFFFFFFF
MOST_BLOCKS = 31
"""RFC 3550 §6.4.1: five bits count them. Some write those of several packets together."""


class _BlockJson(msgspec.Struct):
    source_ssrc: int
    highest_seq_no: int
    packets_lost: int
    fraction_lost: int = 0
    ia_jitter: int = 0
    lsr: int = 0
    dlsr: int = 0


class _SenderJson(msgspec.Struct):
    ntp_timestamp_sec: int
    ntp_timestamp_usec: int
    rtp_timestamp: int = 0
    packets: int = 0
    octets: int = 0


class _CompoundJson(msgspec.Struct):
    ssrc: int
    report_blocks: list[_BlockJson] = []
    sender_information: _SenderJson | None = None


_Loose: TypeAlias = float | str | None


class _LooseBlock(msgspec.Struct):
    source_ssrc: _Loose = None
    highest_seq_no: _Loose = None
    packets_lost: _Loose = None
    fraction_lost: _Loose = None
    ia_jitter: _Loose = None
    lsr: _Loose = None
    dlsr: _Loose = None


class _LooseSender(msgspec.Struct):
    ntp_timestamp_sec: _Loose = None
    ntp_timestamp_usec: _Loose = None
    rtp_timestamp: _Loose = None
    packets: _Loose = None
    octets: _Loose = None


class _LooseCompound(msgspec.Struct):
    ssrc: _Loose = None
    report_blocks: list[_LooseBlock] | None = None
    sender_information: _LooseSender | None = None


_decode = msgspec.json.Decoder(_CompoundJson).decode
_decode_loosely = msgspec.json.Decoder(_LooseCompound).decode


def parse_rtcp_json(data: bytes) -> Compound:
    """Return what `data` says. Raises RtcpError."""
    try:
        return _compound(_decode(data))
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _compound(_tightened(data))


def _compound(said: _CompoundJson) -> Compound:
    blocks = [_block(block) for block in said.report_blocks[:MOST_BLOCKS] if _says_something(block)]
    sender = said.sender_information
    return Compound(said.ssrc & BITS_32, None if sender is None else _sender(sender), tuple(blocks))


def _says_something(block: _BlockJson) -> bool:
    """Say whether a block is about a stream; heplify writes one of zeros where there is none."""
    return bool(block.source_ssrc or block.highest_seq_no)


def _block(said: _BlockJson) -> Block:
    if not (0 <= said.fraction_lost <= 255 and -TWO_SIGN_BITS < said.packets_lost < TWO_SIGN_BITS):
        raise RtcpError("more are lost than can be said")
    lost = said.packets_lost if said.packets_lost < 0 else signed(said.packets_lost)
    return Block(ssrc=said.source_ssrc & BITS_32, fraction=said.fraction_lost, lost=lost,
                 highest=said.highest_seq_no & BITS_32, jitter=said.ia_jitter & BITS_32, lsr=said.lsr & BITS_32,
                 dlsr=said.dlsr & BITS_32)


def _sender(said: _SenderJson) -> Sender:
    seconds, fraction = said.ntp_timestamp_sec, said.ntp_timestamp_usec
    if UNIX_SINCE <= seconds < NTP_BEGIN and fraction < MICROSECONDS:
        seconds, fraction = seconds + NTP_BEGIN, ((2 * fraction + 1) << 31) // MICROSECONDS
    return Sender(ntp_middle=middle(seconds, fraction & BITS_32), rtp=said.rtp_timestamp & BITS_32,
                  packets=said.packets & BITS_32, octets=said.octets & BITS_32)


# --- for those who write numbers in other ways


def _tightened(data: bytes) -> _CompoundJson:
    try:
        said = _decode_loosely(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as problem:
        raise RtcpError(f"no RTCP as JSON: {problem}") from problem
    if said.ssrc is None:
        raise RtcpError("RTCP as JSON without the ssrc of who has sent it")
    sender = said.sender_information
    return _CompoundJson(
        _whole(said.ssrc),
        [_tightened_block(block) for block in said.report_blocks or () if _is_whole(block)],
        None if sender is None or sender.ntp_timestamp_sec is None else _SenderJson(
            _whole(sender.ntp_timestamp_sec), _whole(sender.ntp_timestamp_usec), _whole(sender.rtp_timestamp),
            _whole(sender.packets), _whole(sender.octets)))


def _is_whole(block: _LooseBlock) -> bool:
    """Say whether a block has what differences are made of."""
    return None not in (block.source_ssrc, block.highest_seq_no, block.packets_lost)


def _tightened_block(block: _LooseBlock) -> _BlockJson:
    return _BlockJson(
        _whole(block.source_ssrc), _whole(block.highest_seq_no), _whole(block.packets_lost),
        _whole(block.fraction_lost), _whole(block.ia_jitter), _whole(block.lsr), _whole(block.dlsr))


def _whole(number: _Loose) -> int:
    """Return the whole number nearest to what was written, 0 for nothing. Raises RtcpError."""
    try:
        return round(float(number or 0))
    except (ValueError, OverflowError) as problem:
        raise RtcpError(f"{number!r} is no number") from problem
