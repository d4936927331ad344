"""The flow to another node of the cluster: SIP over TCP or TLS, once both ends have proven who they are.

Unlike a phone's connection it carries what thousands of phones say, so its bounds are others, and it is trusted: there
is no time limit for a first request, and nothing that comes over it takes the short way of phones.
"""

from __future__ import annotations

from attrs import evolve

from rollcall.net.config import LimitsConfig, MemberConfig
from rollcall.net.connection import Origin, State
from rollcall.net.flow import Address, FlowClosed
from rollcall.net.member_handshake import Handshake, HandshakeFailed, Life
from rollcall.net.member_tls import channel_of
from rollcall.net.stream import StreamReading, WireFlow
from rollcall.sip.framing import Keepalive, StreamFramer

HEAD_END = b"\r\n\r\n"

MAX_DATAGRAM_BYTES = 65_535

MAX_HEAD_BYTES = 1_048_576
"""Sixteen times what fits a datagram, for a head grows on its way: by our Via, Route, Record-Route, and where a phone
put thousands of values into one line, and we one on each. One that is too large would end the connection of all."""

MAX_WRITE_BUFFER_BYTES = 8_388_608
"""What may wait for a member that does not read: a second of 10,000 messages, far more than a pause of its takes."""


def member_limits(limits: LimitsConfig, config: MemberConfig) -> LimitsConfig:
    """Return the limits of internal connections: whatever phones may send has to fit through."""
    return evolve(
        limits,
        connect_seconds=config.handshake_seconds,
        handshake_seconds=config.handshake_seconds,
        max_head_bytes=max(limits.max_head_bytes, MAX_HEAD_BYTES),
        max_body_bytes=max(limits.max_body_bytes, MAX_DATAGRAM_BYTES),
        max_write_buffer_bytes=MAX_WRITE_BUFFER_BYTES,
    )


class MemberFlow(StreamReading, WireFlow):
    """An internal connection. `member` and `epoch` say whose it is, once that is proven."""

    __slots__ = ("_handshake", "epoch", "framer", "member", "refusal", "site")

    member: str
    epoch: int
    site: str
    """Where it is; empty for our own site."""
    refusal: HandshakeFailed | None
    """Why the other end was not taken for a member."""

    def __init__(self, origin: Origin, peer: Address, handshake: Handshake) -> None:
        super().__init__(origin, peer)
        self.framer: StreamFramer | None = None
        self.member = ""
        self.epoch = 0
        self.site = ""
        self.refusal = None
        self._handshake: Handshake | None = handshake

    def __repr__(self) -> str:
        return f"{super().__repr__()[:-1]} member {self.member or 'unproven'}>"

    @property
    def life(self) -> Life:
        """Which life of which node is at the other end."""
        return Life(self.member, self.epoch, self.site)

    def write(self, data: bytes) -> None:
        """Send one whole SIP message, unless the member would not take it: then only this one fails."""
        if len(data) > MAX_DATAGRAM_BYTES:
            framing = self._origin.connections.framing
            head = data.find(HEAD_END) + len(HEAD_END)
            if head > framing.max_head_bytes or len(data) - head > framing.max_body_bytes:
                raise FlowClosed(f"{len(data)} bytes are too large a message for a member")
        super().write(data)

    def cut(self, reason: str) -> None:
        """End it at once, with what waits to be carried."""
        if self._state is not State.CLOSED:
            self._abort(reason)

    def dataReceived(self, data: bytes) -> None:
        """Read it unless we closed."""
        if self._state is State.OPEN:
            self._read(data)
        elif self._state is State.OPENING and self._handshake is not None:
            self._go_on(self._handshake, data)

    def pauseProducing(self) -> None:
        """Our side is full. We go on reading: two nodes that each wait for the other to read would wait for ever."""
        if self._unsent < 0:
            self._unsent = 0

    # --- see ConnectionFlow

    def _connected(self) -> None:
        if self._handshake is not None:
            self._wire.write(self._handshake.begin(channel_of(self._wire) if self.secure else b""))

    def _take(self, received: list[bytes | Keepalive]) -> None:
        connections = self._origin.connections
        for each in received:
            if self._state is not State.OPEN:
                return
            if isinstance(each, bytes):
                connections.hand_over(each, self)

    # --- the handshake

    def _go_on(self, handshake: Handshake, data: bytes) -> None:
        try:
            reply = handshake.receive_data(data)
        except HandshakeFailed as error:
            self._refuse(error)
            return
        if reply:
            self._wire.write(reply)
        if handshake.member is None:
            return
        life = handshake.member
        self.member, self.epoch, self.site = life.node, life.epoch, life.site
        self._handshake = None
        self.confirmed = True
        self._ready()
        if handshake.rest and self.is_open:
            self._read(handshake.rest)

    def _refuse(self, error: HandshakeFailed) -> None:
        self.refusal = error
        self._handshake = None
        if error.reply:
            self._wire.write(error.reply)
            self._end(str(error))
        else:
            self._abort(str(error))
