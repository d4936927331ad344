"""What is asked of the tables, over any connection of the DB-API: MySQL's and SQLite's differ in the parameters' mark.

The commands change them, each change in one transaction; the registrar only reads.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from attrs import frozen

from registrar.directory.entries import (
    MAX_ADDRESS_CHARS,
    NOTHING,
    Entry,
    EntryExists,
    Forwarding,
    NoSuchEntry,
    checked_seconds,
    checked_target,
)

Connection = Any
"""A connection of the DB-API that commits each statement unless one says BEGIN."""


@frozen
class Survey:
    """What there is in the tables altogether."""

    domains: tuple[str, ...] = ()
    is_used: bool = False
    """Whether there is any alias or forwarding."""


class Statements:
    """Reads and changes rollcall_domain, rollcall_alias and rollcall_forwarding."""

    def __init__(self, mark: str) -> None:
        """`mark` is how a parameter is written: "%s" or "?"."""
        self._mark = mark

    # --- for the registrar

    def survey(self, connection: Connection) -> Survey:
        """Return which domains there are, and whether there is anything else."""
        names = tuple(row[0] for row in self._ask(connection, "SELECT name FROM rollcall_domain ORDER BY name"))
        ((is_used,),) = self._ask(connection, "SELECT EXISTS (SELECT 1 FROM rollcall_alias)"
                                              " OR EXISTS (SELECT 1 FROM rollcall_forwarding)")
        return Survey(names, bool(is_used))

    def entry(self, connection: Connection, aor: str) -> Entry:
        """Return what there is of an address-of-record."""
        aliases = self._ask(connection, "SELECT target FROM rollcall_alias WHERE alias = ?", aor)
        forwardings = self._ask(
            connection, "SELECT kind, target, seconds FROM rollcall_forwarding WHERE aor = ? ORDER BY kind", aor)
        if not aliases and not forwardings:
            return NOTHING
        return Entry(aliases[0][0] if aliases else None, tuple([Forwarding(*row) for row in forwardings]))

    # --- for the commands

    def domains(self, connection: Connection) -> list[tuple[str, str]]:
        """Return the name and the comment of each domain."""
        return self._ask(connection, "SELECT name, comment FROM rollcall_domain ORDER BY name")

    def add_domain(self, connection: Connection, name: str, comment: str) -> None:
        """Add a domain. Raises EntryExists."""
        with self._transaction(connection):
            if self._ask(connection, "SELECT 1 FROM rollcall_domain WHERE name = ?", name):
                raise EntryExists(f"{name} is served already")
            self._do(connection, "INSERT INTO rollcall_domain (name, comment) VALUES (?, ?)", name, comment)

    def remove_domain(self, connection: Connection, name: str) -> None:
        """Remove a domain. Raises NoSuchEntry."""
        if not self._do(connection, "DELETE FROM rollcall_domain WHERE name = ?", name):
            raise NoSuchEntry(f"{name} is no domain of the table")

    def aliases(self, connection: Connection) -> list[tuple[str, str]]:
        """Return each alias and its target."""
        return self._ask(connection, "SELECT alias, target FROM rollcall_alias ORDER BY alias")

    def add_alias(self, connection: Connection, alias: str, target: str) -> None:
        """Add an alias. Raises EntryExists, InvalidEntry."""
        checked_target(alias, MAX_ADDRESS_CHARS), checked_target(target, MAX_ADDRESS_CHARS)
        with self._transaction(connection):
            if there := self._ask(connection, "SELECT target FROM rollcall_alias WHERE alias = ?", alias):
                raise EntryExists(f"{alias} is an alias of {there[0][0]} already")
            self._do(connection, "INSERT INTO rollcall_alias (alias, target) VALUES (?, ?)", alias, target)

    def remove_alias(self, connection: Connection, alias: str) -> None:
        """Remove an alias. Raises NoSuchEntry."""
        if not self._do(connection, "DELETE FROM rollcall_alias WHERE alias = ?", alias):
            raise NoSuchEntry(f"{alias} is no alias")

    def forwardings(self, connection: Connection, aor: str | None = None) -> list[tuple[str, Forwarding]]:
        """Return all forwardings, or those of one address-of-record."""
        where, values = ("", ()) if aor is None else (" WHERE aor = ?", (aor,))
        rows = self._ask(
            connection, f"SELECT aor, kind, target, seconds FROM rollcall_forwarding{where} ORDER BY aor, kind",
            *values)
        return [(row[0], Forwarding(*row[1:])) for row in rows]

    def set_forwarding(self, connection: Connection, aor: str, forwarding: Forwarding) -> None:
        """Have the calls of somebody go elsewhere in one case. Raises InvalidEntry."""
        checked_target(aor, MAX_ADDRESS_CHARS), checked_target(forwarding.target)
        kind, seconds = forwarding.kind, checked_seconds(forwarding.kind, forwarding.seconds)
        with self._transaction(connection):
            self._do(connection, "DELETE FROM rollcall_forwarding WHERE aor = ? AND kind = ?", aor, kind)
            self._do(connection, "INSERT INTO rollcall_forwarding (aor, kind, target, seconds) VALUES (?, ?, ?, ?)",
                     aor, kind, forwarding.target, seconds)

    def remove_forwarding(self, connection: Connection, aor: str, kind: str | None) -> None:
        """Have calls go elsewhere no more, in one case or in all. Raises NoSuchEntry."""
        where, values = (" AND kind = ?", (kind,)) if kind else ("", ())
        if not self._do(connection, f"DELETE FROM rollcall_forwarding WHERE aor = ?{where}", aor, *values):
            raise NoSuchEntry(f"no call of {aor} goes elsewhere" + (f" when it is {kind}" if kind else ""))

    # --- details

    def _ask(self, connection: Connection, query: str, *values: object) -> list[tuple[Any, ...]]:
        cursor = self._run(connection, query, values)
        try:
            return list(cursor.fetchall())
        finally:
            cursor.close()

    def _do(self, connection: Connection, statement: str, *values: object) -> int:
        cursor = self._run(connection, statement, values)
        try:
            return int(cursor.rowcount)
        finally:
            cursor.close()

    def _run(self, connection: Connection, statement: str, values: Sequence[object]) -> Any:
        cursor = connection.cursor()
        cursor.execute(statement.replace("?", self._mark), tuple(values))
        return cursor

    @contextmanager
    def _transaction(self, connection: Connection) -> Iterator[None]:
        self._do(connection, "BEGIN")
        try:
            yield
        except BaseException:
            self._do(connection, "ROLLBACK")
            raise
        self._do(connection, "COMMIT")
