"""One call through a media node: what every registrar has to know of it to pass on what is said within it.

A call whose media node has died is led through another one by re-INVITEs that we send in its phones' names. From then
on each phone counts otherwise than its peer has heard: CSeq (RFC 3261 §12.2) and the version in "o=" (RFC 3264 §8) of
whatever it sends are raised on their way (`adjust`), and in answers CSeq is put back (`restore`).
"""

import re
from json import dumps, loads
from typing import Literal

import msgspec
from attrs import evolve, frozen

from registrar.media.sdp import describe, described
from rollcall.media.snapshot import Kind
from rollcall.sip.errors import ParseError
from rollcall.sip.headers import MAX_CSEQ, parse_cseq, parse_name_addr
from rollcall.sip.message import Message, Request, Response

Who = Literal["caller", "callee"]

NOTHING_SENT = -1
"""The CSeq of a side that has sent no request: it may begin with any number, 0 too (RFC 3261 §12.2.1.1)."""

CSEQ_JUMP = 1000
"""How far above what we know of a side's CSeq we count in its name. Requests that change nothing in the call (INFO with
a digit) pass other nodes without a word to us; there are fewer of them than this between two that we know of."""

KEPT_OFFSETS = 4
"""An ACK may still be on its way for a request from before the last change, hardly for one from before the fourth."""

_ORIGIN = re.compile(rb"^(o=[^ \r\n]+ [^ \r\n]+ )([0-9]{1,18})(?= )", re.MULTILINE)
_SETUP = re.compile(rb"^a=setup:(?:active|passive)[ \t]*(?=\r?$)", re.MULTILINE)
_RACK = re.compile(r"([0-9]{1,10})[ \t]+([0-9]{1,10})[ \t]+(.+)")


@frozen(kw_only=True)
class Side:
    """A phone, or whatever is at one end of the call."""

    tag: str = ""
    address: str = ""
    """Its From, or its To, with the tag, as it stands in messages."""
    contact: str = ""
    """The value of its Contact."""
    routes: tuple[str, ...] = ()
    """What stands in Route when it sends a request within the dialog, in that order (RFC 3261 §12.1)."""
    cseq: int = NOTHING_SENT
    """The highest CSeq of its own requests that we know of, as it counts itself."""
    offsets: tuple[tuple[int, int], ...] = ()
    """(after, offset): its numbers above `after` are raised by `offset` on their way. In rising order."""
    sdp: bytes = b""
    """The last that it has sent and that was agreed on, as it wrote it."""
    version_offset: int = 0
    """How much its version in "o=" is raised."""
    is_webrtc: bool = False
    host: str = ""
    """Where its signalling comes from."""
    group: str = ""
    """The access group of that."""

    @property
    def target(self) -> str:
        """The URI of its Contact. Raises ParseError when it has none."""
        return parse_name_addr(self.contact).uri

    def offset(self, number: int) -> int:
        """Return by how much this number of its is raised."""
        return next((offset for after, offset in reversed(self.offsets) if number > after), 0)

    def with_request(self, number: int) -> "Side":
        """Return it after it has sent a request of this number."""
        return evolve(self, cseq=number) if number > self.cseq else self

    def spoken_for(self) -> tuple[int, "Side"]:
        """Return the CSeq of a request that we send in its name, and the side from then on.

        Raises ParseError when it has counted too far for that.
        """
        number = max(self.cseq, 0) + self.offset(MAX_CSEQ) + CSEQ_JUMP
        # All that may come from it yet, up to as much again, stays below 2**31.
        if number > MAX_CSEQ - CSEQ_JUMP:
            raise ParseError("CSeq out of range")
        offsets = (*self.offsets, (self.cseq, number - self.cseq))[-KEPT_OFFSETS:]
        return number, evolve(self, offsets=offsets)


@frozen(kw_only=True)
class Session:
    """A call, from the offer to the media node until it is deleted there."""

    call_id: str
    id: str
    """What tells it from any other call of that Call-ID."""
    version: int = 0
    """How many changes it has seen."""
    changed_by: str = ""
    """Which registrar has made the last."""
    node: str
    """The id of the media node."""
    address: str
    """Where that is asked: see MediaNode.address."""
    kind: Kind = "rtpengine"
    group: str = ""
    """The node group."""
    owner: str = ""
    """The registrar ("node:epoch") that counts it, sees to its end, and leads it through another node."""
    branch: str = ""
    """The via-branch under which the media node knows the callee who has answered; empty: none was given."""
    caller: Side = Side()
    callee: Side = Side()
    """Without a tag until the call is answered."""
    started_at: float = 0.0
    answered_at: float = 0.0
    """0: not answered yet."""
    expires_at: float = 0.0
    """When it is over unless somebody says otherwise before."""
    interval: int = 0
    """What both sides have agreed on as Session-Expires, in seconds (RFC 4028); 0: nothing."""
    refresher: str = ""
    """Who refreshes: "caller" or "callee"; empty: nobody."""
    moves: int = 0
    """How many media nodes it has outlived."""

    @property
    def is_answered(self) -> bool:
        """Whether both sides talk."""
        return self.answered_at > 0

    def who(self, tag: str | None) -> Who | None:
        """Return which side has this tag; None: neither."""
        if tag and tag == self.caller.tag:
            return "caller"
        return "callee" if tag and tag == self.callee.tag else None

    def side(self, who: Who) -> Side:
        """Return that side."""
        return self.caller if who == "caller" else self.callee

    def with_side(self, who: Who, side: Side) -> "Session":
        """Return the call with another value of that side."""
        return evolve(self, caller=side) if who == "caller" else evolve(self, callee=side)


def other(who: Who) -> Who:
    """Return the other side."""
    return "callee" if who == "caller" else "caller"


def sender_of(message: Message, session: Session) -> Who | None:
    """Return which side has sent a request (or asked for what a response answers); None: neither."""
    return session.who(_tag(message, "From"))


def adjust(request: Request, session: Session) -> bool:
    """Have a request within the call count as its receiver has heard the sender count; say whether that changed it.

    CSeq, the CSeq in RAck (RFC 3262 §7.2), and the version of an SDP body.
    """
    who = sender_of(request, session)
    if who is None:
        return False
    side, cseq = session.side(who), parse_cseq(request.get("CSeq") or "")
    offset = side.offset(cseq.number)
    if offset:
        request.set("CSeq", f"{cseq.number + offset} {cseq.method}")
    rack = _RACK.fullmatch(request.get("RAck") or "")
    acknowledged = 0 if rack is None else side.offset(int(rack[2]))
    if rack is not None and acknowledged:
        request.set("RAck", f"{rack[1]} {int(rack[2]) + acknowledged} {rack[3]}")
    return _raise_body(request, side.version_offset) or bool(offset or acknowledged)


def restore(response: Response, request: Request, session: Session) -> None:
    """Have the answer to `request`, which is as it came from its sender, count as that counts."""
    response.set("CSeq", request.get("CSeq") or "")
    who = sender_of(request, session)
    if who is not None:
        _raise_body(response, session.side(other(who)).version_offset)


def with_version(sdp: bytes, offset: int) -> bytes:
    """Return `sdp` with the version in its "o=" raised."""
    if not offset:
        return sdp
    return _ORIGIN.sub(lambda found: b"%b%d" % (found[1], int(found[2]) + offset), sdp, count=1)


def as_offer(sdp: bytes) -> bytes:
    """Return what was an answer as an offer: who does the DTLS handshake is up to the answerer (RFC 5763 §5)."""
    return _SETUP.sub(b"a=setup:actpass", sdp)


def version_of(sdp: bytes) -> int:
    """Return the version in its "o="; 0 when it has none."""
    found = _ORIGIN.search(sdp)
    return int(found[2]) if found is not None else 0


def encode_session(session: Session) -> bytes:
    """Return it as JSON."""
    try:
        return msgspec.json.encode(session)
    except UnicodeEncodeError:
        # A phone has written bytes that are no UTF-8: they travel as lone surrogates, which msgspec does not write.
        return dumps(msgspec.to_builtins(session)).encode()


def decode_session(data: bytes) -> Session:
    """Return what was encoded. Raises ValueError."""
    try:
        return msgspec.json.decode(data, type=Session)
    except (msgspec.DecodeError, UnicodeDecodeError):
        try:
            return msgspec.convert(loads(data), Session)
        except (msgspec.ValidationError, UnicodeDecodeError, RecursionError) as problem:
            raise ValueError(f"no session: {problem}") from problem


def _raise_body(message: Message, offset: int) -> bool:
    found = described(message) if offset else None
    if found is None:
        return False
    describe(message, with_version(found.sdp, offset))
    return True


def _tag(message: Message, name: str) -> str | None:
    try:
        return parse_name_addr(message.get(name) or "").tag
    except ParseError:
        return None
