"""The sockets to rtpengine's ng port: a connected one for each address, so that no other host can answer.

The kernel also tells of a host on which nobody listens any more: who asks a process that was killed knows it at once.
"""

from errno import ECONNREFUSED
from os import strerror
from socket import AF_INET, AF_INET6, SO_ERROR, SOCK_DGRAM, SOL_SOCKET, getaddrinfo, socket
from typing import Any, Protocol

from attrs import frozen
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IReadDescriptor
from twisted.internet.protocol import ClientFactory
from twisted.internet.protocol import Protocol as StreamProtocol
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure
from zope.interface import implementer

from rollcall.media.bencode import Incomplete, decode_from

MAX_DATAGRAM_BYTES = 65_535

# More than rtpengine has to say of a call with hundreds of streams; who sends more does not speak ng.
MAX_STREAM_BYTES = 4 * 1024 * 1024

# A reply begins with the cookie that was asked with, and ours are 16 bytes long.
MAX_COOKIE_BYTES = 64

CONNECT_SECONDS = 5.0

ENDED = Failure(ConnectionDone())


class WayUser(Protocol):
    """Who asks over a way. None of it comes before the way is returned by who opened it."""

    def opened(self) -> None:
        """From now on it can be written to."""

    def received(self, data: bytes) -> None:
        """One message has come."""

    def failed(self, why: str) -> None:
        """It is of no more use."""


class Way(Protocol):
    """How one ng port is spoken to."""

    is_open: bool

    def send(self, data: bytes) -> None:
        """Send one message; it may be lost."""

    def close(self) -> None:
        """End it; nobody is told. Harmless twice."""


@frozen
class Destination:
    """Where an ng port is."""

    host: str
    """Numeric, IPv6 without brackets."""
    port: int
    is_tcp: bool = False


def open_way(reactor: Any, destination: Destination, user: WayUser) -> Way:
    """Begin to open a way, and return it. Raises OSError."""
    if destination.is_tcp:
        return StreamWay(reactor, destination, user)
    return DatagramWay(reactor, destination, user)


async def resolved(reactor: Any, name: str) -> str:
    """Return the first address of a host's name, numeric. Raises OSError."""
    found = await deferToThreadPool(reactor, reactor.getThreadPool(), getaddrinfo, name, None, 0, SOCK_DGRAM)
    return str(found[0][4][0])


@implementer(IReadDescriptor)
class DatagramWay:
    """A connected UDP socket."""

    def __init__(self, reactor: Any, destination: Destination, user: WayUser) -> None:
        self._reactor = reactor
        self._user = user
        self._socket = socket(AF_INET6 if ":" in destination.host else AF_INET, SOCK_DGRAM)
        try:
            self._socket.setblocking(False)
            self._socket.connect((destination.host, destination.port))
        except OSError:
            self._socket.close()
            raise
        self.is_open = True
        reactor.addReader(self)

    def send(self, data: bytes) -> None:
        try:
            self._send(data)
        except BlockingIOError:
            pass  # no room in the kernel: it is sent again as if the network had lost it
        except OSError as error:
            self._reactor.callLater(0, self._fail, strerror(error.errno or ECONNREFUSED))

    def close(self) -> None:
        if self.is_open:
            self.is_open = False
            self._reactor.removeReader(self)
            self._socket.close()

    def _send(self, data: bytes) -> None:
        try:
            self._socket.send(data)
        except ConnectionRefusedError:
            self._socket.send(data)  # that was said of what was sent before: who listens now may have just started

    def _fail(self, why: str) -> None:
        if self.is_open:
            self.close()
            self._user.failed(why)

    # --- what the reactor calls

    def fileno(self) -> int:
        return self._socket.fileno()

    def logPrefix(self) -> str:
        return "ng"

    def doRead(self) -> None:
        try:
            data = self._socket.recv(MAX_DATAGRAM_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._fail(strerror(error.errno or ECONNREFUSED))
            return
        self._user.received(data)

    def connectionLost(self, reason: Failure) -> None:
        """Learn that the kernel has an error for this socket."""
        number = self._socket.getsockopt(SOL_SOCKET, SO_ERROR) if self.is_open else 0
        self._fail(strerror(number or ECONNREFUSED))


class StreamWay(ClientFactory, StreamProtocol):
    """A TCP connection; replies are cut out where their dictionaries end."""

    noisy = False

    def __init__(self, reactor: Any, destination: Destination, user: WayUser) -> None:
        self.is_open = False
        self._user = user
        self._data = b""
        self._is_over = False
        self._connector = reactor.connectTCP(destination.host, destination.port, self, timeout=CONNECT_SECONDS)

    def send(self, data: bytes) -> None:
        if self.transport is not None:
            self.transport.write(data)

    def close(self) -> None:
        self._is_over, self.is_open = True, False
        self._connector.disconnect()

    def _fail(self, why: str) -> None:
        if not self._is_over:
            self.close()
            self._user.failed(why)

    # --- what Twisted calls

    def buildProtocol(self, addr: object) -> "StreamWay":
        return self

    def connectionMade(self) -> None:
        self.is_open = True
        self._user.opened()

    def clientConnectionFailed(self, connector: object, reason: Failure) -> None:
        self._fail(reason.getErrorMessage())

    def connectionLost(self, reason: Failure = ENDED) -> None:
        self._fail(reason.getErrorMessage())

    def dataReceived(self, data: bytes) -> None:
        self._data += data
        try:
            while not self._is_over and self._data:
                end = _end_of_message(self._data)
                message, self._data = self._data[:end], self._data[end:]
                self._user.received(message)
        except Incomplete:
            if len(self._data) > MAX_STREAM_BYTES:
                self._fail("a reply is far too long")
        except ValueError as problem:
            self._fail(f"no ng reply: {problem}")


def _end_of_message(data: bytes) -> int:
    """Return where the first message ends. Raises ValueError, Incomplete if more has to come."""
    space = data.find(b" ", 0, MAX_COOKIE_BYTES)
    if space < 0:
        raise ValueError("no cookie") if len(data) >= MAX_COOKIE_BYTES else Incomplete("no cookie yet")
    return decode_from(data, space + 1)[1]
