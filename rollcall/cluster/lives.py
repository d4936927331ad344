"""What one node knows of the lives of the others, from their leases and from their refusals. Nobody is asked here.

A node is known by its latest life. One that we have only heard of, because a binding names it, lives until its lease
was looked for.
"""

from collections.abc import Callable, Iterable

from attrs import define
from twisted.logger import Logger

from rollcall.cluster.config import ClusterConfig
from rollcall.cluster.nodes import Ended, Lease, Node

Epoch = tuple[str, int]
"""The name of a node, and which life of it."""

MAX_REMEMBERED = 10_000
"""Lives that are over, and lives that we have only heard of: so many of each are remembered."""

LONG_AGO = -1e9


@define(eq=False)
class _Life:
    """What is known of the latest life of a node."""

    node: Node
    ended_at: float | None = None
    assumed_until: float = 0.0
    """Until then it lives although it has no lease."""
    is_unsure: bool = False
    """When its lease was to be read last, nobody answered."""
    refused_at: float = LONG_AGO
    """When it refused a connection last."""
    ignored_until: float = LONG_AGO
    """Until then its lease proves nothing: it was left over."""


class Lives:
    """Which (node, epoch) lives; all times in seconds since the epoch of all clocks."""

    _log = Logger()

    def __init__(self, config: ClusterConfig, me: Callable[[], Node], heard: Callable[[], None]) -> None:
        """`heard` is called when somebody speaks of a life that is not known."""
        self.news: set[Epoch] = set()
        """Which have ended; who tells others takes them away."""
        self._config = config
        self._me = me
        self._heard = heard
        self._name, self._epoch = me().node, me().epoch
        self._living = {self._name: self._epoch}
        self._lives: dict[str, _Life] = {}
        self._over: dict[Epoch, float] = {}
        self._heard_of: dict[Epoch, None] = {}

    # --- what is known

    def is_living(self, node: str, epoch: int) -> bool:
        """Say whether this life of a node goes on."""
        if self._living.get(node) == epoch:
            return True
        latest = self._latest(node)
        if (latest is not None and epoch <= latest.epoch) or (node, epoch) in self._over:
            return False
        if len(self._heard_of) < MAX_REMEMBERED:
            self._heard_of[node, epoch] = None
            self._heard()
        return True

    def ended_at(self, node: str, epoch: int) -> float | None:
        """Return when this life ended, as far as that is known; None when it lives."""
        at = self._over.get((node, epoch))
        if at is not None:
            return at
        # It ended before our time, but not after the beginning of the next life.
        latest = self._latest(node)
        return latest.started_at if latest is not None and epoch < latest.epoch else None

    def nodes(self) -> tuple[Node, ...]:
        """Return all that live, ourselves too, by name."""
        living = [life.node for life in self._lives.values() if life.ended_at is None]
        return tuple(sorted((*living, self._me()), key=lambda node: node.node))

    def node(self, name: str) -> Node | None:
        """Return the life of this node that goes on."""
        return self._latest(name) if name in self._living else None

    @property
    def names(self) -> set[str]:
        """The other nodes whose leases have to be read: those that live, and those that somebody speaks of."""
        return {*self._living, *(name for name, _ in self._heard_of)} - {self._name}

    @property
    def heard_of(self) -> tuple[Epoch, ...]:
        """The lives that somebody speaks of, and that are to be judged when their leases have been read."""
        return tuple(self._heard_of)

    # --- what is learnt

    def learn(self, name: str, lease: Lease | None, now: float) -> None:
        """Take note of what stands in the place of a lease, or that nothing does."""
        life = self._lives.get(name)
        if isinstance(lease, Node):
            self._learn_living(life, lease, now)
        elif isinstance(lease, Ended):
            at = min(lease.ended_at, now)
            if life is not None and life.node.epoch <= lease.epoch:
                self._end(life, at, "has given back its lease, or was declared over")
            self._remember((name, lease.epoch), at)
        elif life is not None and life.ended_at is None:
            if life.is_unsure:
                self._assume(life, now)
            if now >= life.assumed_until:
                self._end(life, now, "has not renewed its lease")

    def judge(self, heard_of: Iterable[Epoch], now: float) -> None:
        """Decide about lives that were only heard of, now that the lease of their node was read."""
        for key in heard_of:
            self._heard_of.pop(key, None)
            latest = self._latest(key[0])
            if latest is None or key[1] > latest.epoch:
                self._remember(key, now)
                self.news.add(key)

    def unsure(self, names: Iterable[str] | None = None) -> None:
        """Take note that leases could not be read, of these or of all: the next that are missing prove nothing yet."""
        for name in self._lives if names is None else names:
            if name in self._lives:
                self._lives[name].is_unsure = True

    def assume(self, now: float) -> None:
        """Take note that Redis is back: a lease that lapses now was perhaps to be renewed while it was away."""
        for life in self._lives.values():
            if life.ended_at is None:
                self._assume(life, now)

    def refused(self, node: str, epoch: int, now: float) -> bool:
        """Take note that a life refuses connections; say whether that was once too often, so that it is over."""
        life = self._goes_on(node, epoch)
        if life is None:
            return False
        if now - life.refused_at > self._config.renew_seconds:
            life.refused_at = now
            return False
        life.ignored_until = now + self._config.lease_seconds
        self._end(life, now, "refuses connections")
        return True

    def replaced(self, node: str, epoch: int, now: float) -> bool:
        """Take note that a later life of a node has proved who it is; say whether that was news."""
        life = self._goes_on(node, epoch)
        if life is None:
            return False
        life.ignored_until = now + self._config.lease_seconds
        self._end(life, now, "was replaced by a later life")
        return True

    # --- details

    def _assume(self, life: _Life, now: float) -> None:
        life.is_unsure = False
        life.assumed_until = now + self._config.lease_seconds + self._config.renew_seconds

    def _goes_on(self, node: str, epoch: int) -> _Life | None:
        life = self._lives.get(node)
        return life if life is not None and life.node.epoch == epoch and life.ended_at is None else None

    def _latest(self, name: str) -> Node | None:
        if name == self._name:
            return self._me()
        life = self._lives.get(name)
        return life.node if life is not None else None

    def _learn_living(self, life: _Life | None, node: Node, now: float) -> None:
        if life is None or node.epoch > life.node.epoch:
            if life is not None:
                self._end(life, min(node.started_at, now), "lives anew")
            self._lives[node.node] = _Life(node)
            self._living[node.node] = node.epoch
            self._log.info("node {node}, epoch {epoch}, is at {host}:{port}", node=node.node, epoch=node.epoch,
                           host=node.host, port=node.port)
        elif node.epoch == life.node.epoch and now >= life.ignored_until:
            life.node, life.is_unsure = node, False
            if life.ended_at is not None:
                life.ended_at = None
                self._living[node.node] = node.epoch
                self._over.pop((node.node, node.epoch), None)
                self._log.warn("node {node}, epoch {epoch}, lives after all", node=node.node, epoch=node.epoch)

    def _end(self, life: _Life, at: float, why: str) -> None:
        if life.ended_at is None:
            life.ended_at = at
            key = life.node.node, life.node.epoch
            del self._living[key[0]]
            self._remember(key, at)
            self.news.add(key)
            self._log.warn("node {node}, epoch {epoch}, has ended: it {why}", node=key[0], epoch=key[1], why=why)

    def _remember(self, key: Epoch, at: float) -> None:
        self._over.setdefault(key, at)
        while len(self._over) > MAX_REMEMBERED:
            del self._over[next(iter(self._over))]
