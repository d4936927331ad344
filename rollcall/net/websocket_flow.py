"""The flow over a WebSocket, with or without TLS (RFC 7118)."""

from rollcall.net.connection import CRLF, Origin, State
from rollcall.net.flow import Address, PackedAddress
from rollcall.net.stream import WireFlow
from rollcall.net.upgrade import UpgradeReader, UpgradeRefused
from rollcall.net.websocket import (
    Close,
    CloseCode,
    Event,
    Message,
    Ping,
    WebSocketError,
    WebSocketFramer,
    close_frame,
    message_frame,
    pong_frame,
)

# RFC 6455 §7.1.5: what stands for a close without a code, and may not be sent.
NO_CODE = 1005


class WebSocketFlow(WireFlow):
    """One SIP message in each WebSocket message."""

    __slots__ = ("_framer", "_upgrade")

    def __init__(
        self,
        origin: Origin,
        peer: Address,
        local: PackedAddress | None = None,
        *,
        allowed_origins: frozenset[str] = frozenset(),
    ) -> None:
        """`allowed_origins` are those of web pages, lower case; an empty set allows every one."""
        super().__init__(origin, peer, local)
        limits = origin.connections.limits
        self._upgrade: UpgradeReader | None = UpgradeReader(limits.max_upgrade_bytes, allowed_origins)
        self._framer = WebSocketFramer(limits.max_head_bytes + limits.max_body_bytes)

    def dataReceived(self, data: bytes) -> None:
        """Take part of the upgrade or some frames."""
        if self._state is State.OPENING:
            data = self._upgraded(data)
        if self._state is not State.OPEN or not data:
            return
        try:
            events = self._framer.receive_data(data)
        except WebSocketError as error:
            self._take(error.completed)
            if self._state is State.OPEN:
                self._origin.connections.tallies.unframed += 1
                self._send(close_frame(error.code, str(error)))
                self._end(f"WebSocket rules broken: {error}")
            return
        self._take(events)
        if self._timer is not None or self._framer.is_waiting:
            # Pings between fragments are no progress.
            self._expect_rest(self._framer.is_waiting, any(isinstance(event, Message) for event in events))

    def _connected(self) -> None:
        """Wait for the upgrade."""

    def _encoded(self, message: bytes) -> bytes:
        return message_frame(message)

    def _say_goodbye(self) -> None:
        self._send(close_frame(CloseCode.GOING_AWAY))

    def _upgraded(self, data: bytes) -> bytes:
        """Return what came after the upgrade; nothing while that is not done."""
        if self._upgrade is None:
            return b""
        try:
            upgraded = self._upgrade.receive_data(data)
        except UpgradeRefused as refused:
            self._wire.write(refused.answer)
            self._end(f"WebSocket upgrade refused: {refused}")
            return b""
        if upgraded is None:
            return b""
        self._upgrade = None
        self._wire.write(upgraded.answer)
        self._ready()
        return upgraded.rest

    def _take(self, events: list[Event]) -> None:
        connections = self._origin.connections
        for event in events:
            if self._state is not State.OPEN:
                return
            if isinstance(event, Message):
                self._take_message(event.data)
            elif isinstance(event, Ping):
                connections.tallies.pings_answered += 1
                self._send(pong_frame(event.data))
            elif isinstance(event, Close):
                code = CloseCode.NORMAL if event.code == NO_CODE else event.code
                self._send(close_frame(code))
                self._end(f"closed by the peer with code {event.code}")

    def _take_message(self, data: bytes) -> None:
        if data.strip(CRLF):
            self._origin.connections.deliver(data, self)
        elif len(data) >= len(CRLF + CRLF):  # RFC 7118 §6: the keepalive of RFC 5626 §4.4.1
            self._origin.connections.tallies.pings_answered += 1
            self._send(message_frame(CRLF))
