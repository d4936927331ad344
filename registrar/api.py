"""What the admin site says about bindings: `GET /v1/contacts`, for `rollcall contacts` and operators' scripts."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from secrets import token_urlsafe
from typing import Any, Generic, TypeVar

from attrs import frozen

from registrar.location.contract import LocationStore, LocationUnavailable, Snapshot
from registrar.records import Binding
from rollcall.ops.api import ApiError, Call, Reply, Routes
from rollcall.sip.errors import ParseError
from rollcall.sip.uri import parse_sip_uri

DEFAULT_PAGE = 100
MAX_PAGE = 1000
MAX_LISTINGS = 4

SLICE = 100
"""Addresses-of-record that are shown without a pause: one or two milliseconds."""

PARAMETERS = frozenset({"aor", "size", "after"})
NODE = "node"

Pause = Callable[[], Awaitable[object]]
"""Returns what is awaited to let others have a turn of the reactor."""


@frozen
class _Listing:
    """A walk over the store in slices, of which so many make a page."""

    slices: AsyncIterator[tuple[tuple[str, Snapshot], ...]]
    per_page: int
    node: str | None
    """Whose connections and sockets are asked for; None for all."""


T = TypeVar("T")


class Listings(Generic[T]):
    """Where listings stopped after a page, each under a name: the latest ones only."""

    def __init__(self) -> None:
        self._stopped: dict[str, T] = {}

    def resumed(self, call: Call) -> T | None:
        """Return the listing whose next page is asked for; None for the first page. Raises ApiError (410)."""
        after = call.text("after")
        if after is None:
            return None
        listing = self._stopped.pop(after, None)
        if listing is None:
            raise ApiError(410, "after: this listing is over; begin again without it")
        return listing

    def keep(self, listing: T) -> str:
        """Return the name under which `listing` goes on."""
        while len(self._stopped) >= MAX_LISTINGS:
            del self._stopped[next(iter(self._stopped))]
        place = token_urlsafe(9)
        self._stopped[place] = listing
        return place


def asked_for(call: Call, *further: str) -> tuple[str | None, int]:
    """Return the one address-of-record that is asked for, if any, and the size of a page. Raises ApiError (400).

    `further` are parameters that may stand there, too.
    """
    allowed = PARAMETERS.union(further)
    unknown = call.query.keys() - allowed
    if unknown:
        raise ApiError(400, f"{', '.join(sorted(unknown))}: only {', '.join(sorted(allowed))} are allowed")
    aor = call.text("aor")
    return None if aor is None else canonical(aor), call.number("size", DEFAULT_PAGE, 1, MAX_PAGE)


class Contacts:
    """Answers with the bindings of one address-of-record, or page by page with all.

    A listing is a walk over the store that stops between its pages, so that a page costs what is on it and shows no
    address-of-record twice. Its place is kept here, under the name in "next", for the latest listings only. Within a
    long page it stops too, so that phones are answered meanwhile.
    """

    def __init__(self, location: LocationStore, now: Callable[[], float], pause: Pause,
                 there: Callable[[Iterable[Binding]], Iterable[Binding]] = tuple,
                 named: Callable[[str], frozenset[str]] = lambda name: frozenset({name})) -> None:
        """`there` leaves out what has ended with its node; `named` returns the nodes that a name stands for."""
        self._location = location
        self._now = now
        self._pause = pause
        self._there = there
        self._named = named
        self._listings: Listings[_Listing] = Listings()

    def mount(self, routes: Routes) -> None:
        """Add what is answered here to the admin site."""
        routes.get("/v1/contacts", self.contacts)

    async def contacts(self, call: Call) -> Reply:
        """Answer `?aor=sip:alice@example.com`, or `?size=100` and then `?after=` what "next" said, until that is null.

        With `?node=` only what came over a connection or socket of that node, or of its workers, is told.
        {"contacts": […], "next": "…"}; a page may be empty although another follows. 410 when a listing is not known
        any more, or a page of it is asked for again.
        """
        aor, size = asked_for(call, NODE)
        node = call.text(NODE)
        if aor is not None:
            return Reply({"contacts": self._shown(aor, await self._load(aor), node), "next": None})
        listing = self._listings.resumed(call)
        if listing is None:
            per_page = -(-size // SLICE)
            listing = _Listing(self._location.pages(size // per_page), per_page, node)
        shown = await self._page(listing)
        return Reply({"contacts": shown or [], "next": None if shown is None else self._listings.keep(listing)})

    async def _page(self, listing: _Listing) -> list[dict[str, Any]] | None:
        """Return the contacts of the next page; None when there is no more."""
        shown: list[dict[str, Any]] = []
        for number in range(listing.per_page):
            if number:
                await self._pause()
            entries = await self._slice(listing)
            if entries is None:
                return shown if number else None
            for aor, snapshot in entries:
                shown += self._shown(aor, snapshot, listing.node)
        return shown

    async def _slice(self, listing: _Listing) -> tuple[tuple[str, Snapshot], ...] | None:
        try:
            return await anext(listing.slices, None)
        except LocationUnavailable as problem:
            raise ApiError(503, f"what is bound cannot be read now, begin again later: {problem}") from problem

    async def _load(self, aor: str) -> Snapshot:
        try:
            return await self._location.load(aor)
        except LocationUnavailable as problem:
            raise ApiError(503, str(problem)) from problem

    def _shown(self, aor: str, snapshot: Snapshot, node: str | None) -> list[dict[str, Any]]:
        now, nodes = self._now(), None if node is None else self._named(node)
        return [as_shown(aor, binding, now) for binding in self._there(snapshot.bindings)
                if binding.expires_at > now and (nodes is None or binding.source.node in nodes)]


def canonical(aor: str) -> str:
    """Return the address-of-record that a caller of the API means. Raises ApiError (400)."""
    try:
        uri = parse_sip_uri(aor)
    except ParseError:
        uri = None
    if uri is None or uri.user is None:
        raise ApiError(400, "aor: an address-of-record such as sip:alice@example.com is allowed")
    return uri.aor()


def as_shown(aor: str, binding: Binding, now: float) -> dict[str, Any]:
    """Return what is told of a binding."""
    source = binding.source
    return {
        "aor": aor, "contact": binding.contact, "q": binding.q / 1000, "expires_seconds": int(binding.expires_at - now),
        "transport": source.transport, "host": source.host, "port": source.port, "listener": source.listener,
        "node": source.node, "flow": source.flow_id if binding.connection_bound else None, "path": list(binding.path),
        "instance": binding.instance, "reg_id": binding.reg_id, "user_agent": binding.user_agent,
        "call_id": binding.call_id, "cseq": binding.cseq, "registered_at": binding.registered_at,
        "refreshed_at": binding.refreshed_at,
    }
