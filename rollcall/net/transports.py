"""All transports of a process: its listeners, the flows over them, and the way to open one (RFC 3261 §18)."""

from collections.abc import Callable
from typing import Any

from attrs import evolve
from twisted.application.service import MultiService
from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.internet.interfaces import IProtocol
from twisted.logger import Logger

from rollcall.net.accepting import Accepting
from rollcall.net.config import SECURE_TRANSPORTS, ListenerConfig, MemberConfig, NetConfig
from rollcall.net.connections import Connections, FlowWatcher, Tallies
from rollcall.net.datagram import DatagramPort
from rollcall.net.dialling import Destination, Dialling
from rollcall.net.engine import Engine
from rollcall.net.engine_accepting import ACCEPT_COST, EngineAccepting
from rollcall.net.flow import ConnectFailed, Flow, FlowUser, Listener, PackedAddress
from rollcall.net.listening import (
    advertised_host,
    bound_address,
    datagram_socket,
    family_of,
    has_no_way_out,
    is_loopback,
    numeric_host,
    stream_socket,
)
from rollcall.net.members import Lost, Members
from rollcall.net.paced_port import PacedPort
from rollcall.net.tls import Layer, ShownCertificate, Tls
from rollcall.net.wheel import TimerWheel

WE_OPEN = frozenset(("TCP", "TLS"))


class Transports(MultiService):
    """Listens, connects, and knows every open flow. Nothing is bound before startService."""

    _log = Logger()

    def __init__(self, reactor: Any, wheel: TimerWheel, user: FlowUser, config: NetConfig) -> None:
        """`reactor` is one of Twisted's that can adopt sockets; `user` hears what comes.

        Raises ValueError when a certificate, key or authority is unusable.
        """
        super().__init__()
        self.tallies = Tallies()
        self.listeners: dict[str, Listener] = {}
        self._reactor = reactor
        self._config = config
        self._connections = Connections(wheel, user, config.limits, self.tallies)
        self._tls = Tls(config.tls, reactor, config.limits.max_waiting_handshakes)
        self._datagram_ports: dict[str, DatagramPort] = {}
        self._ports: dict[str, PacedPort | EngineAccepting | DatagramPort] = {}
        self._engine: Engine | None = None
        self._dialled: dict[Destination, Dialling] = {}

    # --- life

    def startService(self) -> None:
        """Bind and listen. Raises OSError with the listener's name; nothing listens then."""
        super().startService()
        for config in self._config.listeners:
            try:
                self._listen(config)
            except OSError as error:
                self.stopService()
                place = f"{config.transport} {config.host}:{config.port}"
                raise OSError(error.errno, f"listener {config.name} ({place}): {error.strerror}") from error

    def stopService(self) -> "Deferred[None]":
        """Listen no more, close every connection, and return when all are gone."""
        ports, self._ports = self._ports, {}
        ending: list[Deferred[Any]] = [maybeDeferred(port.stopListening) for port in ports.values()]
        for dialling in tuple(self._dialled.values()):
            dialling.give_up()
        ending.append(self._connections.close_all("shutting down").addCallback(lambda _: self._stop_engine()))
        ending.append(maybeDeferred(super().stopService))
        self.listeners.clear()
        self._datagram_ports.clear()
        return DeferredList(ending).addCallback(lambda _: None)

    def stop_accepting(self) -> None:
        """Take no new connections; those that are open go on, and so do datagrams."""
        for name in self._ports.keys() - self._datagram_ports.keys():
            maybeDeferred(self._ports.pop(name).stopListening).addErrback(
                lambda failure: self._log.failure("a listener did not stop", failure=failure)
            )

    def accept_again(self) -> None:
        """Take new connections where `stop_accepting` has ended that. Raises OSError; it may be called again then."""
        for config in self._config.listeners:
            if config.name in self.listeners and config.name not in self._ports:
                self._listen(evolve(config, port=self.listeners[config.name].local[1]))

    def tell_of_waits(self, tell: Callable[[float, float], None]) -> None:
        """Have `tell` called with how long messages wait to be read, and when, now and then and under load often."""
        self._connections.on_wait = tell

    def flows(self) -> list[Flow]:
        """Return every connection but those with other nodes, some of which may be about to end."""
        return list(self._connections.flows())

    def watch(self, watcher: FlowWatcher) -> None:
        """Tell of every connection with others than nodes that turns out to be of use, and of its end."""
        self._connections.watcher = watcher

    def close_idle(self, most: int, reason: str) -> int:
        """Close up to `most` connections that nobody waits for anything on; return how many such ones are left."""
        idle = [flow for flow in self._connections.flows() if flow.is_open and not flow.holds]
        for flow in idle[:most]:
            flow.close(reason)
        return max(0, len(idle) - most)

    # --- flows

    def flow(self, flow_id: int) -> Flow | None:
        """Return the open connection of this id."""
        return self._connections.find(flow_id)

    def datagram_flow(self, listener_name: str, host: str, port: int) -> Flow | None:
        """Return the flow from a UDP listener to a numeric host; None when there is no such listener or way."""
        listening = self._datagram_ports.get(listener_name)
        if listening is None:
            return None
        try:
            host = numeric_host(host)
        except ValueError:
            return None
        same_family = family_of(host) is family_of(listening.listener.local[0])
        return listening.flow_to(host, port) if same_family else None

    def answer_datagram(self, data: bytes, listener: Listener, address: PackedAddress) -> None:
        """Send `data` back to where a datagram came from, together with others; nothing when the listener is gone."""
        listening = self._datagram_ports.get(listener.name)
        if listening is not None:
            listening.answer(data, address)

    def flow_counts(self) -> dict[str, int]:
        """Return how many connections are open, by transport."""
        return dict(self._connections.by_transport)

    def listener_for(self, transport: str, host: str = "") -> Listener | None:
        """Return the listener of a transport whose address fits what we send to `host` (numeric; empty for any)."""
        fitting = [each for each in self.listeners.values() if each.transport == transport]
        if host:
            fitting = [each for each in fitting if family_of(each.local[0]) is family_of(host)]
            # A socket bound to loopback reaches nobody else, and nobody else's address reaches loopback.
            fitting.sort(key=lambda each: is_loopback(each.local[0]) is not is_loopback(host))
        return fitting[0] if fitting else None

    async def connect(self, transport: str, host: str, port: int, server_name: str | None = None) -> Flow:
        """Return an open flow to a numeric host, opened now or before.

        `server_name` is whom TLS has to find there; the host itself when None. Raises ConnectFailed.
        """
        try:
            host = numeric_host(host)
        except ValueError as error:
            raise ConnectFailed(f"{transport} {host}:{port}: {error}") from None
        if transport == "UDP":
            return self._datagrams_to(host, port)
        came = self._connections.accepted_from(transport, (host, port))
        if came is not None:
            return came
        if transport not in WE_OPEN:
            raise ConnectFailed(f"{transport} {host}:{port}: only clients open such connections")
        name = (server_name or host) if transport in SECURE_TRANSPORTS else None
        return await self._dialling(Destination(transport, host, port, name)).opened()

    # --- the cluster

    def members(self, config: MemberConfig, me: tuple[str, int], key: bytes, lost: Lost) -> Members:
        """Return the way to the other nodes of a cluster; see Members. What comes over it has the same user.

        Raises ValueError when its certificate, key or authority is unusable.
        """
        return Members(self._reactor, self._connections, config, me, key, lost)

    # --- TLS

    @property
    def certificates(self) -> tuple[ShownCertificate, ...]:
        """The certificates that we show now."""
        return self._tls.shown

    def reload_certificates(self) -> None:
        """Read the certificates again; connections from now on get them. Raises ValueError, the old ones stay then."""
        self._tls.reload()

    # --- details

    def _datagrams_to(self, host: str, port: int) -> Flow:
        listener = self.listener_for("UDP", host)
        flow = self.datagram_flow(listener.name, host, port) if listener else None
        if flow is None:
            raise ConnectFailed(f"UDP {host}:{port}: there is no listener of this address family")
        return flow

    def _dialling(self, destination: Destination) -> Dialling:
        dialling = self._dialled.get(destination)
        if dialling is None or dialling.flow.is_ending:
            dialling = self._dialled[destination] = Dialling(
                destination,
                self._connections,
                self.listener_for(destination.transport, destination.host),
                self._config.keepalive,
                self._client_layer(destination),
                self._hung_up,
            )
            dialling.dial(self._reactor)
        return dialling

    def _hung_up(self, dialling: Dialling) -> None:
        if self._dialled.get(dialling.destination) is dialling:
            del self._dialled[dialling.destination]

    def _listen(self, config: ListenerConfig) -> None:
        transport = config.transport.upper()
        opened = datagram_socket(config) if transport == "UDP" else stream_socket(config, self._config.keepalive)
        local = bound_address(opened)
        listener = Listener(
            name=config.name,
            transport=transport,
            host=advertised_host(config),
            port=config.advertise_port or local[1],
            local=local,
        )
        self.listeners[config.name] = listener
        if transport == "UDP":
            port = DatagramPort(self._reactor, opened, listener, self._connections, self._config.engine)
            port.start()
            self._datagram_ports[config.name] = port
            self._ports[config.name] = port
        elif transport == "TCP" and self._config.engine.enabled:
            accepting = EngineAccepting(config, listener, self._started_engine(), opened)
            accepting.start()
            self._ports[config.name] = accepting
        else:
            factory = Accepting(config, listener, self._connections, self._server_layer(transport))
            adopted = self._reactor.adoptStreamPort(opened.fileno(), family_of(config.host), factory)
            self._ports[config.name] = self._paced(adopted, transport)
            opened.close()
        self._log.info(
            "listener {name}: {transport} {host}:{port}",
            name=config.name,
            transport=transport,
            host=local[0],
            port=local[1],
        )
        if has_no_way_out(config):
            self._log.warn("listener {name}: no route leads out of this machine, so peers are told {host}; "
                           "advertise_host says what they are to be told", name=config.name, host=listener.host)

    def _paced(self, port: Any, transport: str) -> PacedPort:
        is_secure = transport in SECURE_TRANSPORTS
        return PacedPort(
            port, self._connections, self._config.engine.max_accepts_per_turn,
            self._config.limits.tls_accept_cost if is_secure else ACCEPT_COST,
            self._tls.is_busy if is_secure else lambda: False, self._reactor)

    def _started_engine(self) -> Engine:
        if self._engine is None:
            self._engine = Engine(self._reactor, self._connections, self._config.engine)
            self._engine.start()
        return self._engine

    def _stop_engine(self) -> None:
        if self._engine is not None:
            self._engine.stop()
            self._engine = None

    def _server_layer(self, transport: str) -> Layer:
        return self._tls.server_side if transport in SECURE_TRANSPORTS else _bare

    def _client_layer(self, destination: Destination) -> Layer:
        if destination.server_name is None:
            return _bare
        try:
            return self._tls.client_side(destination.server_name)
        except ValueError:
            raise ConnectFailed(f"{destination}: {destination.server_name!r} is no server name")


def _bare(protocol: IProtocol) -> IProtocol:
    return protocol
