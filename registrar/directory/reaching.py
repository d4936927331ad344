"""Where the tables are: in MySQL, over its servers, or in an SQLite file, asked in a thread."""

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, TypeVar

from pymysql.err import MySQLError
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

from registrar.directory.entries import DirectoryProblem
from registrar.directory.statements import Connection, Statements
from rollcall.sql.contract import Sql
from rollcall.sql.errors import SqlUnavailable, code_of

T = TypeVar("T")

MYSQL_MARK = "%s"
SQLITE_MARK = "?"
BUSY_SECONDS = 2.0
_NO_RIGHT = 1142
_NO_SUCH_TABLE = 1146


class DirectoryUnavailable(DirectoryProblem):
    """The tables cannot be asked now; the text says why."""


class NoTables(DirectoryProblem):
    """They were never made, or not all of them; the text says what is missing."""


class NoRight(NoTables):
    """Our user may not read them: MySQL does not even tell whether they are there."""


class Tables(Protocol):
    """Where the registrar reads. Each implementation passes tests/registrar/directory/tables_contract.py."""

    async def start(self) -> None:
        """Make ready to answer. Does not wait for a server."""

    async def stop(self) -> None:
        """Let go of everything."""

    async def ask(self, question: Callable[[Statements, Connection], T]) -> T:
        """Return what `question` returns, in a thread. Raises DirectoryUnavailable, NoTables."""


class MysqlTables:
    """The Tables in MySQL; whoever made the servers starts and stops them."""

    def __init__(self, servers: Sql) -> None:
        self._servers = servers
        self._statements = Statements(MYSQL_MARK)

    async def start(self) -> None:
        """See Tables."""

    async def stop(self) -> None:
        """See Tables."""

    async def ask(self, question: Callable[[Statements, Connection], T]) -> T:
        """See Tables. What a replica says may be some seconds old."""
        try:
            return await self._servers.read(lambda connection: question(self._statements, connection))
        except SqlUnavailable as problem:
            raise DirectoryUnavailable(str(problem)) from problem
        except MySQLError as error:
            raise mysql_problem(error) from error


def mysql_problem(error: MySQLError) -> DirectoryProblem:
    """Return what an error of MySQL means for the directory."""
    text = str(error.args[1] if len(error.args) > 1 else error)
    kinds = {_NO_SUCH_TABLE: NoTables, _NO_RIGHT: NoRight}
    return kinds.get(code_of(error), DirectoryUnavailable)(text)


def sqlite_problem(error: sqlite3.Error, path: Path) -> DirectoryProblem:
    """Return what an error of SQLite means for the directory."""
    is_missing = "no such table" in str(error) or not path.exists()
    return NoTables(f"{path}: {error}") if is_missing else DirectoryUnavailable(f"{path}: {error}")


def opened(path: Path) -> sqlite3.Connection:
    """Return a connection to the file, which is not made. Raises sqlite3.Error."""
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=BUSY_SECONDS,
                           isolation_level=None, check_same_thread=False)


class SqliteTables:
    """The Tables in a file: one thread reads it, over one connection."""

    def __init__(self, reactor: Any, path: Path, pool: ThreadPool | None = None) -> None:
        """`reactor` provides IReactorFromThreads. Neither the file nor the tables have to be there yet."""
        self._reactor = reactor
        self._path = path
        self._pool = ThreadPool(0, 1, "directory") if pool is None else pool
        self._statements = Statements(SQLITE_MARK)
        self._connection: sqlite3.Connection | None = None
        self._is_running = False

    async def start(self) -> None:
        """See Tables."""
        self._pool.start()
        self._is_running = True

    async def stop(self) -> None:
        """See Tables."""
        if self._is_running:
            self._is_running = False
            self._pool.stop()
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    async def ask(self, question: Callable[[Statements, Connection], T]) -> T:
        """See Tables."""
        if not self._is_running:
            raise DirectoryUnavailable("the directory is closed")
        answer: T = await deferToThreadPool(self._reactor, self._pool, self._ask, question)
        return answer

    def _ask(self, question: Callable[[Statements, Connection], T]) -> T:
        try:
            if self._connection is None:
                self._connection = opened(self._path)
            return question(self._statements, self._connection)
        except sqlite3.Error as error:
            # Another file may stand there the next time.
            if self._connection is not None:
                self._connection.close()
                self._connection = None
            raise sqlite_problem(error, self._path) from error
