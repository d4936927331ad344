"""Nodes of a cluster in memory: whole registrars that share their bindings and speak to each other, on one clock.

What nodes say to each other waits in a queue until `settle`, as it would on a wire; every step of a test ends with it.
A Phone here has registered and knows the address-of-record that it is called by:

    bob = self.nodes.phone("bob", "n2")
    self.ask(alice, a_request())
    self.assertEqual(bob.heard(), ["INVITE"])
"""

from collections import deque
from itertools import count
from typing import Any

from attrs import evolve
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from registrar.location.changes import Changes
from registrar.location.contract import Snapshot
from registrar.owners import living
from registrar.reconnecting import Reconnecting
from registrar.records import Binding, record_key
from rollcall.cluster.nodes import Node
from rollcall.net.flow import ConnectFailed, Flow, Listener
from rollcall.sip.headers import parse_name_addr
from rollcall.sip.message import Request, Response
from tests.flows import LISTENERS, Headers, MemoryFlow, a_request
from tests.layers import Layer
from tests.registrar.examples import NOW
from tests.registrar.joined import Client, HeldLocation, Registrar
from tests.registrar.network import MemoryTransports, Network, Phone

WAIT_SECONDS = 10.0
MAX_WAITING = 2
EPOCH = 1

_branches = count(1)


class SharedLocation(HeldLocation):
    """The bindings of all nodes; who waits for a change hears of it."""

    def __init__(self, layer: Layer) -> None:
        super().__init__(layer)
        self.changes = Changes(lambda call: layer.wheel.call_later(0, call))

    async def save(self, aor: str, new: Snapshot) -> None:
        """Tell of it."""
        await super().save(aor, new)
        self.changes.tell(record_key(aor))

    async def unbind(self, aor: str, node: str, epoch: int, flow_id: int) -> tuple[Binding, ...]:
        """Tell of it."""
        removed = await super().unbind(aor, node, epoch, flow_id)
        self.changes.tell(record_key(aor))
        return removed


class NodeTransports(MemoryTransports):
    """The transports of a node that its phones reach by another host than the others."""

    def __init__(self, host: str) -> None:
        super().__init__()
        self.listeners = {each.name: evolve(each, host=host, local=(host, each.port)) for each in LISTENERS.values()}

    def listener_for(self, transport: str, host: str = "") -> Listener | None:
        """Return the listener of this transport."""
        return self.listeners.get(transport.lower())

    def datagram_flow(self, listener_name: str, host: str, port: int) -> Flow | None:
        """Return the datagram flow to there, from this node's own socket."""
        listener = self.listeners.get(listener_name)
        if listener is None:
            return None
        key = listener_name, host, port
        if key not in self.datagrams:
            self.datagrams[key] = MemoryFlow("UDP", (host, port), listener)
        return self.datagrams[key]


class InternalFlow(MemoryFlow):
    """One end of the connection between two nodes."""

    member = ""
    site = ""

    def __init__(self, nodes: "Nodes", near: str, far: str) -> None:
        host, port = nodes.address(far)
        local = nodes.address(near)
        listener = Listener(name="internal", transport="TCP", host=local[0], port=local[1], local=local)
        super().__init__("TCP", (host, port), listener)
        self.member = far
        self.sent: list[str] = []
        """The start lines of all that left here."""
        self._nodes = nodes
        self._way = near, far

    def write(self, data: bytes) -> None:
        """Put one message on the wire."""
        super().write(data)
        self.sent += self.starts()
        self._nodes.wire.append((self._way, data))


class NodeRegistrar(Registrar):
    """A registrar that knows which nodes live."""

    def _there(self, bindings: tuple[Binding, ...]) -> tuple[Binding, ...]:
        assert self.reconnecting is not None
        return living(bindings, self.reconnecting.cluster)


class MemoryCluster:
    """The Cluster and the MemberFlows of one node."""

    def __init__(self, nodes: "Nodes", name: str) -> None:
        self._nodes = nodes
        self._name = name

    def is_living(self, node: str, epoch: int) -> bool:
        """See Cluster."""
        return self._nodes.lives.get(node) == epoch

    def ended_at(self, node: str, epoch: int) -> float | None:
        """See Cluster."""
        return self._nodes.ended.get((node, epoch))

    def node(self, name: str) -> Node | None:
        """See Cluster."""
        epoch = self._nodes.lives.get(name)
        if epoch is None or name in self._nodes.unknown:
            return None
        host, port = self._nodes.address(name)
        faces = {each.name: f"{each.host}:{each.port}"
                 for each in self._nodes[name].network.transports.listeners.values()}
        told = {} if name in self._nodes.unannounced else faces
        return Node(node=name, epoch=epoch, host=host, port=port, faces=told)

    async def flow(self, node: str, epoch: int, host: str, port: int) -> Flow:
        """See MemberFlows."""
        if (host, port) != self._nodes.address(node) or node in self._nodes.dead:
            raise ConnectFailed(f"{node} is not there")
        return self._nodes.between(self._name, node)


class Nodes:
    """Three nodes, n1 to n3."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.clock.advance(NOW)
        self.wire: deque[tuple[tuple[str, str], bytes]] = deque()
        self.lives = {"n1": EPOCH, "n2": EPOCH, "n3": EPOCH}
        self.ended: dict[tuple[str, int], float] = {}
        self.dead: set[str] = set()
        self.unknown: set[str] = set()
        """Nodes whose leases nobody has seen yet."""
        self.unannounced: set[str] = set()
        """Nodes whose leases do not say yet where their phones reach them."""
        self._flows: dict[tuple[str, str], InternalFlow] = {}
        self.location = SharedLocation(Layer(clock=self.clock))
        self._nodes = {name: self._joined(name, Layer(clock=self.clock)) for name in self.lives}

    def __getitem__(self, name: str) -> Registrar:
        return self._nodes[name]

    def _joined(self, name: str, layer: Layer) -> Registrar:
        cluster = MemoryCluster(self, name)
        transports = NodeTransports(f"192.0.2.{name[1:]}")
        network = Network(layer, name, EPOCH, transports, cluster, cluster)
        reconnecting = Reconnecting(
            location=self.location, wheel=layer.wheel, now=self.clock.seconds, cluster=cluster,
            changes=self.location.changes, wait_seconds=WAIT_SECONDS, max_waiting=MAX_WAITING)
        return NodeRegistrar(with_passwords=False, takes_short_way=False, network=network, reconnecting=reconnecting)

    @staticmethod
    def address(name: str) -> tuple[str, int]:
        """Return where the others reach a node."""
        return f"198.51.100.{name[1:]}", 5070

    def between(self, near: str, far: str) -> InternalFlow:
        """Return the near end of the connection between two nodes."""
        if (near, far) not in self._flows:
            self._flows[near, far] = InternalFlow(self, near, far)
            self._flows[far, near] = InternalFlow(self, far, near)
        return self._flows[near, far]

    def settle(self) -> None:
        """Let everything arrive that nodes have said to each other."""
        while self.wire:
            (near, far), data = self.wire.popleft()
            if not {near, far} & self.dead:
                self[far].requests.message_received(data, self.between(far, near))

    def wait(self, seconds: float) -> None:
        """Let time pass, and what happens meanwhile arrive."""
        for _ in range(round(seconds / 0.5)):
            self.clock.advance(0.5)
            self.settle()
        self.clock.advance(0)
        self.settle()

    def kill(self, name: str, lease_ends: bool = True) -> None:
        """End a node without a word; its connections break, and what it held is nobody's once its lease has ended."""
        self.dead.add(name)
        for near, far in list(self._flows):
            if far == name and near not in self.dead:
                flow = self._flows[near, far]
                flow.close("reset")
                self[near].requests.flow_closed(flow, "reset")
        for key in [key for key in self._flows if name in key]:
            del self._flows[key]
        self.settle()
        if lease_ends:
            self.end_lease(name)

    def part(self, one: str, other: str) -> None:
        """Break the connection of two nodes that both live; the next request opens another."""
        flows = [(near, self._flows.pop((near, far))) for near, far in ((one, other), (other, one))]
        for near, flow in flows:
            flow.close("reset")
            self[near].requests.flow_closed(flow, "reset")
        self.settle()

    def end_lease(self, name: str) -> None:
        """Let the others know that a node has ended."""
        self.ended[name, self.lives.pop(name)] = self.clock.seconds()

    def phone(self, name: str, node: str, transport: str = "TCP", **changes: Any) -> "NodePhone":
        """Return a phone that has registered with this node."""
        phone = NodePhone(self, name, transport, **changes)
        phone.register(node)
        return phone


class NodePhone(Phone):
    """A phone that registers with one node, and then perhaps with another."""

    _ports = count(50_000)

    def __init__(self, nodes: Nodes, name: str, transport: str = "TCP", user: str = "",
                 instance: str | None = None) -> None:
        """`user` is whom it registers for, if others do too."""
        self.name = name
        self.user = user or name
        self.requests: dict[str, Request] = {}
        self.flow: MemoryFlow
        self.node = ""
        self.contact = ""
        self._since_last_look: list[str] = []
        self._nodes = nodes
        self._transport = transport
        self._instance = instance
        self._cseq = 0

    def register(self, node: str) -> None:
        """Connect to a node and register there; another connection of before is left as it is."""
        self.connect(node)
        self.contact = f"sip:{self.user}@{self.flow.peer[0]}:{self.flow.peer[1]};transport={self._transport.lower()}"
        client = Client(self._nodes[node], self.user, self.flow)
        client.call_id = f"registrations of {self.name}"
        client.cseq = self._cseq
        answer = client.register(self.contact, instance=self._instance)
        assert answer.status == 200, answer.start_line
        self._cseq = client.cseq
        self._nodes.settle()

    def register_as_well(self, user: str) -> None:
        """Register another user over the same connection, as a trunk does."""
        client = Client(self._nodes[self.node], user, self.flow)
        answer = client.register(f"sip:{user}@{self.flow.peer[0]}:{self.flow.peer[1]};transport=tcp")
        assert answer.status == 200, answer.start_line

    def connect(self, node: str) -> None:
        """Connect to a node."""
        registrar, port = self._nodes[node], next(self._ports)
        self.node = node
        if self._transport == "UDP":
            flow = registrar.network.transports.datagram_flow("udp", "203.0.113.9", port)
            assert isinstance(flow, MemoryFlow)
            self.flow = flow
            return
        listener = registrar.network.transports.listeners[self._transport.lower()]
        self.flow = MemoryFlow(self._transport, ("203.0.113.9", port), listener)
        registrar.network.transports.flows[self.flow.id] = self.flow

    def lose(self) -> None:
        """Lose the connection."""
        self._nodes[self.node].lose(self.flow)
        self._nodes.settle()

    def send(self, message: Request | Response) -> None:
        """Send a message to the node that the phone is connected to."""
        self._nodes[self.node].requests.message_received(message.serialise(), self.flow)
        self._nodes.settle()

    def reply(self, response: Response) -> None:
        """Send a response."""
        self.send(response)

    def answers(self) -> list[int]:
        """Return the statuses of the answers since the last look."""
        return [message.status for message in self.flow.take() if isinstance(message, Response)]

    def last_answer(self) -> Response:
        """Return the last answer since the last look."""
        return [message for message in self.flow.take() if isinstance(message, Response)][-1]


class Call:
    """A call that one phone makes to another: the requests of both sides within their dialog."""

    def __init__(self, caller: NodePhone, callee: NodePhone, call_id: str = "call-1@phone") -> None:
        self.caller, self.callee = caller, callee
        self.call_id = call_id
        self._tags = f"<sip:{caller.user}@example.com>;tag={caller.name}", ""
        self._cseq = {caller.name: 1, callee.name: 100}
        self._routes: dict[str, list[str]] = {}
        self._targets: dict[str, str] = {}
        self.invite_sent: Request
        self.caller_name = ""
        """What the caller says in From, when that is not who the phone registered for."""

    def invite(self, uri: str | None = None, method: str = "INVITE", headers: Headers = ()) -> None:
        """Send the request that begins it."""
        caller, callee = self.caller, self.callee
        self.invite_sent = a_request(
            method, uri or f"sip:{callee.user}@example.com", branch=_branch(), caller=self.caller_name or self._tags[0],
            callee=f"<sip:{callee.user}@example.com>", call_id=self.call_id, transport=caller.flow.transport,
            headers=(("Contact", f"<{caller.contact}>"), *headers))
        caller.send(self.invite_sent)

    def answer(self, status: int = 200) -> Response:
        """Let the callee answer, and both sides learn their routes; return what the caller got."""
        caller, callee = self.caller, self.callee
        callee.heard()
        invite = callee.requests["INVITE"]
        recorded = tuple(("Record-Route", value) for value in invite.values("Record-Route"))
        callee.answer(status, headers=(("Contact", f"<{callee.contact}>"), *recorded))
        answer = caller.last_answer()
        assert answer.status == status, answer.start_line
        self._tags = self._tags[0], f"<sip:{callee.user}@example.com>;tag={callee.name}"
        self._routes = {caller.name: answer.values("Record-Route")[::-1], callee.name: invite.values("Record-Route")}
        self._targets = {caller.name: parse_name_addr(answer.get("Contact") or "").uri,
                         callee.name: parse_name_addr(invite.get("Contact") or "").uri}
        return answer

    def request(self, method: str, sender: NodePhone, cseq: int | None = None, uri: str | None = None) -> Request:
        """Return a request within the dialog."""
        near, far = self._tags if sender is self.caller else self._tags[::-1]
        if cseq is None:
            self._cseq[sender.name] += 1
            cseq = self._cseq[sender.name]
        return a_request(
            method, uri or self._targets[sender.name], branch=_branch(), caller=near, callee=far, cseq=cseq,
            call_id=self.call_id, transport=sender.flow.transport,
            headers=tuple(("Route", route) for route in self._routes[sender.name]))

    def last_cseq(self, sender: NodePhone) -> int:
        """Return the number of the last request of one side."""
        return self._cseq[sender.name]

    def acknowledge(self) -> None:
        """Let the caller acknowledge."""
        self.caller.send(self.request("ACK", self.caller, cseq=1))


def _branch() -> str:
    return f"z9hG4bK-nodes-{next(_branches)}"


class NodesCase(SynchronousTestCase):
    """Phones of several nodes."""

    def setUp(self) -> None:
        self.nodes = Nodes()

    def tearDown(self) -> None:
        """See that no living node has anything left when the last repetitions are over."""
        for _ in range(8):
            self.nodes.wait(32)
        for name in self.nodes.lives:
            registrar = self.nodes[name]
            assert registrar.reconnecting is not None
            self.assertEqual((name, len(registrar.layer.transactions), registrar.reconnecting.waiting), (name, 0, {}))
        self.assertEqual(len(self.nodes.location.changes), 0)

    def established(self, caller: NodePhone, callee: NodePhone) -> Call:
        """Return a call that was answered and acknowledged."""
        call = Call(caller, callee)
        call.invite()
        self.assertEqual(callee.heard(), ["INVITE"])
        call.answer()
        call.acknowledge()
        self.assertEqual(callee.heard(), ["ACK"])
        return call

    def exchange(self, call: Call, method: str, sender: NodePhone, receiver: NodePhone) -> None:
        """Let one side send a request, and see that the other gets it and the answer comes back."""
        sender.flow.take()
        sender.send(call.request(method, sender))
        self.wait_a_turn()
        self.assertEqual(receiver.heard(), [method])
        receiver.answer(200, method)
        self.assertEqual(sender.answers()[-1:], [200])

    def wait_a_turn(self) -> None:
        """Let happen what was put off to a later turn."""
        self.nodes.clock.advance(0.125)
        self.nodes.settle()
