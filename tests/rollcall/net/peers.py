"""Clients over loopback sockets, one for each transport, that share nothing with our server's side but SIP framing."""

from abc import abstractmethod
from typing import Any

from twisted.internet.defer import Deferred, DeferredQueue
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol, wrapClientTLS
from twisted.internet.protocol import DatagramProtocol, Protocol, connectionDone
from twisted.internet.ssl import CertificateOptions
from twisted.python.failure import Failure
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, BytesMessage, CloseConnection, Request, TextMessage
from wsproto.events import Event as WsprotoEvent

from rollcall.net.flow import Address
from rollcall.sip.framing import FramingLimits, Keepalive, StreamFramer

LIMITS = FramingLimits(max_head_bytes=1 << 20, max_body_bytes=1 << 20)


class Peer:
    """A client of one of our listeners."""

    def __init__(self) -> None:
        self.inbox: DeferredQueue[bytes] = DeferredQueue()
        self.pongs: DeferredQueue[None] = DeferredQueue()
        self.gone: Deferred[None] = Deferred()
        self.local: Address = ("", 0)

    @abstractmethod
    async def connect(self, reactor: Any, address: Address) -> None:
        """Reach the listener."""

    @abstractmethod
    def send(self, message: bytes) -> None:
        """Send one SIP message."""

    @abstractmethod
    def ping(self) -> None:
        """Send the transport's keepalive; `pongs` gets the answer."""

    @abstractmethod
    def leave(self) -> Any:
        """End it from this side."""


class StreamPeer(Peer, Protocol):
    """Speaks SIP over TCP or TLS."""

    def __init__(self, tls: bool = False) -> None:
        super().__init__()
        self.framer = StreamFramer(LIMITS)
        self.tls = tls
        self.wire: Any = None

    async def connect(self, reactor: Any, address: Address) -> None:
        endpoint: Any = TCP4ClientEndpoint(reactor, *address)
        if self.tls:
            endpoint = wrapClientTLS(CertificateOptions(verify=False), endpoint)
        await connectProtocol(endpoint, self)

    def connectionMade(self) -> None:
        self.wire = self.transport
        here = self.wire.getHost()
        self.local = (here.host, here.port)

    def send(self, message: bytes) -> None:
        self.wire.write(message)

    def ping(self) -> None:
        self.wire.write(b"\r\n\r\n")

    def leave(self) -> None:
        self.wire.loseConnection()

    def dataReceived(self, data: bytes) -> None:
        for each in self.framer.receive_data(data):
            if isinstance(each, bytes):
                self.inbox.put(each)
            elif each is Keepalive.PONG:
                self.pongs.put(None)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.gone.callback(None)


class WebSocketPeer(StreamPeer):
    """Speaks SIP over WS or WSS, through wsproto."""

    def __init__(self, tls: bool = False) -> None:
        super().__init__(tls)
        self.websocket = WSConnection(ConnectionType.CLIENT)
        self.accepted: Deferred[None] = Deferred()

    async def connect(self, reactor: Any, address: Address) -> None:
        await super().connect(reactor, address)
        self._send(Request(host="sip.example.com", target="/", subprotocols=["sip"]))
        await self.accepted

    def send(self, message: bytes) -> None:
        try:
            self._send(TextMessage(data=message.decode()))
        except UnicodeDecodeError:
            self._send(BytesMessage(data=message))

    def ping(self) -> None:
        self._send(TextMessage(data="\r\n\r\n"))

    def dataReceived(self, data: bytes) -> None:
        self.websocket.receive_data(data)
        for event in self.websocket.events():
            if isinstance(event, AcceptConnection):
                assert event.subprotocol == "sip"
                self.accepted.callback(None)
            elif isinstance(event, TextMessage | BytesMessage):
                self._take(event)
            elif isinstance(event, CloseConnection):
                self._send(event.response())
                self.leave()

    def _take(self, event: TextMessage | BytesMessage) -> None:
        data = event.data.encode() if isinstance(event.data, str) else bytes(event.data)
        self.part = getattr(self, "part", b"") + data
        if event.message_finished:
            whole, self.part = self.part, b""
            if whole == b"\r\n":
                self.pongs.put(None)
            else:
                self.inbox.put(whole)

    def _send(self, event: WsprotoEvent) -> None:
        self.wire.write(self.websocket.send(event))


class DatagramPeer(Peer, DatagramProtocol):
    """Speaks SIP over UDP."""

    noisy = False

    async def connect(self, reactor: Any, address: Address) -> None:
        self.port = reactor.listenUDP(0, self, interface=address[0], maxPacketSize=65535)
        self.address = address
        here = self.port.getHost()
        self.local = (here.host, here.port)

    def send(self, message: bytes) -> None:
        self.port.write(message, self.address)

    def ping(self) -> None:
        self.port.write(b"\x00\x01\x00\x00\x21\x12\xa4\x42transaction!", self.address)

    def datagramReceived(self, datagram: bytes, addr: Address) -> None:
        if datagram[0] == 1:
            self.pongs.put(None)
        else:
            self.inbox.put(datagram)

    def leave(self) -> Any:
        return self.port.stopListening()

    def stopProtocol(self) -> None:
        self.gone.callback(None)
