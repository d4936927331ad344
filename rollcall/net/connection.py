"""Flows over connections: their life and their time limits, whatever carries their bytes (RFC 5626 §3.5.1)."""

from __future__ import annotations

from abc import abstractmethod
from enum import Enum
from typing import TYPE_CHECKING, Any, Protocol

from rollcall.net.config import SECURE_TRANSPORTS
from rollcall.net.flow import Address, Flow, FlowClosed, Listener, PackedAddress, unpack_address

if TYPE_CHECKING:
    from rollcall.net.connections import Connections
    from rollcall.net.wheel import Timer

CRLF = b"\r\n"

WRITE_ROOM_BYTES = 65_536
"""While more than this waits for a peer to read we do not read from it; as much as a Twisted transport buffers."""


class State(Enum):
    """Where a connection is in its life."""

    OPENING = "opening"
    OPEN = "open"
    CLOSING = "closing"
    CLOSED = "closed"


class Origin(Protocol):
    """What made a connection: a listener that accepted it, or our wish to reach somebody."""

    connections: Connections
    transport: str

    @property
    def listener(self) -> Listener | None:
        """See Flow.listener."""

    def ready(self, flow: ConnectionFlow) -> None:
        """Take note that messages can flow, and give the flow its id."""

    def time_limit(self) -> float | None:
        """How many seconds a new flow has to send a valid request; None for no limit."""

    def lost(self, flow: ConnectionFlow, reason: str) -> None:
        """Take note that the connection is gone."""


class ConnectionFlow(Flow):
    """A flow over a connection. Subclasses know what carries its bytes, and how messages lie in them."""

    __slots__ = ("_local", "_origin", "_reason", "_state", "_timer", "confirmed", "id")

    id: int
    confirmed: bool

    def __init__(self, origin: Origin, peer: Address | PackedAddress, local: PackedAddress | None = None) -> None:
        """`local` is known beforehand when a PROXY header told it."""
        super().__init__(peer)
        self.id = 0
        self.confirmed = False
        self._origin = origin
        self._local = local
        self._state = State.OPENING
        self._reason = ""
        self._timer: Timer | None = None

    # --- what the flow's user asks

    @property
    def transport(self) -> str:
        return self._origin.transport

    @property
    def listener(self) -> Listener | None:
        return self._origin.listener

    @property
    def local(self) -> Address:
        # Asked for rarely, so not kept: an address takes 170 bytes.
        return unpack_address(self._local) if self._local is not None else self._here()

    @property
    def reliable(self) -> bool:
        return True

    @property
    def secure(self) -> bool:
        return self._origin.transport in SECURE_TRANSPORTS

    @property
    def is_open(self) -> bool:
        return self._state is State.OPEN

    @property
    def is_ending(self) -> bool:
        """Whether it is closed or about to be."""
        return self._state in (State.CLOSING, State.CLOSED)

    @property
    def came_directly(self) -> bool:
        """Whether the peer's kernel has connected to ours: not ours to its, nor that of a proxy in between."""
        return self._local is None and self._origin.time_limit() is not None

    def __repr__(self) -> str:
        host, port = self.peer
        return f"<flow {self.id} {self.transport} {host}:{port} {self._state.value}>"

    def write(self, data: bytes) -> None:
        if self._state is not State.OPEN:
            raise FlowClosed(self._reason or "the connection is still opening")
        self._send(self._encoded(data))
        if self._state is not State.OPEN:
            raise FlowClosed(self._reason)

    def close(self, reason: str) -> None:
        if self._state is State.OPENING:
            self._abort(reason)
        elif self._state is State.OPEN:
            self._say_goodbye()
            self._end(reason)

    def confirm(self) -> None:
        if not self.confirmed:
            self.confirmed = True
            if self._state is State.OPEN:
                self._allow(None)
                self._origin.connections.confirmed(self)

    # --- what a subclass says

    @abstractmethod
    def _send(self, data: bytes) -> None:
        """Have these bytes carried. Aborts the connection when the peer leaves too many unread."""

    @abstractmethod
    def _cut(self) -> None:
        """End the connection at once, with what waits to be carried; `_gone` is called in a later turn."""

    @abstractmethod
    def _finish(self) -> None:
        """Send our end after what was written; go on reading, and hear nothing, until the peer's."""

    @abstractmethod
    def _here(self) -> Address:
        """Return our end's address, ("", 0) when there is none."""

    def _encoded(self, message: bytes) -> bytes:
        """Return the bytes that carry a message."""
        return message

    def _say_goodbye(self) -> None:
        """Send what has to go before the end."""

    # --- what a subclass uses

    def _ready(self) -> None:
        self._state = State.OPEN
        self._allow(self._origin.time_limit(), self._overdue)
        self._origin.ready(self)

    def _abort(self, reason: str = "") -> None:
        self._state = State.CLOSING
        self._reason = self._reason or reason
        self._cut()

    def _end(self, reason: str) -> None:
        """Send our end and go on reading until the peer's: closing at once would reset what is still on its way."""
        if self._state is State.CLOSING:
            return
        self._state = State.CLOSING
        self._reason = reason
        self._allow(self._origin.connections.limits.close_seconds, self._abort)
        self._finish()

    def _gone(self, reason: str) -> None:
        """Take note of the end of the connection, whoever ended it."""
        if self._state is State.CLOSED:
            return
        self._state = State.CLOSED
        self._reason = self._reason or reason
        self._allow(None)
        self._origin.lost(self, self._reason)

    def _expect_rest(self, is_waiting: bool, has_come: bool) -> None:
        """See that what has begun to come ends in time; `has_come` says that something whole came before it.

        A stranger's own limit is the stricter one. A connection in the middle of nothing has no timer.
        """
        if self._state is not State.OPEN or not (self.confirmed or self._origin.time_limit() is None):
            return
        if self._timer is not None and (has_come or not is_waiting):
            self._allow(None)
        if is_waiting and self._timer is None:
            self._allow(self._origin.connections.limits.message_seconds, self._stalled)

    def _stalled(self) -> None:
        self._timer = None
        self._origin.connections.tallies.stalled_closed += 1
        self.close("a message was begun and not ended in time")

    def _overdue(self) -> None:
        self._timer = None
        self._origin.connections.tallies.strangers_closed += 1
        self.close("no valid request came in time")

    def _allow(self, seconds: float | None, overdue: Any = None, *args: object) -> None:
        """Set the one time limit that a connection has at a time."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if seconds is not None:
            self._timer = self._origin.connections.wheel.call_later(seconds, overdue, *args)
