"""What the tests of this folder share: a user of flows that keeps what it hears, and wires without sockets."""

from typing import Any

from attrs import define, field
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from rollcall.net.config import LimitsConfig
from rollcall.net.connections import Connections, Tallies
from rollcall.net.flow import Flow, FlowClosed, Listener, PackedAddress
from rollcall.net.wheel import TimerWheel
from rollcall.sip.framing import FramingError
from rollcall.sip.scanner import UsualRegister

OPTIONS = (
    b"OPTIONS sip:example.com SIP/2.0\r\n"
    b"Via: SIP/2.0/TCP 192.0.2.1:5060;branch=z9hG4bK1\r\n"
    b"From: <sip:a@example.com>;tag=1\r\n"
    b"To: <sip:example.com>\r\n"
    b"Call-ID: 1\r\n"
    b"CSeq: 1 OPTIONS\r\n"
    b"Content-Length: 4\r\n"
    b"\r\n"
    b"body"
)
OK = b"SIP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n"


@define(eq=False, slots=False)
class RecordingUser:
    """Keeps messages, framing errors and ends in the order they came."""

    messages: list[tuple[bytes, Flow]] = field(factory=list)
    framing_errors: list[tuple[FramingError, Flow]] = field(factory=list)
    closed: list[tuple[Flow, str]] = field(factory=list)
    answer: bytes | None = None
    confirms: bool = False

    def message_received(self, data: bytes, flow: Flow) -> None:
        self.messages.append((data, flow))
        if self.confirms:
            flow.confirm()
        if self.answer is not None and data != self.answer:
            flow.write(self.answer)

    def short_way(self, register: UsualRegister, flow: Flow, now: float) -> bytes | None:
        return None

    def datagram_short_way(
        self, register: UsualRegister, listener: Listener, address: PackedAddress, now: float
    ) -> bytes | None:
        return None

    def framing_failed(self, error: FramingError, flow: Flow) -> None:
        self.framing_errors.append((error, flow))
        if self.answer is not None:
            flow.write(self.answer)

    def flow_closed(self, flow: Flow, reason: str) -> None:
        self.closed.append((flow, reason))

    @property
    def data(self) -> list[bytes]:
        return [data for data, _ in self.messages]


class FailingUser:
    """Fails at everything that may fail."""

    def short_way(self, register: UsualRegister, flow: Flow, now: float) -> bytes | None:
        return None

    def datagram_short_way(
        self, register: UsualRegister, listener: Listener, address: PackedAddress, now: float
    ) -> bytes | None:
        return None

    def message_received(self, data: bytes, flow: Flow) -> None:
        raise RuntimeError("message")

    def framing_failed(self, error: FramingError, flow: Flow) -> None:
        raise RuntimeError("framing")

    def flow_closed(self, flow: Flow, reason: str) -> None:
        raise RuntimeError("closed")


class Wire(StringTransport):
    """A connection without a socket. `run` delivers its end, as the reactor would in a later turn."""

    protocol: Any

    def __init__(self, peer: tuple[str, int] = ("192.0.2.1", 40000)) -> None:
        super().__init__(
            hostAddress=IPv4Address("TCP", "192.0.2.99", 5060), peerAddress=IPv4Address("TCP", peer[0], peer[1])
        )
        self.half_closed = False
        self.aborted = False

    def loseWriteConnection(self) -> None:
        self.half_closed = True

    def abortConnection(self) -> None:
        self.aborted = True

    def connect(self, protocol: Any) -> None:
        """Give this wire to a protocol."""
        self.protocol = protocol
        protocol.makeConnection(self)

    def receive(self, data: bytes) -> None:
        """The peer sent this."""
        self.protocol.dataReceived(data)

    def sent(self) -> bytes:
        """Return what was written since the last time."""
        data: bytes = self.value()
        self.clear()
        return data

    def end(self, error: Exception | None = None) -> None:
        """The connection is gone."""
        default = ConnectionAborted() if self.aborted else ConnectionDone()
        self.protocol.connectionLost(Failure(error or default))


class Net:
    """A clock, a wheel, a recording user and the connections that tell it."""

    def __init__(self, limits: LimitsConfig | None = None, user: Any = None) -> None:
        self.clock = Clock()
        self.wheel = TimerWheel(self.clock)
        self.user = RecordingUser()
        self.tallies = Tallies()
        self.connections = Connections(self.wheel, user or self.user, limits or LimitsConfig(), self.tallies)


def a_listener(transport: str = "TCP", name: str = "main") -> Listener:
    """Return a listener that is not there."""
    return Listener(name=name, transport=transport, host="sip.example.com", port=5060, local=("192.0.2.99", 5060))


def writes(flow: Flow, data: bytes) -> bool:
    """Say whether the flow takes a message."""
    try:
        flow.write(data)
    except FlowClosed:
        return False
    return True
