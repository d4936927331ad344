"""Where a request within a dialog goes: what its Routes say that its Record-Route was given (RFC 3261 §16.12).

A flow token is signed, so every node of ours takes it for its own, whatever host it stands at: a phone that lost its
node speaks to another one (RFC 5626 §5.3).
"""

from attrs import frozen

from registrar.authorising import Refusal
from registrar.bound import keys_on
from registrar.owners import Cluster, record_of
from registrar.routing import ByUri, Domains, OverDatagrams, OverMember
from registrar.sending import Attempt, dialog_context
from rollcall.net.flow import Flow
from rollcall.net.tokens import BadToken, Connection, FlowElsewhere, FlowGone, FlowName, FlowTokens, Named
from rollcall.sip.forwarding import take_own_routes
from rollcall.sip.headers import parse_name_addr
from rollcall.sip.message import Request
from rollcall.sip.uri import SipUri


@frozen
class Moved:
    """The flow is gone, but it is known whose it was."""

    phone: bytes
    """See `registrar.owners`."""
    flow: FlowName


class Dialogs:
    """Reads the Routes of requests."""

    def __init__(self, domains: Domains, tokens: FlowTokens, cluster: Cluster) -> None:
        self._domains = domains
        self._tokens = tokens
        self._cluster = cluster

    def take(self, request: Request, source: Flow) -> Attempt | Moved | None:
        """Take our Routes off `request` and return where they send it; None when that is no permission.

        Both our Record-Route values come back (see Sending): the first names the sender, the last the other side.
        A request without a To tag begins a dialog, whatever it brings along. And to wherever its Request-URI leads, a
        request goes only when it came over the very flow that its first Route names, or over that of the same phone: a
        phone's in a dialog that it began or took part in, nobody else's.

        What another node sends is for a flow of ours, in a dialog or not, and goes no further than there. Raises
        Refusal: 403 or 430.
        """
        taken = take_own_routes(request, lambda uri: self._domains.is_ours(uri) or self._is_signed(uri, request))
        if not taken or taken[-1].user is None:
            if source.member:
                raise Refusal(403, "No Flow Token")
            return None
        try:
            named = self._read(taken[-1].user, request)
        except BadToken as problem:
            # RFC 5626 §5.3.1: "tampered with, the proxy SHOULD send a 403", "no longer exists … 430"
            raise Refusal(403, "Flow Token Refused") from problem
        if source.member:
            return self._for_member(named, request)
        way = self._way(named, taken[-1], request)
        if parse_name_addr(request.get("To") or "").tag is None:
            if isinstance(way, Moved):
                raise Refusal(430)
            return None
        if named.flow is None and not self._names(taken[0], request, source):
            return None
        return way

    def _is_signed(self, uri: SipUri, request: Request) -> bool:
        try:
            return uri.user is not None and bool(self._read(uri.user, request))
        except BadToken:
            return False

    def _for_member(self, named: Named, request: Request) -> Attempt:
        """Return the way over a flow of ours. One that is elsewhere, or nowhere, the asking node has to look for."""
        try:
            if named.flow is None:
                raise Refusal(403, "No Flow Token")
            return Attempt(request.uri, self._tokens.find(named.flow), phone=named.phone)
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
                return Moved(named.phone, flow) if named.phone else None
        elif owner is None:
            # Any node speaks to a datagram peer of a node that is gone, from its own listener of that name.
            return Attempt(request.uri, OverDatagrams(flow.listener, flow.host, flow.port))
        port = f":{route.port}" if route.port is not None else ""
        transport = (route.param("transport") or ("tls" if route.scheme == "sips" else "udp")).upper()
        return Attempt(request.uri, OverMember(flow, f"{route.host}{port}", transport), phone=named.phone)

    def _names(self, route: SipUri, request: Request, source: Flow) -> bool:
        try:
            named = self._read(route.user or "", request)
            return named.flow is not None and self._tokens.find(named.flow) == source
        except BadToken:
            return False
        except FlowGone:
            return bool(named.phone) and record_of(named.phone) in keys_on(source)

    def _read(self, token: str, request: Request) -> Named:
        """Return what `token` says; it was made for the tag of whoever sent the request that it went out with."""
        tags = [parse_name_addr(request.get(name) or "").tag for name in ("From", "To")]
        try:
            return self._tokens.read(token, dialog_context(request, tags[0]))
        except BadToken:
            return self._tokens.read(token, dialog_context(request, tags[1]))
