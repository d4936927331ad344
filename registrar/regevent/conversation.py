"""The SUBSCRIBE conversation (RFC 6665 §4.2, RFC 3680): who asks to be told of whom, and for how long.

A subscription lives on the node that answered its SUBSCRIBE. Its tag tells every other node so, and a refresh that
arrives elsewhere is passed on to it. It ends with that node's process: the subscriber is told to subscribe again, and
finds another node, or learns it by the 481 to its refresh.
"""

from collections import Counter
from collections.abc import Awaitable, Callable
from itertools import islice

from attrs import frozen
from twisted.logger import Logger
from twisted.python.failure import Failure

from registrar.auth import StoreUnavailable
from registrar.authorising import Refusal
from registrar.gruu import GruuMaker
from registrar.location.changes import Changes
from registrar.location.contract import LocationStore, LocationUnavailable, Snapshot
from registrar.regevent.asking import (
    ALLOW_EVENTS,
    PACKAGE,
    RegEventConfig,
    Wish,
    package_of,
    read_subscribe,
)
from registrar.regevent.book import Book
from registrar.regevent.delivery import Delivery, Outcome
from registrar.regevent.dialog import Dialog
from registrar.regevent.passing import Elsewhere, Nowhere
from registrar.regevent.subscription import Subscription, Surroundings
from registrar.regevent.tags import Tags
from registrar.regevent.watching import Watchers, user_of
from registrar.routing import Domains
from rollcall.net.flow import Flow
from rollcall.net.transactions import ServerTransaction
from rollcall.net.wheel import TimerWheel
from rollcall.ops.coroutines import start
from rollcall.sip.errors import ParseError
from rollcall.sip.forwarding import own_uri
from rollcall.sip.headers import parse_name_addr
from rollcall.sip.message import Request, response_to
from rollcall.sip.uri import SipUri, parse_often, parse_sip_uri, parse_uri

LEAVE_SECONDS = 1.0
"""How often some are told to leave, when all shall."""


@frozen(kw_only=True)
class Parts:
    """What the conversation needs of the registrar."""

    domains: Domains
    location: LocationStore
    changes: Changes
    watchers: Watchers
    exists: Callable[[str], Awaitable[bool]]
    """Whether an address-of-record has a subscriber."""
    gruus: GruuMaker
    tags: Tags
    delivery: Delivery
    wheel: TimerWheel
    later: Callable[[Callable[[], None]], object]
    """Calls in a later turn of the reactor."""
    retry_after: Callable[[], int]
    is_living: Callable[[str, int], bool] = lambda node, epoch: True
    """Whether the connections of a node in an epoch of it may be there."""
    refuses_new: Callable[[], bool] = lambda: False
    """Whether subscribers shall go to other nodes."""
    elsewhere: Elsewhere = Nowhere()


class RegEvents:
    """Answers SUBSCRIBE for the reg event package and keeps the subscriptions."""

    _log = Logger()

    def __init__(self, parts: Parts, config: RegEventConfig, node: str, epoch: int) -> None:
        self._parts = parts
        self._config = config
        self._own = node, epoch
        self.book = Book(parts.changes, parts.later)
        self.ended: Counter[str] = Counter()
        """Why subscriptions have ended, counted."""
        self.told: Counter[str] = Counter()
        """What became of NOTIFYs, counted."""
        self._around = Surroundings(
            config=config, wheel=parts.wheel, load=parts.location.load, is_living=parts.is_living, gruus=parts.gruus,
            send=parts.delivery.send, look=self.book.look_soon, over=self._over, told=self._count)

    def wants(self, request: Request) -> bool:
        """Say whether this SUBSCRIBE is for us.

        That is one to a registration of ours, one within a dialog of ours, and one that names us and no user; all
        others are for phones and other servers. A GRUU names a phone.
        """
        try:
            tag, is_ours = _to_tag(request), self._leads_to_us(request)
        except ParseError:
            return False
        uri, domains = parse_often(request.uri), self._parts.domains
        if is_ours and tag is not None and self._parts.tags.owner(tag) is not None:
            return True
        if not is_ours or not isinstance(uri, SipUri) or uri.param("gr") is not None:
            return False
        if uri.user is not None and domains.served(uri) is not None:
            return package_of(request) == PACKAGE
        return domains.is_ours(uri) and (package_of(request) == PACKAGE or (tag is None and uri.user is None))

    def receive(self, request: Request, server: ServerTransaction) -> None:
        """Answer `request`; every way out answers `server`."""
        start(self._answer(request, server), lambda failure: self._broke(failure, server))

    def flow_closed(self, flow: Flow) -> None:
        """Forget who subscribed over a connection that has ended."""
        for subscription in self.book.on(flow):
            subscription.forget("closed")

    def nodes_ended(self, ended: frozenset[tuple[str, int]]) -> None:
        """Tell of the contacts whose connections have ended with these nodes in these epochs."""
        for subscription in self.book:
            if subscription.names(ended):
                subscription.changed()

    def stop(self) -> None:
        """Tell every subscriber to subscribe again (RFC 6665 §4.4.2), for this node ends."""
        for subscription in self.book:
            subscription.end("deactivated", "stopped")

    def leave(self, per_second: float) -> None:
        """Do the same at a pace, while there is anybody, and while this node is one that shall be left."""
        if not self._parts.refuses_new():
            return
        for subscription in islice(self.book, max(1, round(per_second * LEAVE_SECONDS))):
            subscription.end("deactivated", "left")
        if self.book:
            self._parts.wheel.call_later(LEAVE_SECONDS, self.leave, per_second)

    # --- one SUBSCRIBE

    async def _answer(self, request: Request, server: ServerTransaction) -> None:
        try:
            await self._subscribe(request, server)
        except Refusal as refusal:
            server.turn_away(refusal.status, refusal.reason, refusal.headers)
        except ParseError as problem:
            server.turn_away(problem.status, problem.reason)
        except (LocationUnavailable, StoreUnavailable) as problem:
            self._log.warn("no answer from a store: {problem}", problem=str(problem), log_rationed=True)
            server.turn_away(503, None, (("Retry-After", str(self._parts.retry_after())),))

    def _broke(self, failure: Failure, server: ServerTransaction) -> None:
        self._log.failure("a SUBSCRIBE broke", failure)
        if not server.answered:
            server.refuse(500)

    async def _subscribe(self, request: Request, server: ServerTransaction) -> None:
        tag, is_members = _to_tag(request), bool(server.flow.member)
        if tag is None:
            if is_members:
                # Nodes pass on what is of a dialog here, and nothing else.
                raise Refusal(403)
            await self._begin(request, server)
            return
        owner = self._parts.tags.owner(tag)
        if owner is not None and owner != self._own and not is_members:
            if not await self._parts.elsewhere.pass_on(request, server, *owner):
                raise Refusal(481)
            return
        subscription = self.book.find(tag)
        if subscription is None or not subscription.dialog.is_of(request):
            raise Refusal(481)
        await self._refresh(subscription, request, server)

    async def _begin(self, request: Request, server: ServerTransaction) -> None:
        wish = read_subscribe(request, self._config)
        user = user_of(request, self._parts.domains)
        if user is None:
            raise Refusal(404)
        aor, domain = user
        watcher = await self._parts.watchers.authorise(request, aor, domain, server.flow)
        if self.book.watching(aor) >= self._config.max_per_aor:
            raise Refusal(403, "Too Many Subscriptions")
        if len(self.book) >= self._config.max_subscriptions or self._parts.refuses_new():
            raise Refusal(503, None, (("Retry-After", str(self._parts.retry_after())),))
        subscription = self._made(request, server, wish, aor, watcher)
        # What changes from now on is told, whenever the record is read.
        self.book.add(subscription)
        try:
            snapshot = await self._loaded(aor)
            if subscription not in self.book:
                raise Refusal(480)
        except Exception:
            if subscription in self.book:
                self.book.drop(subscription)
            raise
        routes = tuple(("Record-Route", route) for route in subscription.dialog.routes)
        self._accept(subscription, request, server, wish, routes)
        self._log.debug("{watcher} watches {aor} for {seconds} s", watcher=watcher, aor=aor, seconds=wish.seconds)
        subscription.renew(wish.seconds, snapshot)

    async def _refresh(self, subscription: Subscription, request: Request, server: ServerTransaction) -> None:
        wish = read_subscribe(request, self._config)
        if wish.event != subscription.event:
            # Another subscription within the dialog, which RFC 6665 §4.5.2 leaves to old implementations.
            raise Refusal(481)
        domain = parse_sip_uri(subscription.aor).host
        if await self._parts.watchers.authorise(request, subscription.aor, domain, server.flow) != subscription.watcher:
            raise Refusal(403, "Not Your Subscription")
        version = subscription.version
        snapshot = await self._parts.location.load(subscription.aor)
        if subscription not in self.book:
            raise Refusal(481)
        if not subscription.dialog.take(request, wish.contact):
            raise Refusal(500, "Out Of Order")
        has_been_told = subscription.version != version
        way = self._parts.delivery.way_to(request, server.flow, wish.contact)
        if way.flow is not None:
            # It came from the subscriber itself, not from a proxy or another node.
            self.book.move(subscription, way)
        self._accept(subscription, request, server, wish, ())
        subscription.renew(wish.seconds, snapshot)
        if has_been_told:
            # What was told meanwhile may have been newer.
            subscription.changed()

    async def _loaded(self, aor: str) -> Snapshot:
        snapshot = await self._parts.location.load(aor)
        if not (snapshot.bindings or self._parts.watchers.believe_everybody or await self._parts.exists(aor)):
            raise Refusal(404)
        return snapshot

    def _accept(self, subscription: Subscription, request: Request, server: ServerTransaction, wish: Wish,
                routes: tuple[tuple[str, str], ...]) -> None:
        headers = (("Expires", str(wish.seconds)), ("Contact", subscription.dialog.contact), ALLOW_EVENTS)
        server.respond(response_to(request, 200, None, subscription.dialog.tag, (*routes, *headers)))

    def _made(self, request: Request, server: ServerTransaction, wish: Wish, aor: str, watcher: str) -> Subscription:
        tag = self._parts.tags.new()
        face = self._parts.delivery.face(server.flow)
        contact = f"<{own_uri(tag, f'{face.host}:{face.port}', face.transport, wish.is_sips)}>"
        dialog = Dialog.begun_by(request, tag, wish.contact, contact)
        way = self._parts.delivery.way_to(request, server.flow, wish.contact)
        return Subscription(self._around, dialog, aor, watcher, wish.event, way)

    def _over(self, subscription: Subscription, why: str) -> None:
        self.book.drop(subscription)
        self.ended[why] += 1
        self._log.debug("{watcher} watches {aor} no more: {why}", watcher=subscription.watcher, aor=subscription.aor,
                        why=why)

    def _count(self, outcome: Outcome) -> None:
        self.told[outcome.value] += 1

    def _leads_to_us(self, request: Request) -> bool:
        """Say whether no Route takes the request elsewhere."""
        routes = request.values("Route")
        uris = [parse_uri(parse_name_addr(route).uri) for route in routes]
        return all(isinstance(uri, SipUri) and self._parts.domains.is_ours(uri) for uri in uris)


def _to_tag(request: Request) -> str | None:
    return parse_name_addr(request.get("To") or "").tag
