"""Reports over HTTP, for whoever speaks no HEP: POST /v1/reports {"reports": [{"type": "phone" or "rtcp", …}, …]}.

All of them are taken, or none is: 400 names the field that is wrong, 429 says that there were too many in this second.
"""

from collections.abc import Callable
from typing import Annotated

import msgspec

from balancer.ingest.intake import Intake
from balancer.ingest.reading import AHEAD_SECONDS, CALL_ID_CHARS, KnownNodes, Outcome, Reports
from rollcall.media.reports import Block, PhoneReport, RtcpReport, Sender
from rollcall.ops.allowed import is_address
from rollcall.ops.api import ApiError, Call, Reply, Routes

MOST_REPORTS = 1000
"""In one body."""

CallId = Annotated[str, msgspec.Meta(min_length=1, max_length=CALL_ID_CHARS)]
Name = Annotated[str, msgspec.Meta(max_length=64)]
Unsigned = Annotated[int, msgspec.Meta(ge=0, le=0xFFFFFFFF)]
Fraction = Annotated[float, msgspec.Meta(ge=0, le=1)]
Milliseconds = Annotated[float, msgspec.Meta(ge=0, le=65_535)]


class PostedSender(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """See rollcall.media.reports.Sender."""

    ntp_middle: Unsigned
    rtp: Unsigned = 0
    packets: Unsigned = 0
    octets: Unsigned = 0


class PostedBlock(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """See rollcall.media.reports.Block."""

    ssrc: Unsigned
    lost: Annotated[int, msgspec.Meta(ge=-(1 << 23), lt=1 << 23)]
    highest: Unsigned
    fraction: Annotated[int, msgspec.Meta(ge=0, le=255)] = 0
    jitter: Unsigned = 0
    lsr: Unsigned = 0
    dlsr: Unsigned = 0


class PostedRtcp(msgspec.Struct, frozen=True, tag="rtcp", forbid_unknown_fields=True):
    """What a compound RTCP packet said that `node` received."""

    node: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
    source: str
    call_id: CallId
    ssrc: Unsigned
    at: float | None = None
    sender: PostedSender | None = None
    blocks: Annotated[list[PostedBlock], msgspec.Meta(max_length=31)] = []
    is_over: bool = False


class PostedPhone(msgspec.Struct, frozen=True, tag="phone", forbid_unknown_fields=True):
    """What a phone, or whoever speaks for it, says in figures of its own."""

    source: str
    call_id: CallId
    at: float | None = None
    node: Name = ""
    packets: Annotated[int, msgspec.Meta(ge=1, le=10_000_000)] | None = None
    loss: Fraction | None = None
    discarded: Fraction | None = None
    jitter_ms: Milliseconds | None = None
    rtt_ms: Milliseconds | None = None
    one_way_ms: Milliseconds | None = None
    codec: Annotated[str, msgspec.Meta(max_length=32)] = ""


class Posted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body."""

    reports: Annotated[list[PostedRtcp | PostedPhone], msgspec.Meta(min_length=1, max_length=MOST_REPORTS)]


class ReportsApi:
    """Answers POST /v1/reports."""

    def __init__(self, intake: Intake, nodes: KnownNodes, now: Callable[[], float]) -> None:
        """`now` is in seconds since the epoch."""
        self._intake = intake
        self._nodes = nodes
        self._now = now

    def mount(self, routes: Routes) -> None:
        """Add the route."""
        routes.post("/v1/reports", self.take)

    def take(self, call: Call) -> Reply:
        """Hand on what is posted."""
        try:
            posted = call.body(Posted).reports
            now = self._now()
            reports: Reports = [self._report(each, number, now) for number, each in enumerate(posted)]
        except ApiError:
            self._intake.refuse(Outcome.MALFORMED, "http", "HTTP", "see the answer")
            raise
        if not self._intake.posted(reports):
            raise ApiError(429, "there are more reports in this second than [ingest] allows", {"Retry-After": "1"})
        return Reply({"taken": len(reports)}, 202)

    def _report(self, posted: PostedRtcp | PostedPhone, number: int, now: float) -> RtcpReport | PhoneReport:
        where = f"$.reports[{number}]"
        if not is_address(posted.source):
            raise ApiError(400, f"source must be an IPv4 or IPv6 address - at `{where}.source`")
        if posted.node and self._nodes.node_of(0, posted.node, "") is None:
            raise ApiError(400, f"there is no such media node - at `{where}.node`")
        if posted.at is not None and not 0 < posted.at <= now + AHEAD_SECONDS:
            raise ApiError(400, f"at must be in seconds since the epoch, and not in the future - at `{where}.at`")
        at = now if posted.at is None else posted.at
        return _phone(posted, at) if isinstance(posted, PostedPhone) else _rtcp(posted, at)


def _phone(posted: PostedPhone, at: float) -> PhoneReport:
    return PhoneReport(
        at=at, source=posted.source, call_id=posted.call_id, node=posted.node, packets=posted.packets, loss=posted.loss,
        discarded=posted.discarded, jitter_ms=posted.jitter_ms, rtt_ms=posted.rtt_ms, one_way_ms=posted.one_way_ms,
        codec=posted.codec)


def _rtcp(posted: PostedRtcp, at: float) -> RtcpReport:
    sender = posted.sender
    blocks = tuple(Block(ssrc=each.ssrc, fraction=each.fraction, lost=each.lost, highest=each.highest,
                         jitter=each.jitter, lsr=each.lsr, dlsr=each.dlsr) for each in posted.blocks)
    return RtcpReport(
        at=at, node=posted.node, source=posted.source, call_id=posted.call_id, ssrc=posted.ssrc, blocks=blocks,
        sender=None if sender is None else Sender(
            ntp_middle=sender.ntp_middle, rtp=sender.rtp, packets=sender.packets, octets=sender.octets),
        is_over=posted.is_over)
