"""Flows over connections, and the plain one: SIP on TCP, with or without TLS (RFC 3261 §18.3, RFC 5626 §3.5.1).

A flow is its connection's Twisted protocol at the same time, so that an idle phone costs one object less.
"""

from abc import abstractmethod
from enum import Enum
from typing import Any, Protocol

from OpenSSL import SSL
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHandshakeListener, IProtocol, IPushProducer
from twisted.python.failure import Failure
from zope.interface import implementer

from rollcall.net.config import SECURE_TRANSPORTS
from rollcall.net.connections import Connections
from rollcall.net.flow import Address, Flow, FlowClosed, Listener
from rollcall.net.wheel import Timer
from rollcall.sip.framing import FramingError, Keepalive, StreamFramer

CRLF = b"\r\n"


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

    def ready(self, flow: "ConnectionFlow") -> None:
        """Take note that messages can flow, and give the flow its id."""

    def time_limit(self) -> float | None:
        """How many seconds a new flow has to send a valid request; None for no limit."""

    def lost(self, flow: "ConnectionFlow", reason: str) -> None:
        """Take note that the connection is gone."""


@implementer(IHandshakeListener, IProtocol, IPushProducer)
class ConnectionFlow(Flow):
    """A flow over a connection: its life, its time limits, its bounds; subclasses know how messages lie in it."""

    __slots__ = ("_local", "_origin", "_reason", "_state", "_timer", "_unsent", "_wire", "confirmed", "id")

    id: int
    confirmed: bool

    def __init__(self, origin: Origin, peer: Address, local: Address | None = None) -> None:
        """`local` is known beforehand when a PROXY header told it."""
        super().__init__(peer)
        self.id = 0
        self.confirmed = False
        self._origin = origin
        self._local = local
        self._state = State.OPENING
        self._reason = ""
        self._timer: Timer | None = None
        # Bytes written since the transport's buffer filled up; negative while it has room.
        self._unsent = -1
        self._wire: Any = None

    # --- what the flow's user asks

    @property
    def transport(self) -> str:
        return self._origin.transport

    @property
    def listener(self) -> Listener | None:
        return self._origin.listener

    @property
    def local(self) -> Address:
        if self._local is not None:
            return self._local
        if self._wire is None:
            return ("", 0)
        # Asked for rarely, so not kept: an address takes 170 bytes.
        here = self._wire.getHost()
        return here.host, here.port

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

    def __repr__(self) -> str:
        return f"<flow {self.id} {self.transport} {self.peer[0]}:{self.peer[1]} {self._state.value}>"

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

    # --- what Twisted calls

    def makeConnection(self, transport: Any) -> None:
        """Keep what carries our bytes."""
        self._wire = transport
        self.connectionMade()

    def connectionMade(self) -> None:
        """The connection is there, though TLS and the WebSocket upgrade may be to come."""
        connections = self._origin.connections
        connections.opening(self)
        self._wire.registerProducer(self, True)
        self._allow(connections.limits.handshake_seconds, self._abort, "the handshake took too long")
        if not self.secure:
            self._connected()

    def handshakeCompleted(self) -> None:
        """TLS is there."""
        if self._state is State.OPENING:
            self._connected()

    @abstractmethod
    def dataReceived(self, data: bytes) -> None:
        """Some bytes came."""

    def connectionLost(self, reason: Failure) -> None:
        """The connection is gone, whoever ended it."""
        if self._state is State.CLOSED:
            return
        self._state = State.CLOSED
        self._reason = self._reason or _told(reason.value)
        self._allow(None)
        self._wire = None
        self._origin.lost(self, self._reason)

    def pauseProducing(self) -> None:
        """Our side is full, as every write says anew: while the peer does not read, we do not read from it either."""
        if self._unsent < 0:
            self._unsent = 0
            self._wire.pauseProducing()

    def resumeProducing(self) -> None:
        """There is room again."""
        self._unsent = -1
        if self._state is State.OPEN:
            self._wire.resumeProducing()

    def stopProducing(self) -> None:
        """The connection is gone; connectionLost says so, too."""

    # --- what a subclass says and uses

    @abstractmethod
    def _connected(self) -> None:
        """Bytes can flow: call _ready now or when messages can, too."""

    @abstractmethod
    def _encoded(self, message: bytes) -> bytes:
        """Return the bytes that carry a message."""

    def _say_goodbye(self) -> None:
        """Send what has to go before the end."""

    def _ready(self) -> None:
        self._state = State.OPEN
        self._allow(self._origin.time_limit(), self._overdue)
        self._origin.ready(self)

    def _send(self, data: bytes) -> None:
        if self._unsent >= 0:
            self._unsent += len(data)
            if self._unsent > self._origin.connections.limits.max_write_buffer_bytes:
                self._origin.connections.tallies.slow_readers_closed += 1
                self._abort("the peer does not read what we write")
                return
        self._wire.write(data)

    def _abort(self, reason: str = "") -> None:
        self._state = State.CLOSING
        self._reason = self._reason or reason
        self._wire.abortConnection()

    # --- ends and limits

    def _end(self, reason: str) -> None:
        """Send our end and go on reading until the peer's: closing at once would reset what is still on its way."""
        if self._state is State.CLOSING:
            return
        self._state = State.CLOSING
        self._reason = reason
        self._allow(self._origin.connections.limits.close_seconds, self._abort)
        self._wire.unregisterProducer()
        if self._unsent >= 0:
            self._wire.resumeProducing()
        if self.secure:
            self._wire.loseConnection()
        else:
            self._wire.loseWriteConnection()

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


class StreamFlow(ConnectionFlow):
    """SIP messages one after the other, told apart by Content-Length."""

    __slots__ = ("_framer",)  # None while nothing is begun: idle phones are many

    def __init__(self, origin: Origin, peer: Address, local: Address | None = None) -> None:
        super().__init__(origin, peer, local)
        self._framer: StreamFramer | None = None

    def dataReceived(self, data: bytes) -> None:
        """Hand over the messages that are whole now, and answer pings (RFC 5626 §4.4.1)."""
        if self._state is not State.OPEN:
            return
        connections = self._origin.connections
        framer = self._framer or StreamFramer(connections.framing)
        try:
            received = framer.receive_data(data)
        except FramingError as error:
            self._take(error.completed)
            if self._state is State.OPEN:
                connections.framing_failed(error, self)
            return
        waiting = framer.is_waiting
        # What looks like a pong may be the first half of a ping: the framer has to remember it.
        self._framer = framer if waiting or received[-1:] == [Keepalive.PONG] else None
        self._take(received)
        if waiting or self._timer is not None:
            self._expect_rest(waiting, bool(received))

    def _take(self, received: list[bytes | Keepalive]) -> None:
        connections = self._origin.connections
        for each in received:
            if self._state is not State.OPEN:
                return
            if isinstance(each, bytes):
                connections.deliver(each, self)
            elif each is Keepalive.PING:
                connections.tallies.pings_answered += 1
                self._send(CRLF)

    def _connected(self) -> None:
        self._ready()

    def _encoded(self, message: bytes) -> bytes:
        return message


def _told(error: BaseException | None) -> str:
    if isinstance(error, ConnectionDone):
        return "closed by the peer"
    if isinstance(error, SSL.Error) and error.args and isinstance(error.args[0], list) and error.args[0]:
        return f"TLS failed: {error.args[0][-1][-1]}"
    return f"lost: {error}"
