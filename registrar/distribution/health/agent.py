"""Says in one line to whoever connects how many new phones this node wants, as HAProxy's agent-check understands it.

    ready up 75%        serving, with this share of its configured weight
    drain               no new connections, for it drains or cannot serve just now; those that are there go on
    down #why           it has not served yet; directors may end connections to it

HAProxy configuration manual §5.2, agent-check: words in any order, ended by a line feed; what follows "#" is shown to
operators. "ready" undoes a "drain" said before, "up" a "down". `rollcall check-sip` reads the same line for LVS.
Nothing is read: a peer that says nothing, or goes on talking, gets the same line and the end of its connection.
"""

from collections.abc import Callable
from ipaddress import ip_address, ip_network
from socket import IPPROTO_IPV6, IPV6_V6ONLY, SO_REUSEADDR, SO_REUSEPORT, SOCK_STREAM, SOL_SOCKET, socket
from typing import Any

from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import Factory, Protocol
from twisted.logger import Logger

from registrar.distribution.health.config import HealthConfig
from registrar.distribution.health.standing import State
from rollcall.net.listening import family_of

BACKLOG = 64
"""Connections that wait to be accepted; directors ask once a second or so."""

MOST_WORDS = 100
"""So many letters of a reason are told."""


def line(weight: int, state: State) -> bytes:
    """Return what is said of a weight and a state."""
    if state.draining or (state.not_ready and state.has_served):
        return b"drain\n"
    if state.not_ready:
        printable = "".join(letter if " " <= letter <= "~" else " " for letter in state.not_ready)
        return b"down #%b\n" % printable[:MOST_WORDS].encode()
    return b"ready up %d%%\n" % weight


class Agent(Factory):
    """Listens at the places of [health] agent."""

    noisy = False
    _log = Logger()

    def __init__(self, reactor: Any, config: HealthConfig, weight: Callable[[], int], state: Callable[[], State],
                 reuse_port: bool = False) -> None:
        """`weight` and `state` are asked for each answer; with `reuse_port` several processes share the places."""
        self.asked = self.refused = 0
        """Answers given, and connections that got none, since the start; for metrics."""
        self._reactor = reactor
        self._config = config
        self._weight = weight
        self._state = state
        self._reuse_port = reuse_port
        self._networks = [ip_network(network) for network in config.agent_networks]
        # Who comes from an address that is listened at is on this machine, as keepalived beside the registrar is.
        self._own = {place.rpartition(":")[0].strip("[]") for place in config.agent}
        self._open = 0
        self._ports: list[IListeningPort] = []

    def start(self) -> None:
        """Listen. Raises OSError that names the place; nothing listens then."""
        for place in self._config.agent:
            try:
                self._ports.append(self._listen(place))
            except OSError as problem:
                self.stop()
                raise OSError(problem.errno, f"[health] agent {place}: {problem.strerror}") from problem
            self._log.info("the health agent answers at {place}", place=place)

    def stop(self) -> "Deferred[Any]":
        """Listen no more."""
        ports, self._ports = self._ports, []
        return DeferredList([maybeDeferred(port.stopListening) for port in ports])

    def buildProtocol(self, addr: Any) -> "_Saying | None":
        """Answer who may ask; others find their connection closed."""
        if self._open >= self._config.agent_max_connections or not self._is_near(addr.host):
            self.refused += 1
            self._log.info("the health agent does not answer {host}", host=addr.host, log_rationed=True)
            return None
        return _Saying(self)

    # --- for connections

    def opened(self) -> bytes:
        """Count a connection, and return what is said on it."""
        self._open += 1
        self.asked += 1
        return line(self._weight(), self._state())

    def closed(self) -> None:
        """Count its end."""
        self._open -= 1

    # --- details

    def _listen(self, place: str) -> IListeningPort:
        host, _, port = place.rpartition(":")
        host = host.strip("[]")
        family = family_of(host)
        with socket(family, SOCK_STREAM) as listening:
            listening.setblocking(False)
            listening.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)
            if self._reuse_port:
                listening.setsockopt(SOL_SOCKET, SO_REUSEPORT, 1)
            if ":" in host:
                listening.setsockopt(IPPROTO_IPV6, IPV6_V6ONLY, 1)
            listening.bind((host, int(port)))
            listening.listen(BACKLOG)
            adopted: IListeningPort = self._reactor.adoptStreamPort(listening.fileno(), family, self)
            return adopted

    def _is_near(self, host: str) -> bool:
        address = ip_address(host.partition("%")[0])
        return str(address) in self._own or any(address in network for network in self._networks)


class _Saying(Protocol):
    """One answer. It fits into the kernel's buffer, so that a peer that does not read holds nothing here."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent

    def connectionMade(self) -> None:
        """Say the line, and that there is nothing more."""
        assert self.transport is not None
        self.transport.write(self._agent.opened())
        self.transport.loseConnection()

    def connectionLost(self, reason: Any = None) -> None:
        """See Protocol."""
        self._agent.closed()
