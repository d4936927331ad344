"""All connections of a process: which are open, how many there are, and who hears of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import count
from typing import TYPE_CHECKING, Protocol

from attrs import define
from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger

from rollcall.net.accept_budget import AcceptBudget
from rollcall.net.config import LimitsConfig
from rollcall.net.flow import Address, Flow, FlowClosed, FlowUser, PackedAddress, pack_address
from rollcall.net.wheel import TimerWheel
from rollcall.sip.framing import FramingError, FramingLimits
from rollcall.sip.scanner import scan_register

if TYPE_CHECKING:
    from rollcall.net.connection import ConnectionFlow
    from rollcall.net.engine_flow import EngineFlow
    from rollcall.sip.scanner import UsualRegister

# An even flow id holds the flow's file descriptor above its lowest bit, and above that a number of its own.
DESCRIPTOR_BITS = 24
DESCRIPTOR_MASK = (1 << DESCRIPTOR_BITS) - 1
SERIAL_SHIFT = DESCRIPTOR_BITS + 1

# Of so many REGISTERs over Twisted's transports one is asked how long it has waited in the kernel.
SAMPLED = 16


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

    accept_pauses: int = 0
    """Times that no connection was accepted for a while because the system had no descriptor or memory for it."""

    accepts_put_off: int = 0
    """Times that connections had to wait in the kernel's backlog until others were served."""

    members_refused: int = 0
    """Internal connections, to us or from us, whose other end did not prove to be the member it had to be."""

    datagrams_ignored: int = 0
    """Datagrams that were no SIP: keepalives without an answer, and noise."""

    datagrams_unsent: int = 0
    """Datagrams that the kernel did not take."""


class Opening(Protocol):
    """A connection that is to become a flow."""

    def close(self, reason: str) -> None:
        """End it."""


class FlowWatcher(Protocol):
    """Who hears of connections that are of use."""

    def confirmed(self, flow: ConnectionFlow) -> None:
        """A first valid request has come over this one."""

    def gone(self, flow: ConnectionFlow) -> None:
        """This one has ended, whether a valid request came over it or not."""


class Connections:
    """The connections of a process. `user` hears what comes over them."""

    _log = Logger()

    def __init__(self, wheel: TimerWheel, user: FlowUser, limits: LimitsConfig, tallies: Tallies) -> None:
        self.wheel = wheel
        self.user = user
        self.limits = limits
        self.tallies = tallies
        self.watcher: FlowWatcher | None = None
        self.on_wait: Callable[[float, float], None] = lambda seconds, now: None
        """Told now and then how long messages wait to be read, and when: while there is a backlog, in each turn."""
        self.budget = AcceptBudget(limits.accepts_per_second)
        self._unsampled = SAMPLED
        self.framing = FramingLimits(max_head_bytes=limits.max_head_bytes, max_body_bytes=limits.max_body_bytes)
        self.by_transport: Counter[str] = Counter()
        # The engine's flows lie at their descriptor, which costs 8 bytes each.
        self.by_descriptor: list[EngineFlow | None] = []
        self._serials = count(1)
        # Those that Twisted carries are fewer.
        self._by_id: dict[int, ConnectionFlow] = {}
        self._odd_ids = count(1, 2)
        # One dictionary for each transport, so that a flow's own address is the key.
        self._by_peer: dict[str, dict[PackedAddress, ConnectionFlow]] = {"TCP": {}, "WS": {}}
        self._opening: set[Opening] = set()
        self._by_source: Counter[bytes] = Counter()
        self._waiting_for_none: list[Deferred[None]] = []

    def apart(self, limits: LimitsConfig) -> Connections:
        """Return a further set for the same user, with limits of its own; no two flows of both share an id."""
        further = Connections(self.wheel, self.user, limits, self.tallies)
        further._odd_ids = self._odd_ids
        return further

    # --- which there are

    def flows(self) -> list[ConnectionFlow]:
        """Return every connection that can carry messages, or could and is about to end."""
        return [*self._by_id.values(), *(flow for flow in self.by_descriptor if flow is not None)]

    def find(self, flow_id: int) -> ConnectionFlow | None:
        """Return the open flow of this id."""
        flow = self._by_id.get(flow_id) if flow_id & 1 else self._at(descriptor_of(flow_id))
        return flow if flow is not None and flow.id == flow_id and flow.is_open else None

    def accepted_from(self, transport: str, peer: Address) -> ConnectionFlow | None:
        """Return the open flow that came from exactly there, if it may carry requests to there.

        A client's TLS connection proves nothing about who it is, so it is no way to reach a name (RFC 5923 §8).
        """
        flow = self._by_peer.get(transport, {}).get(pack_address(*peer))
        return flow if flow is not None and flow.is_open else None

    # --- how many may come

    def admit(self, source: bytes) -> bool:
        """Count one more connection from a host (a packed address without its port), unless it has enough."""
        if not self.limits.max_connections_per_source:
            return True
        if self._by_source[source] >= self.limits.max_connections_per_source:
            self.tallies.refused_source += 1
            return False
        self._by_source[source] += 1
        return True

    def dismiss(self, source: bytes) -> None:
        """Count one connection less from a host."""
        left = self._by_source[source] - 1
        if left > 0:
            self._by_source[source] = left
        else:
            del self._by_source[source]

    # --- their life

    def opening(self, connection: Opening) -> None:
        """Take note of a connection that is to become a flow."""
        self._opening.add(connection)

    def opened(self, connection: Opening) -> None:
        """Take note that it made way for a flow."""
        self._opening.discard(connection)

    def place(self, flow: EngineFlow, descriptor: int) -> None:
        """Give a flow of the engine its id, and keep it at its descriptor."""
        flow.id = next(self._serials) << SERIAL_SHIFT | descriptor << 1
        self.make_room(descriptor)
        self.by_descriptor[descriptor] = flow

    def make_room(self, descriptor: int) -> None:
        """See that there is a place for a descriptor."""
        missing = descriptor + 1 - len(self.by_descriptor)
        if missing > 0:
            self.by_descriptor.extend([None] * missing)

    def ready(self, flow: ConnectionFlow, accepted: bool) -> None:
        """Take note of a connection that can carry messages, and see that it has its id."""
        self._opening.discard(flow)
        if not flow.id:
            flow.id = next(self._odd_ids)
            self._by_id[flow.id] = flow
        self.by_transport[flow.transport] += 1
        if accepted:
            self.tallies.accepted += 1
            if not flow.secure:
                self._by_peer[flow.transport][flow.address] = flow
        else:
            self.tallies.opened += 1

    def lost(self, flow: ConnectionFlow, reason: str) -> None:
        """Forget a connection, and tell the user if it ever was a flow."""
        if flow.id:
            self._forget(flow, reason)
            self._check_for_none()
        else:
            self.never_opened(flow, reason)

    def never_opened(self, connection: Opening, reason: str) -> None:
        """Forget a connection that did not become a flow."""
        self._opening.discard(connection)
        self.tallies.handshakes_failed += 1
        self._log.debug("connection never opened: {connection}: {reason}", connection=connection, reason=reason)
        self._check_for_none()

    def close_all(self, reason: str) -> Deferred[None]:
        """Close every connection; return when all are gone."""
        flows = (*self._opening, *self.flows())
        if not flows:
            return succeed(None)
        emptied = Deferred[None]()
        self._waiting_for_none.append(emptied)
        for flow in flows:
            flow.close(reason)
        return emptied

    def confirmed(self, flow: ConnectionFlow) -> None:
        """Tell who wants to know that a valid request has come over a connection; once for each."""
        if self.watcher is not None:
            self.watcher.confirmed(flow)

    # --- what comes over them

    def deliver(self, data: bytes, flow: Flow) -> None:
        """Answer a message at once, or hand it over; whatever goes wrong with it, its flow lives on."""
        register = scan_register(data) if flow.reliable else None
        if register is not None and register.end == len(data):
            now = self.wheel.now()
            self._unsampled -= 1
            if not self._unsampled:
                self._unsampled = SAMPLED
                self.on_wait(flow.quiet_seconds(), now)
            answer = self.short_way(register, flow, now)
            if answer is not None:
                try:
                    if answer:
                        flow.write(answer)
                except FlowClosed as error:
                    self._log.debug("no flow left to answer on: {flow}: {error}", flow=flow, error=error)
                return
        self.hand_over(data, flow)

    def short_way(self, register: UsualRegister, flow: Flow, now: float) -> bytes | None:
        """Return the answer to a usual REGISTER; None when it has to be handed over."""
        if not flow.confirmed:
            flow.confirm()
        try:
            return self.user.short_way(register, flow, now)
        except Exception:
            self._log.failure("while a REGISTER of {flow} was answered", flow=flow)
            return None

    def hand_over(self, data: bytes, flow: Flow) -> None:
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

    # --- details

    def _at(self, descriptor: int) -> EngineFlow | None:
        return self.by_descriptor[descriptor] if descriptor < len(self.by_descriptor) else None

    def _forget(self, flow: ConnectionFlow, reason: str) -> None:
        self._by_id.pop(flow.id, None)
        self.by_transport[flow.transport] -= 1
        if not flow.secure and self._by_peer[flow.transport].get(flow.address) is flow:
            del self._by_peer[flow.transport][flow.address]
        self._log.debug("flow closed: {flow}: {reason}", flow=flow, reason=reason)
        try:
            self.user.flow_closed(flow, reason)
        except Exception:
            self._log.failure("while {flow} closed", flow=flow)
        if self.watcher is not None:
            self.watcher.gone(flow)

    def _check_for_none(self) -> None:
        if self._waiting_for_none and not self._opening and not any(self.by_transport.values()):
            waiting, self._waiting_for_none = self._waiting_for_none, []
            for each in waiting:
                each.callback(None)


def descriptor_of(flow_id: int) -> int:
    """Return the file descriptor of one of the engine's flows, which is its own while the flow lasts."""
    return flow_id >> 1 & DESCRIPTOR_MASK
