"""Requests that are for somebody else: checked, authorised, and sent to the phones of the callee.

The steps of RFC 3261 §16: validation (16.3), own Routes (16.4), targets (16.5), forwarding (16.6).
A request within a dialog carries back the flow tokens that its Record-Route was given: whoever holds
one that is valid for its Call-ID needs no other permission (RFC 5626 §5.3).
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from attrs import evolve
from twisted.logger import Logger
from twisted.python.failure import Failure

from registrar.auth import StoreUnavailable
from registrar.authorising import Callers, Refusal
from registrar.bound import keys_on
from registrar.dialogs import Dialogs, Moved
from registrar.diverting import Diverting
from registrar.forking import Fork, Groups, Way
from registrar.gruu import GruuMaker, NoSuchGruu
from registrar.location.contract import LocationStore, LocationUnavailable
from registrar.owners import phone_name, record_of, same_phone, way_to
from registrar.passing import Passage
from registrar.reconnecting import Phones, Reconnecting
from registrar.records import Binding, aor_of_key, record_key
from registrar.routing import (
    ByUri,
    Candidate,
    Domains,
    OverMember,
    ProxyConfig,
    aor_of,
    target_groups,
    within_breadth,
)
from registrar.sending import NO_DIALOG, Attempt, Forwarded, Sender, dialog_context
from rollcall.net.flow import Flow
from rollcall.net.tokens import FlowTokens
from rollcall.net.transactions import ServerTransaction, Transactions
from rollcall.ops.coroutines import start
from rollcall.sip.errors import ParseError
from rollcall.sip.forwarding import has_looped, loop_mark, max_breadth, max_forwards
from rollcall.sip.headers import option_tags, parse_name_addr
from rollcall.sip.message import Request
from rollcall.sip.uri import SipUri, parse_uri

ALLOWED = ("INVITE", "ACK", "CANCEL", "BYE", "REGISTER", "OPTIONS", "MESSAGE", "SUBSCRIBE", "NOTIFY", "REFER", "INFO",
           "PRACK", "UPDATE", "PUBLISH")
SUPPORTED = ("path", "outbound", "gruu")
ALLOW_EVENTS = ("reg",)  # what we tell about ourselves (RFC 3680); phones have events of their own
# Requests that only ever come within a dialog (RFC 3261 §15, RFC 3262, 3311, 6086).
WITHIN_DIALOGS = frozenset({"BYE", "PRACK", "UPDATE", "INFO"})


class Media(Protocol):
    """How calls go through media nodes."""

    def trusts(self, flow: Flow) -> bool:
        """Say whether what comes over `flow` is sent by a media node, which sends on what was allowed before."""

    async def entered(self, forwarded: Forwarded, way: Way) -> tuple[Way, Passage | None]:
        """Return where a request from outside goes, and what becomes of it on the way. Raises Refusal."""

    async def acknowledged(self, forwarded: Forwarded) -> Forwarded:
        """Return what is sent on of an ACK from outside."""

    def refused(self, request: Request, status: int) -> None:
        """Hear of a request from outside that was refused before it came to a passage."""


class Proxying:
    """Forwards requests to bindings, over dialogs' flows, and for subscribers to other domains."""

    _log = Logger()

    def __init__(self, *, domains: Domains, location: LocationStore, callers: Callers,
                 exists: Callable[[str], Awaitable[bool]], gruus: GruuMaker, tokens: FlowTokens,
                 transactions: Transactions, sender: Sender, config: ProxyConfig, now: Callable[[], float],
                 retry_after: Callable[[], int], ended: Callable[[Fork, int], None],
                 refused: Callable[[ServerTransaction, int], None] = lambda server, status: None,
                 reconnecting: Reconnecting | None = None, wants_nobody: Callable[[], bool] = lambda: False,
                 diverting: Diverting | None = None, media: Media | None = None) -> None:
        """`exists` tells whether an AOR has a subscriber; `ended` is told each fork's final status.

        `refused` is told of each request that was refused before it came to a fork, with the status it got.
        Without `reconnecting` there is no other node, and no phone is waited for. `wants_nobody` says whether whoever
        asks for our health shall send his work elsewhere. `diverting` knows aliases and forwardings. Without `media`
        phones send to each other what they please.
        """
        self._domains = domains
        self._location = location
        self._callers = callers
        self._exists = exists
        self._gruus = gruus
        self._node = tokens.node
        self._is_own = tokens.is_own
        if reconnecting is None:
            reconnecting = Reconnecting(location=location, wheel=transactions.wheel, now=now)
        self._reconnecting = reconnecting
        self._dialogs = Dialogs(domains, tokens, self._reconnecting.cluster, now)
        self._transactions = transactions
        self._sender = sender
        self._config = config
        self._now = now
        self._retry_after = retry_after
        self._ended = ended
        self._refused = refused
        self._wants_nobody = wants_nobody
        self._diverting = diverting
        self._media = media

    @property
    def dialogs(self) -> Dialogs:
        """Who reads the Routes of requests within dialogs."""
        return self._dialogs

    async def follow(self, phone: bytes, request: Request) -> Attempt | None:
        """Return where the phone is now that has moved on from the flow of its dialog; None when it is nowhere."""
        groups = await self._phone_of(phone, request).look_patiently()
        return next((attempt for group in groups for attempt in group), None)

    def receive(self, request: Request, server: ServerTransaction) -> None:
        """Answer or forward `request`; every way out answers `server`."""
        start(self._route(request, server), lambda failure: self._broke(failure, server))

    def acknowledge(self, request: Request, flow: Flow) -> None:
        """Forward the ACK of a 2xx over its dialog's flow, without state (RFC 3261 §16.11); drop any other."""
        try:
            forwarded = self._validated(request, flow)
            dialog = self._dialogs.take(request, flow)
            if dialog is None:
                raise Refusal(481, "it is of no dialog of ours")
        except (ParseError, Refusal) as problem:
            self._log.debug("dropped an ACK from {peer}: {problem}", peer=flow.peer, problem=str(problem))
            return
        start(self._pass_on(forwarded, dialog), self._ack_was_lost)

    async def _pass_on(self, forwarded: Forwarded, dialog: Attempt | Moved) -> None:
        """Send an ACK on to where its INVITE has found the phone: who has moved got it at another node than before.

        Nobody says 430 to an ACK, so the record is looked at before another node is spoken to in vain.
        """
        if self._media is not None and _comes_in(forwarded.request, forwarded.source):
            forwarded = await self._media.acknowledged(forwarded)
        if isinstance(dialog, Attempt) and not (dialog.phone and isinstance(dialog.hop, OverMember)):
            await self._sender.pass_on(forwarded, dialog)
            return
        phones = self._phone_of(dialog.phone, forwarded.request, isinstance(dialog, Moved))
        groups = await phones.look_patiently()

        def found(groups: Groups) -> None:
            known = [attempt for group in groups for attempt in group]
            known += [dialog] if isinstance(dialog, Attempt) else []
            for attempt in known[:1]:
                start(self._sender.pass_on(forwarded, attempt), self._ack_was_lost)

        if groups or not (phones.may_return and phones.wait(found)):
            found(groups)

    def _ack_was_lost(self, failure: Failure) -> None:
        self._log.info("an ACK was lost: {why}", why=failure.getErrorMessage(), log_rationed=True)

    async def _route(self, request: Request, server: ServerTransaction) -> None:
        passage: Passage | None = None
        try:
            forwarded = self._validated(request, server.flow)
            way = await self._way(request, server)
            if way is not None:
                forwarded = evolve(forwarded, caller=await self._caller(forwarded))
                if self._media is not None and _comes_in(request, server.flow):
                    way, passage = await self._media.entered(forwarded, way)
        except Refusal as refusal:
            server.turn_away(refusal.status, refusal.reason, refusal.headers)
            self._refused(server, refusal.status)
            if self._media is not None and _comes_in(request, server.flow):
                self._media.refused(request, refusal.status)
        except ParseError as problem:
            server.turn_away(problem.status, problem.reason)
        except (LocationUnavailable, StoreUnavailable) as problem:
            self._log.warn("no answer from a store: {problem}", problem=str(problem), log_rationed=True)
            server.turn_away(503, None, (("Retry-After", str(self._retry_after())),))
        else:
            # A CANCEL may have ended the request while a store was asked.
            if way is not None and not server.answered:
                self._fork(server, forwarded, way, passage)

    def _fork(self, server: ServerTransaction, forwarded: Forwarded, way: Way, passage: Passage | None) -> None:
        groups = way.groups
        if way.request is not None:
            forwarded = evolve(forwarded, request=way.request)
        if groups:
            groups, breadth = within_breadth(groups, forwarded.breadth)
            forwarded = evolve(forwarded, breadth=breadth)
        # Another node counts the calls that it sends through us.
        ended = _uncounted if server.flow.member else self._ended
        Fork(server, forwarded, groups, self._sender, self._transactions, self._config, ended, way.phones,
             way.instead, passage).start()

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
        if not source.member:
            self._callers.drop_asserted(request)
        sender = parse_name_addr(request.get("From") or "").tag
        return Forwarded(request, source, mark, len(vias) == 1, dialog_context(request, sender), breadth)

    async def _caller(self, forwarded: Forwarded) -> bytes:
        """Return whose phone has sent a request that may begin a dialog, so that it is found again when it moves."""
        if not forwarded.source.bound or not forwarded.from_phone or forwarded.request.method in NO_DIALOG:
            return b""
        key, flow = self._key_of_caller(forwarded.request, keys_on(forwarded.source)), forwarded.source
        if key is None:
            return b""
        try:
            bindings = (await self._location.load(aor_of_key(key))).bindings
        except LocationUnavailable:
            bindings = ()
        on_it = (binding.instance for binding in bindings
                 if binding.connection_bound and binding.source.flow_id == flow.id
                 and self._is_own(binding.source.node, binding.source.epoch))
        return phone_name(key, next(on_it, None), self._now())

    def _key_of_caller(self, request: Request, keys: Sequence[bytes]) -> bytes | None:
        """Return which of the records that are bound to a connection is the caller's: a trunk's has many."""
        if len(keys) == 1:
            return keys[0]
        caller = parse_uri(parse_name_addr(request.get("From") or "").uri)
        domain = self._domains.served(caller) if isinstance(caller, SipUri) else None
        if domain is None or not isinstance(caller, SipUri):
            return None
        key = record_key(aor_of(caller, domain))
        return key if key in keys else None

    async def _way(self, request: Request, server: ServerTransaction) -> Way | None:
        """Return where to send `request`; None when it was answered here."""
        dialog = self._dialogs.take(request, server.flow)
        uri = parse_uri(request.uri)
        if not isinstance(uri, SipUri):
            # RFC 3261 §16.3 step 2
            raise Refusal(416)
        domain = self._domains.served(uri)
        if dialog is not None and (server.flow.member or domain is None or uri.user is None
                                   or self._stays_on_flow(dialog, uri)):
            return await self._along(dialog, server)
        if request.values("Route"):
            # A Route that is not ours takes the request elsewhere, whoever its Request-URI names.
            domain = None
        elif self._domains.is_ours(uri) and (domain is None or uri.user is None):
            self._answer_as_server(request, server)
            return None
        if dialog is None and (self._media is None or not self._media.trusts(server.flow)):
            await self._callers.authorise(request, domain, server.flow)
        if domain is None:
            return await self._along(dialog or Attempt(request.uri, ByUri()), server)
        if dialog is None and self._diverting is not None and self._diverting.is_used and not self._gruus.is_gruu(uri):
            return await self._diverting.way(server, uri, domain, self._of_user)
        return await self._of_user(server, uri, domain, dialog is not None)

    async def _along(self, dialog: Attempt | Moved, server: ServerTransaction) -> Way:
        """Return the way over a dialog's flow, or to where its phone is now."""
        if not dialog.phone or server.flow.member:
            assert isinstance(dialog, Attempt)
            return Way([[dialog]])
        phones = self._phone_of(dialog.phone, server.request)
        if isinstance(dialog, Attempt):
            if isinstance(dialog.hop, OverMember):
                phones.was_tried(dialog.hop.flow)
            return Way([[dialog]], phones)
        if dialog.flow is not None:
            phones.was_tried(dialog.flow)
        groups = await phones.look_patiently(server)
        if groups or phones.may_return:
            return Way(groups, phones)
        # RFC 5626 §5.3.1
        raise Refusal(430)

    def _phone_of(self, phone: bytes, request: Request, is_gone: bool = True) -> Phones:
        """Return the other side's phone of a dialog; its Request-URI goes on to name it, wherever it is bound now."""
        key, is_secure = record_of(phone), request.uri[:5].lower() == "sips:"

        def choose(bindings: Sequence[Binding], now: float) -> Groups:
            found = same_phone(phone, request.uri, bindings)
            groups = target_groups(found, now, 1, secure_only=is_secure)
            return [[self._attempt(candidate, key, now, request.uri) for candidate in group] for group in groups]

        return self._reconnecting.phones(aor_of_key(key), choose, request.get("Call-ID") or "", is_gone)

    def _stays_on_flow(self, dialog: Attempt | Moved, uri: SipUri) -> bool:
        """Say whether a dialog's flow leads to `uri`, a user of ours: unless it is a GRUU, it is a phone's Contact."""
        by_uri = isinstance(dialog, Attempt) and isinstance(dialog.hop, ByUri)
        return not by_uri and not self._gruus.is_gruu(uri)

    def _answer_as_server(self, request: Request, server: ServerTransaction) -> None:
        """Answer a request for this node itself (RFC 3261 §§8.2, 11.2)."""
        _refuse_unsupported(request, "Require", frozenset(SUPPORTED))
        if request.method == "OPTIONS" and self._wants_nobody():
            server.turn_away(503, None, (("Retry-After", str(self._retry_after())),))
        elif request.method == "OPTIONS":
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

    async def _of_user(self, server: ServerTransaction, uri: SipUri, domain: str, in_dialog: bool) -> Way:
        """Return the phones of the user that `uri` names (RFC 3261 §16.5, RFC 5627 §5.2)."""
        request = server.request
        may_wait = in_dialog or request.method == "INVITE"
        try:
            gruu = self._gruus.resolve(uri, domain) if self._gruus.is_gruu(uri) else None
        except NoSuchGruu as problem:
            raise Refusal(404) from problem
        aor = aor_of(uri, domain) if gruu is None else gruu.aor
        key, is_secure = record_key(aor), uri.scheme == "sips"

        def choose(bindings: Sequence[Binding], now: float) -> Groups:
            meant = bindings if gruu is None else gruu.contacts(bindings, now)
            groups = target_groups(meant, now, self._config.max_branches, secure_only=is_secure)
            return [[self._attempt(candidate, key, now) for candidate in group] for group in groups]

        phones = self._reconnecting.phones(aor, choose, request.get("Call-ID") or "", in_dialog and gruu is not None)
        groups: Groups = []
        try:
            groups = await (phones.look_patiently(server) if may_wait else phones.look())
        except NoSuchGruu as problem:
            if not (may_wait and phones.may_return):
                raise Refusal(404) from problem
        if groups or (may_wait and phones.may_return):
            return Way(groups, phones if may_wait else None)
        if phones.snapshot.bindings or await self._exists(aor):
            raise Refusal(480)
        raise Refusal(404)

    def _attempt(self, candidate: Candidate, key: bytes, now: float, uri: str | None = None) -> Attempt:
        """Return the ways to a phone; `uri` is what it is called, unless by its contacts."""
        first, *others = [
            Attempt(uri or binding.contact, way_to(binding, self._node, self._reconnecting.cluster),
                    asked_from=binding.source.host, phone=phone_name(key, binding.instance, now))
            for binding in (candidate.binding, *candidate.alternates)
        ]
        return evolve(first, alternates=tuple(others))


def _comes_in(request: Request, flow: Flow) -> bool:
    """Say whether a request comes from outside of our site's nodes, which know of calls what one of them knows.

    What another site has begun it leads through media nodes of its own; what it sends within a call may be for ours.
    """
    if not flow.member:
        return True
    return bool(flow.site) and parse_name_addr(request.get("To") or "").tag is not None


def _uncounted(fork: Fork, status: int) -> None:
    """Hear of a call that another node counts."""


def _refuse_unsupported(request: Request, header: str, known: frozenset[str]) -> None:
    unsupported = option_tags(request, header) - known
    if unsupported:
        raise Refusal(420, None, (("Unsupported", ", ".join(sorted(unsupported))),))
