"""What a registrar has that shares its bindings with others by Redis: lease, other nodes, store. Joined here."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from twisted.logger import Logger

from registrar.config import RegistrarConfig
from registrar.distribution.health.room import room
from registrar.draining import Draining
from registrar.keys import derive
from registrar.location.changes import Changes
from registrar.location.janitor import Janitor
from registrar.location.journal import Journal
from registrar.location.redis import EMPTY_SECONDS, RedisLocation
from registrar.location.writer import WriterThread
from registrar.workers.messages import Member
from rollcall.cluster.access import make_redis
from rollcall.cluster.epochs import next_epoch, remember_epoch
from rollcall.cluster.leases import Leases
from rollcall.cluster.nodes import Node
from rollcall.cluster.own_lease import CannotJoin
from rollcall.net.config import MemberConfig
from rollcall.net.flow import ConnectFailed, Flow
from rollcall.net.transports import Transports
from rollcall.net.wheel import TimerWheel


def this_life(config: RegistrarConfig, now: float, index: int = 0) -> Member:
    """Return which node this process is, worker `index` of several or the only one, and which life of it."""
    node = f"{config.registrar.node}-{index}" if index else config.registrar.node
    if config.location.kind != "redis":
        return Member(index, node, int(now * 1000))
    config.registrar.data_dir.mkdir(parents=True, exist_ok=True)
    return Member(index, node, next_epoch(epoch_file(config, node), now))


def epoch_file(config: RegistrarConfig, node: str) -> Path:
    """Return where it is kept which lives a node has had."""
    return config.registrar.data_dir / f"{node}.epoch"


def faces(transports: Transports) -> dict[str, str]:
    """Return what phones are told to reach each listener by."""
    return {each.name: f"{each.host}:{each.port}" for each in transports.listeners.values()}


class Listener(Protocol):
    """Keeps something else in Redis beside bindings, and is told what Redis says."""

    def connected(self) -> None:
        """A server can be asked from now on; what was known of Redis' keys may be old."""

    def changed(self, keys: Sequence[bytes] | None) -> None:
        """Somebody else has changed these keys; None: any key may have changed."""


class Clustering:
    """The part that one node has in a cluster, from its lease to its end. It is Redis' Watcher."""

    _log = Logger()

    def __init__(self, config: RegistrarConfig, reactor: Any, wheel: TimerWheel, me: Member, changes: Changes,
                 release_flow: Callable[[int, bytes], None], ended: Callable[[str], None]) -> None:
        """`release_flow` lets go of a connection of ours that a record has nothing more on.

        `ended` is told why this process has to end: its life was declared over, and what it does counts no more.
        """
        self._config = config
        self._reactor = reactor
        self._me = me
        self._ended = ended
        self._started_at = reactor.seconds()
        location = config.location
        journal = Journal(str(self._journal_file()), WriterThread(reactor, "journal"), location.max_journal_writes,
                          location.max_journal_bytes)
        self.location = RedisLocation(
            wheel=wheel, wall=reactor.seconds, journal=journal, max_contacts=config.bindings.max_contacts,
            max_waiting=location.max_waiting, max_records=location.max_records,
            max_journal_writes=location.max_journal_writes, journals=location.when_unavailable == "journal",
            slow_seconds=location.slow_seconds, node=me.node, epoch=me.epoch, release_flow=release_flow,
            changes=changes, one_contact_per_instance=config.bindings.one_contact_per_instance,
            empty_seconds=max(EMPTY_SECONDS, config.cluster.reconnect_wait))
        self.redis = make_redis(reactor, config.redis, self)
        self.listeners: list[Listener] = []
        self.weight: Callable[[], int] = lambda: 100
        self.location.use(self.redis)

    def serve(self, transports: Transports, secret: bytes, draining: Draining) -> None:
        """Join the transports. Raises ValueError when a certificate, key or authority of [cluster] is unusable."""
        self._transports = transports
        self._draining = draining
        self.members = transports.members(
            self._member_config(), (self._me.node, self._me.epoch), derive(secret, "members"),
            self._lost)
        self.leases = Leases(
            self._reactor, self.redis, self._config.cluster, self._node, self._reactor.seconds, self._is_over)
        self.leases.on_nodes.append(self._keep_members)
        self.leases.on_wish.append(draining.wish)
        draining.on_change.append(lambda drained: self.leases.announce())
        self.janitor = Janitor(
            self._reactor, self.redis, self.leases, self._config.cluster, (self._me.node, self._me.epoch),
            self._reactor.seconds, lambda key: self.location.invalidated((key,)))
        self.leases.on_change.append(self.janitor.ended)

    async def start(self) -> None:
        """Be a member, before any phone is let in. Raises CannotJoin, LocationUnavailable and OSError."""
        self.members.start()
        self.redis.start()
        try:
            await self.leases.start()
        except CannotJoin as problem:
            if problem.greatest_epoch:
                remember_epoch(epoch_file(self._config, self._me.node), problem.greatest_epoch)
            raise
        await self.location.start()
        self.janitor.start()
        self._keep_members()

    def listening(self) -> None:
        """Tell the others what our phones are told to reach us by, now that it is bound."""
        self.leases.announce()

    async def stop(self) -> None:
        """Leave, once no phone is here any more: give the lease back, write what was accepted, then close all."""
        self.janitor.stop()
        await self.leases.stop()
        await self.location.stop()
        await self.members.stop()
        await self.redis.stop()

    def reload_certificates(self) -> None:
        """Read the certificates of the internal listener again. Raises ValueError, the old ones stay then."""
        self.members.reload_certificates()

    async def flow_to(self, node: str, epoch: int) -> Flow:
        """Return the connection with a life of a node. Raises ConnectFailed."""
        known = self.leases.node(node)
        if known is None or known.epoch != epoch:
            raise ConnectFailed(f"the node {node} is not there any more")
        return await self.members.flow(node, epoch, known.host, known.port)

    # --- what Redis says

    def connected(self, server: str, run_id: str, may_have_lost: bool) -> None:
        """See Watcher."""
        self.leases.redis_connected()
        self.location.connected(server, run_id, may_have_lost)
        for listener in self.listeners:
            listener.connected()

    def disconnected(self, server: str, why: str) -> None:
        """See Watcher."""
        self.location.disconnected(server, why)

    def invalidated(self, keys: Sequence[bytes] | None) -> None:
        """See Watcher."""
        if keys is None:
            self.leases.redis_connected()
        self.location.invalidated(keys)
        for listener in self.listeners:
            listener.changed(keys)

    def leases_changed(self) -> None:
        """See Watcher."""
        self.leases.leases_changed()

    # --- details

    def _node(self) -> Node:
        """Return what our lease says of us now."""
        cluster, listener = self._config.cluster, self.members.listener
        told = cluster.internal_advertise_host or cluster.internal_host
        return Node(
            node=self._me.node, epoch=self._me.epoch, started_at=self._started_at, draining=self._draining.is_draining,
            host=listener.host.strip("[]") if listener is not None else told,
            port=listener.port if listener is not None else self._internal_port, tls=cluster.internal_tls,
            faces=faces(self._transports),
            admin=self._config.admin.url, of=self._config.registrar.node if self._me.index else "",
            site=cluster.site, capacity=room(cluster.capacity),
            connections=sum(self._transports.flow_counts().values()), weight=self.weight())

    def _lost(self, node: str, epoch: int, why: str) -> None:
        self.leases.suspect(node, epoch, why)

    def _keep_members(self) -> None:
        # Who proves to be a later life of a node ends the one before. That may only who has the node's lease.
        if self.leases.is_member:
            self.members.keep([(node.node, node.epoch, node.host, node.port) for node in self.leases.nodes()])

    def _is_over(self) -> None:
        self._ended("this life of the node was declared over while it did not renew its lease")

    @property
    def _internal_port(self) -> int:
        port = self._config.cluster.internal_port
        return port and port + max(0, self._me.index - 1)

    def _member_config(self) -> MemberConfig:
        cluster = self._config.cluster
        return MemberConfig(
            host=cluster.internal_host, port=self._internal_port, advertise_host=cluster.internal_advertise_host,
            tls=cluster.internal_tls, certificate_file=cluster.internal_certificate_file,
            key_file=cluster.internal_key_file, authority_file=cluster.internal_authority_file,
            handshake_seconds=cluster.handshake_seconds, max_connections=cluster.max_internal_connections)

    def _journal_file(self) -> Path:
        file = self._config.path(self._config.location.journal_file, "location.journal")
        return file.with_name(f"{file.name}.{self._me.index}") if self._me.index else file
