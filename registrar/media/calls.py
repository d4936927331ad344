"""The way of calls through media nodes, as the conversation of requests for others sees it (`registrar.proxying`).

Only the registrar where a request comes in from outside does anything to it: what another one of us sends on is done.
rtpengines get the session descriptions, and the call goes to the phones as ever. Other nodes get the call itself, as
the next hop, and what they make of it comes back to us as calls of their own.
"""

from collections.abc import Callable

from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from registrar.authorising import Refusal
from registrar.forking import Way
from registrar.media.choosing import Choosing, Place, host_of
from registrar.media.config import MediaConfig
from registrar.media.dialogues import Dialogue, acknowledged, is_of
from registrar.media.parts import Parts, tag_of
from registrar.media.relaying import Relaying, Stranded
from registrar.media.sdp import codec, described
from registrar.media.sessions import Sessions
from registrar.media.setups import Setup
from registrar.media.through import Through
from registrar.passing import Passage
from registrar.routing import ByUri, Domains, aor_of
from registrar.sending import Attempt, Forwarded
from rollcall.media.selection import NoNode, Wanted
from rollcall.media.snapshot import MediaNode
from rollcall.net.flow import Flow
from rollcall.net.wheel import TimerWheel
from rollcall.ops.coroutines import start
from rollcall.sip.errors import ParseError
from rollcall.sip.headers import parse_name_addr, parse_via
from rollcall.sip.message import Request
from rollcall.sip.uri import SipUri, parse_uri

LOOK_SECONDS = 0.25
"""So long the set-up of a call waits for what Redis knows of its Call-ID: nothing, nearly always."""

GONE = frozenset({430, 480})
"""What we say ourselves to a request within a dialog whose receiver has lost its connection, and is nowhere else."""


class Calls:
    """All calls of one registrar that go through media nodes, while they are set up and within them."""

    _log = Logger()

    def __init__(self, config: MediaConfig, relaying: Relaying, choosing: Choosing, sessions: Sessions,
                 domains: Domains, group_of: Callable[[str], str], stranded: Stranded, now: Callable[[], float],
                 retry_after: Callable[[], int], wheel: TimerWheel) -> None:
        """`group_of` knows the access groups of numeric addresses, `now` gives seconds since the epoch."""
        self._choosing = choosing
        self._sessions = sessions
        self._domains = domains
        self._retry_after = retry_after
        self._wheel = wheel
        self._parts = Parts(
            relaying=relaying, choosing=choosing, sessions=sessions, group_of=group_of, stranded=stranded, now=now,
            max_call_seconds=config.max_call_seconds, when_none=config.when_none, log=self._log)

    def trusts(self, flow: Flow) -> bool:
        """Say whether a request came from a media node: it sends on what was allowed before."""
        return self._choosing.is_node(flow.peer[0])

    async def entered(self, forwarded: Forwarded, way: Way) -> tuple[Way, Passage | None]:
        """Return where a request goes, and what is done to it on the way. Raises Refusal."""
        request = forwarded.request
        call_id = request.get("Call-ID") or ""
        if tag_of(request, "To"):
            return way, None if self._came_before(request) else await self._within(forwarded, call_id)
        # A node knows callers by their tags; those of RFC 2543 may have none.
        if request.method != "INVITE" or not tag_of(request, "From") or self.trusts(forwarded.source):
            return way, None
        # Whoever comes past us a second time, or has come past another one of us, goes through a node already; and who
        # has only learnt the Call-ID of a call must not have its node take him for one of its phones.
        if await self._is_known(call_id):
            return way, None
        wanted = self._wanted(forwarded, way, call_id)
        node = self._choosing.choose(wanted)
        if isinstance(node, NoNode):
            self._parts.relaying.outcomes[f"choice {node.reason.value}"] += 1
            if self._parts.when_none == "refuse":
                raise Refusal(503, None, (("Retry-After", str(self._retry_after())),))
            return way, None
        place = Place(self._choosing, wanted, node)
        if node.kind == "rtpengine":
            return way, Setup(self._parts, place, forwarded)
        nodes = self._others(wanted, node)
        return _through(way, nodes, request), Through(self._parts, nodes, wanted, forwarded)

    async def acknowledged(self, forwarded: Forwarded) -> Forwarded:
        """Return what is sent on of an ACK."""
        request = forwarded.request
        session = None if self._came_before(request) else await self._sessions.find(request.get("Call-ID") or "")
        return forwarded if session is None else await acknowledged(self._parts, session, forwarded)

    def refused(self, request: Request, status: int) -> None:
        """End a call that was hung up by one side when the other one was gone."""
        if request.method == "BYE" and status in GONE:
            start(self._end(request), lambda failure: self._log.failure("a call did not end", failure=failure))

    async def _end(self, request: Request) -> None:
        session = await self._sessions.find(request.get("Call-ID") or "")
        if session is not None and session.is_answered and is_of(session, request):
            self._parts.end(session)

    def _came_before(self, request: Request) -> bool:
        """Say whether a request has passed us already, on its way to somebody who sent it on to us (a spiral)."""
        return any(self._is_ours(via) for via in request.values("Via")[1:])

    def _is_ours(self, via: str) -> bool:
        try:
            return self._domains.is_own_via(parse_via(via).sent_by.lower())
        except ParseError:
            return False

    async def _within(self, forwarded: Forwarded, call_id: str) -> Passage | None:
        session = await self._sessions.find(call_id)
        if session is not None:
            return Dialogue(self._parts, session, forwarded)
        request = forwarded.request
        if request.method == "BYE":
            self._sessions.owe_end(call_id, frozenset({tag_of(request, "From"), tag_of(request, "To")}))
        return None

    async def _is_known(self, call_id: str) -> bool:
        """Say whether there is a call of this Call-ID. Who begins a new one does not wait long for a slow Redis."""
        if self._sessions.known(call_id) is None:
            answered: Deferred[None] = Deferred()

            async def look() -> None:
                try:
                    await self._sessions.find(call_id)
                finally:
                    patience.cancel()
                    if not answered.called:
                        answered.callback(None)

            patience = self._wheel.call_later(LOOK_SECONDS, answered.callback, None)
            start(look(), lambda failure: self._log.failure("while a call was looked for", failure=failure))
            await answered
        return self._sessions.known(call_id) is not None

    def _wanted(self, forwarded: Forwarded, way: Way, call_id: str) -> Wanted:
        request = forwarded.request
        group = self._choosing.group(self._aor(parse_name_addr(request.get("From") or "").uri), self._aor(request.uri))
        hosts = [forwarded.source.peer[0], *(attempt.asked_from for attempt in (way.groups or [[]])[0][:1])]
        found = described(request)
        preferred = codec(found.sdp).name if found is not None else ""
        return Wanted(group, tuple(self._parts.group_of(host) for host in hosts if host), call_id, codec=preferred)

    def _aor(self, text: str) -> str:
        """Return the AOR that a URI names, as in the tenants' list; empty when it is none."""
        try:
            uri = parse_uri(text)
        except ParseError:
            return ""
        if not isinstance(uri, SipUri):
            return ""
        return aor_of(uri, self._domains.served(uri) or uri.host)

    def _others(self, wanted: Wanted, first: MediaNode) -> list[MediaNode]:
        """Return the node that a call goes to, and the one that it goes to when that one cannot be reached."""
        second = self._choosing.second(evolve(wanted, without=frozenset({first.id})))
        if second is None or second.kind == "rtpengine" or second.id == first.id:
            return [first]
        return [first, second]


def _through(way: Way, nodes: list[MediaNode], request: Request) -> Way:
    """Return the way to a node as the next hop, which finds the callee by the Request-URI as it came, through us."""
    first, *others = [Attempt(request.uri, ByUri(at=f"sip:{node.address}"), asked_from=host_of(node.address))
                      for node in nodes]
    return evolve(way, groups=[[evolve(first, alternates=tuple(others))]], phones=None)
