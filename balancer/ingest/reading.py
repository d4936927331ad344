"""What a HEP packet, or plain RTCP, tells of a call: the reports that it is worth."""

from collections.abc import Callable
from enum import Enum
from typing import Protocol

from balancer.ingest.hep import RTCP, SIP, HepPacket
from balancer.ingest.rtcp import Compound, RtcpError, is_rtcp, parse_rtcp
from balancer.ingest.rtcp_json import parse_rtcp_json
from rollcall.media.reports import PhoneReport, RtcpReport
from rollcall.media.vqrtcpxr import VqError, is_vq_report, parse_vq_report, phone_report
from rollcall.sip.errors import ParseError
from rollcall.sip.message import Request, parse_message

AHEAD_SECONDS = 5.0
"""So far the clocks of nodes may be ahead of ours. What comes from the future would never be too old."""

CALL_ID_CHARS = 512

PER_256 = 1 / 256


class Outcome(Enum):
    """What became of something that came in, as metrics call it."""

    TAKEN = "taken"
    MALFORMED = "malformed"
    OTHER = "other"
    """It is about something else: SIP, logs, media itself."""
    STRANGER = "stranger"
    """Whoever sent it is neither a node nor in senders."""
    WRONG_KEY = "wrong_key"
    UNKNOWN_NODE = "unknown_node"
    """It does not say which media node it is from, or one that is not known."""
    OWN = "own"
    """A node tells what it sent itself; what it received is told, too."""
    FUTURE = "future"
    """The clock of whoever sent it is ahead."""
    FLOOD = "flood"
    """There were too many in this second."""


class Unusable(Exception):
    """There is no report to be had; `why` says what to count."""

    def __init__(self, outcome: Outcome, why: str = "") -> None:
        super().__init__(why or outcome.value)
        self.outcome = outcome


class KnownNodes(Protocol):
    """What is known of media nodes."""

    def node_of(self, capture_id: int, name: str, host: str) -> str | None:
        """Return the id of the node with this HEP capture id, this name, or this address; None when there is none.

        0 and empty texts say nothing.
        """


Reports = list[RtcpReport | PhoneReport]


def read_hep(packet: HepPacket, host: str, nodes: KnownNodes, now: float) -> Reports:
    """Return what a packet from `host` is worth. Raises Unusable."""
    at = packet.at or now
    if at > now + AHEAD_SECONDS:
        raise Unusable(Outcome.FUTURE)
    if packet.payload_type == SIP:
        return [_published(packet, at)]
    if packet.payload_type != RTCP and not is_rtcp(packet.payload):
        raise Unusable(Outcome.OTHER)
    said = _understood(packet.payload)
    node = nodes.node_of(packet.capture_id, packet.node_name, host)
    if node is None:
        raise Unusable(Outcome.UNKNOWN_NODE)
    if not packet.source.startswith("127.") and nodes.node_of(0, "", packet.source) is not None:
        # Nodes on one machine with their phones have no addresses of their own.
        raise Unusable(Outcome.OWN)
    return _reports(said, at, node, packet.source or host, packet.correlation_id)


def read_rtcp(data: bytes, host: str, node: str, now: float) -> Reports:
    """Return what plain RTCP from `host`, copied by `node`, is worth. Raises Unusable."""
    return _reports(_read(parse_rtcp, data), now, node, host, "")


def _understood(payload: bytes) -> Compound:
    return _read(parse_rtcp if is_rtcp(payload) else parse_rtcp_json, payload)


def _read(parse: Callable[[bytes], Compound], data: bytes) -> Compound:
    try:
        return parse(data)
    except RtcpError as problem:
        raise Unusable(Outcome.MALFORMED, str(problem)) from problem


def _reports(said: Compound, at: float, node: str, source: str, call_id: str) -> Reports:
    call_id = call_id or _assumed_call(said)
    if len(call_id) > CALL_ID_CHARS:
        raise Unusable(Outcome.MALFORMED, "its correlation id is too long")
    reports: Reports = [RtcpReport(at=at, node=node, source=source, call_id=call_id, ssrc=said.ssrc,
                                   sender=said.sender, blocks=said.blocks, is_over=said.is_over)]
    voip = said.voip
    if voip is not None:
        has_block = any(block.ssrc == voip.ssrc for block in said.blocks)
        reports.append(PhoneReport(
            at=at, source=source, call_id=call_id, node=node, loss=None if has_block else voip.lost * PER_256,
            discarded=voip.discarded * PER_256, rtt_ms=float(voip.round_trip_ms) or None))
    return reports


def _assumed_call(said: Compound) -> str:
    """Return a name for the call of packets that do not say it: both its sides have the same two streams."""
    names = sorted([said.ssrc, *(block.ssrc for block in said.blocks[:1])])
    return "ssrc:" + "-".join(f"{name:08x}" for name in names)


def _published(packet: HepPacket, at: float) -> PhoneReport:
    """Return what a PUBLISH says that a SIP proxy has seen (RFC 6035)."""
    if not packet.payload.startswith(b"PUBLISH "):
        raise Unusable(Outcome.OTHER)
    try:
        message = parse_message(packet.payload)
        if not isinstance(message, Request) or not is_vq_report(message.get("Content-Type")):
            raise Unusable(Outcome.OTHER)
        return phone_report(parse_vq_report(message.body), at, packet.source)
    except (ParseError, VqError) as problem:
        raise Unusable(Outcome.MALFORMED, str(problem)) from problem
