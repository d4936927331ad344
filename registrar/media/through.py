"""A call that is sent to a media node itself, such as FreeSWITCH: it is counted from here, and otherwise left alone."""

from collections.abc import Sequence

from attrs import evolve

from registrar.media.parts import Parts, cseq_of, tag_of
from registrar.media.session import Session, Side
from registrar.routing import ByUri
from registrar.sending import Attempt, Forwarded
from rollcall.media.selection import Wanted
from rollcall.media.snapshot import MediaNode
from rollcall.sip.chance import random_name
from rollcall.sip.message import Response


class Through:
    """The passage of an INVITE whose next hop is a media node."""

    def __init__(self, parts: Parts, nodes: Sequence[MediaNode], wanted: Wanted, forwarded: Forwarded) -> None:
        self._parts = parts
        self._nodes = {f"sip:{node.address}": node for node in nodes}
        self._group = wanted.group
        self._request = forwarded.request
        self._host = forwarded.source.peer[0]
        self._session: Session | None = None

    async def going(self, branch: object, attempt: Attempt, forwarded: Forwarded, transport: str) -> Forwarded:
        """See registrar.passing.Passage: it goes as it came, and counts at the node that it goes to."""
        node = self._nodes.get(attempt.hop.at) if isinstance(attempt.hop, ByUri) else None
        if node is not None:
            self._goes_to(node)
        return forwarded

    async def coming(self, branch: object, response: Response) -> Response:
        """See registrar.passing.Passage."""
        if 200 <= response.status < 300 and self._session is not None:
            self._parts.change(self._session, lambda session: self._answered(session, response))
        return response

    def ended(self, status: int) -> None:
        """See registrar.passing.Passage."""
        if status >= 300 and self._session is not None:
            self._parts.end(self._session)

    def _goes_to(self, node: MediaNode) -> None:
        if self._session is not None:
            self._parts.change(self._session, lambda session: evolve(
                session, node=node.id, address=node.address, kind=node.kind))
            return
        request, parts = self._request, self._parts
        caller = Side(
            tag=tag_of(request, "From"), address=request.get("From") or "", contact=request.get("Contact") or "",
            cseq=cseq_of(request), host=self._host, group=parts.group_of(self._host))
        session = Session(
            call_id=request.get("Call-ID") or "", id=random_name(), node=node.id, address=node.address, kind=node.kind,
            group=self._group, owner=parts.sessions.owner, caller=caller, started_at=parts.now(),
            expires_at=parts.now() + parts.max_call_seconds)
        if parts.sessions.begin(session):
            self._session = session

    def _answered(self, session: Session, response: Response) -> Session:
        if session.is_answered:
            return session
        callee = Side(
            tag=tag_of(response, "To"), address=response.get("To") or "", contact=response.get("Contact") or "",
            routes=tuple(response.values("Record-Route")))
        answered = evolve(session, callee=callee, answered_at=self._parts.now())
        return self._parts.timed(answered, self._request, response)
