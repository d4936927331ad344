"""The directory in a real MariaDB: the tables, what commands put there, and servers that are away."""

from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager
from typing import Any, TypeVar

from twisted.internet.epollreactor import EPollReactor
from twisted.internet.task import deferLater
from twisted.trial.unittest import SynchronousTestCase

from registrar.database.config import DatabaseConfig
from registrar.database.engines import engine_of
from registrar.database.upgrading import upgrade
from registrar.directory.directory import Directory
from registrar.directory.entries import NOTHING, Entry
from registrar.directory.opening import OpenDirectory, directory_at
from registrar.directory.reaching import DirectoryUnavailable, MysqlTables
from registrar.directory.statements import Connection, Statements
from registrar.routing import Domains, ServedDomain
from rollcall.sql.config import MysqlConfig
from rollcall.sql.errors import SqlUnavailable
from rollcall.sql.servers import Servers
from tests.cluster.mariadb_case import MariadbCase
from tests.cluster.turning import turn_until_done
from tests.registrar.directory import tables_contract
from tests.registrar.directory.tables_contract import BOB, SALES
from tools.laboratory.mariadb_servers import DATABASE

T = TypeVar("T")



class DirectoryMysqlCase(MariadbCase, SynchronousTestCase):
    """One MariaDB for the class, and access to it as a registrar has it, over a reactor of each test's own."""

    def setUp(self) -> None:
        self.mysql.primary.query(f"DROP DATABASE {DATABASE}")
        self.mysql.primary.query(f"CREATE DATABASE {DATABASE} CHARACTER SET utf8mb4")
        self.reactor = EPollReactor()
        self.config = MysqlConfig(**{**self.mysql.settings, "check_seconds": 0.2, "timeout_seconds": 1.0})
        self.servers = Servers(self.reactor, self.config)
        self.servers.start()
        self.addCleanup(lambda: self.run_now(self.servers.stop()))
        self.tables = MysqlTables(self.servers)

    def run_now(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Return the result of something, once it is there."""
        return turn_until_done(self.reactor, coroutine)

    def make_tables(self) -> None:
        """Make them, empty."""
        engine = engine_of(self.config)
        upgrade(engine)
        engine.dispose()

    def opened(self) -> AbstractContextManager[OpenDirectory]:
        """Return them as commands see them."""
        return directory_at(self.config)


class MysqlTablesTests(DirectoryMysqlCase, tables_contract.TablesContract):
    def remove_tables(self) -> None:
        """Remove them again."""
        for name in ("domain", "alias", "forwarding"):
            self.mysql.primary.query(f"DROP TABLE rollcall_{name}", database=DATABASE)

    def ask(self, question: Callable[[Statements, Connection], T]) -> T:
        """Return what the registrar reads."""
        return self.run_now(self.tables.ask(question))


class AwayTests(DirectoryMysqlCase):
    """The primary, which is the only one, is away for a while."""

    def test_away(self) -> None:
        """What is remembered counts, what is not is nothing, no call waits long, and all is well again afterwards."""
        self.make_tables()
        with self.opened() as directory:
            directory.add_alias(SALES, BOB)
            directory.add_domain("example.net", "")
        domains = Domains([ServedDomain("example.com")])
        known = Directory(self.reactor, self.tables, DatabaseConfig(cache_seconds=0.5, domains_seconds=0.5), domains)
        self.run_now(known.start())
        self.assertEqual((known.is_used, domains.names), (True, ["example.com", "example.net"]))
        self.assertEqual(self.run_now(known.find(SALES)), Entry(BOB))
        self.mysql.primary.kill()
        self.run_now(self._wait(1.0))
        began_at = self.reactor.seconds()
        self.assertEqual(self.run_now(known.find(SALES)), Entry(BOB))
        self.assertEqual(self.run_now(known.find(BOB)), NOTHING)
        self.assertLess(self.reactor.seconds() - began_at, 2.5)
        self.assertEqual((known.is_used, domains.names), (True, ["example.com", "example.net"]))
        with self.assertRaises(SqlUnavailable), self.opened():
            pass
        with self.assertRaises(DirectoryUnavailable):
            self.run_now(self.tables.ask(lambda statements, on: statements.survey(on)))
        self.mysql.primary.restart()
        with self.opened() as directory:
            directory.remove_alias(SALES)
        self.run_now(self._until(lambda: not known.is_used))
        self.assertEqual(self.run_now(known.find(SALES)), NOTHING)
        self.run_now(known.stop())

    async def _until(self, is_so: Callable[[], bool]) -> None:
        while not is_so():
            await self._wait(0.05)

    async def _wait(self, seconds: float) -> None:
        await deferLater(self.reactor, seconds)
