"""Where a request within a dialog goes: what its Routes say that its Record-Route was given (RFC 3261 §16.12).

A flow token is signed, so every node of ours takes it for its own, whatever host it stands at: a phone that lost its
node speaks to another one (RFC 5626 §5.3).
"""

from collections.abc import Callable

from attrs import evolve, frozen

from registrar.authorising import Refusal
from registrar.bound import keys_on
from registrar.owners import Cluster, is_outdated, record_of
from registrar.routing import ByUri, Domains, OverDatagrams, OverMember
from registrar.sending import Attempt, dialog_context
from rollcall.net.flow import Flow
from rollcall.net.tokens import BadToken, Connection, DatagramPeer, FlowElsewhere, FlowGone, FlowName, FlowTokens, Named
from rollcall.sip.forwarding import take_own_routes
from rollcall.sip.headers import parse_name_addr
from rollcall.sip.message import Request
from rollcall.sip.uri import SipUri, parse_uri


@frozen
class Moved:
    """The flow is gone, but it is known whose it was."""

    phone: bytes
    """See `registrar.owners`."""
    flow: FlowName | None
    """None when it may be there after all: it belongs to a node that is not known yet."""


class Dialogs:
    """Reads the Routes of requests."""

    def __init__(self, domains: Domains, tokens: FlowTokens, cluster: Cluster, now: Callable[[], float]) -> None:
        self._domains = domains
        self._tokens = tokens
        self._cluster = cluster
        self._now = now

    def take(self, request: Request, source: Flow) -> Attempt | Moved | None:
        """Take our Routes off `request` and return where they send it; None when that is no permission.

        Both our Record-Route values come back (see Sending): the first names the sender, the last the other side.
        A request without a To tag begins a dialog, whatever it brings along. And to wherever its Request-URI leads, a
        request goes only when it came over the very flow that its first Route names, or over that of the same phone: a
        phone's in a dialog that it began or took part in, nobody else's. The same holds for following a phone to where
        it is now. Raises Refusal: 403 or 430.
        """
        if source.member:
            return self._for_member(request)
        taken = take_own_routes(request, lambda uri: self._domains.is_ours(uri) or self._is_signed(uri, request))
        if not taken or taken[-1].user is None:
            return None
        named = self._understood(taken[-1].user, request)
        way = self._way(named, taken[-1], request)
        if parse_name_addr(request.get("To") or "").tag is None:
            if isinstance(way, Moved):
                raise Refusal(430)
            return None
        if named.flow is None:
            return way if self._names(taken[0], request, source) else None
        if named.phone and not self._may_follow(named.phone, taken[0], request, source):
            if isinstance(way, Moved):
                raise Refusal(430)
            return evolve(way, phone=b"")
        return way

    def take_own(self, request: Request) -> Attempt | Moved:
        """Do the same for a request that we have made ourselves, in the name of one side: it needs no permission.

        Raises Refusal: 430, or 481 when its Routes lead through none of ours.
        """
        taken = take_own_routes(request, lambda uri: self._domains.is_ours(uri) or self._is_signed(uri, request))
        if not taken or taken[-1].user is None:
            raise Refusal(481)
        return self._way(self._understood(taken[-1].user, request), taken[-1], request)

    def _for_member(self, request: Request) -> Attempt:
        """Return the way over a flow of ours, for what another node sends: its first Route, and nothing else, says so.

        It goes no further than there. A flow that is elsewhere, or nowhere, the asking node has to look for.
        """
        routes = request.values("Route")
        uri = parse_uri(parse_name_addr(routes[0]).uri) if routes else None
        if not isinstance(uri, SipUri) or uri.user is None:
            raise Refusal(403, "No Flow Token")
        named = self._understood(uri.user, request)
        if named.flow is None:
            raise Refusal(403, "No Flow Token")
        request.set_values("Route", routes[1:])
        try:
            return Attempt(request.uri, self._tokens.find(named.flow))
        except FlowGone as problem:
            raise Refusal(430) from problem

    def _way(self, named: Named, route: SipUri, request: Request) -> Attempt | Moved:
        if named.flow is None:
            return Attempt(request.uri, ByUri())
        try:
            return Attempt(request.uri, self._tokens.find(named.flow), phone=named.phone)
        except FlowElsewhere as problem:
            way = self._way_elsewhere(named, route, request)
            if way is None:
                raise Refusal(430) from problem
            return way
        except FlowGone as problem:
            if not named.phone:
                raise Refusal(430) from problem
            return Moved(named.phone, named.flow)

    def _way_elsewhere(self, named: Named, route: SipUri, request: Request) -> Attempt | Moved | None:
        """Return the way through the node that has the flow, or, when that is gone, what is left of it."""
        flow = named.flow
        assert flow is not None
        owner = self._cluster.node(flow.node)
        if isinstance(flow, Connection):
            if owner is None or owner.epoch != flow.epoch:
                is_gone = not self._cluster.is_living(flow.node, flow.epoch)
                return Moved(named.phone, flow if is_gone else None) if named.phone else None
        elif owner is None:
            # Any node speaks to a datagram peer of a node that is gone, from its own listener of that name.
            return Attempt(request.uri, OverDatagrams(flow.listener, flow.host, flow.port))
        port = f":{route.port}" if route.port is not None else ""
        transport = (route.param("transport") or ("tls" if route.scheme == "sips" else "udp")).upper()
        return Attempt(request.uri, OverMember(flow, f"{route.host}{port}", transport), phone=named.phone)

    def _names(self, route: SipUri, request: Request, source: Flow) -> bool:
        """Say whether a Route names the very flow that the request came over, or one that its phone has lost."""
        try:
            named = self._read(route.user or "", request)
            return named.flow is not None and self._tokens.find(named.flow) == source
        except BadToken:
            return False
        except FlowGone:
            return _is_bound_to(source, named.phone)

    def _may_follow(self, phone: bytes, route: SipUri, request: Request, source: Flow) -> bool:
        """Say whether the sender, whom `route` names, may reach the other side's phone wherever that is by now.

        That is the phone's peer in the call, as far as we know the peer, and for as long as calls last; nobody who has
        only heard of the call.
        """
        if is_outdated(phone, self._now()):
            return False
        try:
            named = self._read(route.user or "", request)
            if named.flow is None:
                # Found by its URI, so that its flow may be any.
                return True
            if isinstance(named.flow, DatagramPeer):
                # The port changes when a NAT forgets it.
                return not source.id and source.peer[0] == named.flow.host
            return _is_bound_to(source, named.phone) or self._tokens.find(named.flow) == source
        except (BadToken, FlowGone):
            return False

    def _is_signed(self, uri: SipUri, request: Request) -> bool:
        try:
            return uri.user is not None and bool(self._read(uri.user, request))
        except BadToken:
            return False

    def _understood(self, token: str, request: Request) -> Named:
        try:
            return self._read(token, request)
        except BadToken as problem:
            # RFC 5626 §5.3.1: "tampered with, the proxy SHOULD send a 403", "no longer exists … 430"
            raise Refusal(403, "Flow Token Refused") from problem

    def _read(self, token: str, request: Request) -> Named:
        """Return what `token` says; it was made for the tag of whoever sent the request that it went out with."""
        tags = [parse_name_addr(request.get(name) or "").tag for name in ("From", "To")]
        try:
            return self._tokens.read(token, dialog_context(request, tags[0]))
        except BadToken:
            return self._tokens.read(token, dialog_context(request, tags[1]))


def _is_bound_to(source: Flow, phone: bytes) -> bool:
    """Say whether a phone of the same record is bound to the flow that a request came over."""
    return bool(phone) and record_of(phone) in keys_on(source)
