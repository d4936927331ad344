"""The sockets that reports come to: HEP over UDP and TCP, and plain RTCP."""

import socket
from collections.abc import Callable
from functools import partial
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import DeferredList, maybeDeferred
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import DatagramProtocol, Factory, Protocol
from twisted.logger import Logger
from twisted.protocols.policies import TimeoutMixin
from twisted.python.failure import Failure

from balancer.ingest.config import IngestConfig
from balancer.ingest.hep import HepError, HepFramer
from balancer.ingest.intake import Intake
from balancer.ingest.reading import Outcome
from rollcall.net.config import KeepaliveConfig
from rollcall.net.listening import watch_idle

DATAGRAM_BYTES = 65_535
RECEIVE_BYTES = 4 * 1024 * 1024
"""What the kernel may keep for us while a turn of the reactor lasts: some 5,000 packets. It gives less when
net.core.rmem_max is less."""

KEEPALIVE = KeepaliveConfig(idle=60, interval=15, probes=4)
"""A node whose host has died, or was cut off, is noticed within two minutes; one that has nothing to say stays."""


class Datagrams(DatagramProtocol):
    """Hands on each datagram with the host that it came from."""

    _log = Logger()

    def __init__(self, take: Callable[[bytes, str], None]) -> None:
        self._take = take

    def datagramReceived(self, data: bytes, addr: Any) -> None:
        try:
            self._take(data, addr[0])
        except Exception:
            self._log.failure("a report from {host} broke us", host=addr[0], log_rationed=True)


class HepConnection(Protocol, TimeoutMixin):
    """One connection of a media node or capture agent."""

    _log = Logger()

    def __init__(self, factory: "HepConnections", host: str) -> None:
        self._connections = factory
        self._framer = HepFramer()
        self._host = host

    def connectionMade(self) -> None:
        self._connections.add(self)
        self.setTimeout(self._connections.idle_seconds)

    def dataReceived(self, data: bytes) -> None:
        self.resetTimeout()
        self._connections.touch(self)
        intake = self._connections.intake
        try:
            for packet in self._framer.feed(data):
                intake.hep(packet, self._host, "hep_tcp")
        except HepError as problem:
            intake.refuse(Outcome.MALFORMED, "hep_tcp", self._host, str(problem))
            self.close()
        except Exception:
            self._log.failure("a report from {host} broke us", host=self._host, log_rationed=True)

    def connectionLost(self, reason: Failure | None = None) -> None:
        self.setTimeout(None)
        self._connections.drop(self)

    def timeoutConnection(self) -> None:
        self.close()

    def close(self) -> None:
        """End it at once: nothing that we would have to send is under way."""
        self.transport.abortConnection()  # type: ignore[union-attr]

    def callLater(self, period: float, function: Callable[[], None]) -> Any:
        """Have the time of the factory's reactor, as TimeoutMixin allows."""
        return self._connections.reactor.callLater(period, function)


class HepConnections(Factory):
    """All connections, so that there are never too many; strangers get none."""

    noisy = False

    def __init__(self, reactor: Any, config: IngestConfig, intake: Intake) -> None:
        self.reactor = reactor
        self.intake = intake
        self.idle_seconds = config.idle_seconds
        self._most = config.max_connections
        # The one that was silent for longest comes first.
        self._open: dict[HepConnection, None] = {}

    def __len__(self) -> int:
        return len(self._open)

    def buildProtocol(self, addr: IAddress | None) -> HepConnection | None:
        host = str(getattr(addr, "host", "")).removeprefix("::ffff:")
        if not self.intake.knows(host):
            self.intake.refuse(Outcome.STRANGER, "hep_tcp", host)
            return None
        return HepConnection(self, host)

    def add(self, connection: HepConnection) -> None:
        if len(self._open) >= self._most:
            next(iter(self._open)).close()
        self._open[connection] = None

    def touch(self, connection: HepConnection) -> None:
        self._open.pop(connection, None)
        self._open[connection] = None

    def drop(self, connection: HepConnection) -> None:
        self._open.pop(connection, None)

    def close_all(self) -> None:
        for connection in list(self._open):
            connection.close()


class IngestListeners(Service):
    """Listens from startService to stopService."""

    _log = Logger()

    def __init__(self, reactor: Any, config: IngestConfig, intake: Intake) -> None:
        self.connections = HepConnections(reactor, config, intake)
        self._reactor = reactor
        self._config = config
        self._intake = intake
        self._ports: list[Any] = []

    def startService(self) -> None:
        super().startService()
        for address in self._config.hep_udp:
            self._listen_udp(address, partial(self._intake.hep, way="hep_udp"))
        for listener in self._config.rtcp:
            self._listen_udp(listener.address, partial(self._intake.rtcp, listener=listener))
        for address in self._config.hep_tcp:
            host, port = _host_and_port(address)
            listening = self._reactor.listenTCP(port, self.connections, interface=host)
            # Connections have what their listening socket has.
            watch_idle(listening.socket, KEEPALIVE)
            self._ports.append(listening)
            self._log.info("reports are taken over TCP at {address}", address=address)

    def stopService(self) -> Any:
        super().stopService()
        self.connections.close_all()
        ports, self._ports = self._ports, []
        return DeferredList([maybeDeferred(port.stopListening) for port in ports], consumeErrors=True)

    def _listen_udp(self, address: str, take: Callable[[bytes, str], None]) -> None:
        host, port = _host_and_port(address)
        listening = self._reactor.listenUDP(port, Datagrams(take), interface=host, maxPacketSize=DATAGRAM_BYTES)
        listening.getHandle().setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)
        self._ports.append(listening)
        self._log.info("reports are taken over UDP at {address}", address=address)


def _host_and_port(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)
