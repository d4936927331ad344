"""SIP over UDP: a flow is a peer seen from one of our sockets (RFC 3261 §18, RFC 5626 §8).

Datagrams are read and answered by the batch. A usual REGISTER is answered without a flow; what else comes gets one.
"""

import os
from errno import EAGAIN, ENOBUFS
from socket import if_indextoname, if_nametoindex, socket
from typing import Any

from twisted.logger import Logger
from twisted.python.failure import Failure

from rollcall.net import stun
from rollcall.net.batches import send, take_batches
from rollcall.net.coalescing import Coalescing, Found
from rollcall.net.config import EngineConfig
from rollcall.net.connections import Connections
from rollcall.net.flow import Address, Flow, FlowClosed, Listener, PackedAddress, pack_address, unpack_address
from rollcall.sip.scanner import scan_register

# No SIP message begins below this: what does is a keepalive, STUN or noise.
FIRST_PRINTABLE = 0x21

BLANKS = b"\r\n\0"

# An address that is longer ends with the scope of a link-local one, see plain_datagrams.
UNSCOPED_BYTES = 18
SCOPE_BYTES = 4

NO_ROOM = frozenset((EAGAIN, ENOBUFS))


class DatagramPort:
    """One UDP socket that peers speak to and that answers leave from."""

    _log = Logger()

    def __init__(
        self, reactor: Any, bound: socket, listener: Listener, connections: Connections, config: EngineConfig
    ) -> None:
        """`bound` is non-blocking, and ours from now on."""
        self.listener = listener
        self.is_open = True
        self._reactor = reactor
        self._socket = bound
        self._connections = connections
        self._user = connections.user
        self._most = config.max_datagrams_per_turn
        self._turn_seconds = config.max_turn_ms / 1000
        self._answers: list[tuple[bytes, PackedAddress]] = []
        self._reading = Coalescing(
            reactor, bound.fileno(), self._turn, self._lost, config.coalesce_ms / 1000, f"listener {listener.name}"
        )

    def start(self) -> None:
        """Receive from now on."""
        self._reading.start()

    def stopListening(self) -> None:
        """Send the answers that are ready, then close the socket; harmless twice."""
        if self.is_open:
            self._send_answers()
            self.is_open = False
            self._reading.stop()
            self._socket.close()

    def flow_to(self, host: str, port: int) -> "DatagramFlow":
        """Return the flow to a numeric host of this socket's family."""
        return DatagramFlow(self, pack_address(host, port) + _scope(host))

    def send(self, data: bytes, address: PackedAddress) -> None:
        """Send one datagram; what the kernel has no room for is lost, as datagrams may be. Raises FlowClosed."""
        if not self.is_open:
            raise FlowClosed("the listener is closed")
        self._send_answers()  # they came before
        for _, number in send(self._socket, [(data, address)]):
            self._connections.tallies.datagrams_unsent += 1
            if number not in NO_ROOM:
                raise FlowClosed(os.strerror(number))

    def answer(self, data: bytes, address: PackedAddress) -> None:
        """Send one datagram soon, together with all others of this turn of the reactor; do nothing once closed."""
        if self.is_open:
            if not self._answers:
                self._reactor.callLater(0, self._send_answers)
            self._answers.append((data, address))

    # --- receiving

    def _turn(self) -> Found:
        """Take what waits, so much and so long as one turn may."""
        return take_batches(self._socket, self._most, self._reactor.seconds, self._turn_seconds, self._took)

    def _took(self, batch: list[tuple[bytes, PackedAddress]]) -> bool:
        """Take a batch, and say whether there may be another one."""
        try:
            self._take(batch)
        except Exception:  # the rest of this batch is lost, the listener is not
            self._log.failure("while datagrams to {name} were taken", name=self.listener.name)
        return self.is_open

    def _take(self, batch: list[tuple[bytes, PackedAddress]]) -> None:
        """Answer usual REGISTERs in one call to the kernel, and hand over the other messages."""
        now = self._reactor.seconds()
        user, listener = self._user, self.listener
        for data, address in batch:
            if not data or data[0] < FIRST_PRINTABLE:
                data = self._after_keepalive(data, address)
                if not data:
                    continue
            answer = None
            register = scan_register(data)
            if register is not None and register.end == len(data) and len(address) <= UNSCOPED_BYTES:
                answer = user.datagram_short_way(register, listener, address, now)
            if answer is not None:
                if answer:
                    self._answers.append((answer, address))
                continue
            self._connections.hand_over(data, DatagramFlow(self, address))
            if not self.is_open:
                return
        self._send_answers()

    def _after_keepalive(self, datagram: bytes, address: PackedAddress) -> bytes:
        """Return the SIP message in it, if any; line ends before a message are tolerated (RFC 3261 §7.5)."""
        tallies = self._connections.tallies
        reply = stun.answer(datagram, _peer(address)) if stun.is_stun(datagram) else None
        if reply is not None:
            tallies.pings_answered += 1
            self._answers.append((reply, address))
            return b""
        message = datagram.lstrip(BLANKS)
        if not message or message[0] < FIRST_PRINTABLE or stun.is_stun(datagram):
            tallies.datagrams_ignored += 1
            return b""
        return message

    def _send_answers(self) -> None:
        """Send what was collected; nobody waits to hear that it cannot be sent: who asked asks again."""
        answers = self._answers
        if answers and self.is_open:
            self._answers = []
            for index, number in send(self._socket, answers):
                self._connections.tallies.datagrams_unsent += 1
                if number not in NO_ROOM:
                    peer, why = _peer(answers[index][1]), os.strerror(number)
                    self._log.debug("{peer} was not answered: {why}", peer=peer, why=why)

    def _lost(self, reason: Failure) -> None:
        if self.is_open:
            name, why = self.listener.name, reason.getErrorMessage()
            self._log.critical("listener {name} is lost: {why}", name=name, why=why)
            self.stopListening()


class DatagramFlow(Flow):
    """The way to a UDP peer. It holds no state, so it cannot end and is made anew for each datagram."""

    __slots__ = ("_destination", "_port")

    id = 0
    transport = "UDP"
    reliable = False
    secure = False
    confirmed = True

    def __init__(self, port: DatagramPort, destination: PackedAddress) -> None:
        """`destination` may have a scope appended."""
        super().__init__(_peer(destination))
        self._port = port
        self._destination = destination

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, DatagramFlow) and self._destination == other._destination and self._port is other._port
        )

    def __hash__(self) -> int:
        return hash(self._destination)

    def __repr__(self) -> str:
        return f"<flow UDP {self.peer[0]}:{self.peer[1]}>"

    @property
    def address(self) -> PackedAddress:
        return self._destination[:UNSCOPED_BYTES]

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
        self._port.send(data, self._destination)

    def close(self, reason: str) -> None:
        """Do nothing: there is no connection to end."""

    def confirm(self) -> None:
        """Do nothing: there is no connection to limit."""


def _peer(address: PackedAddress) -> Address:
    """Return an address for people and for Via: a link-local host names its interface, as getnameinfo(3) does."""
    if len(address) <= UNSCOPED_BYTES:
        return unpack_address(address)
    host, port = unpack_address(address[:UNSCOPED_BYTES])
    scope = int.from_bytes(address[UNSCOPED_BYTES:])
    try:
        return f"{host}%{if_indextoname(scope)}", port
    except OSError:  # the interface is gone
        return f"{host}%{scope}", port


def _scope(host: str) -> bytes:
    """Return what names the interface of a link-local host; empty for other hosts, and for an unknown interface."""
    name = host.partition("%")[2]
    if not name:
        return b""
    try:
        scope = int(name) if name.isascii() and name.isdigit() else if_nametoindex(name)
        return scope.to_bytes(SCOPE_BYTES)
    except (OSError, OverflowError):
        return b""
