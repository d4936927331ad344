"""The REGISTER conversation: RFC 3261 §10.3, step by step, around the pure rules of `registrar.bindings`.

Flow-bound bindings: a binding made over a connection ends with it, and a phone that comes back over a
new connection leaves its old one without a use; then that is closed.
"""

from collections.abc import Callable
from random import random

from attrs import evolve
from twisted.logger import Logger
from twisted.python.failure import Failure

from registrar.answering import answer_headers
from registrar.auth import GUESSES, Accepted, Authentication, StoreUnavailable
from registrar.authorising import Refusal
from registrar.bindings import SUPPORTED_EXTENSIONS, register, superseded
from registrar.bound import keys_on, let_go, tie, untie
from registrar.gruu import GruuMaker
from registrar.location.contract import Conflict, LocationStore, LocationUnavailable
from registrar.observing import Observing
from registrar.reading import read_register
from registrar.records import (
    Binding,
    BindingConfig,
    Refused,
    Register,
    Source,
    Stored,
    aor_of_key,
    record_key,
)
from registrar.routing import Domains, aor_of, aor_of_name
from rollcall.net.flow import Flow
from rollcall.net.transactions import ServerTransaction
from rollcall.ops.coroutines import start
from rollcall.sip.errors import ParseError
from rollcall.sip.headers import option_tags, parse_name_addr
from rollcall.sip.message import Request
from rollcall.sip.uri import SipUri, parse_often, parse_uri

# Two REGISTERs of one AOR at once: each loser of the race decides again on what the winner wrote.
MAX_CONFLICTS = 8


class Registering:
    """Answers REGISTER for the domains we serve."""

    _log = Logger()

    def __init__(self, *, domains: Domains, location: LocationStore, authentication: Authentication | None,
                 gruus: GruuMaker, config: BindingConfig, node: str, epoch: int,
                 find_flow: Callable[[int], Flow | None], now: Callable[[], float], retry_after: Callable[[], int],
                 observing: Observing, refuses_new: Callable[[], bool] = lambda: False,
                 there: Callable[[tuple[Binding, ...]], tuple[Binding, ...]] = lambda bindings: bindings,
                 left: Callable[[bytes, str, float], None] = lambda key, host, now: None) -> None:
        """`refuses_new` says whether only what is bound to an open connection is refreshed: phones shall move over.

        `there` leaves out bindings that ended with their node; they go with the next change of the record. `left` is
        told of each record whose connection has ended: its key, the host and when.
        """
        self._domains = domains
        self._location = location
        self._authentication = authentication
        self._gruus = gruus
        self._config = config
        self._node = node
        self._epoch = epoch
        self._find_flow = find_flow
        self._now = now
        self._retry_after = retry_after
        self._observing = observing
        self._saved = observing.of_store("location")
        self._refuses_new = refuses_new
        self._there = there
        self._left = left

    def receive(self, request: Request, server: ServerTransaction) -> None:
        """Answer a REGISTER; every way out answers `server`."""
        start(self._answer(request, server), lambda failure: self._broke(failure, server))

    def spread(self, jitter: float) -> None:
        """Shorten granted times by up to this part from now on."""
        self._config = evolve(self._config, expiry_jitter=jitter)

    def flow_closed(self, flow: Flow) -> None:
        """Remove what was bound to a connection that has ended."""
        if flow.bound:
            keys, flow.bound = keys_on(flow), None
            for key in keys:
                start(self._unbind(aor_of_key(key), flow.id),
                      lambda failure: self._log.failure("while unbinding what was bound to a closed flow", failure))

    async def _answer(self, request: Request, server: ServerTransaction) -> None:
        try:
            headers = await self._register(request, server.flow)
        except Refusal as refusal:
            server.refuse(refusal.status, refusal.reason, refusal.headers)
        except ParseError as problem:
            server.refuse(problem.status, problem.reason)
        except (StoreUnavailable, LocationUnavailable, Conflict) as problem:
            # Never 401, 403 or 404 because a store is down: the phone would ask its user, or give up.
            why = str(problem) or type(problem).__name__
            self._log.warn("a REGISTER must wait: {problem}", problem=why, log_rationed=True)
            server.refuse(503, None, (("Retry-After", str(self._retry_after())),))
        else:
            server.refuse(200, None, headers)

    def _broke(self, failure: Failure, server: ServerTransaction) -> None:
        self._log.failure("a REGISTER broke", failure)
        if not server.answered:
            server.refuse(500)

    async def _register(self, request: Request, flow: Flow) -> tuple[tuple[str, str], ...]:
        # Step 1 and 2: the Request-URI names a domain of ours, and we understand what it requires.
        target = parse_often(request.uri)
        domain = self._domains.served(target) if isinstance(target, SipUri) else None
        if domain is None:
            raise Refusal(403, "Domain Not Served")
        unknown = option_tags(request, "Require") - SUPPORTED_EXTENSIONS
        if unknown:
            raise Refusal(420, None, (("Unsupported", ", ".join(sorted(unknown))),))
        # Step 5 first, for it costs nothing: whose bindings these are.
        aor = self._address_of_record(request, domain)
        # Steps 3 and 4: who asks, and may they?
        if self._authentication is not None:
            verdict = await self._authentication.authenticate(request, domain, self._now(), flow=flow)
            self._observing.authenticated("accepted" if isinstance(verdict, Accepted) else verdict.cause)
            if not isinstance(verdict, Accepted):
                if verdict.cause in GUESSES:
                    self._log.warn("{aor} from {host}:{port} over {transport}: {cause}", aor=aor, host=flow.peer[0],
                                   port=flow.peer[1], transport=flow.transport, cause=verdict.cause, log_rationed=True)
                raise Refusal(verdict.status, verdict.reason, tuple(verdict.headers))
            if aor_of_name(verdict.username, verdict.domain) != aor:
                self._log.warn("{user} may not register {aor}", user=verdict.username, aor=aor,
                               log_rationed=True)
                raise Refusal(403, "Not Your Address")
        wish = read_register(request, aor, self._source(flow), self._gruus)
        return await self._store(wish, flow)

    def _address_of_record(self, request: Request, domain: str) -> str:
        uri = parse_uri(parse_name_addr(request.get("To") or "").uri)
        if not isinstance(uri, SipUri):
            # RFC 3261 §10.2: "This address-of-record MUST be a SIP URI or SIPS URI."
            raise Refusal(400, "To Is No SIP URI")
        if uri.user is None or self._domains.served(uri) != domain:
            raise Refusal(404, "Not an Address of This Domain")
        return aor_of(uri, domain)

    def _source(self, flow: Flow) -> Source:
        host, port = flow.peer
        listener = flow.listener
        return Source(flow.transport, host, port, listener.name if listener else "", self._node, self._epoch, flow.id)

    async def _store(self, wish: Register, flow: Flow) -> tuple[tuple[str, str], ...]:
        """Do steps 6 to 8: decide, keep, and say what is bound now."""
        for _ in range(MAX_CONFLICTS):
            current = await self._location.load_for_update(wish.aor, _only_adds(wish))
            bound = self._still_bound(wish, current.bindings)
            outcome = register(wish, bound, self._config, self._now(), random)
            if isinstance(outcome, Refused):
                raise Refusal(outcome.status, outcome.reason, outcome.headers)
            if self._refuses_new() and self._brings_new(wish, outcome, flow):
                raise Refusal(503, "Moving Elsewhere", (("Retry-After", str(self._retry_after())),))
            try:
                if outcome.changed:
                    asked_at = self._now()
                    await self._location.save(wish.aor, current.followed_by(outcome.bindings))
                    self._saved("save", self._now() - asked_at)
            except Conflict:
                continue
            self._bind(wish, outcome, flow)
            self._report(wish, outcome, len(bound))
            return tuple(answer_headers(outcome, wish, self._config, self._now(), self._gruus))
        raise Conflict

    def _still_bound(self, wish: Register, bindings: tuple[Binding, ...]) -> tuple[Binding, ...]:
        """Return the bindings that count: not those that ended with their node.

        But of a phone that comes back now, which takes its own place again and keeps its temporary GRUUs.
        """
        there = self._there(bindings)
        if len(there) == len(bindings):
            return bindings
        back = {contact.instance for contact in wish.contacts if contact.instance is not None}
        return tuple([binding for binding in bindings if binding in there or binding.instance in back])

    def _brings_new(self, wish: Register, outcome: Stored, flow: Flow) -> bool:
        """Say whether a REGISTER binds what no open connection of ours has bound already."""
        is_known = record_key(wish.aor) in keys_on(flow)
        return not is_known and any(binding.source == wish.source for binding in outcome.bindings)

    def _bind(self, wish: Register, outcome: Stored, flow: Flow) -> None:
        """Tie new bindings to their connection and let go of connections that lost their last one."""
        if flow.id:
            if any(self._is_on(binding, flow.id) for binding in outcome.bindings):
                tie(flow, record_key(wish.aor))
                if not flow.is_open:
                    # It closed while the store was writing.
                    self.flow_closed(flow)
            elif outcome.changed:
                untie(flow, record_key(wish.aor))
        for source in superseded(outcome, wish.source):
            if source.node == self._node and source.epoch == self._epoch:
                self._release(source.flow_id, record_key(wish.aor))

    def _is_on(self, binding: Binding, flow_id: int) -> bool:
        source = binding.source
        return (binding.connection_bound and source.flow_id == flow_id and source.epoch == self._epoch
                and source.node == self._node)

    def _release(self, flow_id: int, key: bytes) -> None:
        """Let go of a connection that carries no binding of this record any more: close it, unless others need it."""
        flow = self._find_flow(flow_id)
        if flow is not None:
            let_go(flow, key)

    def _report(self, wish: Register, outcome: Stored, bound_before: int) -> None:
        kind = _kind(outcome, bound_before)
        self._observing.registered(wish.source.transport, kind)
        if kind in ("new", "removed"):
            self._log.info("{aor} {kind} over {transport} from {host}:{port}, {count} bound", aor=wish.aor, kind=kind,
                           transport=wish.source.transport, host=wish.source.host, port=wish.source.port,
                           count=len(outcome.bindings))

    async def _unbind(self, aor: str, flow_id: int) -> None:
        for binding in await self._location.unbind(aor, self._node, self._epoch, flow_id):
            self._left(record_key(aor), binding.source.host, self._now())
            self._observing.registered(binding.source.transport, "unbound")
            self._log.info("{aor} unbound: its {transport} connection from {host}:{port} ended", aor=aor,
                           transport=binding.source.transport, host=binding.source.host, port=binding.source.port)


def _only_adds(wish: Register) -> bool:
    """Say whether a REGISTER binds contacts and removes none."""
    asked = [wish.expires if contact.expires is None else contact.expires for contact in wish.contacts]
    return bool(asked) and 0 not in asked


def _kind(outcome: Stored, bound_before: int) -> str:
    """Return what a REGISTER did, in one word; one that adds a contact and removes another has added."""
    if not outcome.changed:
        return "fetched"
    left = bound_before - len(outcome.lapsed) - len(outcome.removed) - len(outcome.replaced)
    if len(outcome.bindings) == left:
        return "removed"
    return "refreshed" if outcome.replaced else "new"
