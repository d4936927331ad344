"""What everything that is done to calls through media nodes needs, and what messages say of a call's sides."""

from collections.abc import Callable

from attrs import evolve, frozen
from twisted.logger import Logger
from twisted.python.failure import Failure

from registrar.media import timers
from registrar.media.choosing import Choosing
from registrar.media.flags import delete
from registrar.media.relaying import Exchange, Relaying, Stranded
from registrar.media.session import Session, Side, other
from registrar.media.sessions import Sessions
from rollcall.media.snapshot import MediaNode
from rollcall.ops.coroutines import start
from rollcall.sip.headers import parse_cseq, parse_name_addr
from rollcall.sip.message import Message, Request, Response


@frozen(kw_only=True)
class Parts:
    """The parts of one registrar that deal with media."""

    relaying: Relaying
    choosing: Choosing
    sessions: Sessions
    group_of: Callable[[str], str]
    """The access group of a numeric address."""
    stranded: Stranded
    now: Callable[[], float]
    """Seconds since the epoch."""
    max_call_seconds: float
    """How long a call may be that says nothing of that itself."""
    when_none: str
    """See MediaConfig."""
    log: Logger

    def change(self, session: Session, update: Callable[[Session], Session]) -> None:
        """Note a change of a call: here at once, elsewhere without anybody who waits for it.

        Another call of the same Call-ID stays as it is.
        """
        start(self.sessions.change(session.call_id, lambda known: update(known) if known.id == session.id else known),
              self._broke)

    def forget(self, session: Session) -> None:
        """Forget a call that its node has been told of: here at once, elsewhere soon."""
        start(self.sessions.end(session), self._broke)

    def end(self, session: Session) -> None:
        """Forget a call: here at once, elsewhere and at its node soon."""
        start(self._end(session), self._broke)

    async def _end(self, session: Session) -> None:
        # The node knows another call of the same Call-ID by the same name.
        if await self.sessions.end(session) and session.kind == "rtpengine":
            self.relaying.delete(session.address, delete(session))

    def again(self, node: MediaNode, exchange: Exchange) -> None:
        """Have a node go back to what was agreed on before, without anybody who waits for it."""
        start(self.relaying.told_again(node, exchange), self._broke)

    def timed(self, session: Session, request: Request, response: Response) -> Session:
        """Return a call with what a 2xx says of how long it lasts."""
        return timers.agreed(session, request, response, self.now(), self.max_call_seconds)

    def _broke(self, failure: Failure) -> None:
        self.log.failure("while a call through a media node was kept", failure=failure)


def tag_of(message: Message, name: str) -> str:
    """Return the tag in From or To; empty when it has none."""
    return parse_name_addr(message.get(name) or "").tag or ""


def cseq_of(message: Message) -> int:
    """Return the number in CSeq."""
    return parse_cseq(message.get("CSeq") or "").number


def agreed(session: Session, request: Request, response: Response, offers: tuple[bytes, bytes],
           parts: Parts) -> Session:
    """Return a call that stands after a re-INVITE or UPDATE was taken: contacts, descriptions, timers.

    `offers` are the descriptions of who sent `request` and of the other side, empty where they have sent none.
    """
    who = session.who(tag_of(request, "From"))
    if who is None or session.who(tag_of(request, "To")) is None:
        return session
    asker = _refreshed(session.side(who).with_request(cseq_of(request)), request, offers[0])
    session = session.with_side(who, asker)
    session = session.with_side(other(who), _refreshed(session.side(other(who)), response, offers[1]))
    return parts.timed(session, request, response)


def _refreshed(side: Side, message: Message, sdp: bytes) -> Side:
    """Return a side after what it has sent: a target refresh (RFC 3261 §12.2)."""
    return evolve(side, contact=message.get("Contact") or side.contact, sdp=sdp or side.sdp)
