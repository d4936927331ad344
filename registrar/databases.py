"""What a registrar has in databases: users and what is remembered of them, aliases, domains, records of calls.

Joined here, and started and stopped in order. No MySQL that is away keeps a registrar from starting or from living.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.threads import deferToThreadPool

from registrar.calls.records import CallRecords
from registrar.calls.spool import Spool
from registrar.clustering import Clustering
from registrar.config import RegistrarConfig
from registrar.directory.directory import Directory
from registrar.directory.observing import watch_directory
from registrar.directory.reaching import MysqlTables, SqliteTables
from registrar.diverting import Diverting, watch_diverting
from registrar.keys import derive
from registrar.observing import Observing
from registrar.observing_calls import CallNotes, watch_calls
from registrar.observing_sql import watch_sql
from registrar.observing_subscribers import watch_subscribers
from registrar.routing import Domains
from registrar.subscribers.announcing import fresh_seconds
from registrar.subscribers.mysql import MysqlSource
from registrar.subscribers.sealing import key_from
from registrar.subscribers.shared import SharedCache
from registrar.subscribers.sqlite import SqliteSource
from registrar.subscribers.store import CachedSubscribers
from rollcall.ops.metrics import Metrics
from rollcall.sql.servers import Servers


class Databases:
    """All of it, for one process."""

    def __init__(self, config: RegistrarConfig, reactor: Any, domains: Domains, observing: Observing, node: str,
                 secret: bytes, clustering: Clustering | None) -> None:
        """`node` is the name of this process among those that share a data directory."""
        self._config = config
        self._reactor = reactor
        self._file = config.path(config.database.file, "rollcall.sqlite")
        self.servers: Servers | None = None
        self.shared: SharedCache | None = None
        if config.subscribers.kind == "mysql":
            self.servers = Servers(reactor, config.mysql, observing.of_store("mysql"))
            self.subscribers = self._in_mysql(self.servers, domains, secret, clustering)
        else:
            self.subscribers = self._in_file(observing)
        tables = MysqlTables(self.servers) if self.servers is not None else SqliteTables(reactor, self._file)
        self.directory = Directory(reactor, tables, config.database, domains, config.path(None, "domains.json"))
        self.diverting = Diverting(self.directory, domains, config.proxy)
        self.calls: CallRecords | None = None
        self.notes: CallNotes | None = None
        if config.calls.records:
            self.calls = self._records(node)
            self.notes = CallNotes(self.calls.record, node, reactor.seconds)

    def watch(self, metrics: Metrics) -> None:
        """Let operators see all of it."""
        watch_subscribers(metrics, self.subscribers, self.shared)
        watch_directory(metrics, self.directory)
        watch_diverting(metrics, self.diverting)
        if self.servers is not None:
            watch_sql(metrics, self.servers)
        if self.calls is not None:
            watch_calls(metrics, self.calls)

    def place_calls(self, node_of_call: Callable[[str], str]) -> None:
        """Have records say which media node a call went through: the function returns it for a Call-ID, or nothing."""
        if self.notes is not None:
            self.notes.node_of_call = node_of_call

    async def start(self) -> None:
        """Make ready to answer, before any phone is let in. Raises StoreUnavailable, DatabaseProblem and OSError."""
        if self.servers is not None:
            self.servers.start()
        elif self.calls is not None or self._file.exists():
            await deferToThreadPool(self._reactor, self._reactor.getThreadPool(), _upgrade, self._file)
        await self.subscribers.start()
        await self.directory.start()
        if self.calls is not None:
            self.calls.start()

    async def stop(self) -> None:
        """Let go of everything, once no phone is here any more; what was recorded is written, or lies on disk."""
        if self.calls is not None:
            await self.calls.stop()
        await self.directory.stop()
        await self.subscribers.stop()
        if self.servers is not None:
            await self.servers.stop()

    # --- how

    def _in_file(self, observing: Observing) -> CachedSubscribers:
        config = self._config.subscribers
        path = self._config.path(config.file, "subscribers.sqlite")
        source = SqliteSource(self._reactor, path, config, observe=observing.of_store("subscribers"))
        # Nodes may have files that differ: they tell each other nothing.
        return CachedSubscribers(self._reactor, source, config, warms_up=config.warm_up)

    def _in_mysql(self, servers: Servers, domains: Domains, secret: bytes,
                  clustering: Clustering | None) -> CachedSubscribers:
        config, seconds = self._config.subscribers, fresh_seconds(self._config.mysql)
        if clustering is not None:
            key = key_from(config.cache_key) if config.cache_key else derive(secret, "subscriber cache")
            self.shared = SharedCache(
                self._reactor, clustering.redis, key, max(config.stale_seconds, config.cache_seconds), seconds)
        subscribers = CachedSubscribers(
            self._reactor, MysqlSource(servers, config), config, shared=self.shared, fresh_seconds=seconds,
            warms_up=config.warm_up, domains=None if config.use_domain else lambda: domains.names)
        if clustering is not None and self.shared is not None:
            clustering.listeners.append(self.shared)
        return subscribers

    def _records(self, node: str) -> CallRecords:
        # SQLAlchemy takes memory, and a while to import: only who keeps records has it.
        from registrar.calls.writing import CallWriter

        config = self._config.calls
        folder = self._config.path(config.spool_dir, "calls")
        spool = Spool(folder, config.max_spool_bytes, owner=node)
        writer = CallWriter(spool, self._make_engine(), config, self._reactor.seconds)
        return CallRecords(self._reactor, config, spool, writer, self._reactor.seconds)

    def _make_engine(self) -> Callable[[], Any]:
        """Return what gives an engine for where writes go now; another thread calls it."""
        from registrar.database.engines import engine_of

        servers = self.servers
        if servers is None:
            return lambda: engine_of(self._file, kept=1)
        return lambda: engine_of(self._config.mysql, servers.writer, kept=1)


def _upgrade(file: Path) -> None:
    """Bring our own tables in a file to what this version wants."""
    from registrar.database.engines import engine_of
    from registrar.database.upgrading import upgrade

    upgrade(engine_of(file, make=True))
