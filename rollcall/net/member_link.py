"""What joins us with one life of another node: a connection that either end has opened, and the wish for one.

When both ends open one at the same time there are two, and both stay: each end sends over its own, so there is nothing
to settle, and no message is lost with one that would have to go.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectionRefusedError, TimeoutError
from twisted.internet.interfaces import IConnector
from twisted.internet.protocol import ClientFactory
from twisted.logger import Logger
from twisted.python.failure import Failure

from rollcall.net.config import KeepaliveConfig
from rollcall.net.connection import ConnectionFlow
from rollcall.net.connections import Connections
from rollcall.net.flow import Address, ConnectFailed, Flow, Listener
from rollcall.net.listening import watch_idle
from rollcall.net.member_flow import MemberFlow
from rollcall.net.member_handshake import AnotherLife, Handshake, Life
from rollcall.net.stream import TOO_SLOW
from rollcall.net.tls import Layer
from rollcall.net.wheel import Timer

KEEPALIVE = KeepaliveConfig(idle=5, interval=1, probes=3)
"""A host that has fallen silent is noticed after 8 seconds; a process that has ended, at once."""

FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 1.0
"""Between attempts to reach a member; the pause doubles. A connection that lasted so long was a good one."""

MOST_DOUBLINGS = 16
"""More than it takes: a member may be out of reach for days, and 2 to the power of 1,024 is no float any more."""

# Why a member is said to be lost.
CLOSED = "closed"
"""A connection has ended, as when the process at the other end does."""
REFUSED = "refused"
"""Nobody listens there any more: we had a connection with it before."""
TIMED_OUT = "timed out"
"""There is no answer."""
UNREACHABLE = "unreachable"
"""There is no way to that address, or never was one."""
REPLACED = "replaced"
"""A later life of the same node has proven that it is there."""


class Means(Protocol):
    """What all links of a node open their connections with."""

    reactor: Any
    connections: Connections

    @property
    def client_layer(self) -> Layer:
        """What puts TLS before the protocol of a connection that we open."""

    @property
    def listener(self) -> Listener | None:
        """Where members reach us."""

    @property
    def transport(self) -> str:
        """What is spoken: "TCP" or "TLS"."""

    def calling(self, wanted: Life) -> Handshake:
        """Return our part of a handshake with a member."""


class Link:
    """Every connection with one life of a member."""

    _log = Logger()

    def __init__(self, life: Life, means: Means, lost: Callable[[Link, str], None]) -> None:
        """`lost` is told why a connection ended or could not be had."""
        self.life = life
        self.address: Address = ("", 0)
        self.is_kept = False
        self._means = means
        self._lost = lost
        self._accepted: MemberFlow | None = None
        self._dialled: MemberFlow | None = None
        self._dialling: MemberDialling | None = None
        self._waiting: list[Deferred[Flow]] = []
        self._retry: Timer | None = None
        self._failures = 0
        self._opened_at = 0.0

    @property
    def flow(self) -> MemberFlow | None:
        """The connection that messages go over: our own, else the member's."""
        for flow in (self._dialled, self._accepted):
            if flow is not None and flow.is_open:
                return flow
        return None

    @property
    def is_over(self) -> bool:
        """Whether nothing is left of it, and nobody wants it."""
        has_nothing = self._accepted is None and self._dialled is None and self._dialling is None
        return has_nothing and not self.is_kept

    def opened(self) -> Deferred[Flow]:
        """Return a connection, opened now if there is none. Fails with ConnectFailed."""
        flow = self.flow
        if flow is not None:
            return succeed(flow)
        waiting: Deferred[Flow] = Deferred()
        self._waiting.append(waiting)
        self._dial()
        return waiting

    def keep(self) -> None:
        """See from now on that there is a connection."""
        self.is_kept = True
        if self.flow is None and self._retry is None:
            self._dial()

    def leave(self, reason: str, is_dead: bool = False) -> None:
        """Close what there is, and tell nobody. With a member that is dead nothing that was written has to leave first.

        A host that hangs would take close_seconds for it, and requests would learn only then that they are lost.
        """
        self.is_kept = False
        self._stop_retrying()
        flows = self._accepted, self._dialled
        self._accepted = self._dialled = None
        dialling, self._dialling = self._dialling, None
        if dialling is not None:
            dialling.give_up(reason)
        for flow in flows:
            if flow is not None:
                (flow.cut if is_dead else flow.close)(reason)
        waiting, self._waiting = self._waiting, []
        self._fail(waiting, reason)

    # --- what happens to connections

    def came(self, flow: MemberFlow) -> None:
        """Take a connection that the member has opened; it does so only when it has lost the one before."""
        before, self._accepted = self._accepted, flow
        if before is not None:
            before.close("the member has opened another connection")
        self._take(flow)

    def reached(self, flow: MemberFlow) -> None:
        """Take a connection that we have opened."""
        self._dialling, self._dialled = None, flow
        self._take(flow)

    def ended(self, flow: MemberFlow, reason: str) -> None:
        """Take note that a connection is gone that was one."""
        if flow is self._accepted:
            self._accepted = None
        elif flow is self._dialled:
            self._dialled = None
        else:
            return
        if self._means.connections.wheel.now() - self._opened_at >= LONGEST_PAUSE_SECONDS:
            self._failures = 0
        self._log.info("connection with member {member} ended: {reason}", member=self.life, reason=reason)
        self._try_again()
        self._lost(self, CLOSED)

    def failed(self, dialling: MemberDialling, reason: str, why: str) -> None:
        """Take note that we could not open one; `why` is empty when that says nothing about the member's life."""
        if dialling is not self._dialling:
            return
        # Another site may be away for days; who asks it says so once.
        tell = self._log.debug if self.life.site else self._log.warn
        tell("no connection with member {member} at {host}:{port}: {reason}", member=self.life,
             host=self.address[0], port=self.address[1], reason=reason, log_rationed=True)
        self._dialling = None
        self._failures += 1
        if why == REFUSED and not self._opened_at:
            # Who was never there need not have died: a firewall says the same.
            why = UNREACHABLE
        waiting, self._waiting = self._waiting, []
        self._try_again()
        self._lost(self, why)
        self._fail(waiting, reason)

    # --- details

    def _take(self, flow: MemberFlow) -> None:
        self._opened_at = self._means.connections.wheel.now()
        self._stop_retrying()
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.callback(flow)

    def _fail(self, waiting: list[Deferred[Flow]], reason: str) -> None:
        for each in waiting:
            each.errback(ConnectFailed(f"member {self.life}: {reason}"))

    def _dial(self) -> None:
        self._stop_retrying()
        if self._dialling is None:
            self._dialling = MemberDialling(self, self._means)
            self._dialling.dial()

    def _try_again(self) -> None:
        if not self.is_kept or self.flow is not None or self._dialling is not None or self._retry is not None:
            return
        doubled = min(self._failures - 1, MOST_DOUBLINGS)
        pause = min(FIRST_PAUSE_SECONDS * 2**doubled, LONGEST_PAUSE_SECONDS) if self._failures else 0.0
        self._retry = self._means.connections.wheel.call_later(pause, self._dial)

    def _stop_retrying(self) -> None:
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None


class MemberDialling(ClientFactory):
    """One connection that we open to a member, from the wish for it to its end; see Origin."""

    noisy = False

    def __init__(self, link: Link, means: Means) -> None:
        self.connections = means.connections
        self.transport = means.transport
        self.listener = means.listener
        self._link = link
        self._means = means
        self._connector: IConnector | None = None
        self._flow: MemberFlow | None = None

    def dial(self) -> None:
        """Begin to connect."""
        host, port = self._link.address
        seconds = self.connections.limits.connect_seconds
        self._connector = self._means.reactor.connectTCP(host, port, self, timeout=seconds)

    def give_up(self, reason: str) -> None:
        """Do not connect any more."""
        if self._connector is not None:
            self._connector.stopConnecting()
        if self._flow is not None:
            self._flow.close(reason)

    # --- what Twisted calls

    def startedConnecting(self, connector: Any) -> None:
        """Watch the socket, if there is one already: for a name there is not before it is looked up."""
        self._connector = connector

    def buildProtocol(self, addr: Any) -> Any:
        """TCP is there."""
        connector: Any = self._connector
        self._connector = None
        watch_idle(connector.transport.getHandle(), KEEPALIVE)
        self._flow = MemberFlow(self, (addr.host, addr.port), self._means.calling(self._link.life))
        return self._means.client_layer(self._flow)

    def clientConnectionFailed(self, connector: object, reason: Failure) -> None:
        """TCP never was there."""
        self._connector = None
        why = UNREACHABLE
        if reason.check(ConnectionRefusedError):
            why = REFUSED
        elif reason.check(TimeoutError):
            why = TIMED_OUT
        self._link.failed(self, reason.getErrorMessage(), why)

    # --- what the flow calls

    def ready(self, flow: ConnectionFlow) -> None:
        """See Origin."""
        assert isinstance(flow, MemberFlow)
        self.connections.ready(flow, accepted=False)
        self._link.reached(flow)

    def time_limit(self) -> float | None:
        """Whom we called is no stranger."""
        return None

    def lost(self, flow: ConnectionFlow, reason: str) -> None:
        """See Origin."""
        assert isinstance(flow, MemberFlow)
        self.connections.lost(flow, reason)
        if flow.id:
            self._link.ended(flow, reason)
            return
        if flow.refusal is not None:
            self.connections.tallies.members_refused += 1
        # A member that does not believe us only closes: the reason is in its own log.
        told = reason
        if flow.refusal is None:
            told = f"{reason.rstrip('.')}, while both proved who they are; its log says why"
        self._link.failed(self, told, self._why(flow, reason))

    def _why(self, flow: MemberFlow, reason: str) -> str:
        refusal = flow.refusal
        if isinstance(refusal, AnotherLife) and self._link.life.is_before(refusal.there):
            return REPLACED
        return TIMED_OUT if reason == TOO_SLOW else ""
