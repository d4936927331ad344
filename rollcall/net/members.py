"""The internal transport: what the nodes of a cluster say to each other, and nobody else can.

Each node listens for the others. Who connects has to prove that it is a member (see member_handshake), in little time
and few bytes, before anything it says is looked at; from then on the connection carries SIP both ways, for as long as
both nodes live.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.internet.interfaces import IListeningPort, IProtocol
from twisted.internet.protocol import Factory
from twisted.logger import Logger

from rollcall.net.config import ListenerConfig, MemberConfig
from rollcall.net.connection import ConnectionFlow
from rollcall.net.connections import Connections
from rollcall.net.flow import Address, ConnectFailed, Flow, Listener
from rollcall.net.listening import accept_at_most, advertised_host, bound_address, family_of, stream_socket
from rollcall.net.member_flow import MemberFlow, member_limits
from rollcall.net.member_handshake import Admission, Called, Calling, Handshake, Life
from rollcall.net.member_link import CLOSED, KEEPALIVE, REFUSED, REPLACED, TIMED_OUT, UNREACHABLE, Link
from rollcall.net.member_tls import MemberTls
from rollcall.net.tls import Layer

__all__ = ["CLOSED", "REFUSED", "REPLACED", "TIMED_OUT", "UNREACHABLE", "Lost", "Members"]

LISTENER_NAME = "internal"

MAX_ACCEPTS_PER_TURN = 16
"""Members come one by one; who comes in heaps is no member, and must not hold up the phones."""

Lost = Callable[[str, int, str], None]
"""Is told node, epoch and why: CLOSED, REFUSED, TIMED_OUT, UNREACHABLE or REPLACED."""


class Members:
    """The other nodes of a cluster, as far as connections with them go. Nothing is bound before `start`."""

    _log = Logger()

    def __init__(self, reactor: Any, connections: Connections, config: MemberConfig, me: tuple[str, int], key: bytes,
                 lost: Lost) -> None:
        """`me` is our node's name and epoch; `key` is a secret that all nodes share.

        `lost` is called, never from within `flow` or `keep`, whenever a connection of a member ends without our wish,
        or none can be opened. Raises ValueError when a certificate, key or authority is unusable.
        """
        self.reactor = reactor
        self.connections = connections.apart(member_limits(connections.limits, config))
        self.listener: Listener | None = None
        self._config = config
        self._me = Life(*me)
        self._key = key
        self._admission = Admission()
        self._lost_elsewhere: Callable[[str], None] = lambda site: None
        self._lost = lost
        self._tls = MemberTls(config, reactor) if config.tls else None
        self._links: dict[Life, Link] = {}
        self._places: dict[tuple[str, str, int], Link] = {}
        """Links with nodes of other sites that are known by nothing but site, host and port."""
        self._port: IListeningPort | None = None

    # --- life

    def start(self) -> None:
        """Bind and listen; `listener` says then where. Raises OSError with the listener's name."""
        config = self._listener_config()
        try:
            opened = stream_socket(config, KEEPALIVE)
        except OSError as error:
            place = f"{config.transport} {config.host}:{config.port}"
            raise OSError(error.errno, f"listener {config.name} ({place}): {error.strerror}") from error
        local = bound_address(opened)
        self.listener = Listener(name=config.name, transport=self.transport, host=advertised_host(config),
                                 port=local[1], local=local)
        accepting = MemberAccepting(self, self.listener, self._config.max_connections)
        adopted = self.reactor.adoptStreamPort(opened.fileno(), family_of(config.host), accepting)
        accept_at_most(adopted, MAX_ACCEPTS_PER_TURN)
        opened.close()
        self._port = adopted
        self._log.info("listener {name}: {transport} {host}:{port}, for members of the cluster only",
                       name=config.name, transport=self.transport, host=local[0], port=local[1])

    def stop(self) -> Deferred[None]:
        """Listen no more, close every connection, and return when all are gone. Nobody is told of losses."""
        port, self._port = self._port, None
        ending: list[Deferred[Any]] = [] if port is None else [maybeDeferred(port.stopListening)]
        links = [*self._links.values(), *self._places.values()]
        self._links, self._places = {}, {}
        for link in links:
            link.leave("shutting down")
        ending.append(self.connections.close_all("shutting down"))
        return DeferredList(ending).addCallback(lambda _: None)

    def reload_certificates(self) -> None:
        """Read the certificates again; connections from now on get them. Raises ValueError, the old ones stay then."""
        if self._tls is not None:
            self._tls.reload()

    # --- connections

    def join_sites(self, admission: Admission, lost: Callable[[str], None] = lambda site: None) -> None:
        """Know from now on of other sites, and who of them is a member; `lost` hears whose connection has ended."""
        self._admission = admission
        self._lost_elsewhere = lost

    async def flow(self, node: str, epoch: int, host: str, port: int, site: str = "") -> Flow:
        """Return the connection with a life of a member, opened now or before, by either end. Raises ConnectFailed."""
        life = Life(node, epoch, site)
        if self._port is None or node == self._me.node:
            why = "not listening" if self._port is None else "that is this node"
            raise ConnectFailed(f"member {life}: {why}")
        open_flow = self._open_flow(life) if site else None
        if open_flow is not None:
            return open_flow
        link = self._link(life)
        link.address = (host.strip("[]"), port)
        return await link.opened()

    async def reach(self, site: str, host: str, port: int) -> MemberFlow:
        """Return a connection with whatever node of another site is there. Raises ConnectFailed.

        Who it is, and which life of it, has been proven then.
        """
        place = site, host.strip("[]"), port
        if self._port is None:
            raise ConnectFailed(f"site {site}, {host}:{port}: not listening")
        link = self._places.get(place) or self._opened_to(place)
        if link is None:
            link = self._places[place] = Link(Life("", 0, site), self, self._link_lost)
            link.address = place[1:]
        flow = await link.opened()
        assert isinstance(flow, MemberFlow)
        return flow

    def keep(self, nodes: Iterable[tuple[str, int, str, int]]) -> None:
        """See that there is a connection with each of these (node, epoch, host, port), and none with former ones.

        A member that has come to us by itself and was never among them is left alone: it is only known earlier to us.
        """
        if self._port is None:
            return
        wanted = {Life(node, epoch): (host.strip("[]"), port) for node, epoch, host, port in nodes
                  if node != self._me.node}
        for life, link in tuple(self._links.items()):
            if link.is_kept and life not in wanted:
                link.leave("it is no member any more", is_dead=True)
                self._tidy(link)
        for life, address in wanted.items():
            link = self._link(life)
            link.address = address
            link.keep()

    @property
    def connected(self) -> tuple[Life, ...]:
        """The members that there is a connection with."""
        return tuple(life for life, link in self._links.items() if link.flow is not None)

    # --- what connections use, see Means

    @property
    def transport(self) -> str:
        """What members speak to each other: "TCP" or "TLS"."""
        return "TLS" if self._config.tls else "TCP"

    @property
    def client_layer(self) -> Layer:
        """What puts TLS before the protocol of a connection that we open."""
        return self._tls.client_side if self._tls is not None else _bare

    @property
    def server_layer(self) -> Layer:
        """What puts TLS before the protocol of a connection that comes to us."""
        return self._tls.server_side if self._tls is not None else _bare

    def calling(self, wanted: Life) -> Handshake:
        """Return our part of a handshake with a member that we call."""
        return Calling(self._key, self._me, wanted, admission=self._admission)

    def called(self) -> Handshake:
        """Return our part of a handshake with who calls us."""
        return Called(self._key, self._me, admission=self._admission)

    def came(self, flow: MemberFlow) -> None:
        """Take note of a member's connection; it ends what was left of the node's earlier lives."""
        self._link(flow.life).came(flow)
        for link in [link for life, link in self._links.items() if life.is_before(flow.life)]:
            link.leave(f"replaced by {flow.life}", is_dead=True)
            self._tidy(link)
            self._tell(link, REPLACED)

    def went(self, flow: MemberFlow, reason: str) -> None:
        """Take note that it has ended."""
        link = self._links.get(flow.life)
        if link is not None:
            link.ended(flow, reason)

    # --- details

    def _open_flow(self, life: Life) -> MemberFlow | None:
        """Return any open connection with a life: a second one would have it close the first."""
        links = [self._links.get(life), *self._places.values()]
        flows = [link.flow for link in links if link is not None and link.flow is not None]
        return next((flow for flow in flows if flow.life == life), None)

    def _opened_to(self, place: tuple[str, str, int]) -> Link | None:
        """Return the link with a known life at a place, if it has or gets a connection."""
        for link in self._links.values():
            if (link.life.site, *link.address) == place and not link.is_over:
                return link
        return None

    def _link(self, life: Life) -> Link:
        link = self._links.get(life)
        if link is None:
            link = self._links[life] = Link(life, self, self._link_lost)
        return link

    def _link_lost(self, link: Link, why: str) -> None:
        self._tidy(link)
        if why:
            self._tell(link, why)

    def _tell(self, link: Link, why: str) -> None:
        # Which nodes of another site live is that site's business.
        if not link.life.site:
            self._lost(link.life.node, link.life.epoch, why)
        elif why == CLOSED:
            self._lost_elsewhere(link.life.site)

    def _tidy(self, link: Link) -> None:
        if link.is_over and self._links.get(link.life) is link:
            del self._links[link.life]
        place = link.life.site, *link.address
        if link.is_over and self._places.get(place) is link:
            del self._places[place]

    def _listener_config(self) -> ListenerConfig:
        config = self._config
        return ListenerConfig(name=LISTENER_NAME, transport="tls" if config.tls else "tcp", host=config.host,
                              port=config.port, advertise_host=config.advertise_host)


class MemberAccepting(Factory):
    """Connections that come to the internal listener; see Origin."""

    noisy = False
    _log = Logger()

    def __init__(self, members: Members, listener: Listener, max_connections: int) -> None:
        self.connections = members.connections
        self.transport = listener.transport
        self.listener = listener
        self.open = 0
        self._members = members
        self._max_connections = max_connections
        # In the order they came.
        self._unproven: dict[ConnectionFlow, None] = {}

    def buildProtocol(self, addr: Any) -> Any:
        """Return what speaks on a new connection; None refuses it."""
        if self.open >= self._max_connections and not self._make_room():
            self.connections.tallies.refused_full += 1
            self._log.warn("the internal listener is full: {peer} refused", peer=addr.host, log_rationed=True)
            return None
        self.open += 1
        flow = MemberFlow(self, _address(addr), self._members.called())
        self._unproven[flow] = None
        return self._members.server_layer(flow)

    def ready(self, flow: ConnectionFlow) -> None:
        """See Origin."""
        assert isinstance(flow, MemberFlow)
        self._unproven.pop(flow, None)
        self.connections.ready(flow, accepted=True)
        self._members.came(flow)

    def time_limit(self) -> float | None:
        """Who has proven to be a member is no stranger."""
        return None

    def lost(self, flow: ConnectionFlow, reason: str) -> None:
        """See Origin."""
        assert isinstance(flow, MemberFlow)
        self.open -= 1
        self._unproven.pop(flow, None)
        self.connections.lost(flow, reason)
        if flow.id:
            self._members.went(flow, reason)
        else:
            self.connections.tallies.members_refused += 1
            self._log.warn("{peer} did not prove to be a member of the cluster: {reason}", peer=flow.peer,
                           reason=reason, log_rationed=True)

    def _make_room(self) -> bool:
        """Close who has been here longest without proving anything: members take milliseconds for that."""
        oldest = next(iter(self._unproven), None)
        if oldest is None:
            return False
        del self._unproven[oldest]
        oldest.close("others came")
        return True


def _address(addr: Any) -> Address:
    return addr.host, addr.port


def _bare(protocol: IProtocol) -> IProtocol:
    return protocol
