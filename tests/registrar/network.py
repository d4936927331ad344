"""A network in memory for the conversations: phones on flows, transports that lead to them, names that resolve.

A Phone hears requests and answers them; what was heard is asked for as a list of methods, so that a test of a call
reads as the call's diagram:

    bob = Phone(layer, "bob")
    self.call([bob])
    self.assertEqual(bob.heard(), ["INVITE"])
    bob.answer(200)
"""

from typing import cast

from twisted.internet.defer import Deferred

from registrar.owners import Cluster
from registrar.routing import OverFlow
from registrar.sending import Attempt, MemberFlows, Sending
from rollcall.net.flow import ConnectFailed, Flow, Listener
from rollcall.net.resolver import Resolver, Unresolvable
from rollcall.net.tokens import FlowTokens
from rollcall.net.transports import Transports
from rollcall.sip.message import Request, Response
from rollcall.sip.targets import Target
from rollcall.sip.uri import SipUri
from tests.flows import LISTENERS, Headers, MemoryFlow, a_flow, an_answer
from tests.layers import Layer

KEY = b"the key of flow tokens in tests."


class MemoryTransports:
    """Transports that know only the flows that a test gave them."""

    def __init__(self) -> None:
        self.listeners: dict[str, Listener] = {listener.name: listener for listener in LISTENERS.values()}
        self.flows: dict[int, MemoryFlow] = {}
        self.datagrams: dict[tuple[str, str, int], MemoryFlow] = {}
        self.reachable: dict[tuple[str, str, int], MemoryFlow | Deferred[Flow]] = {}
        self.connected: list[tuple[str, str, int]] = []

    def flow(self, flow_id: int) -> Flow | None:
        """Return the open connection of this id."""
        flow = self.flows.get(flow_id)
        return flow if flow is not None and flow.is_open else None

    def datagram_flow(self, listener_name: str, host: str, port: int) -> Flow | None:
        """Return the datagram flow to there, None when there is no such listener."""
        if listener_name not in self.listeners:
            return None
        key = listener_name, host, port
        if key not in self.datagrams:
            self.datagrams[key] = a_flow("UDP", host, port)
        return self.datagrams[key]

    def listener_for(self, transport: str, host: str = "") -> Listener | None:
        """Return the listener of this transport."""
        return LISTENERS.get(transport)

    async def connect(self, transport: str, host: str, port: int, server_name: str | None = None) -> Flow:
        """Return the flow that the test put there; raise ConnectFailed when there is none or it is broken."""
        self.connected.append((transport, host, port))
        there = self.reachable.get((transport, host, port))
        if isinstance(there, Deferred):
            return await there
        if there is None or not there.is_open:
            raise ConnectFailed(f"nobody at {host}:{port}")
        return there


class MemoryResolver:
    """A resolver that knows only what a test told it, by the text of the URI."""

    def __init__(self) -> None:
        self.known: dict[str, list[Target] | Deferred[list[Target]]] = {}
        self.asked: list[str] = []
        self.large: list[bool] = []

    async def resolve(self, uri: SipUri, large: bool = False) -> list[Target]:
        """Return the targets of `uri`; raise Unresolvable when it is unknown."""
        self.asked.append(str(uri))
        self.large.append(large)
        found = self.known.get(str(uri))
        if isinstance(found, Deferred):
            return await found
        if found is None:
            raise Unresolvable(f"no address for {uri}", temporary=False)
        return found


class Phone:
    """A phone on a connection of its own, or on datagrams."""

    def __init__(self, layer: Layer, name: str, transport: str = "TCP", port: int = 49152) -> None:
        self.name = name
        self.flow = a_flow(transport, "192.0.2.20", port)
        self.requests: dict[str, Request] = {}
        self._since_last_look: list[str] = []
        self._layer = layer

    def heard(self) -> list[str]:
        """Return the methods of the requests that came since the last look."""
        for message in self.flow.take():
            assert isinstance(message, Request), message.start_line
            self.requests[message.method] = message
            self._since_last_look.append(message.method)
        heard, self._since_last_look = self._since_last_look, []
        return heard

    def answer(self, status: int, method: str = "INVITE", tag: str | None = None, headers: Headers = ()) -> None:
        """Answer the last request of `method`, with the phone's name as tag."""
        self._since_last_look = self.heard()
        self.reply(an_answer(self.requests[method], status, None, tag or self.name, headers))

    def reply(self, response: Response) -> None:
        """Send a response that the test made itself."""
        self._layer.answer(response, self.flow)

    def attempt(self, *alternates: Attempt) -> Attempt:
        """Return the attempt to reach this phone over its connection."""
        return Attempt(f"sip:{self.name}@{self.flow.peer[0]}", OverFlow(self.flow.id), alternates)


class Network:
    """A layer with transports, a resolver and a real Sending over them; with others, those of one node of several."""

    def __init__(self, layer: Layer, node: str = "n1", epoch: int = 1, transports: MemoryTransports | None = None,
                 cluster: Cluster | None = None, members: MemberFlows | None = None) -> None:
        self.layer = layer
        self.node, self.epoch = node, epoch
        self.transports = transports or MemoryTransports()
        self.resolver = MemoryResolver()
        self.tokens = FlowTokens([KEY], node, epoch, self.transports.flow, self.transports.datagram_flow)
        self.sending = Sending(
            cast(Transports, self.transports), cast(Resolver, self.resolver), layer.transactions, self.tokens,
            cluster=cluster, members=members)
        self._ports = iter(range(49152, 65536))

    def phone(self, name: str, transport: str = "TCP") -> Phone:
        """Return a phone that is connected."""
        phone = Phone(self.layer, name, transport, next(self._ports))
        if phone.flow.id:
            self.transports.flows[phone.flow.id] = phone.flow
        return phone

    def server(self, name: str, *addresses: tuple[str, str, int]) -> list[Phone]:
        """Have sip:`name` resolve to these (transport, host, port), in this order; return what listens there."""
        self.resolver.known[f"sip:{name}"] = [Target(*address) for address in addresses]
        servers = []
        for transport, host, port in addresses:
            server = Phone(self.layer, name, transport, port)
            server.flow = MemoryFlow(transport, (host, port), LISTENERS[transport])
            self.transports.reachable[transport, host, port] = server.flow
            servers.append(server)
        return servers

    def flows(self) -> list[MemoryFlow]:
        """Return every flow there is."""
        reachable = [flow for flow in self.transports.reachable.values() if isinstance(flow, MemoryFlow)]
        return [*self.transports.flows.values(), *self.transports.datagrams.values(), *reachable]
