"""The subscriber table in an SQLite file, as the command reads and writes it and as the store does in its threads.

Its columns are those of Kamailio and OpenSIPS (schema/0001.sql).
"""

import os
import re
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any, Self

from registrar.auth import StoreUnavailable, Subscriber
from registrar.subscribers.bulk import Bulk, Name
from registrar.subscribers.contract import (
    PAGE_SIZE,
    NoSuchSubscriber,
    SubscriberExists,
    checked_domain,
    checked_username,
    is_subscriber_name,
    subscriber_with,
)
from rollcall.sip.digest import HEX_DIGITS

DEFAULT_BUSY_SECONDS = 2.0

# Column → form and algorithm of the hash in it.
_HASH_COLUMNS = {
    "ha1": ("ha1", "MD5"),
    "ha1b": ("ha1b", "MD5"),
    "ha1_sha256": ("ha1", "SHA-256"),
    "ha1_sha512t256": ("ha1", "SHA-512-256"),
}
_COLUMNS = ", ".join(_HASH_COLUMNS)
_SET = ", ".join(f"{name} = ?" for name in _HASH_COLUMNS)
_SELECT = f"SELECT username, domain, {_COLUMNS} FROM subscriber"
_FIND = f"{_SELECT} WHERE username = ? AND domain = ?"
_PAGE = f"{_SELECT} WHERE (username, domain) > (?, ?) ORDER BY username, domain LIMIT ?"
_INSERT = f"INSERT INTO subscriber (username, domain, {_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?)"
_INSERT_NEW = f"{_INSERT} ON CONFLICT DO NOTHING"
_UPDATE = f"UPDATE subscriber SET {_SET} WHERE username = ? AND domain = ?"
_DELETE = "DELETE FROM subscriber WHERE username = ? AND domain = ?"

_HEX = re.compile(r"[0-9a-fA-F]+")


class SubscriberTable:
    """Subscribers in one SQLite file. Methods wait for the disk; any thread may call them, each has its connection.

    They behave as those of SubscriberStore do, and raise the same.
    """

    def __init__(self, path: Path, busy_seconds: float = DEFAULT_BUSY_SECONDS) -> None:
        """`busy_seconds` is how long to wait for another process that writes."""
        self._path = path
        self._busy_seconds = busy_seconds
        self._of_thread = threading.local()
        self._connections: list[sqlite3.Connection] = []
        self._watching: sqlite3.Connection | None = None
        self._is_open = False
        self._lock = threading.Lock()

    def open(self) -> None:
        """Make the file and its tables where they are missing."""
        with self._wrapped():
            # The hashes are as good as the passwords for whoever reads them.
            os.close(os.open(self._path, os.O_CREAT | os.O_RDWR, 0o600))
            self._is_open = True
            connection = self._connection()
            connection.execute("PRAGMA journal_mode = WAL")
            _upgrade(connection)

    def close(self) -> None:
        """Let go of the file. No other thread may be in a method."""
        with self._lock:
            self._is_open = False
            for connection in self._connections:
                connection.close()
            self._connections.clear()
            self._of_thread, self._watching = threading.local(), None

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def find(self, username: str, domain: str) -> Subscriber | None:
        """Return the subscriber or None."""
        domain = domain.lower()
        if not is_subscriber_name(username, domain):
            return None
        with self._wrapped():
            row = self._connection().execute(_FIND, (username, domain)).fetchone()
        return None if row is None else _subscriber(row)

    def add(self, username: str, domain: str, password: str) -> None:
        """Add a subscriber. Raises SubscriberExists, InvalidSubscriber."""
        subscriber = subscriber_with(username, domain, password)
        with self._wrapped():
            try:
                self._connection().execute(_INSERT, (subscriber.username, subscriber.domain, *_hashes(subscriber)))
            except sqlite3.IntegrityError:
                raise SubscriberExists(f"{username}@{domain} exists already") from None

    def add_all(self, subscribers: Iterable[tuple[str, str, str]]) -> None:
        """Add many, each (username, domain, password), all or none. Raises SubscriberExists, InvalidSubscriber.

        The disk is waited for once: for thousands that is what makes it quick.
        """
        made = [subscriber_with(*each) for each in subscribers]
        with self._wrapped():
            connection = self._connection()
            connection.execute("BEGIN IMMEDIATE")
            try:
                with connection:
                    connection.executemany(_INSERT, [(each.username, each.domain, *_hashes(each)) for each in made])
            except sqlite3.IntegrityError:
                raise SubscriberExists("one of them exists already") from None

    def add_hashed(self, subscribers: Sequence[Subscriber], replace: bool = False) -> Bulk:
        """Add many of whom hashes are known, in one transaction; their names have been checked.

        Who is there already gets these hashes with `replace`, and is left alone without.
        """
        added, replaced, existing, refused = 0, 0, [], []
        with self._wrapped():
            connection = self._connection()
            connection.execute("BEGIN IMMEDIATE")
            with connection:
                for each in subscribers:
                    name, hashes = (each.username, each.domain), _hashes(each)
                    if not any(hashes):
                        refused.append((*name, "there is no column for such hashes"))
                    elif connection.execute(_INSERT_NEW, (*name, *hashes)).rowcount:
                        added += 1
                    elif replace:
                        connection.execute(_UPDATE, (*hashes, *name))
                        replaced += 1
                    else:
                        existing.append(name)
        return Bulk(added, replaced, tuple(existing), tuple(refused))

    def set_password(self, username: str, domain: str, password: str) -> None:
        """Give a subscriber another password. Raises NoSuchSubscriber, InvalidSubscriber."""
        subscriber = subscriber_with(username, domain, password)
        self._change_one(_UPDATE, *_hashes(subscriber), subscriber.username, subscriber.domain)

    def remove(self, username: str, domain: str) -> None:
        """Remove a subscriber. Raises NoSuchSubscriber, InvalidSubscriber."""
        self._change_one(_DELETE, checked_username(username), checked_domain(domain))

    def forget(self, names: Sequence[Name] | None) -> bool:
        """Do nothing: registrars see every commit to the file, see `version`."""
        return True

    def page(self, after: tuple[str, str] = ("", ""), size: int = PAGE_SIZE) -> list[Subscriber]:
        """Return the first `size` subscribers that come after this username and domain; [] when none does."""
        with self._wrapped():
            return [_subscriber(row) for row in self._connection().execute(_PAGE, (*after, size))]

    def count(self) -> int:
        """Return how many subscribers there are."""
        with self._wrapped():
            return int(self._connection().execute("SELECT count(*) FROM subscriber").fetchone()[0])

    def version(self) -> int:
        """Return a number that differs from the last one when anybody has committed a change since then.

        "The integer values returned by two invocations of 'PRAGMA data_version' from the same connection will be
        different if changes were committed to the database by any other connection in the interim": so one connection
        is kept for this and does nothing else. The times of the file would not do, for two commits within one tick
        of the clock leave the same.
        """
        with self._wrapped(), self._lock:
            if self._watching is None:
                self._watching = self._connect()
            return int(self._watching.execute("PRAGMA data_version").fetchone()[0])

    def _change_one(self, statement: str, *values: str) -> None:
        with self._wrapped():
            changed = self._connection().execute(statement, values).rowcount
        if not changed:
            raise NoSuchSubscriber("there is no subscriber {}@{}".format(*values[-2:]))

    def _connection(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._of_thread, "connection", None)
        if connection is None:
            with self._lock:
                connection = self._of_thread.connection = self._connect()
        return connection

    def _connect(self) -> sqlite3.Connection:
        """Return a new connection, which `close` will close."""
        if not self._is_open:
            raise StoreUnavailable(f"{self._path}: is not open")
        # Only `close` uses it in another thread than the one it was made in.
        connection = sqlite3.connect(
            self._path, timeout=self._busy_seconds, isolation_level=None, check_same_thread=False
        )
        # A user that was added is there after a power failure, too.
        connection.execute("PRAGMA synchronous = FULL")
        self._connections.append(connection)
        return connection

    @contextmanager
    def _wrapped(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise StoreUnavailable(f"{self._path}: {error}") from error


def _subscriber(row: tuple[Any, ...]) -> Subscriber:
    """Return the subscriber of a row; what is no hash of its algorithm is as if it were not there."""
    forms: dict[str, dict[str, str]] = {"ha1": {}, "ha1b": {}}
    for (form, algorithm), text in zip(_HASH_COLUMNS.values(), row[2:], strict=True):
        if len(text) == HEX_DIGITS[algorithm] and _HEX.fullmatch(text):
            forms[form][algorithm] = text.lower()
    return Subscriber(row[0], row[1], forms["ha1"], forms["ha1b"])


def _hashes(subscriber: Subscriber) -> tuple[str, ...]:
    forms: Mapping[str, Mapping[str, str]] = {"ha1": subscriber.ha1, "ha1b": subscriber.ha1b}
    return tuple(forms[form].get(algorithm, "") for form, algorithm in _HASH_COLUMNS.values())


def _upgrade(connection: sqlite3.Connection) -> None:
    """Run the numbered scripts that this file has not seen, whole or not at all."""
    connection.execute("BEGIN IMMEDIATE")
    with connection:
        connection.execute("CREATE TABLE IF NOT EXISTS subscriber_schema (version INTEGER NOT NULL)")
        seen = connection.execute("SELECT coalesce(max(version), 0) FROM subscriber_schema").fetchone()[0]
        scripts = _scripts()
        if seen > max(scripts):
            raise sqlite3.DatabaseError(f"made by a newer version: schema {seen}, known are {max(scripts)}")
        for version in sorted(scripts):
            if version > seen:
                for statement in _statements(scripts[version]):
                    connection.execute(statement)
                connection.execute("INSERT INTO subscriber_schema VALUES (?)", (version,))


def _scripts() -> dict[int, str]:
    found = (files("registrar.subscribers") / "schema").iterdir()
    return {int(script.name[:4]): script.read_text("utf-8") for script in found if script.name.endswith(".sql")}


def _statements(script: str) -> Iterator[str]:
    """Yield the statements one by one: executescript would commit what is begun."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
