"""What passes within a call that stands: new offers and their answers, either way, at whichever registrar they come in.

RFC 3264 §8, RFC 3261 §14 (re-INVITE), RFC 3311 (UPDATE), RFC 3262 §5 (PRACK), RFC 3261 §13.2.2.4 (ACK). Hold, T.38 and
everything else that an offer may say is the node's business. When the node has died, the next offer leads the call
through another one.
"""

from attrs import evolve

from registrar.authorising import Refusal
from registrar.media.choosing import Place
from registrar.media.flags import End, is_browser
from registrar.media.parts import Parts, agreed, cseq_of, tag_of
from registrar.media.relaying import Exchange, Lost, NoPlace, Relayed, Unacceptable
from registrar.media.sdp import codec, describe, described, is_webrtc
from registrar.media.session import Session, adjust, other, restore
from registrar.sending import Attempt, Forwarded
from rollcall.media.selection import Wanted
from rollcall.media.snapshot import MediaNode
from rollcall.sip.message import Request, Response

OFFERING = frozenset({"INVITE", "UPDATE", "PRACK"})
"""What may carry an offer, and an answer in what is said to it."""

REFRESHING = frozenset({"INVITE", "UPDATE"})
"""Whose 2xx says anew where both phones are and for how long the call lasts (RFC 3261 §12.2, RFC 4028 §7.2)."""

TRY_AGAIN = frozenset({401, 407, 491})
"""Who is told this has not ended anything."""


class Dialogue:
    """The passage of a request within a call."""

    def __init__(self, parts: Parts, session: Session, forwarded: Forwarded) -> None:
        request = forwarded.request
        self._parts = parts
        self._session = session
        self._request = request
        # Whoever has heard of a call, or has rung for it, may write its Call-ID: a node would lead its media to him.
        is_theirs = is_of(session, request)
        self._relays = is_theirs and session.kind == "rtpengine" and request.method in OFFERING
        self._refreshes = is_theirs and request.method in REFRESHING
        found = described(request) if self._relays else None
        self._sdp = found.sdp if found is not None else b""
        who = session.who(tag_of(request, "From"))
        self._is_answer = request.method == "PRACK" and who == "caller" and not session.caller.sdp
        self._asker = End(tag_of(request, "From"), is_browser(forwarded.source.transport) or is_webrtc(self._sdp))
        self._asked = End(tag_of(request, "To"))
        self._place = place_of(parts, session)
        self._node: MediaNode | None = None
        self._reply = b""
        self._has_moved = False

    async def going(self, branch: object, attempt: Attempt, forwarded: Forwarded, transport: str) -> Forwarded:
        """See registrar.passing.Passage."""
        request = forwarded.request.copy()
        self._asked = End(self._asked.tag, is_browser(transport))
        if self._sdp:
            try:
                describe(request, (await self._answered() if self._is_answer else await self._offered()).sdp)
            except Unacceptable as problem:
                raise Refusal(488) from problem
            except (NoPlace, Lost) as problem:
                if self._parts.when_none == "refuse":
                    raise Refusal(503) from problem
        adjust(request, self._now())
        return evolve(forwarded, request=request)

    async def coming(self, branch: object, response: Response) -> Response:
        """See registrar.passing.Passage."""
        if self._relays and 100 < response.status < 300:
            await self._take(response)
        elif response.status >= 300 and self._node is not None and not self._is_answer:
            self._go_back(self._node)
        if 200 <= response.status < 300:
            self._parts.change(self._session, lambda session: self._taken(session, response))
            self._has_moved = False
        elif response.status >= 300 and self._has_moved:
            # Neither side has the new node's address: the call goes there without this request.
            self._has_moved = False
            self._parts.stranded(self._session.call_id)
        restore(response, self._request, self._now())
        return response

    def ended(self, status: int) -> None:
        """See registrar.passing.Passage."""
        session = self._now()
        if self._request.method != "BYE" or status in TRY_AGAIN or not is_of(session, self._request):
            return
        # A call that nobody has taken ends with its INVITE: not at the word of one of the phones that ring.
        if session.is_answered:
            self._parts.end(session)

    def _now(self) -> Session:
        """Return the call as it is now."""
        known = self._parts.sessions.known(self._session.call_id)
        return known if known is not None and known.id == self._session.id else self._session

    async def _offered(self) -> Relayed:
        relayed = await self._parts.relaying.offered(self._place, self._exchange())
        self._node = relayed.node
        self._moved(relayed.node)
        return relayed

    async def _answered(self) -> Relayed:
        """Tell the node what the caller answers to an offer that his callee has made when he rang (RFC 3262 §5)."""
        exchange = Exchange(self._session.call_id, self._asked, self._asker, b"", self._sdp)
        if self._place.node is None:
            raise NoPlace
        relayed = await self._parts.relaying.answered(self._place.node, exchange)
        self._parts.change(self._session, self._with_callers_answer)
        return relayed

    def _with_callers_answer(self, session: Session) -> Session:
        return evolve(session, caller=evolve(session.caller, sdp=self._sdp))

    async def _take(self, response: Response) -> None:
        """Have the node read what the other side says, and note what both have agreed on."""
        found = described(response)
        if found is not None:
            self._reply = found.sdp
            try:
                relayed = await self._relayed()
            except (NoPlace, Unacceptable) as problem:
                self._parts.log.warn("no media node takes an answer within a call: {why}", why=str(problem),
                                     log_rationed=True)
            else:
                describe(response, relayed.sdp)

    def _taken(self, session: Session, response: Response) -> Session:
        """Return the call after a 2xx: what both have agreed on, and whether another node has it now."""
        if self._has_moved:
            session = evolve(session, moves=session.moves + 1)
        if not self._refreshes:
            return session
        return agreed(session, self._request, response, (self._sdp, self._reply), self._parts)

    async def _relayed(self) -> Relayed:
        relaying = self._parts.relaying
        if not self._sdp:
            # A re-INVITE that asks for an offer: its answer comes with the ACK.
            relayed = await relaying.offered(self._place, Exchange(
                self._session.call_id, self._asked, self._asker, self._reply))
            self._moved(relayed.node)
            return relayed
        if self._node is None:
            raise NoPlace
        relayed = await relaying.answered_anywhere(self._node, self._place, self._exchange())
        self._moved(relayed.node)
        if relayed.is_stranded:
            self._parts.stranded(self._session.call_id)
        return relayed

    def _exchange(self) -> Exchange:
        return Exchange(self._session.call_id, self._asker, self._asked, self._sdp, self._reply)

    def _moved(self, node: MediaNode) -> None:
        """Take note that another node has the call: what it makes of the same descriptions reads otherwise."""
        if node.id == self._now().node:
            return

        def update(session: Session) -> Session:
            if session.node == node.id:
                return session
            caller, callee = (evolve(side, version_offset=side.version_offset + 1)
                              for side in (session.caller, session.callee))
            return evolve(session, node=node.id, address=node.address, kind=node.kind, caller=caller, callee=callee)

        self._has_moved = True
        self._parts.change(self._session, update)

    def _go_back(self, node: MediaNode) -> None:
        """Have the node go on with what both sides agreed on before (RFC 3261 §14.1: a refusal changes nothing)."""
        session = self._now()
        who = session.who(self._asker.tag)
        if who is None or not is_of(session, self._request):
            return
        mine, theirs = session.side(who).sdp, session.side(other(who)).sdp
        if mine and theirs:
            self._parts.again(node, Exchange(session.call_id, self._asker, self._asked, mine, theirs))


async def acknowledged(parts: Parts, session: Session, forwarded: Forwarded) -> Forwarded:
    """Return an ACK as its receiver has to read it: it may answer what the 2xx has offered."""
    request = forwarded.request.copy()
    found = described(request) if session.kind == "rtpengine" and is_of(session, request) else None
    if found is not None:
        await _acknowledge_offer(parts, session, request, found.sdp, is_browser(forwarded.source.transport))
    adjust(request, parts.sessions.known(session.call_id) or session)
    return evolve(forwarded, request=request)


async def _acknowledge_offer(parts: Parts, session: Session, ack: Request, sdp: bytes, is_browsers: bool) -> None:
    tags = tag_of(ack, "From"), tag_of(ack, "To")
    who = session.who(tags[0])
    offerer = session.side(other(who)) if who is not None else session.callee
    node = place_of(parts, session).node
    if node is None:
        return
    exchange = Exchange(session.call_id, End(tags[1], offerer.is_webrtc), End(tags[0], is_browsers), b"", sdp)
    try:
        relayed = await parts.relaying.answered(node, exchange)
    except Lost as problem:
        # Nobody can refuse an ACK: both sides are led through another node.
        parts.log.warn("a media node has lost a call before its ACK: {why}", why=str(problem), log_rationed=True)
        parts.stranded(session.call_id)
        return
    describe(ack, relayed.sdp)
    if who is not None:
        parts.change(session, lambda known: known.with_side(who, evolve(
            known.side(who).with_request(cseq_of(ack)), sdp=sdp)))


def place_of(parts: Parts, session: Session) -> Place:
    """Return the node of a call as the place of its next offer, or another one when it is known to be dead."""
    wanted = Wanted(session.group, (session.caller.group, session.callee.group), session.call_id,
                    codec=codec(session.callee.sdp).name)
    place = Place(parts.choosing, wanted)
    node = parts.choosing.node(session.node) or MediaNode(id=session.node, address=session.address, kind=session.kind)
    if parts.choosing.serves(session.node):
        return Place(parts.choosing, wanted, node)
    place.failed(node)
    return place


def is_of(session: Session, request: Request) -> bool:
    """Say whether a request is between the two who talk, not one of others who have taken the same call, or rung."""
    tags = {tag_of(request, "From"), tag_of(request, "To")}
    if not session.is_answered:
        return session.caller.tag in tags
    return tags == {session.caller.tag, session.callee.tag}
