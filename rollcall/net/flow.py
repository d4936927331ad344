"""The flow: the way to one peer, whatever carries it (RFC 5626 §3.1, RFC 3261 §18).

Everything above the transports knows flows by this interface only, so that the engine under it can change.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton
from typing import TYPE_CHECKING, Protocol

from attrs import frozen

if TYPE_CHECKING:
    from rollcall.sip.framing import FramingError
    from rollcall.sip.scanner import UsualRegister

Address = tuple[str, int]
"""A numeric host (IPv6 without brackets) and a port."""

PackedAddress = bytes
"""An Address in 6 or 18 bytes: the port, big-endian, then the host as inet_pton(3) gives it."""

PORT_BYTES = 2


def pack_address(host: str, port: int) -> PackedAddress:
    """Return an address in its short form. Raises OSError when `host` is not numeric."""
    plain = host.partition("%")[0]
    return port.to_bytes(PORT_BYTES) + inet_pton(AF_INET6 if ":" in plain else AF_INET, plain)


def unpack_address(packed: PackedAddress) -> Address:
    """Return the address that was packed."""
    host = packed[PORT_BYTES:]
    return inet_ntop(AF_INET if len(host) == 4 else AF_INET6, host), int.from_bytes(packed[:PORT_BYTES])


class FlowClosed(Exception):
    """A message could not be written because its flow is closed or its peer unreachable; says why."""


class ConnectFailed(Exception):
    """No flow to an address could be had; says why."""


@frozen(kw_only=True)
class Listener:
    """A socket that peers speak to, and what we tell them to reach it by.

    `host` (IPv6 in brackets) and `port` are for Via, Record-Route and Path; `local` is the bound address.
    """

    name: str
    transport: str
    host: str
    port: int
    local: Address


class Flow(ABC):
    """The way to one peer. Equal flows reach the same peer the same way, so a flow can be a key."""

    __slots__ = ("_peer", "bound", "holds")

    bound: object
    """What the user of the flow keeps here, e.g. the AOR bound to it; None at first."""

    holds: int
    """How many conversations still need the flow; for its user, 0 at first."""

    def __init__(self, peer: Address | PackedAddress) -> None:
        """Where there are many flows the packed form takes a third of the memory."""
        self._peer = peer
        self.bound = None
        self.holds = 0

    @property
    def peer(self) -> Address:
        """The peer's address; behind a proxy that speaks the PROXY protocol, the client's own."""
        peer = self._peer
        return unpack_address(peer) if isinstance(peer, bytes) else peer

    @property
    def address(self) -> PackedAddress:
        """The peer's address in its short form."""
        return pack_address(*self.peer)

    @property
    @abstractmethod
    def id(self) -> int:
        """Unique in this process from 1 upwards; 0 for datagrams and for connections still opening."""

    @property
    @abstractmethod
    def transport(self) -> str:
        """How it is called in Via: "UDP", "TCP", "TLS", "WS" or "WSS"."""

    @property
    @abstractmethod
    def local(self) -> Address:
        """Our end's address, while it is open."""

    @property
    @abstractmethod
    def listener(self) -> Listener | None:
        """What accepted it; for a connection that we opened, the listener whose address fits our Via, or None."""

    @property
    @abstractmethod
    def reliable(self) -> bool:
        """Whether messages need no retransmission (RFC 3261 §17)."""

    @property
    @abstractmethod
    def secure(self) -> bool:
        """Whether TLS protects it."""

    @property
    def member(self) -> str:
        """The cluster's node at the other end of an internal connection, proven; empty for phones and all others."""
        return ""

    @property
    def site(self) -> str:
        """Where that node is, when that is another site; empty for all others."""
        return ""

    @property
    @abstractmethod
    def is_open(self) -> bool:
        """Whether a message can be written."""

    @property
    @abstractmethod
    def confirmed(self) -> bool:
        """Whether a valid request came over it."""

    def quiet_seconds(self) -> float:
        """Return how long ago the kernel received the latest data; 0 where that cannot be told."""
        return 0.0

    def has_unread(self) -> bool:
        """Say whether something has come that nobody has read yet; False where that cannot be told."""
        return False

    @abstractmethod
    def write(self, data: bytes) -> None:
        """Send one whole SIP message. Raises FlowClosed."""

    @abstractmethod
    def close(self, reason: str) -> None:
        """End it after what was written has left; `reason` is for the log. Harmless on a closed flow."""

    @abstractmethod
    def confirm(self) -> None:
        """Note that a valid request came: the time limit for strangers no longer applies."""


class FlowUser(Protocol):
    """Who receives what comes over flows."""

    def message_received(self, data: bytes, flow: Flow) -> None:
        """`data` is one whole message, or one datagram, not yet parsed."""

    def short_way(self, register: UsualRegister, flow: Flow, now: float) -> bytes | None:
        """Answer a usual REGISTER that came over a connection at once, or return None: it is then delivered whole.

        The caller writes the answer; an empty one says that it will be written later. `now` is in seconds since the
        epoch. Never raises.
        """

    def datagram_short_way(self, register: UsualRegister, listener: Listener, address: PackedAddress,
                           now: float) -> bytes | None:
        """Do the same for a datagram: the caller sends the answer from `listener` to `address`."""

    def framing_failed(self, error: FramingError, flow: Flow) -> None:
        """The end of a message cannot be told. The flow can still be written; it is closed afterwards."""

    def flow_closed(self, flow: Flow, reason: str) -> None:
        """The connection is gone. Called once for each connection that `message_received` or `connect` showed."""
