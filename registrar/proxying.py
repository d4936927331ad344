"""Requests that are for somebody else: checked, authorised, and sent to the phones of the callee.

The steps of RFC 3261 §16: validation (16.3), own Routes (16.4), targets (16.5), forwarding (16.6).
A request within a dialog carries back the flow tokens that its Record-Route was given: whoever holds
one that is valid for its Call-ID needs no other permission (RFC 5626 §5.3).
"""

from collections.abc import Awaitable, Callable

from attrs import evolve
from twisted.logger import Logger
from twisted.python.failure import Failure

from registrar.auth import StoreUnavailable
from registrar.authorising import Callers, Refusal
from registrar.forking import Fork
from registrar.gruu import GruuMaker, NoSuchGruu
from registrar.location.contract import LocationStore, LocationUnavailable
from registrar.routing import (
    ByUri,
    Candidate,
    Domains,
    ProxyConfig,
    aor_of,
    next_hop,
    target_groups,
    within_breadth,
)
from registrar.sending import Attempt, Forwarded, Sender, dialog_context
from rollcall.net.flow import Flow
from rollcall.net.tokens import NO_FLOW, BadToken, FlowGone, FlowTokens, NoFlow
from rollcall.net.transactions import ServerTransaction, Transactions
from rollcall.ops.coroutines import start
from rollcall.sip.errors import ParseError
from rollcall.sip.forwarding import has_looped, loop_mark, max_breadth, max_forwards, take_own_routes
from rollcall.sip.headers import option_tags, parse_name_addr
from rollcall.sip.message import Request
from rollcall.sip.uri import SipUri, parse_uri

ALLOWED = ("INVITE", "ACK", "CANCEL", "BYE", "REGISTER", "OPTIONS", "MESSAGE", "SUBSCRIBE", "NOTIFY", "REFER", "INFO",
           "PRACK", "UPDATE", "PUBLISH")
SUPPORTED = ("path", "outbound", "gruu")
ALLOW_EVENTS = ("reg",)  # what we tell about ourselves (RFC 3680); phones have events of their own
# Requests that only ever come within a dialog (RFC 3261 §15, RFC 3262, 3311, 6086).
WITHIN_DIALOGS = frozenset({"BYE", "PRACK", "UPDATE", "INFO"})


class Proxying:
    """Forwards requests to bindings, over dialogs' flows, and for subscribers to other domains."""

    _log = Logger()

    def __init__(self, *, domains: Domains, location: LocationStore, callers: Callers,
                 exists: Callable[[str], Awaitable[bool]], gruus: GruuMaker, tokens: FlowTokens,
                 transactions: Transactions, sender: Sender, config: ProxyConfig, now: Callable[[], float],
                 retry_after: Callable[[], int], ended: Callable[[Fork, int], None]) -> None:
        """`exists` tells whether an AOR has a subscriber; `ended` is told each fork's final status."""
        self._domains = domains
        self._location = location
        self._callers = callers
        self._exists = exists
        self._gruus = gruus
        self._tokens = tokens
        self._transactions = transactions
        self._sender = sender
        self._config = config
        self._now = now
        self._retry_after = retry_after
        self._ended = ended

    def receive(self, request: Request, server: ServerTransaction) -> None:
        """Answer or forward `request`; every way out answers `server`."""
        start(self._route(request, server), lambda failure: self._broke(failure, server))

    def acknowledge(self, request: Request, flow: Flow) -> None:
        """Forward the ACK of a 2xx over its dialog's flow, without state (RFC 3261 §16.11); drop any other."""
        try:
            forwarded = self._validated(request, flow)
            attempt = self._within_dialog(request, flow)
            if attempt is None:
                raise Refusal(481, "it is of no dialog of ours")
        except (ParseError, Refusal) as problem:
            self._log.debug("dropped an ACK from {peer}: {problem}", peer=flow.peer, problem=str(problem))
            return
        start(self._sender.pass_on(forwarded, attempt),
              lambda failure: self._log.info("an ACK was lost: {why}", why=failure.getErrorMessage(),
                                             log_rationed=True))

    async def _route(self, request: Request, server: ServerTransaction) -> None:
        try:
            forwarded = self._validated(request, server.flow)
            groups = await self._groups(request, server)
        except Refusal as refusal:
            server.turn_away(refusal.status, refusal.reason, refusal.headers)
        except ParseError as problem:
            server.turn_away(problem.status, problem.reason)
        except (LocationUnavailable, StoreUnavailable) as problem:
            self._log.warn("no answer from a store: {problem}", problem=str(problem), log_rationed=True)
            server.turn_away(503, None, (("Retry-After", str(self._retry_after())),))
        else:
            # A CANCEL may have ended the request while a store was asked.
            if groups and not server.answered:
                groups, breadth = within_breadth(groups, forwarded.breadth)
                forwarded = evolve(forwarded, breadth=breadth)
                Fork(server, forwarded, groups, self._sender, self._transactions, self._config, self._ended).start()

    def _broke(self, failure: Failure, server: ServerTransaction) -> None:
        self._log.failure("a {method} broke", failure=failure, method=server.request.method)
        if not server.answered:
            server.refuse(500)

    def _validated(self, request: Request, source: Flow) -> Forwarded:
        """Do the checks of RFC 3261 §16.3 that need no target."""
        if max_forwards(request) == 0:
            raise Refusal(483)
        vias = request.values("Via")
        mark = loop_mark(request, request.values("Route"))
        if len(vias) > 1 and has_looped(request, mark, self._domains.is_own_via):
            raise Refusal(482)
        if request.method not in ("ACK", "CANCEL"):
            _refuse_unsupported(request, "Proxy-Require", frozenset())
        breadth = max_breadth(request, self._config.max_breadth)
        if not breadth:
            raise Refusal(440)
        self._callers.drop_asserted(request)
        sender = parse_name_addr(request.get("From") or "").tag
        return Forwarded(request, source, mark, len(vias) == 1, dialog_context(request, sender), breadth)

    async def _groups(self, request: Request, server: ServerTransaction) -> list[list[Attempt]]:
        """Return where to send `request`, group after group; none when it was answered here."""
        dialog = self._within_dialog(request, server.flow)
        uri = parse_uri(request.uri)
        if not isinstance(uri, SipUri):
            # RFC 3261 §16.3 step 2
            raise Refusal(416)
        domain = self._domains.served(uri)
        if dialog is not None and (domain is None or uri.user is None or self._stays_on_flow(dialog, uri)):
            return [[dialog]]
        if request.values("Route"):
            # A Route that is not ours takes the request elsewhere, whoever its Request-URI names.
            domain = None
        elif self._domains.is_ours(uri) and (domain is None or uri.user is None):
            self._answer_as_server(request, server)
            return []
        if dialog is None:
            await self._callers.authorise(request, domain)
        if domain is None:
            return [[dialog or Attempt(request.uri, ByUri())]]
        return await self._of_user(uri, domain)

    def _within_dialog(self, request: Request, source: Flow) -> Attempt | None:
        """Take our Routes off `request` and return where they send it; None when that is no permission.

        Both our Record-Route values come back (see Sending): the first names the sender, the last the other side.
        A request without a To tag begins a dialog, whatever it brings along. And to wherever its Request-URI leads, a
        request goes only when it came over the very flow that its first Route names: a phone's in a dialog that
        it began or took part in, nobody else's.
        """
        taken = take_own_routes(request, self._domains.is_ours)
        if not taken or taken[-1].user is None:
            return None
        try:
            flow = self._resolved(taken[-1].user, request)
        except BadToken as problem:
            # RFC 5626 §5.3.1: "tampered with, the proxy SHOULD send a 403", "no longer exists … 430"
            raise Refusal(403, "Flow Token Refused") from problem
        except FlowGone as problem:
            raise Refusal(430) from problem
        if parse_name_addr(request.get("To") or "").tag is None:
            return None
        if flow is NO_FLOW:
            return Attempt(request.uri, ByUri()) if self._names(taken[0], request, source) else None
        return Attempt(request.uri, flow)

    def _names(self, route: SipUri, request: Request, source: Flow) -> bool:
        try:
            return self._resolved(route.user or "", request) == source
        except (BadToken, FlowGone):
            return False

    def _resolved(self, token: str, request: Request) -> Flow | NoFlow:
        """Return what `token` names; it was made for the tag of whoever sent the request that it went out with."""
        tags = [parse_name_addr(request.get(name) or "").tag for name in ("From", "To")]
        try:
            return self._tokens.resolve(token, dialog_context(request, tags[0]))
        except BadToken:
            return self._tokens.resolve(token, dialog_context(request, tags[1]))

    def _stays_on_flow(self, dialog: Attempt, uri: SipUri) -> bool:
        """Say whether a dialog's flow leads to `uri`, a user of ours: unless it is a GRUU, it is a phone's Contact."""
        return not isinstance(dialog.hop, ByUri) and not self._gruus.is_gruu(uri)

    def _answer_as_server(self, request: Request, server: ServerTransaction) -> None:
        """Answer a request for this node itself (RFC 3261 §§8.2, 11.2)."""
        _refuse_unsupported(request, "Require", frozenset(SUPPORTED))
        if request.method == "OPTIONS":
            server.turn_away(200, None, (("Allow", ", ".join(ALLOWED)), ("Accept", "*/*"),
                                      ("Supported", ", ".join(SUPPORTED)), ("Allow-Events", ", ".join(ALLOW_EVENTS))))
        elif request.method in WITHIN_DIALOGS:
            server.turn_away(481)
        elif request.method in ALLOWED:
            # RFC 3261 §16.5: without a user part it does not say whom of the domain it means.
            server.turn_away(485)
        else:
            # RFC 3261 §21.5.2: 405 is for methods that the server recognizes.
            server.turn_away(501, None, (("Allow", ", ".join(ALLOWED)),))

    async def _of_user(self, uri: SipUri, domain: str) -> list[list[Attempt]]:
        """Return the phones of the user that `uri` names (RFC 3261 §16.5, RFC 5627 §5.2)."""
        gruu = None
        try:
            if self._gruus.is_gruu(uri):
                gruu = self._gruus.resolve(uri, domain)
            aor = aor_of(uri, domain) if gruu is None else gruu.aor
            snapshot = await self._location.load(aor)
            now = self._now()
            bindings = snapshot.bindings if gruu is None else gruu.contacts(snapshot.bindings, now)
        except NoSuchGruu as problem:
            raise Refusal(404) from problem
        groups = target_groups(bindings, now, self._config.max_branches, secure_only=uri.scheme == "sips")
        if groups:
            return [[_attempt(candidate) for candidate in group] for group in groups]
        if snapshot.bindings or await self._exists(aor):
            raise Refusal(480)
        raise Refusal(404)


def _refuse_unsupported(request: Request, header: str, known: frozenset[str]) -> None:
    unsupported = option_tags(request, header) - known
    if unsupported:
        raise Refusal(420, None, (("Unsupported", ", ".join(sorted(unsupported))),))


def _attempt(candidate: Candidate) -> Attempt:
    first, *others = [
        Attempt(binding.contact, next_hop(binding), asked_from=binding.source.host)
        for binding in (candidate.binding, *candidate.alternates)
    ]
    return evolve(first, alternates=tuple(others))
