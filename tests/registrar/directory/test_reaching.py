"""The tables of the directory in an SQLite file."""

import sqlite3
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

from pymysql.err import OperationalError, ProgrammingError
from twisted.trial.unittest import TestCase

from registrar.database.engines import engine_of
from registrar.database.upgrading import upgrade
from registrar.directory.opening import OpenDirectory, directory_at
from registrar.directory.reaching import DirectoryUnavailable, NoRight, NoTables, SqliteTables, mysql_problem
from registrar.directory.statements import Connection, Statements
from tests.registrar.directory import tables_contract
from tests.registrar.joined import done
from tests.registrar.test_subscribers_sqlite import NoThreads, OneThread

T = TypeVar("T")


class SqliteTablesTests(tables_contract.TablesContract):
    def setUp(self) -> None:
        self.path = Path(self.enterContext(TemporaryDirectory())) / "rollcall.sqlite"
        self.tables = SqliteTables(OneThread(), self.path, NoThreads())
        done(self.tables.start())
        self.addCleanup(lambda: done(self.tables.stop()))

    def make_tables(self) -> None:
        """Make them, empty."""
        engine = engine_of(self.path, make=True)
        upgrade(engine)
        engine.dispose()

    def remove_tables(self) -> None:
        """Remove them again."""
        connection = sqlite3.connect(self.path)
        for name in ("domain", "alias", "forwarding"):
            connection.execute(f"DROP TABLE rollcall_{name}")
        connection.close()

    def opened(self) -> AbstractContextManager[OpenDirectory]:
        """Return them as commands see them."""
        return directory_at(self.path)

    def ask(self, question: Callable[[Statements, Connection], T]) -> T:
        """Return what the registrar reads."""
        return done(self.tables.ask(question))

    def test_nothing_is_made(self) -> None:
        """Who only looks makes no file."""
        self.test_without_tables()
        self.assertFalse(self.path.exists())

    def test_no_database(self) -> None:
        """A file that is no database is no reason to think that there is nothing."""
        self.path.write_text("This is no database. " * 100)
        with self.assertRaises(DirectoryUnavailable) as raised:
            self.survey()
        self.assertIn(str(self.path), str(raised.exception))

    def test_stopped(self) -> None:
        """Afterwards nothing is read any more."""
        self.make_tables()
        done(self.tables.stop())
        with self.assertRaises(DirectoryUnavailable):
            self.survey()


class MysqlProblemTests(TestCase):
    def test_which(self) -> None:
        """A table that is not there, or not ours to read, is none; anything else is trouble that may pass."""
        self.assertIs(type(mysql_problem(ProgrammingError(1146, "no"))), NoTables)
        self.assertIs(type(mysql_problem(OperationalError(1142, "no"))), NoRight)
        problem = mysql_problem(OperationalError(1040, "Too many connections"))
        self.assertIsInstance(problem, DirectoryUnavailable)
        self.assertEqual(str(problem), "Too many connections")
