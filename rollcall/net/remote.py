"""Flows of other workers: what is written to one is sent by the worker that has the connection."""

from __future__ import annotations

from typing import Protocol

from rollcall.net.flow import Address, Flow, FlowClosed, Listener

NOWHERE: Address = ("", 0)
"""The peer of a connection that is known by its name alone."""


class Carrier(Protocol):
    """Who brings to another worker what is for its flows."""

    def carry(self, flow: RemoteFlow, data: bytes) -> None:
        """Have one whole message sent over `flow`. Raises FlowClosed when it cannot be brought."""

    def hold(self, flow: RemoteFlow, needed: bool) -> None:
        """Have the connection kept, or not, for somebody here who waits for something that comes over it."""


class Siblings(Protocol):
    """The other workers of this registrar, as far as flows are concerned."""

    node: str
    """This worker's own node name, and its epoch and number."""
    epoch: int
    index: int

    def knows(self, node: str) -> bool:
        """Say whether a node is another worker of this registrar."""

    def flow(self, node: str, epoch: int, flow_id: int, transport: str, listener: str,
             peer: Address = NOWHERE) -> Flow | None:
        """Return a connection of another worker; None when that worker, or its life, has ended.

        `listener` is the name of what accepted it, empty when it was opened by us.
        """


class RemoteFlow(Flow):
    """A connection that another worker of this registrar has."""

    __slots__ = ("__weakref__", "_carrier", "_holds", "_id", "_is_open", "_listener", "_transport", "epoch", "node")

    def __init__(self, carrier: Carrier, node: str, epoch: int, flow_id: int, transport: str,
                 listener: Listener | None, peer: Address) -> None:
        self._holds = 0
        self._carrier = carrier
        self._id = flow_id
        self._transport = transport
        self._listener = listener
        self._is_open = True
        self.node = node
        self.epoch = epoch
        super().__init__(peer)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RemoteFlow) and self._name == other._name

    def __hash__(self) -> int:
        return hash(self._name)

    def __repr__(self) -> str:
        return f"<flow {self._id} of {self.node}>"

    @property
    def _name(self) -> tuple[str, int, int]:
        return self.node, self.epoch, self._id

    @property
    def holds(self) -> int:
        """How many conversations here need the connection."""
        return self._holds

    @holds.setter
    def holds(self, number: int) -> None:
        before, self._holds = self._holds, number
        if bool(before) is not bool(number) and self._is_open:
            self._carrier.hold(self, bool(number))

    @property
    def id(self) -> int:
        return self._id

    @property
    def transport(self) -> str:
        return self._transport

    @property
    def local(self) -> Address:
        return self._listener.local if self._listener is not None else NOWHERE

    @property
    def listener(self) -> Listener | None:
        return self._listener

    @property
    def reliable(self) -> bool:
        return True

    @property
    def secure(self) -> bool:
        return self._transport in ("TLS", "WSS")

    @property
    def is_open(self) -> bool:
        return self._is_open

    @property
    def confirmed(self) -> bool:
        return True

    def write(self, data: bytes) -> None:
        if not self._is_open:
            raise FlowClosed(f"the connection of {self.node} has ended")
        self._carrier.carry(self, data)

    def close(self, reason: str) -> None:
        """Do nothing: whoever has the connection decides when it ends."""

    def confirm(self) -> None:
        """Do nothing: what has a name was confirmed."""

    def gone(self) -> None:
        """Hear that the connection has ended."""
        self._is_open = False
