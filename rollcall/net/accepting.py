"""Connections that come to us: who may come, and what is spoken with whom."""

from collections.abc import Callable
from functools import partial
from ipaddress import ip_address, ip_network
from typing import Any

from twisted.internet.interfaces import IProtocol
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from rollcall.net.config import WEBSOCKET_TRANSPORTS, ListenerConfig
from rollcall.net.connection import ConnectionFlow
from rollcall.net.connections import Connections
from rollcall.net.flow import PORT_BYTES, Address, Listener, PackedAddress, pack_address
from rollcall.net.proxy_protocol import ProxyError, ProxyHeader, ProxyHeaderReader
from rollcall.net.stream import StreamFlow, WireFlow
from rollcall.net.websocket_flow import WebSocketFlow


class Entrance:
    """Who may come in by one listener, and the origin (see Origin) of the flows that did."""

    _log = Logger()

    def __init__(self, config: ListenerConfig, listener: Listener, connections: Connections) -> None:
        self.listener = listener
        self.transport = listener.transport
        self.connections = connections
        self.open = 0
        self._max_connections = config.max_connections
        self._proxies = tuple(map(ip_network, config.proxy_protocol_from))

    def is_full(self, host: str) -> bool:
        """Whether no more may come; `host` is who is refused then."""
        if not self._max_connections or self.open < self._max_connections:
            return False
        self.connections.tallies.refused_full += 1
        self._log.debug("{listener} is full: {peer} refused", listener=self.listener.name, peer=host)
        return True

    def is_proxy(self, host: str) -> bool:
        """Whether a host has to send a PROXY header."""
        if not self._proxies:
            return False
        address = ip_address(host.partition("%")[0])
        return any(address in network for network in self._proxies)

    def admits(self, address: PackedAddress) -> bool:
        """Count a connection of a source, or say that there are too many of it."""
        source = address[PORT_BYTES:]
        if self.connections.admit(source):
            return True
        self._log.debug("{listener}: too many connections from {source}", listener=self.listener.name,
                        source=ip_address(source))
        return False

    def ready(self, flow: ConnectionFlow) -> None:
        """See Origin."""
        self.connections.ready(flow, accepted=True)

    def time_limit(self) -> float | None:
        """See Origin."""
        return self.connections.limits.first_request_seconds

    def lost(self, flow: ConnectionFlow, reason: str) -> None:
        """See Origin."""
        self.open -= 1
        self.connections.dismiss(flow.address[PORT_BYTES:])
        self.connections.lost(flow, reason)


class Accepting(Entrance, Factory):
    """One listener's connections, when Twisted's transports carry them."""

    noisy = False

    def __init__(
        self,
        config: ListenerConfig,
        listener: Listener,
        connections: Connections,
        secured: Callable[[IProtocol], IProtocol],
    ) -> None:
        """`secured` puts TLS before a protocol, or returns it as it is."""
        super().__init__(config, listener, connections)
        self._secured = secured
        self._flow: Callable[[Address, PackedAddress | None], WireFlow] = partial(StreamFlow, self)
        if listener.transport in WEBSOCKET_TRANSPORTS:
            allowed = frozenset(map(str.lower, config.allowed_origins))
            self._flow = partial(WebSocketFlow, self, allowed_origins=allowed)

    def buildProtocol(self, addr: Any) -> Any:
        """Return what speaks on a new connection; None refuses it."""
        if self.is_full(addr.host):
            return None
        if self.is_proxy(addr.host):
            self.open += 1
            return ProxyPreface(self, (addr.host, addr.port))
        protocol = self.admit((addr.host, addr.port))
        if protocol is not None:
            self.open += 1
        return protocol

    def admit(self, peer: Address, local: Address | None = None) -> IProtocol | None:
        """Return what speaks with `peer`; None when too many connections came from there."""
        if not self.admits(pack_address(*peer)):
            return None
        return self._secured(self._flow(peer, pack_address(*local) if local else None))


class ProxyPreface(Protocol):
    """Reads the PROXY header of a trusted load balancer, then makes way for what speaks with the client.

    Only then does that learn of the connection, so it never sees the load balancer's address, and TLS begins where
    the header ends.
    """

    _log = Logger()

    def __init__(self, accepting: Accepting, proxy: Address) -> None:
        self._accepting = accepting
        self._proxy = proxy
        self._reader = ProxyHeaderReader()
        self._done = False

    def connectionMade(self) -> None:
        """Begin to wait."""
        connections = self._accepting.connections
        self._limit = connections.wheel.call_later(connections.limits.handshake_seconds, self._refuse, "no header came")

    def dataReceived(self, data: bytes) -> None:
        """Collect the header."""
        if self._done:
            return
        try:
            result = self._reader.receive_data(data)
        except ProxyError as error:
            self._refuse(str(error))
            return
        if result is not None:
            self._make_way(*result)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The connection ended before it was anybody's."""
        self._limit.cancel()
        self._accepting.open -= 1
        self._accepting.connections.tallies.handshakes_failed += 1

    def _make_way(self, header: ProxyHeader, rest: bytes) -> None:
        self._done = True
        protocol = self._accepting.admit(header.source or self._proxy, header.destination)
        if protocol is None:
            self._abort()
            return
        self._limit.cancel()
        transport: Any = self.transport
        transport.protocol = protocol
        protocol.makeConnection(transport)
        if rest:
            protocol.dataReceived(rest)

    def _refuse(self, reason: str) -> None:
        self._done = True
        self._log.warn("PROXY header of {proxy} refused: {reason}", proxy=self._proxy, reason=reason)
        self._abort()

    def _abort(self) -> None:
        transport: Any = self.transport
        transport.abortConnection()
