"""The set-up of a call through media nodes: every phone it rings is offered what a node has made of the caller's offer.

RFC 3261 §13, RFC 3264. Each phone of a forked call is a leg with a branch of its own at the node, so that each may
answer (early media), and the last that does is heard. A caller who offers nothing gets the phone's offer, and answers
it with ACK or PRACK: see `registrar.media.dialogues`.
"""

from attrs import define, evolve, field

from registrar.authorising import Refusal
from registrar.media.choosing import Place
from registrar.media.flags import End, delete_arguments, is_browser
from registrar.media.parts import Parts, cseq_of, tag_of
from registrar.media.relaying import Exchange, NoPlace, Relayed, Unacceptable
from registrar.media.sdp import describe, described, is_webrtc
from registrar.media.session import Session, Side
from registrar.sending import Attempt, Forwarded
from rollcall.media.snapshot import MediaNode
from rollcall.sip.chance import random_name
from rollcall.sip.message import Response

MOST_TAKERS = 16
"""So many phones behind one branch may take the call, as far as we remember their answers; one does."""


@define(eq=False)
class Leg:
    """One phone of a call that is being set up."""

    is_webrtc: bool
    host: str
    name: str
    """Its branch at the media node."""
    node: MediaNode | None = None
    """Where its offer was made; None as long as there is none."""
    offered: bytes = b""
    """What it is offered; empty when it is to offer itself."""
    sdp: bytes = b""
    """What it has said itself."""
    taken: dict[str, tuple[bytes, bytes]] = field(factory=dict)
    """By its tag: what its 2xx said, and what the caller reads in its place. It comes again until it is acknowledged,
    when the call may have gone on already."""
    is_stranded: bool = False
    is_over: bool = False


class Setup:
    """The passage of an INVITE that begins a call."""

    def __init__(self, parts: Parts, place: Place, forwarded: Forwarded) -> None:
        request, source = forwarded.request, forwarded.source
        found = described(request)
        self._parts = parts
        self._place = place
        self._request = request
        self._call_id = request.get("Call-ID") or ""
        self._sdp = found.sdp if found is not None else b""
        self._caller = End(tag_of(request, "From"), is_browser(source.transport) or is_webrtc(self._sdp))
        self._host = source.peer[0]
        self._legs: dict[object, Leg] = {}
        self._session: Session | None = None

    async def going(self, branch: object, attempt: Attempt, forwarded: Forwarded, transport: str) -> Forwarded:
        """See registrar.passing.Passage."""
        leg = self._leg(branch, attempt, is_browser(transport))
        if not self._sdp:
            return forwarded
        if not leg.offered:
            try:
                relayed = await self._parts.relaying.offered(self._place, self._exchange(leg))
            except Unacceptable as problem:
                raise Refusal(488) from problem
            except NoPlace as problem:
                if self._parts.when_none == "refuse":
                    raise Refusal(503) from problem
                return forwarded
            leg.node, leg.offered = relayed.node, relayed.sdp
            if leg.is_over:
                self._drop(leg)
            else:
                self._begin(leg)
        request = forwarded.request.copy()
        describe(request, leg.offered)
        return evolve(forwarded, request=request)

    async def coming(self, branch: object, response: Response) -> Response:
        """See registrar.passing.Passage."""
        leg = self._legs.get(branch)
        if leg is None or response.status == 100:
            return response
        if response.status >= 300:
            leg.is_over = True
            self._drop(leg)
            return response
        found, tag = described(response), tag_of(response, "To")
        if found is not None and response.status >= 200 and leg.taken.get(tag, (b"",))[0] == found.sdp:
            describe(response, leg.taken[tag][1])
            return response
        if found is not None and not (self._sdp and leg.node is None):
            leg.sdp = found.sdp
            try:
                relayed = await self._relayed(leg, tag)
            except (NoPlace, Unacceptable) as problem:
                self._parts.log.warn("no media node takes the answer of {host}: {why}", host=leg.host,
                                     why=str(problem), log_rationed=True)
            else:
                self._was_relayed(leg, relayed)
                describe(response, relayed.sdp)
                if response.status >= 200 and len(leg.taken) < MOST_TAKERS:
                    leg.taken[tag] = found.sdp, relayed.sdp
        if response.status >= 200 and leg.node is not None:
            self._accepted(leg, response)
        return response

    def ended(self, status: int) -> None:
        """See registrar.passing.Passage."""
        if status < 300:
            return
        for leg in self._legs.values():
            leg.is_over = True
            self._drop(leg)
        if self._session is not None:
            self._parts.forget(self._session)

    async def _relayed(self, leg: Leg, tag: str) -> Relayed:
        """Tell the node what a phone says: its answer, or its own offer when the caller has made none."""
        relaying, exchange = self._parts.relaying, self._exchange(leg, tag)
        if not self._sdp:
            return await relaying.offered(self._place, exchange)
        assert leg.node is not None
        return await relaying.answered_anywhere(leg.node, self._place, exchange)

    def _was_relayed(self, leg: Leg, relayed: Relayed) -> None:
        leg.is_stranded |= relayed.is_stranded
        moved, leg.node = leg.node is not relayed.node, relayed.node
        if self._session is None:
            self._begin(leg)
        elif moved:
            self._parts.change(self._session, lambda session: _at(session, relayed.node))

    def _leg(self, branch: object, attempt: Attempt, wants_webrtc: bool) -> Leg:
        """Return the leg of a branch; a new one when the phone is tried another way that wants something else."""
        leg = self._legs.get(branch)
        if leg is not None and leg.is_webrtc == wants_webrtc:
            return leg
        if leg is not None:
            leg.is_over = True
            self._drop(leg)
        leg = self._legs[branch] = Leg(wants_webrtc, attempt.asked_from, random_name())
        return leg

    def _exchange(self, leg: Leg, tag: str = "") -> Exchange:
        phone = End(tag, leg.is_webrtc)
        if self._sdp:
            return Exchange(self._call_id, self._caller, phone, self._sdp, leg.sdp, leg.name)
        return Exchange(self._call_id, phone, self._caller, leg.sdp)

    def _drop(self, leg: Leg) -> None:
        """Have the node forget one phone; with the last of them it forgets the call."""
        node, leg.node = leg.node, None
        if node is None:
            return
        is_shared = any(other.node is not None and other.node.id == node.id for other in self._legs.values())
        if not is_shared and self._session is not None:
            self._parts.relaying.delete(node.address, delete_arguments(self._call_id))
        elif self._sdp:
            # A phone that made the offer itself has no branch there, and goes with the call. And when another call of
            # the same Call-ID was there before us, the node must not forget that one.
            self._parts.relaying.delete(node.address, delete_arguments(self._call_id, self._caller.tag, leg.name))

    def _begin(self, leg: Leg) -> None:
        """Count the call, with its first offer at a node."""
        if self._session is not None:
            assert leg.node is not None
            node = leg.node
            if node.id != self._session.node:
                self._parts.change(self._session, lambda session: _at(session, node))
            return
        session = self._new_session(leg)
        if self._parts.sessions.begin(session):
            self._session = session

    def _new_session(self, leg: Leg) -> Session:
        node, request, parts = leg.node, self._request, self._parts
        assert node is not None
        caller = Side(
            tag=self._caller.tag, address=request.get("From") or "", contact=request.get("Contact") or "",
            cseq=cseq_of(request), sdp=self._sdp, is_webrtc=self._caller.is_webrtc, host=self._host,
            group=parts.group_of(self._host))
        return Session(
            call_id=self._call_id, id=random_name(), node=node.id, address=node.address, kind=node.kind,
            group=self._place.wanted.group, owner=parts.sessions.owner, caller=caller, started_at=parts.now(),
            expires_at=parts.now() + parts.max_call_seconds)

    def _accepted(self, leg: Leg, response: Response) -> None:
        """Note who has taken the call, the first who does, and see that the media come along."""
        node = leg.node
        assert node is not None
        if self._session is None:
            return
        callee = self._callee(leg, response)

        def update(session: Session) -> Session:
            if session.is_answered:
                return session
            caller = evolve(session.caller, routes=tuple(reversed(callee.routes)))
            answered = evolve(
                _at(session, node), branch=leg.name, caller=caller, callee=callee,
                answered_at=self._parts.now())
            return self._parts.timed(answered, self._request, response)

        self._parts.change(self._session, update)
        if leg.is_stranded:
            leg.is_stranded = False
            self._parts.stranded(self._call_id)

    def _callee(self, leg: Leg, response: Response) -> Side:
        return Side(
            tag=tag_of(response, "To"), address=response.get("To") or "", contact=response.get("Contact") or "",
            routes=tuple(response.values("Record-Route")), sdp=leg.sdp, is_webrtc=leg.is_webrtc, host=leg.host,
            group=self._parts.group_of(leg.host) if leg.host else "")


def _at(session: Session, node: MediaNode) -> Session:
    return evolve(session, node=node.id, address=node.address, kind=node.kind)
