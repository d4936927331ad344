"""Tables of subscribers as commands use them: blocking, in whichever database they are, whether a registrar runs."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal, Protocol, Self, TypeVar

from pymysql.err import MySQLError

from registrar.auth import StoreUnavailable, Subscriber
from registrar.subscribers.bulk import Bulk, Name
from registrar.subscribers.columns import TableConfig
from registrar.subscribers.contract import PAGE_SIZE, NoSuchSubscriber, is_subscriber_name
from registrar.subscribers.mysql import refused
from registrar.subscribers.mysql_rows import MysqlRows
from registrar.subscribers.table import SubscriberTable
from rollcall.sql.config import MysqlConfig
from rollcall.sql.connecting import Connection
from rollcall.sql.errors import SqlUnavailable, has_no_effect, is_lost, told
from rollcall.sql.opening import open_writer

T = TypeVar("T")


class UserTable(Protocol):
    """What a command can do. Methods raise as those of SubscriberStore do; within `with` they can be called."""

    def __enter__(self) -> Self:
        """Make ready."""

    def __exit__(self, *_: object) -> None:
        """Let go of it."""

    def find(self, username: str, domain: str) -> Subscriber | None:
        """Return the subscriber or None."""

    def add(self, username: str, domain: str, password: str) -> None:
        """Add a subscriber."""

    def set_password(self, username: str, domain: str, password: str) -> None:
        """Give a subscriber another password."""

    def remove(self, username: str, domain: str) -> None:
        """Remove a subscriber."""

    def add_hashed(self, subscribers: Sequence[Subscriber], replace: bool = False) -> Bulk:
        """Add many of whom hashes are known, in one transaction; their names have been checked.

        Who is there already gets these hashes with `replace`, and is left alone without.
        """

    def forget(self, names: Sequence[Name] | None) -> bool:
        """Let registrars that look for changes here see that others changed these subscribers, None: perhaps anybody.

        Returns False where they could not see it.
        """

    def page(self, after: Name = ("", ""), size: int = PAGE_SIZE) -> Sequence[Subscriber]:
        """Return the first `size` subscribers after this username and domain; none at the end."""

    def count(self) -> int:
        """Return how many subscribers there are."""


def open_table(
    kind: Literal["sqlite", "mysql"], table: TableConfig, mysql: MysqlConfig, file: Path, make: bool = False
) -> UserTable:
    """Return the table where it is configured to be. `make`: an SQLite file that is not there is made.

    Raises NoSuchSubscriber when there is no file.
    """
    if kind == "mysql":
        return MysqlTable(mysql, table)
    if make:
        file.parent.mkdir(parents=True, exist_ok=True)
    elif not file.exists():
        raise NoSuchSubscriber(f"there are no users yet: {file} does not exist")
    return SubscriberTable(file)


class MysqlTable:
    """A table in MySQL on one connection: to the server that takes writes, else to one that can be read."""

    def __init__(self, mysql: MysqlConfig, table: TableConfig) -> None:
        self._mysql = mysql
        self._table = table
        self._rows = MysqlRows(table)
        self._connection: Connection | None = None
        self._cannot_write: str | None = None

    def __enter__(self) -> Self:
        self._connected()
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def find(self, username: str, domain: str) -> Subscriber | None:
        """Return the subscriber or None."""
        domain = domain.lower()
        if not is_subscriber_name(username, domain):
            return None
        return self._read(lambda connection: self._rows.find(connection, username, domain))

    def page(self, after: Name = ("", ""), size: int = PAGE_SIZE) -> Sequence[Subscriber]:
        """Return the first `size` subscribers after this username and domain; none at the end."""
        return self._read(lambda connection: self._rows.page(connection, after, size))

    def count(self) -> int:
        """Return how many subscribers there are."""
        return self._read(self._rows.count)

    def add(self, username: str, domain: str, password: str) -> None:
        """Add a subscriber."""
        self._write(lambda connection: self._rows.add(connection, username, domain, password))

    def set_password(self, username: str, domain: str, password: str) -> None:
        """Give a subscriber another password."""
        self._write(lambda connection: self._rows.set_password(connection, username, domain, password))

    def remove(self, username: str, domain: str) -> None:
        """Remove a subscriber."""
        self._write(lambda connection: self._rows.remove(connection, username, domain))

    def add_hashed(self, subscribers: Sequence[Subscriber], replace: bool = False) -> Bulk:
        """Add many of whom hashes are known, in one transaction."""
        return self._write(lambda connection: self._rows.add_hashed(connection, subscribers, replace))

    def forget(self, names: Sequence[Name] | None) -> bool:
        """Note that others changed these, None: perhaps anybody; return False when there is no table for it."""
        return self._write(lambda connection: self._rows.forget(connection, names))

    def _read(self, query: Callable[[Connection], T]) -> T:
        return self._ask(query, self._connected())

    def _write(self, change: Callable[[Connection], T]) -> T:
        connection = self._connected()
        if self._cannot_write is not None:
            raise StoreUnavailable(f"nothing can be changed: {self._cannot_write}")
        return self._ask(lambda connection: _committed(connection, change), connection)

    def _ask(self, query: Callable[[Connection], T], connection: Connection) -> T:
        try:
            return query(connection)
        except MySQLError as error:
            if is_lost(error):
                self._close()
                raise StoreUnavailable(f"MySQL at {connection.host}:{connection.port}: {told(error)}") from error
            raise refused(error, self._table) from error

    def _connected(self) -> Connection:
        """Return the connection, a new one when the last was lost. Raises StoreUnavailable."""
        if self._connection is None:
            try:
                self._connection, self._cannot_write = open_writer(self._mysql)
            except SqlUnavailable as problem:
                raise StoreUnavailable(str(problem)) from problem
        return self._connection

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None and connection.open:
            connection.close()


def _committed(connection: Connection, change: Callable[[Connection], T]) -> T:
    """Return what `change` does once it is committed; tried again, whole, when the server undid it for another's."""
    try:
        return _committed_once(connection, change)
    except MySQLError as error:
        if not has_no_effect(error):
            raise
    return _committed_once(connection, change)


def _committed_once(connection: Connection, change: Callable[[Connection], T]) -> T:
    connection.begin()
    try:
        outcome = change(connection)
        connection.commit()
    except BaseException:
        with suppress(MySQLError):  # of a connection that was lost
            connection.rollback()
        raise
    return outcome
