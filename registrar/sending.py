"""The way out: a request's copy gets its Via, Record-Route and Route, and leaves over a flow (RFC 3261 §16.6).

A phone is reached over the flow that it registered on, anything else by RFC 3263. When another node has that flow, the
request goes there with the flow's token as its Route (RFC 5626 §5.3).
"""

from collections.abc import Sequence
from hashlib import md5
from typing import Protocol

from attrs import evolve, frozen

from registrar.owners import Cluster, OneNode
from registrar.routing import ByUri, Hop, OverDatagrams, OverFlow, OverMember, may_reach
from rollcall.net.flow import Address, ConnectFailed, Flow, FlowClosed, Listener
from rollcall.net.remote import Siblings
from rollcall.net.resolver import Resolver, Unresolvable
from rollcall.net.tokens import Connection, FlowTokens
from rollcall.net.transactions import ClientTransaction, ClientUser, Transactions
from rollcall.net.transports import Transports
from rollcall.sip.errors import ParseError
from rollcall.sip.forwarding import MAGIC_COOKIE, make_strict, new_branch, push_routes, record_route, spend_hop
from rollcall.sip.headers import parse_name_addr
from rollcall.sip.message import Request
from rollcall.sip.targets import Target
from rollcall.sip.uri import SipUri, parse_sip_uri, parse_uri

# Methods that never begin a dialog. All others, unknown ones too, are record-routed (RFC 3261 §16.6 step 4).
NO_DIALOG = frozenset({"ACK", "BYE", "CANCEL", "INFO", "MESSAGE", "OPTIONS", "PRACK", "PUBLISH", "REGISTER", "UPDATE"})

MAX_DATAGRAM_BYTES = 1300
OWN_FIELDS_BYTES = 400


class Undeliverable(Exception):
    """No way to the next hop was found; the text says why."""


@frozen(eq=False)
class Forwarded:
    """A request as it came, once its own Routes are taken off, and what its way out needs to know of its way in."""

    request: Request
    source: Flow
    mark: str
    """The loop mark of the request as it was received (RFC 5393 §4.2.1)."""
    from_phone: bool
    """Whether its sender made it: then requests back to it take the same flow."""
    token_context: bytes
    """What the flow tokens in its Record-Route are bound to."""
    breadth: int
    """How many branches each of its copies may have at a time, all further forks included (RFC 5393 §5.3)."""
    caller: bytes = b""
    """Whose phone the sender is, for the token that names its flow (see `registrar.owners`); empty when not known."""


@frozen(eq=False)
class Attempt:
    """One place to send a request to: the Request-URI it gets there, the way, and other ways to the same phone."""

    uri: str
    hop: Hop | Flow
    alternates: tuple["Attempt", ...] = ()
    asked_from: str = ""
    """The address of who named the place, for a Contact that of the phone; empty for the sender of the request."""
    phone: bytes = b""
    """Whose phone it is, for the token that names its flow; empty when not known."""


class Sender(Protocol):
    """How a forwarded request reaches the network."""

    def held(self, hop: OverFlow | OverDatagrams) -> Flow | None:
        """Return the flow that `hop` names, None when it is gone."""

    async def targets(self, forwarded: Forwarded, attempt: Attempt) -> Sequence[Target]:
        """Return the addresses for an attempt by URI (RFC 3263), best first. Raises Undeliverable."""

    async def connect(self, target: Target) -> Flow:
        """Return a flow to `target`. Raises Undeliverable."""

    async def member(self, hop: OverMember) -> Flow:
        """Return the connection with the node that has a phone's flow. Raises Undeliverable."""

    def send(self, forwarded: Forwarded, attempt: Attempt, flow: Flow, user: ClientUser) -> ClientTransaction:
        """Forward a copy over `flow` within a new client transaction."""

    async def pass_on(self, forwarded: Forwarded, attempt: Attempt) -> None:
        """Forward a copy without state, as an ACK is. Raises Undeliverable."""


class MemberFlows(Protocol):
    """The connections with the other nodes of the cluster."""

    async def flow(self, node: str, epoch: int, host: str, port: int) -> Flow:
        """Return the connection with a life of a node, opened now or before. Raises ConnectFailed."""


class NoMembers:
    """The MemberFlows of a node that has no other."""

    async def flow(self, node: str, epoch: int, host: str, port: int) -> Flow:
        """See MemberFlows."""
        raise ConnectFailed("there is no other node")


class Sending:
    """The Sender over real transports."""

    def __init__(self, transports: Transports, resolver: Resolver, transactions: Transactions,
                 tokens: FlowTokens, siblings: Siblings | None = None, cluster: Cluster | None = None,
                 members: MemberFlows | None = None) -> None:
        self._transports = transports
        self._resolver = resolver
        self._transactions = transactions
        self._tokens = tokens
        self._siblings = siblings
        self._cluster = OneNode() if cluster is None else cluster
        self._members = NoMembers() if members is None else members
        self._worker = siblings.index if siblings is not None else 0

    def held(self, hop: OverFlow | OverDatagrams) -> Flow | None:
        """Return the flow that `hop` names, None when it is gone."""
        if isinstance(hop, OverFlow):
            return self._connection(hop)
        return self._transports.datagram_flow(hop.listener, hop.host, hop.port)

    async def targets(self, forwarded: Forwarded, attempt: Attempt) -> Sequence[Target]:
        """Resolve the first Route, or else the Request-URI (RFC 3261 §16.6 step 7)."""
        hop, is_sips = attempt.hop, attempt.uri[:5].lower() == "sips:"
        routes = (*(hop.routes if isinstance(hop, ByUri) else ()), *forwarded.request.values("Route"))
        try:
            uri = parse_sip_uri(_next_uri(hop, routes, attempt.uri))
            if is_sips:
                # RFC 3261 §16.6 step 7: "as if the input URI were a SIPS URI"
                uri = evolve(uri, scheme="sips")
            found = await self._resolver.resolve(uri, large=_is_large(forwarded.request))
        except (ParseError, Unresolvable) as problem:
            raise Undeliverable(str(problem)) from problem
        asked_from = attempt.asked_from or forwarded.source.peer[0]
        targets = [target for target in found if may_reach(target.host, asked_from)]
        if not targets:
            raise Undeliverable(f"{uri.host} is at no address that {asked_from} may have us speak to")
        secure = [target for target in targets if target.transport in ("TLS", "WSS")]
        if is_sips and not secure:
            raise Undeliverable(f"no way to {uri} over TLS")
        return secure if is_sips else targets

    async def connect(self, target: Target) -> Flow:
        """Return a flow to `target`, an open one if there is one."""
        try:
            return await self._transports.connect(target.transport, target.host, target.port, target.server_name)
        except ConnectFailed as problem:
            raise Undeliverable(str(problem)) from problem

    async def member(self, hop: OverMember) -> Flow:
        """Return the connection with the node that has a phone's flow, while that life of the node goes on."""
        named = hop.flow
        owner = self._cluster.node(named.node)
        if owner is None or (isinstance(named, Connection) and named.epoch != owner.epoch):
            raise Undeliverable(f"the node {named.node} that had its flow has ended")
        try:
            return await self._members.flow(owner.node, owner.epoch, owner.host, owner.port)
        except ConnectFailed as problem:
            raise Undeliverable(str(problem)) from problem

    def send(self, forwarded: Forwarded, attempt: Attempt, flow: Flow, user: ClientUser) -> ClientTransaction:
        """Forward a copy over `flow` within a new client transaction."""
        branch = new_branch(forwarded.mark, self._worker)
        copy = self._copy(forwarded, attempt, flow, branch)
        return self._transactions.send(copy, branch, flow, user)

    async def pass_on(self, forwarded: Forwarded, attempt: Attempt) -> None:
        """Forward a copy without state: its branch follows from the one it came with (RFC 3261 §16.11)."""
        hop = attempt.hop
        if isinstance(hop, Flow):
            flow = hop
        elif isinstance(hop, OverMember):
            flow = await self.member(hop)
        elif isinstance(hop, ByUri):
            flow = await self.connect((await self.targets(forwarded, attempt))[0])
        else:
            held = self.held(hop)
            if held is None:
                raise Undeliverable("its flow is gone")
            flow = held
        received = (forwarded.request.first_value("Via") or "").encode("utf-8", "surrogateescape")
        branch = f"{MAGIC_COOKIE}{md5(received, usedforsecurity=False).hexdigest()[:16]}.{forwarded.mark}"
        try:
            flow.write(self._copy(forwarded, attempt, flow, branch).serialise())
        except FlowClosed as problem:
            raise Undeliverable(str(problem)) from problem

    def _connection(self, hop: OverFlow) -> Flow | None:
        siblings, source = self._siblings, hop.source
        if source is None:
            return self._transports.flow(hop.flow_id)
        if siblings is not None and source.node != siblings.node:
            return siblings.flow(source.node, source.epoch, hop.flow_id, source.transport, source.listener,
                                 (source.host, source.port))
        # One of another node, or of an earlier life of this one, may have the number of one that is here.
        ours = siblings.epoch == source.epoch if siblings else self._tokens.is_own(source.node, source.epoch)
        return self._transports.flow(hop.flow_id) if ours else None

    def _copy(self, forwarded: Forwarded, attempt: Attempt, flow: Flow, branch: str) -> Request:
        copy = forwarded.request.copy()
        copy.uri = _as_request_uri(attempt.uri)
        spend_hop(copy)
        copy.set("Max-Breadth", str(forwarded.breadth))
        if copy.method not in NO_DIALOG and not forwarded.source.member:
            # What came from another node was recorded there, for both sides.
            self._record(copy, forwarded, attempt, flow)
        if isinstance(attempt.hop, ByUri):
            push_routes(copy, attempt.hop.routes)
        elif isinstance(attempt.hop, OverMember):
            token = self._tokens.token(attempt.hop.flow, forwarded.token_context, attempt.phone)
            push_routes(copy, [record_route(token, _host_port(flow.peer), flow.transport, False)])
        make_strict(copy)
        face = self._face(flow)
        copy.prepend("Via", f"SIP/2.0/{flow.transport} {face.host}:{face.port};branch={branch}")
        return copy

    def _record(self, copy: Request, forwarded: Forwarded, attempt: Attempt, flow: Flow) -> None:
        """Name both sides of the dialog: the callee's value on top, the caller's below.

        Either phone's route set then ends, seen from it, with the other's flow. A peer that we found by
        its URI is found by its URI again; its token only proves that the dialog passed here.
        """
        secure = copy.uri[:5].lower() == "sips:"
        hop, context = attempt.hop, forwarded.token_context
        face = self._face(forwarded.source)
        inward = self._tokens.token(forwarded.source if forwarded.from_phone else None, context, forwarded.caller)
        copy.prepend("Record-Route", record_route(inward, f"{face.host}:{face.port}", face.transport, secure))
        if isinstance(hop, OverMember):
            outward = self._tokens.token(hop.flow, context, attempt.phone)
            host, transport = self._face_there(hop)
        else:
            outward = self._tokens.token(None if isinstance(hop, ByUri) else flow, context, attempt.phone)
            face = self._face(flow)
            host, transport = f"{face.host}:{face.port}", face.transport
        copy.prepend("Record-Route", record_route(outward, host, transport, secure))

    def _face_there(self, hop: OverMember) -> tuple[str, str]:
        """Return the "host:port" and transport by which a phone knows its own node.

        One that is not known may be any of ours: what is signed is taken by every node, whatever host stands there.
        """
        if hop.face and hop.transport:
            return hop.face, hop.transport
        face = self._transports.listener_for(hop.transport) or next(iter(self._transports.listeners.values()))
        return f"{face.host}:{face.port}", face.transport

    def _face(self, flow: Flow) -> Listener:
        """Return the listener whose name we give to the peer of `flow`."""
        listener = flow.listener or self._transports.listener_for(flow.transport, flow.peer[0])
        # A connection that we opened, of a transport that we do not listen to: any of our names will do.
        return listener or next(iter(self._transports.listeners.values()))


def _next_uri(hop: Hop | Flow, routes: Sequence[str], uri: str) -> str:
    if isinstance(hop, ByUri) and hop.at:
        return hop.at
    return parse_name_addr(routes[0]).uri if routes else uri


def dialog_context(request: Request, tag: str | None) -> bytes:
    """Return what binds a flow token to a dialog: its Call-ID and the tag of the side that it was made for."""
    return f"{request.get('Call-ID')}\0{tag}".encode("utf-8", "surrogateescape")


def _host_port(peer: Address) -> str:
    host, port = peer
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _is_large(request: Request) -> bool:
    """Say whether a copy would not fit a datagram with certainty (RFC 3261 §18.1.1), our own fields counted."""
    return len(request.serialise()) + OWN_FIELDS_BYTES > MAX_DATAGRAM_BYTES


def _as_request_uri(uri: str) -> str:
    """Return a contact's URI without what a Request-URI may not have (RFC 3261 §16.6 step 2, table in §19.1.1)."""
    if "?" not in uri and "method=" not in uri.lower():
        return uri
    parsed = parse_uri(uri)
    if not isinstance(parsed, SipUri):
        return uri
    return str(evolve(parsed, headers=None, params=tuple(pair for pair in parsed.params if pair[0] != "method")))
