"""What a balancer shares with registrars and other balancers through Redis: the lease, snapshots, reports."""

from collections.abc import Callable, Sequence
from typing import Any

from balancer.config import BalancerConfig
from balancer.nodes.registry import Nodes
from balancer.present import Present
from balancer.publication import Publication
from balancer.standby import Mastership
from rollcall.cluster.access import make_redis
from rollcall.media.following import Following
from rollcall.media.reports import Report
from rollcall.media.telling import ReportReader, Telling


class Sharing:
    """All of it, started and stopped in order. It is Redis' Watcher."""

    def __init__(self, config: BalancerConfig, reactor: Any, name: str) -> None:
        """`name` is that of this balancer, which no other has. Raises ValueError for unusable certificates."""
        self._config = config
        self._reactor = reactor
        self._name = name
        self.now = reactor.seconds
        self.redis = make_redis(reactor, config.redis, self)
        self.mastership = Mastership(reactor, self.redis, config.standby, name)
        self.telling = Telling(reactor, self.redis, name)
        self.publication: Publication
        self.following: Following
        self.reader: ReportReader

    def join(self, nodes: Nodes, present: Present, heard_of: Callable[[Report], None]) -> None:
        """Join what is published, and who is told what others have heard."""
        self.publication = Publication(
            self._reactor, self.redis, self.mastership, self._config.publication, lambda: nodes.is_settled)
        present.on_snapshot.append(self.publication.offer)
        self.following = Following(self._reactor, self.redis, present.inherit)
        self.reader = ReportReader(self._reactor, self.redis, self._name, heard_of)

    def start(self) -> None:
        """Begin, whether Redis is there or not."""
        self.redis.start()
        self.following.start()
        self.reader.start()
        self.telling.start()
        self.mastership.start()
        self.publication.start()

    async def leave(self) -> None:
        """Publish no more, and give the lease back, so that the standby need not wait for its end."""
        await self.publication.stop()
        await self.mastership.stop()
        await self.telling.stop()
        await self.reader.stop()
        await self.following.stop()

    # --- what Redis says

    def connected(self, server: str, run_id: str, may_have_lost: bool) -> None:
        """See Watcher."""
        self.mastership.hurry()
        self.publication.hurry()
        self.following.hurry()

    def disconnected(self, server: str, why: str) -> None:
        """See Watcher. Each who asks Redis has its own answer."""

    def invalidated(self, keys: Sequence[bytes] | None) -> None:
        """See Watcher. What is read here is asked for again and again."""

    def leases_changed(self) -> None:
        """See Watcher. These are the registrars'."""
