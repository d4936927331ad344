"""The plain flow over a Twisted transport: SIP on TCP, with or without TLS (RFC 3261 §18.3).

A flow is its connection's Twisted protocol at the same time, so that an idle phone costs one object less.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from OpenSSL import SSL
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHandshakeListener, IProtocol, IPushProducer
from twisted.protocols.policies import ProtocolWrapper
from twisted.python.failure import Failure
from zope.interface import implementer

from rollcall.net import descriptors
from rollcall.net.connection import CRLF, ConnectionFlow, Origin, State
from rollcall.net.flow import Address, PackedAddress
from rollcall.sip.framing import FramingError, Keepalive, StreamFramer

TOO_SLOW = "the handshake took too long"


@implementer(IHandshakeListener, IProtocol, IPushProducer)
class WireFlow(ConnectionFlow):
    """A flow whose bytes a Twisted transport carries, its bounds included."""

    __slots__ = ("_unsent", "_wire")

    def __init__(self, origin: Origin, peer: Address, local: PackedAddress | None = None) -> None:
        """See ConnectionFlow."""
        super().__init__(origin, peer, local)
        # Bytes written since the transport's buffer filled up; negative while it has room.
        self._unsent = -1
        self._wire: Any = None

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
        self._allow(connections.limits.handshake_seconds, self._abort, TOO_SLOW)
        if not self.secure:
            self._connected()

    def handshakeCompleted(self) -> None:
        """TLS is there."""
        if self._state is State.OPENING:
            self._connected()

    def quiet_seconds(self) -> float:
        """See Flow."""
        descriptor = self._descriptor()
        return descriptors.quiet_seconds(descriptor) if descriptor is not None else 0.0

    def has_unread(self) -> bool:
        """See Flow."""
        descriptor = self._descriptor()
        return descriptor is not None and descriptors.unread_bytes(descriptor) > 0

    def _descriptor(self) -> int | None:
        """Return that of the connection, if it has one."""
        wire = self._wire
        while isinstance(wire, ProtocolWrapper):
            wire = wire.transport
        get_handle = getattr(wire, "getHandle", None)
        return get_handle().fileno() if get_handle is not None else None

    @abstractmethod
    def dataReceived(self, data: bytes) -> None:
        """Some bytes came."""

    def connectionLost(self, reason: Failure) -> None:
        """The connection is gone, whoever ended it."""
        self._wire = None
        self._gone(_told(reason.value))

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

    # --- see ConnectionFlow

    @abstractmethod
    def _connected(self) -> None:
        """Bytes can flow: call _ready now or when messages can, too."""

    def _send(self, data: bytes) -> None:
        if self._unsent >= 0:
            self._unsent += len(data)
            if self._unsent > self._origin.connections.limits.max_write_buffer_bytes:
                self._origin.connections.tallies.slow_readers_closed += 1
                self._abort("the peer does not read what we write")
                return
        self._wire.write(data)

    def _cut(self) -> None:
        self._wire.abortConnection()

    def _finish(self) -> None:
        self._wire.unregisterProducer()
        if self._unsent >= 0:
            self._wire.resumeProducing()
        if self.secure:
            self._wire.loseConnection()
        else:
            self._wire.loseWriteConnection()

    def _here(self) -> Address:
        if self._wire is None:
            return ("", 0)
        here = self._wire.getHost()
        return here.host, here.port


class StreamReading(ConnectionFlow):
    """SIP messages one after the other, told apart by Content-Length. Subclasses have the slot."""

    __slots__ = ()

    framer: StreamFramer | None
    """None while nothing is begun: idle phones are many."""

    def _read(self, data: bytes) -> None:
        """Hand over the messages that are whole now, and answer pings (RFC 5626 §4.4.1)."""
        connections = self._origin.connections
        framer = self.framer or StreamFramer(connections.framing)
        try:
            received = framer.receive_data(data)
        except FramingError as error:
            self._take(error.completed)
            if self._state is State.OPEN:
                connections.framing_failed(error, self)
            return
        waiting = framer.is_waiting
        # What looks like a pong may be the first half of a ping: the framer has to remember it.
        self.framer = framer if waiting or received[-1:] == [Keepalive.PONG] else None  # type: ignore[misc]
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


class StreamFlow(StreamReading, WireFlow):
    """A plain flow that a Twisted transport carries."""

    __slots__ = ("framer",)

    def __init__(self, origin: Origin, peer: Address, local: PackedAddress | None = None) -> None:
        """See ConnectionFlow."""
        super().__init__(origin, peer, local)
        self.framer: StreamFramer | None = None

    def dataReceived(self, data: bytes) -> None:
        """Read it unless we closed."""
        if self._state is State.OPEN:
            self._read(data)

    def _connected(self) -> None:
        self._ready()


def _told(error: BaseException | None) -> str:
    if isinstance(error, ConnectionDone):
        return "closed by the peer"
    if isinstance(error, SSL.Error) and error.args and isinstance(error.args[0], list) and error.args[0]:
        return f"TLS failed: {error.args[0][-1][-1]}"
    return f"lost: {error}"
