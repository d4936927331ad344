"""Connections that we open: one for each address, shared by all who ask for it (RFC 3261 §18.1.1, RFC 5923)."""

from collections.abc import Callable
from typing import Any

from attrs import frozen
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IConnector, IProtocol, IReactorTCP
from twisted.internet.protocol import ClientFactory
from twisted.python.failure import Failure

from rollcall.net.config import KeepaliveConfig
from rollcall.net.connection import ConnectionFlow
from rollcall.net.connections import Connections
from rollcall.net.flow import ConnectFailed, Flow, Listener
from rollcall.net.listening import watch_idle
from rollcall.net.stream import StreamFlow


@frozen
class Destination:
    """Where to, and over TLS who has to be there: a connection serves exactly those who ask for the same."""

    transport: str
    host: str
    port: int
    server_name: str | None = None

    def __str__(self) -> str:
        return f"{self.transport} {self.host}:{self.port}"


class Dialling(ClientFactory):
    """One connection that we open, from the wish for it to its end."""

    noisy = False

    def __init__(
        self,
        destination: Destination,
        connections: Connections,
        listener: Listener | None,
        keepalive: KeepaliveConfig,
        secured: Callable[[IProtocol], IProtocol],
        ended: Callable[["Dialling"], object],
    ) -> None:
        """`ended` is called when this connection is of no more use to anybody who asks for one."""
        self.destination = destination
        self.transport = destination.transport
        self.connections = connections
        self.listener = listener
        self.flow = StreamFlow(self, (destination.host, destination.port))
        self._keepalive = keepalive
        self._secured = secured
        self._ended = ended
        self._waiting: list[Deferred[Flow]] = []
        self._connector: IConnector | None = None

    def dial(self, reactor: IReactorTCP) -> None:
        """Begin to connect."""
        seconds = self.connections.limits.connect_seconds
        self._connector = reactor.connectTCP(self.destination.host, self.destination.port, self, timeout=seconds)

    def give_up(self) -> None:
        """Do not connect any more; what is connected already is its flow's matter."""
        if self._connector is not None:
            self._connector.stopConnecting()

    def opened(self) -> "Deferred[Flow]":
        """Return the flow, once it is open. Fails with ConnectFailed."""
        if self.flow.is_open:
            return succeed(self.flow)
        waiting: Deferred[Flow] = Deferred()
        self._waiting.append(waiting)
        return waiting

    # --- what Twisted calls

    def startedConnecting(self, connector: Any) -> None:
        """There is a socket."""
        watch_idle(connector.transport.getHandle(), self._keepalive)

    def buildProtocol(self, addr: Any) -> Any:
        """TCP is there."""
        self._connector = None
        return self._secured(self.flow)

    def clientConnectionFailed(self, connector: object, reason: Failure) -> None:
        """TCP never was there."""
        self._connector = None
        self._fail(reason.getErrorMessage())

    # --- what the flow calls, see Origin

    def ready(self, flow: ConnectionFlow) -> None:
        """See Origin."""
        self.connections.ready(flow, accepted=False)
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.callback(flow)

    def time_limit(self) -> float | None:
        """Whom we called is no stranger."""
        return None

    def lost(self, flow: ConnectionFlow, reason: str) -> None:
        """See Origin."""
        self.connections.lost(flow, reason)
        self._fail(reason)

    def _fail(self, reason: str) -> None:
        self._ended(self)
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.errback(ConnectFailed(f"{self.destination}: {reason}"))
