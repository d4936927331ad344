"""What the tests of MySQL access share: real servers for a class, a client in this process, and who answered."""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from rollcall.sql.config import MysqlConfig
from rollcall.sql.connecting import Connection
from rollcall.sql.contract import ServerState
from rollcall.sql.servers import Servers
from tools.laboratory.mariadb_process import MariadbProcess
from tools.laboratory.mariadb_servers import Kind, MariadbServers

reactor: Any = global_reactor

POLL_SECONDS = 0.02
PATIENCE_SECONDS = 20.0
# Short, so that a server that hangs is noticed within a test; all else answers within milliseconds.
TIMES = {"connect_seconds": 0.5, "timeout_seconds": 0.5, "check_seconds": 0.2}
LIMIT_SECONDS = 1.5
"""When each caller has heard something, with TIMES."""
SOON_SECONDS = 0.3
"""An answer of a server that is well, on a machine that does other things, too."""


def port(connection: Connection) -> int:
    """Return who answers."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT @@port")
        return int(cursor.fetchone()[0])


def running(sql: str, *parameters: object) -> Callable[[Connection], int]:
    """Return what runs one statement."""

    def run(connection: Connection) -> int:
        with connection.cursor() as cursor:
            return int(cursor.execute(sql, parameters))

    return run


class SqlCase(TestCase):
    """Starts the servers before the first test; each test has a client of its own, and leaves all servers running."""

    kind: ClassVar[Kind] = "replica"
    servers: ClassVar[MariadbServers]
    _folder: ClassVar["tempfile.TemporaryDirectory[str]"]
    record: Callable[[str, object], None] = staticmethod(lambda name, value: None)

    @classmethod
    def setUpClass(cls) -> None:
        cls._folder = tempfile.TemporaryDirectory()
        cls.servers = MariadbServers(Path(cls._folder.name) / "mysql", cls.kind)
        cls.servers.start()
        cls.servers.primary.query("CREATE TABLE rollcall.seen (number INT PRIMARY KEY)")
        cls.servers.wait_until_equal()

    @classmethod
    def tearDownClass(cls) -> None:
        cls.servers.stop()
        cls._folder.cleanup()

    def client(self, **settings: Any) -> Servers:
        """Return a client that has begun; it ends with the test."""
        sql = Servers(reactor, MysqlConfig(**{**self.servers.settings, **TIMES, **settings}))
        self.addCleanup(lambda: Deferred.fromCoroutine(sql.stop()))
        sql.start()
        return sql

    async def ready(self, **settings: Any) -> Servers:
        """Return a client that knows that all servers are well."""
        sql = self.client(**settings)
        await self.until(lambda: all(state.is_fit for state in sql.states), "all servers to be fit", sql)
        return sql

    async def until(self, look: Callable[[], object], what: str, sql: Servers | None = None) -> None:
        """Return when `look` is true."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not look():
            if time.monotonic() > deadline:
                self.fail(f"waited in vain for {what}: {sql and sql.states}")
            await deferLater(reactor, POLL_SECONDS)

    @property
    def primary(self) -> MariadbProcess:
        """The first server."""
        return self.servers.servers[0]

    @property
    def replica(self) -> MariadbProcess:
        """The second."""
        return self.servers.servers[1]

    def state(self, sql: Servers, server: MariadbProcess) -> ServerState:
        """Return how the client sees a server."""
        return next(state for state in sql.states if state.name == server.address)

    def kill_connections(self, server: MariadbProcess) -> None:
        """End all connections of ours."""
        for number, in server.query("SELECT id FROM information_schema.processlist WHERE user = 'rollcall'"):
            server.query(f"KILL CONNECTION {number}")

    def numbers(self, server: MariadbProcess) -> list[int]:
        """Return what was written."""
        return [number for number, in server.query("SELECT number FROM rollcall.seen ORDER BY number")]
