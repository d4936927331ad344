"""The PUBLISH conversation of phones that report how calls sound (RFC 6035 §3.2, RFC 3903 §6): answered here, told on.

No state is kept: a report is told to the balancers and forgotten. What a phone would refresh is answered like what it
published first.
"""

from collections import Counter
from collections.abc import Callable
from os import urandom

from attrs import frozen
from twisted.logger import Logger
from twisted.python.failure import Failure

from registrar.auth import Accepted, Authentication, StoreUnavailable
from registrar.authorising import Refusal
from registrar.bound import keys_on
from registrar.location.contract import LocationUnavailable
from registrar.routing import Domains
from rollcall.media.reports import PhoneReport
from rollcall.media.vqrtcpxr import CONTENT_TYPE, PACKAGE, VqError, is_vq_report, parse_vq_report, phone_report
from rollcall.net.transactions import ServerTransaction
from rollcall.ops.coroutines import start
from rollcall.sip.errors import ParseError
from rollcall.sip.headers import delta_seconds, parse_name_addr
from rollcall.sip.message import Request, response_to
from rollcall.sip.uri import SipUri, parse_often, parse_uri

EXPIRES_SECONDS = 3600
"""What is said to last so long at most (RFC 3903 §6 lets us shorten it); nothing is kept."""
ETAG_BYTES = 8


@frozen(kw_only=True)
class PublishingParts:
    """What the conversation needs of the registrar."""

    domains: Domains
    authentication: Authentication | None
    """None: everybody is believed."""
    default_realm: str
    tell: Callable[[PhoneReport], object]
    node_of_call: Callable[[str], str] = lambda call_id: ""
    """The media node of a call, by its Call-ID; empty: not known here."""
    retry_after: Callable[[], int]
    now: Callable[[], float]
    """In seconds since the epoch."""
    observe: Callable[[str], None] = lambda outcome: None
    """Told "accepted", or why not, each time credentials were looked at."""


class Publishing:
    """Answers PUBLISH with Event: vq-rtcpxr from registered phones."""

    _log = Logger()

    def __init__(self, parts: PublishingParts) -> None:
        self._parts = parts
        self.outcomes: Counter[str] = Counter()
        """What became of them: "taken", "malformed", "refused", "unavailable"."""

    def wants(self, request: Request) -> bool:
        """Say whether a PUBLISH is a report to us: by its event, and by where it goes. A GRUU names a phone."""
        if (request.get("Event") or "").partition(";")[0].strip().lower() != PACKAGE:
            return False
        try:
            if parse_name_addr(request.get("To") or "").tag is not None:
                return False
            uri = parse_often(request.uri)
            routes = [parse_uri(parse_name_addr(route).uri) for route in request.values("Route")]
        except ParseError:
            return False
        domains = self._parts.domains
        return (isinstance(uri, SipUri) and uri.param("gr") is None
                and (domains.served(uri) is not None or (domains.is_ours(uri) and uri.user is None))
                and all(isinstance(route, SipUri) and domains.is_ours(route) for route in routes))

    def receive(self, request: Request, server: ServerTransaction) -> None:
        """Answer `request`; every way out answers `server`."""
        start(self._answer(request, server), lambda failure: self._broke(failure, server))

    async def _answer(self, request: Request, server: ServerTransaction) -> None:
        try:
            await self._authorise(request, server)
            headers = self._take(request, server)
        except Refusal as refusal:
            self.outcomes["refused"] += 1
            server.turn_away(refusal.status, refusal.reason, refusal.headers)
        except (ParseError, VqError) as problem:
            self.outcomes["malformed"] += 1
            self._log.info("a report of {peer} is not understood: {why}", peer=server.flow.peer, why=str(problem),
                           log_rationed=True)
            server.turn_away(400, "Report Not Understood")
        except (LocationUnavailable, StoreUnavailable):
            self.outcomes["unavailable"] += 1
            server.turn_away(503, None, (("Retry-After", str(self._parts.retry_after())),))
        else:
            self.outcomes["taken"] += 1
            server.respond(response_to(request, 200, None, urandom(ETAG_BYTES).hex(), headers))

    def _broke(self, failure: Failure, server: ServerTransaction) -> None:
        self._log.failure("a PUBLISH broke", failure)
        if not server.answered:
            server.refuse(500)

    async def _authorise(self, request: Request, server: ServerTransaction) -> None:
        """Return when the sender is a phone that is registered over this connection, or a subscriber. Raises Refusal.

        What comes from another node was not for us there, nor is it here.
        """
        if server.flow.member:
            raise Refusal(403)
        authentication = self._parts.authentication
        if authentication is None or keys_on(server.flow):
            return
        verdict = await authentication.authenticate(
            request, self._realm(request), self._parts.now(), flow=server.flow)
        self._parts.observe("accepted" if isinstance(verdict, Accepted) else verdict.cause)
        if not isinstance(verdict, Accepted):
            raise Refusal(verdict.status, verdict.reason, tuple(verdict.headers))

    def _realm(self, request: Request) -> str:
        for text in (parse_name_addr(request.get("From") or "").uri, request.uri):
            uri = parse_uri(text)
            home = self._parts.domains.served(uri) if isinstance(uri, SipUri) else None
            if home is not None:
                return home
        return self._parts.default_realm

    def _take(self, request: Request, server: ServerTransaction) -> tuple[tuple[str, str], ...]:
        """Tell on what `request` says; return the headers of the answer. Raises Refusal, ParseError, VqError."""
        expires = request.get("Expires")
        seconds = EXPIRES_SECONDS if expires is None else min(delta_seconds(expires), EXPIRES_SECONDS)
        if request.body:
            if not is_vq_report(request.get("Content-Type")):
                raise Refusal(415, None, (("Accept", CONTENT_TYPE),))
            report = parse_vq_report(request.body)
            parts = self._parts
            parts.tell(phone_report(report, parts.now(), server.flow.peer[0], parts.node_of_call(report.call_id)))
        elif request.get("SIP-If-Match") is None:
            raise VqError("it has no body")
        return ("SIP-ETag", urandom(ETAG_BYTES).hex()), ("Expires", str(seconds))
