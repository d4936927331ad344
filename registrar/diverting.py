"""Where a request for a user goes when that is not his phones: aliases, and calls that are forwarded.

An alias is another name of its target, for whatever begins at it. Calls alone are forwarded: always, or when nobody
takes them. No address is passed twice, and after a few the call stays where it is. What leaves for other domains does
so in the name of who forwards: that is allowed as his own calls there are.
"""

from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Protocol

from attrs import evolve
from twisted.logger import Logger
from twisted.python.failure import Failure

from registrar.auth import StoreUnavailable
from registrar.authorising import Refusal
from registrar.directory.entries import (
    ALWAYS,
    BUSY,
    KINDS,
    MAX_RING_SECONDS,
    NO_ANSWER,
    NOTHING,
    UNREACHABLE,
    Entry,
)
from registrar.forking import Groups, Way
from registrar.history import Step, diverted_before, told
from registrar.location.contract import LocationUnavailable
from registrar.routing import ByUri, Domains, ProxyConfig, aor_of
from registrar.sending import Attempt
from rollcall.net.transactions import ServerTransaction
from rollcall.ops.coroutines import start
from rollcall.ops.metrics import Metrics
from rollcall.sip.errors import ParseError
from rollcall.sip.headers import parse_name_addr
from rollcall.sip.message import Request
from rollcall.sip.uri import SipUri, parse_sip_uri

MAX_ALIASES = 3
"""How many aliases one leads to another: more of them are a circle, or nobody's intention."""

MAX_DIVERSIONS = 5
"""How often a call is forwarded, by others before us too."""

BUSY_STATUSES = frozenset({486, 600})
UNREACHED_STATUSES = frozenset({408, 430, 480, 500, 503})
"""What is said of phones that did not ring; 500 and 503 are said of connections that break, and of gateways."""
UNANSWERED_STATUSES = frozenset({408, 480})
"""The same of phones that rang."""

Find = Callable[[ServerTransaction, SipUri, str, bool], Awaitable[Way]]
"""Returns the way to a user of ours in this domain, or raises Refusal: 480, 404."""


class Entries(Protocol):
    """Who knows what addresses-of-record are, see `registrar.directory.directory`."""

    @property
    def is_used(self) -> bool:
        """Whether there is any alias or forwarding, as far as is known."""

    async def find(self, aor: str) -> Entry:
        """Return what there is to say of an address-of-record."""


class Diverting:
    """Knows the directory and what is allowed."""

    log = Logger()

    def __init__(self, entries: Entries, domains: Domains, config: ProxyConfig) -> None:
        self.entries = entries
        self.domains = domains
        self.may_relay = config.relay_subscribers
        self.diverted: Counter[str] = Counter(dict.fromkeys(KINDS, 0))
        """Calls by why they were forwarded."""

    @property
    def is_used(self) -> bool:
        """Whether there is any alias or forwarding."""
        return self.entries.is_used

    async def way(self, server: ServerTransaction, uri: SipUri, domain: str, find: Find) -> Way:
        """Return where a request goes that is for a user of ours and belongs to no dialog. Raises Refusal."""
        return await Diversion(self, server, find).begin(uri, domain)

    def place(self, text: str, is_secure: bool) -> tuple[SipUri, str | None] | None:
        """Return a target with its domain if that is ours; None when nothing may be sent there."""
        try:
            uri = parse_sip_uri(text)
        except ParseError as problem:
            self.log.error("{target} in the directory is no SIP URI: {problem}", target=text, problem=str(problem),
                           log_rationed=True)
            return None
        if uri.headers is not None:
            # The commands take none, plain SQL does. RFC 3261 §19.1.1: they have no place in a Request-URI.
            uri = evolve(uri, headers=None)
        if is_secure:
            # RFC 3261 §26.2.2: the whole way to a sips URI is TLS.
            uri = evolve(uri, scheme="sips")
        domain = self.domains.served(uri)
        if domain is None and not self.may_relay:
            self.log.warn("nothing goes to {target}: proxy.relay_subscribers is off", target=text, log_rationed=True)
            return None
        return None if domain is not None and uri.user is None else (uri, domain)


class Diversion:
    """One request on its way from address to address. See `registrar.forking.Instead`."""

    def __init__(self, diverting: Diverting, server: ServerTransaction, find: Find) -> None:
        self._diverting = diverting
        self._server = server
        self._find = find
        is_new = parse_name_addr(server.request.get("To") or "").tag is None
        self._is_call = is_new and server.request.method == "INVITE"
        self._is_secure = server.request.uri[:5].lower() == "sips:"
        self._steps: list[Step] = []
        self._at = server.request.uri
        """The address that the request is at now, and what there is to say of it."""
        self._entry = NOTHING
        self._passed, self._times = diverted_before(server.request)
        self._found: Callable[[Way | None], None] | None = None

    async def begin(self, uri: SipUri, domain: str) -> Way:
        """Return the first way. Raises Refusal."""
        return await self._way_to(uri, domain)

    # --- for the fork

    @property
    def ring_seconds(self) -> float | None:
        """How long the phones of this address ring."""
        forwarding = self._entry.forwarding(NO_ANSWER)
        seconds = None if forwarding is None else forwarding.seconds
        # The commands let nothing else in, plain SQL does.
        return None if seconds is None else min(max(seconds, 1), MAX_RING_SECONDS)

    def divert(self, status: int, rang: bool, found: Callable[[Way | None], None]) -> bool:
        """Look where the call goes after `status`; see Instead."""
        kind = kind_of(status, rang)
        if kind is None or self._target(kind) is None:
            return False
        self._found = found
        start(self._divert(kind), self._broke)
        return True

    def stop(self) -> None:
        """Look no more."""
        self._found = None

    async def _divert(self, kind: str) -> None:
        try:
            way: Way | None = await self._forward(kind)
        except Refusal as refusal:
            self._diverting.log.info("a call was not forwarded: {at} is {status}", at=self._at, status=refusal.status,
                                     log_rationed=True)
            way = None
        except (LocationUnavailable, StoreUnavailable) as problem:
            self._diverting.log.warn("a call was not forwarded: {problem}", problem=str(problem), log_rationed=True)
            way = None
        self._tell(way)

    def _broke(self, failure: Failure) -> None:
        self._diverting.log.failure("a call could not be forwarded", failure=failure)
        self._tell(None)

    def _tell(self, way: Way | None) -> None:
        found, self._found = self._found, None
        if found is not None:
            found(way)

    # --- from address to address

    async def _way_to(self, uri: SipUri, domain: str | None) -> Way:
        """Return the way to `uri`, past aliases and who forwards all calls."""
        self._at, self._entry = str(uri), NOTHING
        if domain is None:
            return self._told([[Attempt(str(uri), ByUri())]])
        aor = aor_of(uri, domain)
        entry = await self._diverting.entries.find(aor)
        self._at = aor if uri.scheme == "sip" else f"sips:{aor[4:]}"
        if entry.alias is not None:
            return await self._follow(entry.alias)
        self._entry = entry if self._is_call else NOTHING
        if self._target(ALWAYS) is not None:
            return await self._forward(ALWAYS)
        try:
            way = await self._find(self._server, uri, domain, False)
        except Refusal as refusal:
            if refusal.status not in (404, 480) or self._target(UNREACHABLE) is None:
                raise
            return await self._forward(UNREACHABLE)
        return self._told(way.groups, way)

    async def _follow(self, alias: str) -> Way:
        place = self._diverting.place(alias, self._is_secure)
        if place is None:
            raise Refusal(404)
        self._steps.append(Step(self._at, None))
        if sum(step.kind is None for step in self._steps) > MAX_ALIASES:
            self._diverting.log.warn("aliases lead from one to another more than {most} times, {alias} is one of them",
                                     most=MAX_ALIASES, alias=self._at, log_rationed=True)
            raise Refusal(482)
        return await self._way_to(*place)

    def _target(self, kind: str) -> tuple[SipUri, str | None] | None:
        """Return where calls for this address go in one case, if this one may."""
        forwarding = self._entry.forwarding(kind)
        place = None if forwarding is None else self._diverting.place(forwarding.target, self._is_secure)
        if place is None:
            return None
        uri, domain = place
        aor, here = uri.aor() if domain is None else aor_of(uri, domain), _plain(self._at)
        if self._times >= MAX_DIVERSIONS or here in self._passed or aor in self._passed or aor == here:
            self._diverting.log.warn("{at} is not forwarded to {target}: that is a circle, or one time too many",
                                     at=self._at, target=aor, log_rationed=True)
            return None
        return place

    async def _forward(self, kind: str) -> Way:
        """Return the way to where calls go in this case. Raises Refusal when it leads to nobody."""
        place = self._target(kind)
        assert place is not None
        self._steps.append(Step(self._at, kind))
        self._passed.add(_plain(self._at))
        self._times += 1
        try:
            way = await self._way_to(*place)
        except Refusal as refusal:
            # Whoever was called does exist.
            raise Refusal(480 if refusal.status == 404 else refusal.status) from refusal
        self._diverting.diverted[kind] += 1
        return way

    def _told(self, groups: Groups, way: Way | None = None) -> Way:
        request: Request | None = None
        if any(step.kind is not None for step in self._steps):
            request = told(self._server.request, self._steps, self._at)
        instead = self if self._entry.forwardings else None
        return Way(groups, None if way is None else way.phones, instead, request)


def kind_of(status: int, rang: bool) -> str | None:
    """Return in which case a call is that has come to this final status; None: in none where it goes elsewhere.

    Who declines (603) has decided, and goes nowhere else.
    """
    if status in BUSY_STATUSES:
        return BUSY
    if rang:
        return NO_ANSWER if status in UNANSWERED_STATUSES else None
    return UNREACHABLE if status in UNREACHED_STATUSES else None


def _plain(uri: str) -> str:
    """Return an address-of-record as the directory has it, whether it was called by sip or sips."""
    return f"sip:{uri[5:]}" if uri.startswith("sips:") else uri


def watch_diverting(metrics: Metrics, diverting: Diverting) -> None:
    """Export the calls that were forwarded."""
    metrics.total("rollcall_diversions_total", "Calls that were forwarded, by why.", ("kind",),
                  lambda: {(kind,): float(number) for kind, number in diverting.diverted.items()})
