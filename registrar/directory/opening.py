"""The directory for commands: opened, read or changed, and closed again. Everything waits for the database."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from pymysql.err import MySQLError

from registrar.directory.entries import DirectoryProblem, Forwarding
from registrar.directory.reaching import MYSQL_MARK, SQLITE_MARK, NoTables, mysql_problem, opened, sqlite_problem
from registrar.directory.statements import Connection, Statements
from rollcall.sql.config import MysqlConfig
from rollcall.sql.errors import SqlUnavailable
from rollcall.sql.opening import open_writer

P = ParamSpec("P")
T = TypeVar("T")


class OpenDirectory:
    """The tables over one connection. Whatever is wrong is a DirectoryProblem or SqlUnavailable."""

    def __init__(self, statements: Statements, connection: Connection,
                 in_words: Callable[[Exception], DirectoryProblem], cannot_write: str | None = None) -> None:
        """`cannot_write` says why nothing can be changed here."""
        self._statements = statements
        self._connection = connection
        self._in_words = in_words
        self._cannot_write = cannot_write

    def domains(self) -> list[tuple[str, str]]:
        """Return the name and the comment of each domain."""
        return self._do(Statements.domains)

    def add_domain(self, name: str, comment: str) -> None:
        """Add a domain."""
        self._change(Statements.add_domain, name, comment)

    def remove_domain(self, name: str) -> None:
        """Remove a domain."""
        self._change(Statements.remove_domain, name)

    def aliases(self) -> list[tuple[str, str]]:
        """Return each alias and its target."""
        return self._do(Statements.aliases)

    def add_alias(self, alias: str, target: str) -> None:
        """Add an alias."""
        self._change(Statements.add_alias, alias, target)

    def remove_alias(self, alias: str) -> None:
        """Remove an alias."""
        self._change(Statements.remove_alias, alias)

    def forwardings(self, aor: str | None = None) -> list[tuple[str, Forwarding]]:
        """Return all forwardings, or those of one address-of-record."""
        return self._do(Statements.forwardings, aor)

    def set_forwarding(self, aor: str, forwarding: Forwarding) -> None:
        """Have the calls of somebody go elsewhere in one case."""
        self._change(Statements.set_forwarding, aor, forwarding)

    def remove_forwarding(self, aor: str, kind: str | None = None) -> None:
        """Have calls go elsewhere no more, in one case or in all."""
        self._change(Statements.remove_forwarding, aor, kind)

    def _change(self, what: Callable[Concatenate[Statements, Connection, P], T], *args: P.args,
                **kwargs: P.kwargs) -> T:
        if self._cannot_write is not None:
            raise SqlUnavailable(f"nothing can be changed: {self._cannot_write}")
        return self._do(what, *args, **kwargs)

    def _do(self, what: Callable[Concatenate[Statements, Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return what(self._statements, self._connection, *args, **kwargs)
        except (MySQLError, sqlite3.Error) as error:
            problem = self._in_words(error)
            if isinstance(problem, NoTables):
                raise NoTables(f"{problem}; `rollcall db upgrade` makes the tables") from error
            raise problem from error


@contextmanager
def directory_at(where: MysqlConfig | Path) -> Iterator[OpenDirectory]:
    """Open the tables at the server of MySQL that takes writes, else at one that answers, or in a file.

    Raises SqlUnavailable, NoTables, DirectoryUnavailable.
    """
    if isinstance(where, Path):
        with _in_file(where) as directory:
            yield directory
        return
    connection, cannot_write = open_writer(where)
    try:
        yield OpenDirectory(Statements(MYSQL_MARK), connection, _mysql_in_words, cannot_write)
    finally:
        connection.close()


@contextmanager
def _in_file(path: Path) -> Iterator[OpenDirectory]:
    def in_words(error: Exception) -> DirectoryProblem:
        assert isinstance(error, sqlite3.Error)
        return sqlite_problem(error, path)

    if not path.exists():
        raise NoTables(f"{path} does not exist; `rollcall db upgrade` makes it")
    connection = opened(path)
    try:
        yield OpenDirectory(Statements(SQLITE_MARK), connection, in_words)
    finally:
        connection.close()


def _mysql_in_words(error: Exception) -> DirectoryProblem:
    assert isinstance(error, MySQLError)
    return mysql_problem(error)
