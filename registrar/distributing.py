"""What a registrar has so that phones find it, leave it in time and come back: joined here, started and stopped.

Every part is there for itself; what they agree about is the weight of this node and the leases of all nodes.
"""

from collections.abc import Callable, Sequence, Set
from typing import Any

from attrs import frozen

from registrar.clustering import Clustering
from registrar.config import RegistrarConfig
from registrar.distribution.dns.keeping import Keeping
from registrar.distribution.dns.listing import DnsListed, watch_keeping
from registrar.distribution.dns.observing import watch_dns
from registrar.distribution.dns.serials import Serials
from registrar.distribution.dns.server import DnsServer
from registrar.distribution.health.agent import Agent
from registrar.distribution.health.observing import watch_agent, watch_weight
from registrar.distribution.health.room import room, warn_when_short
from registrar.distribution.health.standing import Standing
from registrar.distribution.health.weight import Weight
from registrar.distribution.observing import watch_rebalancing
from registrar.distribution.rebalancing import Around as Moving
from registrar.distribution.rebalancing import Rebalancing
from registrar.distribution.tickle.tickling import Tickling
from registrar.draining import Draining
from registrar.location.at_once import Location
from registrar.workers.messages import Member
from rollcall.cluster.nodes import Node
from rollcall.cluster.sites import Sites
from rollcall.media.access import AccessGroups
from rollcall.net.flow import Flow
from rollcall.net.transports import Transports
from rollcall.net.wheel import TimerWheel
from rollcall.ops.api import Routes
from rollcall.ops.metrics import Metrics


@frozen(kw_only=True)
class Around:
    """What these parts stand on."""

    reactor: Any
    wheel: TimerWheel
    me: Member
    transports: Transports
    location: Location
    draining: Draining
    waited_on: Callable[[], Set[Flow]]
    """Gives the connections on which somebody waits for an answer."""
    clustering: Clustering | None
    sites: Sites
    access: AccessGroups | None
    """Whose network an address is in, where that is known already."""
    rate: Callable[[], float]
    """How many REGISTERs this process can take in a second; 0 while it wants nobody."""


class NameServing:
    """The name server, and what keeps its answers true."""

    def __init__(self, config: RegistrarConfig, around: Around) -> None:
        """Raises ValueError when a file of [access] cannot be used."""
        self._around = around
        self._access = around.access or AccessGroups(config.access)
        self._is_ours = around.access is None
        has_workers, index = config.registrar.workers > 1, around.me.index
        self._server = DnsServer(around.reactor, config.dns, shared=has_workers, notifies=index <= 1)
        self._keeping = Keeping(
            around.reactor, config.dns, config.zones, around.sites, self._access.group,
            Serials(config.path(None, "dns.serial")), self._server.publish, config.cluster.capacity)

    def watch(self, metrics: Metrics, routes: Routes) -> None:
        """Let operators see it."""
        watch_dns(metrics, self._server)
        watch_keeping(metrics, self._keeping)
        DnsListed(self._keeping, self._around.sites, self._access.group, self._around.reactor.seconds).mount(routes)

    def start(self) -> None:
        """Make the first answers, then listen. Raises OSError that names the place."""
        self._keeping.start()
        self._server.start()

    def reload(self) -> None:
        """Read the files of [access] again. Raises ValueError, and all stays as it was then."""
        if self._is_ours:
            self._access.reload()
        self._keeping.reload()

    async def stop(self) -> None:
        """Answer no more."""
        self._keeping.stop()
        await self._server.stop()


class Distribution:
    """All of it, for one process."""

    def __init__(self, config: RegistrarConfig, around: Around) -> None:
        """Raises ValueError when a file of the configuration cannot be used."""
        self._clustering = around.clustering
        self._capacity = config.cluster.capacity
        self._transports = around.transports
        self.standing = Standing(
            around.wheel, Weight(room(config.cluster.capacity), config.health.weight_step), self.connections,
            lambda: around.draining.is_draining, self._nodes_with_leases, around.me.node,
            config.registrar.node if around.me.index else "")
        if around.clustering is not None:
            around.clustering.weight = self.standing.weight
            self.standing.on_change.append(around.clustering.leases.announce)
        self._agent_is_asked = bool(config.health.agent)
        self._agent = Agent(around.reactor, config.health, self.standing.machine_weight, self.standing.machine_state,
                            reuse_port=config.registrar.workers > 1)
        self._naming = NameServing(config, around) if config.dns.listen else None
        self._tickling: Tickling | None = None
        if around.clustering is not None and config.tickle.enabled:
            self._tickling = _tickling(config, around, around.clustering)
        self._rebalancing: Rebalancing | None = None
        if around.clustering is not None:
            self._rebalancing = rebalancing = _rebalancing(config, around, around.clustering)
            self.standing.gives_away = lambda: rebalancing.is_closing

    def connections(self) -> int:
        """Return how many connections of phones there are here."""
        return sum(self._transports.flow_counts().values())

    def watch(self, metrics: Metrics, routes: Routes) -> None:
        """Let operators see all of it."""
        watch_weight(metrics, self.standing.weight)
        watch_agent(metrics, self._agent)
        if self._naming is not None:
            self._naming.watch(metrics, routes)
        if self._tickling is not None:
            self._tickling.watch(metrics)
        if self._rebalancing is not None:
            watch_rebalancing(metrics, self._rebalancing)

    def start(self) -> None:
        """Begin, once phones are listened for. Raises OSError that names the place that cannot be listened at."""
        if self._clustering is not None or self._naming is not None or self._agent_is_asked:
            warn_when_short(self._capacity)  # somebody goes by it
        # First, for phones that are woken come at once.
        if self._tickling is not None:
            self._tickling.start()
        self._agent.start()
        if self._naming is not None:
            self._naming.start()
        self.standing.start()
        if self._rebalancing is not None:
            self._rebalancing.start()

    def reload(self) -> None:
        """Read files again that may have changed. Raises ValueError, and all stays as it was then."""
        if self._naming is not None:
            self._naming.reload()

    async def stop(self) -> None:
        """End, before any phone is left alone."""
        if self._rebalancing is not None:
            self._rebalancing.stop()
        self.standing.stop()
        await self._agent.stop()
        if self._naming is not None:
            await self._naming.stop()
        if self._tickling is not None:
            await self._tickling.stop()

    def _nodes_with_leases(self) -> Sequence[Node]:
        """Return what leases say now: while Redis is away they are old, and each worker answers for itself."""
        clustering = self._clustering
        return () if clustering is None or clustering.redis.problem is not None else clustering.leases.nodes()


def _tickling(config: RegistrarConfig, around: Around, clustering: Clustering) -> Tickling:
    me = around.me
    tickling = Tickling(
        around.reactor, config.tickle, clustering.redis, clustering.leases, around.transports, (me.node, me.epoch),
        config.registrar.node if me.index else "", around.rate)
    clustering.listeners.append(tickling)
    return tickling


def _rebalancing(config: RegistrarConfig, around: Around, clustering: Clustering) -> Rebalancing:
    me = around.me
    return Rebalancing(Moving(
        wheel=around.wheel, transports=around.transports, location=around.location, waited_on=around.waited_on,
        cluster=clustering.leases, redis_problem=lambda: clustering.redis.problem, node=me.node, epoch=me.epoch,
        site=config.cluster.site, now=around.reactor.seconds), config.rebalance)
