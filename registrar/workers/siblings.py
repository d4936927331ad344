"""A worker's view of its siblings: their connections, as flows, and what they ask of ours.

A message for a phone whose connection another worker has is written by that worker. As long as somebody here waits for
an answer over it, it is held there, and its end is told here. A response that reaches a worker by chance, as datagrams
do, is handed over to the one that its branch names.
"""

from collections.abc import Callable
from weakref import WeakValueDictionary

from twisted.logger import Logger

from registrar.bound import let_go
from registrar.location.held import HeldLocation
from registrar.workers.messages import (
    Datagram,
    Gone,
    Hold,
    Member,
    Message,
    Stray,
    Unbound,
    Write,
)
from rollcall.net.flow import Address, Flow, FlowClosed, FlowUser, Listener
from rollcall.net.remote import NOWHERE, RemoteFlow
from rollcall.net.transactions import Transactions
from rollcall.net.transports import Transports
from rollcall.sip.errors import ParseError
from rollcall.sip.forwarding import worker_of
from rollcall.sip.message import Request, Response, check_request, parse_message

Say = Callable[[Member, Message], bool]
"""Says something to a sibling; False when it cannot be said now."""


class WorkerSiblings:
    """The Siblings and the Carrier of a worker, and what it does for them."""

    _log = Logger()

    def __init__(self, me: Member, say: Say) -> None:
        self.node, self.epoch, self.index = me.node, me.epoch, me.index
        self._say = say
        self._members: dict[str, Member] = {}
        self._flows: WeakValueDictionary[tuple[str, int, int], RemoteFlow] = WeakValueDictionary()
        # Which siblings hold which of our connections.
        self._holders: dict[int, set[int]] = {}
        self._transports: Transports
        self._transactions: Transactions
        self._user: FlowUser
        self._location: HeldLocation | None

    def serve(self, transports: Transports, transactions: Transactions, user: FlowUser,
              location: HeldLocation | None) -> None:
        """Join what all this is about; there is no `location` when workers share their bindings by Redis."""
        self._transports = transports
        self._transactions = transactions
        self._user = user
        self._location = location
        transactions.hand_over = self.hand_over

    @property
    def held_here(self) -> int:
        """How many connections of ours siblings wait for something on."""
        return len(self._holders)

    # --- for the flows

    def knows(self, node: str) -> bool:
        """Say whether a node is another worker, alive or not: their names differ by their number only."""
        ours, theirs = self.node.rpartition("-")[0], node.rpartition("-")
        return node != self.node and theirs[0] == ours and theirs[2].isdigit()

    def flow(self, node: str, epoch: int, flow_id: int, transport: str, listener: str,
             peer: Address = NOWHERE) -> Flow | None:
        """Return a connection of a sibling; None when that life of it has ended."""
        if self.member(node, epoch) is None:
            return None
        name = node, epoch, flow_id
        flow = self._flows.get(name)
        if flow is None or not flow.is_open:
            flow = RemoteFlow(self, *name, transport, self._listener(listener), peer)
            self._flows[name] = flow
        return flow

    def member(self, node: str, epoch: int) -> Member | None:
        """Return a sibling while that life of it lasts."""
        member = self._members.get(node)
        return member if member is not None and member.epoch == epoch else None

    def carry(self, flow: RemoteFlow, data: bytes) -> None:
        """Have a message sent by who has the connection. Raises FlowClosed."""
        if not self._tell(flow, Write(flow.id, data)):
            raise FlowClosed(f"{flow.node} cannot be told to send it")

    def hold(self, flow: RemoteFlow, needed: bool) -> None:
        """Have a connection kept, or not."""
        self._tell(flow, Hold(flow.id, needed))

    def hand_over(self, branch: str, response: Response, flow: Flow) -> bool:
        """Give a response to the worker that its branch names; False when that is none."""
        index = worker_of(branch)
        member = next((each for each in self._members.values() if each.index == index), None)
        if member is None or index == self.index:
            return False
        listener = flow.listener.name if flow.listener is not None else ""
        return self._say(member, Stray(response.serialise(), flow.transport, listener, flow.peer, flow.id))

    def pass_datagram(self, data: bytes, flow: Flow) -> bool:
        """Give a request to some sibling; False when there is none."""
        return any(self._say(member, self._datagram(data, flow, False)) for member in self._others())

    def offer_datagram(self, data: bytes, flow: Flow) -> None:
        """Give a request to whichever sibling knows what it belongs to."""
        for member in self._others():
            self._say(member, self._datagram(data, flow, True))

    def flow_closed(self, flow: Flow) -> None:
        """Tell whoever holds one of our connections that it has ended."""
        for index in self._holders.pop(flow.id, ()):
            for member in self._members.values():
                if member.index == index:
                    self._say(member, Gone(flow.id))

    def release(self, flow_id: int, key: bytes) -> None:
        """Let go of one of our connections that a record has nothing more on; close it when it has no other use."""
        flow = self._transports.flow(flow_id)
        if flow is not None:
            let_go(flow, key)

    # --- what the siblings say

    def received(self, message: Message, sender: int) -> None:
        """Do what a sibling asks."""
        member = next((each for each in self._members.values() if each.index == sender), None)
        if member is None:
            return
        match message:
            case Write(flow_id=flow_id, data=data):
                self._write(flow_id, data, member)
            case Hold(flow_id=flow_id, needed=needed):
                self._hold(flow_id, needed, member)
            case Gone(flow_id=flow_id):
                self._gone((member.node, member.epoch, flow_id))
            case Stray():
                self._stray(message, member)
            case Datagram():
                self._take_datagram(message)
            case Unbound(flow_id=flow_id, key=key) if self._location is not None:
                self._location.unbound(flow_id, key)
            case _:
                self._log.critical("{message} is not for a sibling", message=type(message).__name__)

    def members(self, members: tuple[Member, ...]) -> None:
        """Learn which workers live; of those that do not any more, nothing is left."""
        before, self._members = self._members, {member.node: member for member in members}
        for member in before.values():
            if member not in members:
                self._left(member)

    def _left(self, member: Member) -> None:
        for name in [name for name in self._flows if name[:2] == (member.node, member.epoch)]:
            self._gone(name)
        for flow_id, holders in list(self._holders.items()):
            if member.index in holders:
                self._let_go(flow_id, member.index)
        if self._location is not None:
            self._location.left(member.node, member.epoch)

    def _write(self, flow_id: int, data: bytes, asker: Member) -> None:
        flow = self._transports.flow(flow_id)
        try:
            if flow is None:
                raise FlowClosed("it has ended")
            flow.write(data)
        except FlowClosed as problem:
            self._log.debug("nothing goes over {flow} for worker {index}: {problem}", flow=flow_id, index=asker.index,
                            problem=str(problem))
            self._say(asker, Gone(flow_id))

    def _hold(self, flow_id: int, needed: bool, asker: Member) -> None:
        flow = self._transports.flow(flow_id)
        if not needed:
            self._let_go(flow_id, asker.index)
        elif flow is None:
            self._say(asker, Gone(flow_id))
        elif asker.index not in self._holders.setdefault(flow_id, set()):
            self._holders[flow_id].add(asker.index)
            flow.holds += 1

    def _let_go(self, flow_id: int, index: int) -> None:
        holders = self._holders.get(flow_id)
        if holders is None or index not in holders:
            return
        holders.discard(index)
        if not holders:
            del self._holders[flow_id]
        flow = self._transports.flow(flow_id)
        if flow is not None:
            flow.holds -= 1

    def _gone(self, name: tuple[str, int, int]) -> None:
        flow = self._flows.pop(name, None)
        if flow is not None:
            flow.gone()
            self._transactions.flow_closed(flow)

    def _stray(self, stray: Stray, sender: Member) -> None:
        if stray.flow_id:
            flow = self.flow(sender.node, sender.epoch, stray.flow_id, stray.transport, stray.listener, stray.peer)
        else:
            flow = self._transports.datagram_flow(stray.listener, *stray.peer)
        try:
            message = parse_message(stray.data)
        except ParseError as problem:
            self._log.error("worker {index} handed over what is no message: {problem}", index=sender.index,
                            problem=str(problem))
            return
        if flow is not None and isinstance(message, Response):
            self._transactions.response_received(message, flow)

    def _take_datagram(self, datagram: Datagram) -> None:
        flow = self._transports.datagram_flow(datagram.listener, *datagram.peer)
        if flow is not None and (not datagram.only_known or self.is_known(datagram.data)):
            self._user.message_received(datagram.data, flow)

    def is_known(self, data: bytes) -> bool:
        """Say whether this worker has what a message belongs to; it has when nobody can tell what that is."""
        try:
            message = parse_message(data)
            return not isinstance(message, Request) or self._transactions.has_begun(message, check_request(message))
        except ParseError:
            return True

    def _others(self) -> list[Member]:
        return [member for member in self._members.values() if member.index != self.index]

    def _datagram(self, data: bytes, flow: Flow, only_known: bool) -> Datagram:
        return Datagram(data, flow.listener.name if flow.listener is not None else "", flow.peer, only_known)

    def _tell(self, flow: RemoteFlow, message: Message) -> bool:
        member = self.member(flow.node, flow.epoch)
        return member is not None and self._say(member, message)

    def _listener(self, name: str) -> Listener | None:
        return self._transports.listeners.get(name)
