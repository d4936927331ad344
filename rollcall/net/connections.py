"""All connections of a process: which are open, how many there are, and who hears of them."""

from collections import Counter
from itertools import count
from typing import TYPE_CHECKING

from attrs import define
from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger

from rollcall.net.config import LimitsConfig
from rollcall.net.flow import Address, Flow, FlowUser
from rollcall.net.wheel import TimerWheel
from rollcall.sip.framing import FramingError, FramingLimits

if TYPE_CHECKING:
    from rollcall.net.stream import ConnectionFlow


@define
class Tallies:
    """What happened at our sockets since the start, for the metrics to read."""

    accepted: int = 0
    """Connections that became flows."""

    opened: int = 0
    """Connections that we opened."""

    refused_full: int = 0
    """Connections refused because their listener had as many as it may have."""

    refused_source: int = 0
    """Connections refused because their source had as many as it may have."""

    handshakes_failed: int = 0
    """Connections lost before the PROXY header, TLS or the WebSocket upgrade were done."""

    strangers_closed: int = 0
    """Connections closed because no valid request came in time."""

    stalled_closed: int = 0
    """Connections closed because a message that had begun did not end in time."""

    slow_readers_closed: int = 0
    """Connections closed because their peer did not read."""

    unframed: int = 0
    """Connections closed because the end of a message could not be told."""

    pings_answered: int = 0
    """Keepalives answered: double CRLFs, STUN Binding requests and WebSocket pings."""

    datagrams_ignored: int = 0
    """Datagrams that were no SIP: keepalives without an answer, and noise."""

    datagrams_unsent: int = 0
    """Datagrams that the kernel did not take."""


class Connections:
    """The connections of a process. `user` hears what comes over them."""

    _log = Logger()

    def __init__(self, wheel: TimerWheel, user: FlowUser, limits: LimitsConfig, tallies: Tallies) -> None:
        self.wheel = wheel
        self.user = user
        self.limits = limits
        self.tallies = tallies
        self.framing = FramingLimits(max_head_bytes=limits.max_head_bytes, max_body_bytes=limits.max_body_bytes)
        self.by_transport: Counter[str] = Counter()
        # One dictionary for each transport, so that a flow's own address is the key.
        self._by_peer: dict[str, dict[Address, ConnectionFlow]] = {"TCP": {}, "WS": {}}
        self._by_id: dict[int, ConnectionFlow] = {}
        self._opening: set[ConnectionFlow] = set()
        self._by_source: Counter[str] = Counter()
        self._ids = count(1)
        self._waiting_for_none: list[Deferred[None]] = []

    def find(self, flow_id: int) -> "ConnectionFlow | None":
        """Return the open flow of this id."""
        flow = self._by_id.get(flow_id)
        return flow if flow is not None and flow.is_open else None

    def accepted_from(self, transport: str, peer: Address) -> "ConnectionFlow | None":
        """Return the open flow that came from exactly there, if it may carry requests to there.

        A client's TLS connection proves nothing about who it is, so it is no way to reach a name (RFC 5923 §8).
        """
        flow = self._by_peer.get(transport, {}).get(peer)
        return flow if flow is not None and flow.is_open else None

    def admit(self, source: str) -> bool:
        """Count one more connection from a host, unless it has as many as it may have."""
        if not self.limits.max_connections_per_source:
            return True
        if self._by_source[source] >= self.limits.max_connections_per_source:
            self.tallies.refused_source += 1
            return False
        self._by_source[source] += 1
        return True

    def dismiss(self, source: str) -> None:
        """Count one connection less from a host."""
        left = self._by_source[source] - 1
        if left > 0:
            self._by_source[source] = left
        else:
            del self._by_source[source]

    def opening(self, flow: "ConnectionFlow") -> None:
        """Take note of a connection that is to become a flow."""
        self._opening.add(flow)

    def ready(self, flow: "ConnectionFlow", accepted: bool) -> None:
        """Take note of a connection that can carry messages, and give it its id."""
        self._opening.discard(flow)
        flow.id = next(self._ids)
        self._by_id[flow.id] = flow
        self.by_transport[flow.transport] += 1
        if accepted:
            self.tallies.accepted += 1
            if not flow.secure:
                self._by_peer[flow.transport][flow.peer] = flow
        else:
            self.tallies.opened += 1

    def lost(self, flow: "ConnectionFlow", reason: str) -> None:
        """Forget a connection, and tell the user if it ever was a flow."""
        self._opening.discard(flow)
        if flow.id:
            self._forget(flow, reason)
        else:
            self.tallies.handshakes_failed += 1
            self._log.debug("connection never opened: {flow}: {reason}", flow=flow, reason=reason)
        if not self._opening and not self._by_id:
            waiting, self._waiting_for_none = self._waiting_for_none, []
            for each in waiting:
                each.callback(None)

    def _forget(self, flow: "ConnectionFlow", reason: str) -> None:
        del self._by_id[flow.id]
        self.by_transport[flow.transport] -= 1
        if not flow.secure and self._by_peer[flow.transport].get(flow.peer) is flow:
            del self._by_peer[flow.transport][flow.peer]
        self._log.debug("flow closed: {flow}: {reason}", flow=flow, reason=reason)
        try:
            self.user.flow_closed(flow, reason)
        except Exception:
            self._log.failure("while {flow} closed", flow=flow)

    def close_all(self, reason: str) -> "Deferred[None]":
        """Close every connection; return when all are gone."""
        flows = (*self._opening, *self._by_id.values())
        if not flows:
            return succeed(None)
        emptied = Deferred[None]()
        self._waiting_for_none.append(emptied)
        for flow in flows:
            flow.close(reason)
        return emptied

    def deliver(self, data: bytes, flow: Flow) -> None:
        """Hand over a message; whatever goes wrong with it, its flow lives on."""
        try:
            self.user.message_received(data, flow)
        except Exception:
            self._log.failure("while a message of {flow} was handled", flow=flow)

    def framing_failed(self, error: FramingError, flow: Flow) -> None:
        """Let the user answer what still can be answered, then end the stream (RFC 3261 §18.3)."""
        self.tallies.unframed += 1
        try:
            self.user.framing_failed(error, flow)
        except Exception:
            self._log.failure("while lost framing of {flow} was handled", flow=flow)
        flow.close(f"framing lost: {error}")
