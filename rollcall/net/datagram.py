"""SIP over UDP: a flow is a peer seen from one of our sockets (RFC 3261 §18, RFC 5626 §8)."""

from errno import EAGAIN, ENOBUFS
from socket import socket

from twisted.internet.protocol import DatagramProtocol
from twisted.logger import Logger

from rollcall.net import stun
from rollcall.net.connections import Connections
from rollcall.net.flow import Address, Flow, FlowClosed, Listener

# RFC 3261 §18.1.1: a datagram may be as large as IP lets it.
MAX_DATAGRAM_BYTES = 65_535

# No SIP message begins below this: what does is a keepalive, STUN or noise.
FIRST_PRINTABLE = 0x21

BLANKS = b"\r\n\0"


class DatagramPort(DatagramProtocol):
    """One UDP socket that peers speak to and that answers leave from."""

    _log = Logger()
    noisy = False

    def __init__(self, bound: socket, listener: Listener, connections: Connections) -> None:
        self.listener = listener
        self.is_open = True
        self._socket = bound
        self._connections = connections

    def datagramReceived(self, datagram: bytes, addr: Address) -> None:
        """Hand over a message; a blank datagram is a keepalive that wants no answer."""
        if not datagram or datagram[0] < FIRST_PRINTABLE:
            datagram = self._after_keepalive(datagram, addr)
            if not datagram:
                return
        self._connections.deliver(datagram, DatagramFlow(self, addr))

    def flow_to(self, host: str, port: int) -> "DatagramFlow":
        """Return the flow to a numeric host of this socket's family."""
        return DatagramFlow(self, (host, port))

    def send(self, data: bytes, peer: Address) -> None:
        """Send one datagram; what the kernel has no room for is lost, as datagrams may be. Raises FlowClosed."""
        if not self.is_open:
            raise FlowClosed("the listener is closed")
        try:
            self._socket.sendto(data, peer)
        except OSError as error:
            self._connections.tallies.datagrams_unsent += 1
            if error.errno not in (EAGAIN, ENOBUFS):
                raise FlowClosed(error.strerror or str(error)) from error

    def stopProtocol(self) -> None:
        """Twisted's socket is closed; close ours."""
        self.is_open = False
        self._socket.close()

    def _after_keepalive(self, datagram: bytes, peer: Address) -> bytes:
        """Return the SIP message in it, if any; line ends before a message are tolerated (RFC 3261 §7.5)."""
        tallies = self._connections.tallies
        reply = stun.answer(datagram, peer)
        if reply is not None:
            tallies.pings_answered += 1
            self._answer(reply, peer)
            return b""
        message = datagram.lstrip(BLANKS)
        if not message or message[0] < FIRST_PRINTABLE or stun.is_stun(datagram):
            tallies.datagrams_ignored += 1
            return b""
        return message

    def _answer(self, reply: bytes, peer: Address) -> None:
        try:
            self.send(reply, peer)
        except FlowClosed as error:
            self._log.debug("keepalive of {peer} not answered: {error}", peer=peer, error=error)


class DatagramFlow(Flow):
    """The way to a UDP peer. It holds no state, so it cannot end and is made anew for each datagram."""

    __slots__ = ("_port",)

    id = 0
    transport = "UDP"
    reliable = False
    secure = False
    confirmed = True

    def __init__(self, port: DatagramPort, peer: Address) -> None:
        super().__init__(peer)
        self._port = port

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DatagramFlow) and self.peer == other.peer and self._port is other._port

    def __hash__(self) -> int:
        return hash(self.peer)

    def __repr__(self) -> str:
        return f"<flow UDP {self.peer[0]}:{self.peer[1]}>"

    @property
    def local(self) -> Address:
        return self._port.listener.local

    @property
    def listener(self) -> Listener:
        return self._port.listener

    @property
    def is_open(self) -> bool:
        return self._port.is_open

    def write(self, data: bytes) -> None:
        self._port.send(data, self.peer)

    def close(self, reason: str) -> None:
        """Do nothing: there is no connection to end."""

    def confirm(self) -> None:
        """Do nothing: there is no connection to limit."""
