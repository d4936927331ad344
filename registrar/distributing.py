"""What a registrar has so that phones find it, leave it in time and come back: joined here, started and stopped.

Every part is there for itself; what they agree about is the weight of this node and the leases of all nodes.
"""

from collections.abc import Callable, Sequence
from typing import Any

from attrs import frozen

from registrar.clustering import Clustering
from registrar.config import RegistrarConfig
from registrar.distribution.health.agent import Agent
from registrar.distribution.health.observing import watch_agent, watch_weight
from registrar.distribution.health.standing import Standing
from registrar.distribution.health.weight import Weight
from registrar.draining import Draining
from registrar.workers.messages import Member
from rollcall.cluster.nodes import Node
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
    draining: Draining
    clustering: Clustering | None
    this: Callable[[], Node]
    """What there is to say of this node where there are no leases."""


class Distribution:
    """All of it, for one process."""

    def __init__(self, config: RegistrarConfig, around: Around) -> None:
        """Raises ValueError when a file of the configuration cannot be used."""
        self._clustering = around.clustering
        self._transports = around.transports
        self.standing = Standing(
            around.wheel, Weight(config.cluster.capacity, config.health.weight_step), self.connections,
            lambda: around.draining.is_draining, self._nodes_with_leases, around.me.node,
            config.registrar.node if around.me.index else "")
        if around.clustering is not None:
            around.clustering.weight = self.standing.weight
            self.standing.on_change.append(around.clustering.leases.announce)
        self._agent = Agent(around.reactor, config.health, self.standing.machine_weight, self.standing.machine_state,
                            reuse_port=config.registrar.workers > 1)

    def connections(self) -> int:
        """Return how many connections of phones there are here."""
        return sum(self._transports.flow_counts().values())

    def watch(self, metrics: Metrics, routes: Routes) -> None:
        """Let operators see all of it."""
        watch_weight(metrics, self.standing.weight)
        watch_agent(metrics, self._agent)

    def start(self) -> None:
        """Begin, once phones are listened for. Raises OSError that names the place that cannot be listened at."""
        self._agent.start()
        self.standing.start()

    async def stop(self) -> None:
        """End, before any phone is left alone."""
        self.standing.stop()
        await self._agent.stop()

    def _nodes_with_leases(self) -> Sequence[Node]:
        return self._clustering.leases.nodes() if self._clustering is not None else ()
