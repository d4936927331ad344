"""What rtpengine is told beside a session description: who speaks to whom, and how each of them wants its media.

Browsers take DTLS-SRTP with ICE and both RTP and RTCP at one port (RFC 8827, RFC 5761); phones take what their peer has
said, but for what only browsers understand. Either of them gets one address to send to, that of the media node: ICE
never leads around it. The origin ("o=") stays as the phone wrote it, so that its version means the same whichever node
passes it on.
"""

from typing import Any

from attrs import frozen

from registrar.media.session import Session, Side, Who, other

Arguments = dict[str, Any]

BROWSERS = frozenset({"WS", "WSS"})
"""Who speaks SIP like this is a browser (RFC 7118)."""

# What rtpengine would otherwise report as an error is said as "load limit" then.
_SUPPORTS = ["load limit"]


@frozen
class End:
    """One end of what is offered and answered."""

    tag: str
    is_webrtc: bool = False


def is_browser(transport: str) -> bool:
    """Say whether whoever speaks SIP over this transport takes WebRTC."""
    return transport in BROWSERS


def offer_arguments(call_id: str, offerer: End, answerer: End, branch: str = "") -> Arguments:
    """Return what goes with an offer. The answerer's tag is empty as long as nobody knows it; then there is a branch.

    `branch` tells the phones of a forked call apart, and is the same in the answer.
    """
    arguments = _common(call_id, offerer, answerer, branch) | _towards(answerer.is_webrtc)
    arguments["supports"] = _SUPPORTS
    if answerer.is_webrtc:
        arguments |= {"transport-protocol": "UDP/TLS/RTP/SAVPF", "SDES": ["off"], "flags": ["generate-mid"]}
    elif offerer.is_webrtc:
        arguments |= {"transport-protocol": "RTP/AVP"}
    return arguments


def answer_arguments(call_id: str, offerer: End, answerer: End, branch: str = "") -> Arguments:
    """Return what goes with the answer, which the offerer will read."""
    return _common(call_id, offerer, answerer, branch) | _towards(offerer.is_webrtc)


def delete_arguments(call_id: str, tag: str = "", branch: str = "") -> Arguments:
    """Return what ends a call: with `branch` only that one of the caller with this `tag`, without it all of them.

    It is gone at once: a node that keeps calls in memory for others to see counts them, too.
    """
    arguments: Arguments = {"call-id": call_id, "delete-delay": 0}
    if branch:
        arguments |= {"from-tag": tag, "via-branch": branch}
    return arguments


def offer(session: Session, who: Who) -> Arguments:
    """Return what goes with an offer of that side of a call that stands."""
    return offer_arguments(session.call_id, _end(session.side(who)), _end(session.side(other(who))))


def answer(session: Session, who: Who) -> Arguments:
    """Return what goes with the answer to an offer of that side."""
    return answer_arguments(session.call_id, _end(session.side(who)), _end(session.side(other(who))))


def delete(session: Session) -> Arguments:
    """Return what ends the call at its node."""
    return delete_arguments(session.call_id)


def _end(side: Side) -> End:
    return End(side.tag, side.is_webrtc)


def _common(call_id: str, offerer: End, answerer: End, branch: str) -> Arguments:
    arguments: Arguments = {"call-id": call_id, "from-tag": offerer.tag, "replace": ["session-connection"]}
    if answerer.tag:
        arguments["to-tag"] = answerer.tag
    if branch:
        arguments["via-branch"] = branch
    return arguments


def _towards(is_webrtc: bool) -> Arguments:
    if is_webrtc:
        return {"ICE": "force", "rtcp-mux": ["offer", "require"]}
    return {"ICE": "remove", "rtcp-mux": ["demux"]}
