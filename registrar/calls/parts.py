"""What one event says of a call: a part of its row in rollcall_call, and the line that it waits as on the disk.

A call is known by its Call-ID and the tags of its two sides, whatever order they come in; one that nobody answered has
only the caller's. Its answer and its end are seen by any node, and written in any order.
"""

from hashlib import sha256
from zlib import crc32

import msgspec

CALL_ID_CHARS = 190
TAG_CHARS = 128
ADDRESS_CHARS = 190
DIGEST_CHARS = 32

_CRC_DIGITS = 8


class NoPart(ValueError):
    """A line holds no part of a call."""


class CallPart(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one event says: the names are those of the columns, None is what it does not say. Times: since the epoch."""

    call_id: str
    tag_low: str
    tag_high: str
    started_at: float
    """When the INVITE came; as long as only its end is known, that."""
    caller_tag: str | None = None
    caller: str | None = None
    callee: str | None = None
    answered_at: float | None = None
    ended_at: float | None = None
    status: int | None = None
    hung_up_tag: str | None = None
    node: str | None = None
    media_node: str | None = None
    quality: str | None = None


def answered(call_id: str, tags: tuple[str, str], parties: tuple[str, str], started_at: float, answered_at: float,
             status: int, node: str, media_node: str | None = None) -> CallPart:
    """Return what the answer says; `tags` and `parties` are the caller's and the callee's."""
    low_high = _low_and_high(tags)
    return CallPart(
        call_id=bounded(call_id, CALL_ID_CHARS), tag_low=low_high[0], tag_high=low_high[1], started_at=started_at,
        caller_tag=bounded(tags[0], TAG_CHARS), caller=bounded(parties[0], ADDRESS_CHARS),
        callee=bounded(parties[1], ADDRESS_CHARS), answered_at=answered_at, status=status, node=node,
        media_node=media_node)


def failed(call_id: str, caller_tag: str, parties: tuple[str, str], started_at: float, ended_at: float, status: int,
           node: str) -> CallPart:
    """Return what a refusal says: the call began, and ended."""
    tag = bounded(caller_tag, TAG_CHARS)
    return CallPart(
        call_id=bounded(call_id, CALL_ID_CHARS), tag_low="", tag_high=tag, started_at=started_at, caller_tag=tag,
        caller=bounded(parties[0], ADDRESS_CHARS), callee=bounded(parties[1], ADDRESS_CHARS),
        ended_at=ended_at, status=status, node=node)


def ended(call_id: str, tags: tuple[str, str], ended_at: float, quality: str | None) -> CallPart:
    """Return what a BYE says; `tags` are that of the side which hung up, and the other one."""
    low_high = _low_and_high(tags)
    return CallPart(
        call_id=bounded(call_id, CALL_ID_CHARS), tag_low=low_high[0], tag_high=low_high[1], started_at=ended_at,
        ended_at=ended_at, hung_up_tag=bounded(tags[0], TAG_CHARS), quality=quality)


def bounded(text: str, most: int) -> str:
    """Return text that every database takes, as long as its column at most; what is too long ends in its digest."""
    if not text.isascii():
        text = text.encode("utf-8", "backslashreplace").decode()
    if len(text) <= most:
        return text
    digest = sha256(text.encode()).hexdigest()[:DIGEST_CHARS]
    return f"{text[:most - DIGEST_CHARS]}{digest}"


def line_of(part: CallPart) -> bytes:
    """Return the line of a part: the CRC-32 of its JSON in hexadecimal, a space, the JSON."""
    data = _ENCODER.encode(part)
    return b"%08x %b\n" % (crc32(data), data)


def part_of(line: bytes) -> CallPart:
    """Return what a line holds. Raises NoPart when it is not whole, or something else."""
    digits, data = line[:_CRC_DIGITS], line[_CRC_DIGITS + 1:].removesuffix(b"\n")
    if digits != b"%08x" % crc32(data):
        raise NoPart("a line is not whole")
    try:
        return _DECODER.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as problem:
        raise NoPart(str(problem)) from problem


def _low_and_high(tags: tuple[str, str]) -> tuple[str, str]:
    one, other = bounded(tags[0], TAG_CHARS), bounded(tags[1], TAG_CHARS)
    return (one, other) if one <= other else (other, one)


_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(CallPart)
