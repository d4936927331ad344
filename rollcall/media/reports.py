"""What registrars and balancers tell every balancer about calls: reports of how they sound, and what is known of them.

They travel through the Redis stream REPORTS in batches, each entry {"from": who, "reports": encode_reports(…)}.
"""

from collections.abc import Iterable
from typing import TypeAlias

import msgspec

REPORTS = b"media:reports"
"""The stream; its oldest entries are dropped, whoever has not read them."""


class Sender(msgspec.Struct, frozen=True, kw_only=True):
    """What a sender report says of its own stream (RFC 3550 §6.4.1)."""

    ntp_middle: int
    """The middle 32 bits of its NTP timestamp, which come back as LSR."""
    rtp: int
    packets: int
    octets: int


class Block(msgspec.Struct, frozen=True, kw_only=True):
    """A report block, as it was sent (RFC 3550 §6.4.1)."""

    ssrc: int
    """The stream it is about."""
    fraction: int
    """Lost since the report before, of 256."""
    lost: int
    """Lost since the beginning; negative where packets came twice."""
    highest: int
    """The extended highest sequence number."""
    jitter: int
    """In units of the stream's clock."""
    lsr: int
    dlsr: int
    """In 1/65536 s."""


class RtcpReport(msgspec.Struct, frozen=True, kw_only=True, tag="rtcp"):
    """A compound packet that a media node received from a phone, as the node told it. Phones may lie."""

    at: float
    """When the node received it, in seconds since the epoch."""
    node: str
    """The media node's id."""
    source: str
    """Where the packet came from: a numeric address, IPv6 without brackets."""
    call_id: str
    ssrc: int
    """Who sent it."""
    sender: Sender | None = None
    blocks: tuple[Block, ...] = ()
    is_over: bool = False
    """It said BYE."""


class PhoneReport(msgspec.Struct, frozen=True, kw_only=True, tag="phone"):
    """What a phone, or whoever speaks for it, says of a call in figures of its own. None where it does not say."""

    at: float
    source: str
    call_id: str
    node: str = ""
    """Empty where who passed it on did not know it."""
    packets: int | None = None
    """How many packets the figures are about; None: unknown."""
    loss: float | None = None
    """The fraction that did not arrive, 0 to 1."""
    discarded: float | None = None
    """The fraction that arrived too late to be played."""
    jitter_ms: float | None = None
    rtt_ms: float | None = None
    one_way_ms: float | None = None
    codec: str = ""


class CallFacts(msgspec.Struct, frozen=True, kw_only=True, tag="call"):
    """What the registrar that placed a call knows of it."""

    at: float
    call_id: str
    node: str
    codec: str = ""
    """As in SDP: PCMU, G729, opus; empty: unknown."""
    clock_rate: int = 8000
    hosts: tuple[str, ...] = ()
    """Where its sides' signalling came from, the caller's first."""


class CallOver(msgspec.Struct, frozen=True, kw_only=True, tag="over"):
    """A call has ended."""

    call_id: str


class Counts(msgspec.Struct, frozen=True, kw_only=True, tag="counts"):
    """How many calls one registrar has on nodes; told about once a second, and forgotten when it is not."""

    at: float
    registrar: str
    calls: dict[str, int]
    """By node id; a node that is not there has none."""


Report: TypeAlias = RtcpReport | PhoneReport | CallFacts | CallOver | Counts


def encode_reports(reports: Iterable[Report]) -> bytes:
    """Return them as JSON."""
    told = list(reports)
    try:
        return msgspec.json.encode(told)
    except UnicodeEncodeError:
        return msgspec.json.encode([_readable(report) for report in told])


def decode_reports(data: bytes) -> list[Report]:
    """Return what was encoded. Raises ValueError."""
    try:
        return msgspec.json.decode(data, type=list[Report])
    except (msgspec.DecodeError, UnicodeDecodeError) as problem:
        raise ValueError(f"no reports: {problem}") from problem


def _readable(report: Report) -> Report:
    """Return a report whose Call-ID is text, as it stands in the reports of nodes: phones may write any bytes."""
    if isinstance(report, Counts):
        return report
    readable = report.call_id.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return msgspec.structs.replace(report, call_id=readable)
