"""The SQL for a table of subscribers of which it is known what columns it has."""

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

from pymysql.constants import ER
from pymysql.err import MySQLError

from registrar.auth import Subscriber
from registrar.subscribers.bulk import Name
from registrar.subscribers.columns import TableConfig
from registrar.subscribers.mysql_layout import Layout, subscriber_of, text_of
from rollcall.sql.connecting import Connection
from rollcall.sql.errors import code_of

Row = Sequence[Any]
"""Username, domain, what is in the columns for hashes, and the password in clear text or ''."""

MAX_ALIKE = 64
"""Rows looked at of users whom MySQL takes for the same: in other domains, or in other letters such as Alice, ALICE."""

MAX_NAMES = 500
"""Names looked for at a time: of 1000 and more MariaDB makes a temporary table on disk."""

# "Illegal mix of collations", with two, three or more values: one has letters that the column's character set has not.
_OTHER_LETTERS = (ER.CANT_AGGREGATE_2COLLATIONS, ER.CANT_AGGREGATE_3COLLATIONS, ER.CANT_AGGREGATE_NCOLLATIONS)


class Statements:
    """What is asked and told. Names of tables and columns are checked by TableConfig; values go as parameters."""

    def __init__(self, table: TableConfig, layout: Layout) -> None:
        self._table = table
        self.layout = layout
        self._name = f"`{table.table}`"
        self._username, self._domain = f"`{table.username_column}`", f"`{table.domain_column}`"
        # Passwords in clear text are not even read when they do not count.
        clear_text = f"`{table.password_column}`" if layout.has_clear_text and table.calculate_ha1 else "''"
        columns = [self._username, self._domain, *(f"`{column.name}`" for column in layout.hashes), clear_text]
        self._select = f"SELECT {', '.join(columns)} FROM {self._name}"
        same = f"{self._username} = %s AND {self._domain} = %s"
        self._one = f"{self._select} WHERE {same} LIMIT {MAX_ALIKE}"
        self._alike = (
            f"{self._select} WHERE {self._username} = %s"
            f" ORDER BY {self._domain} = %s DESC, `{layout.order}` LIMIT {MAX_ALIKE}"
        )
        self._page = (
            f"{self._select} WHERE {self._username} >= %s AND ({self._username} > %s OR {self._domain} > %s)"
            f" ORDER BY {self._username}, {self._domain} LIMIT %s"
        )
        # The same bytes, too: a collation without case would take in other users where no index forbids them.
        bytes_of = f"CAST(CONVERT({self._username} USING utf8mb4) AS BINARY)"
        self._exactly = f"WHERE {same} AND {bytes_of} = %s"

    def find(self, connection: Connection, username: str, domain: str) -> Subscriber | None:
        """Return the subscriber or None."""
        row = self.row(connection, username, domain)
        return None if row is None else subscriber_of(self.layout, self._table, username, domain, row[2:])

    def row(self, connection: Connection, username: str, domain: str, lock: bool = False) -> Row | None:
        """Return the row of a subscriber. `lock`: nobody else may change it before the transaction ends."""
        statement = self._one if self._table.use_domain else self._alike
        with connection.cursor() as cursor:
            try:
                cursor.execute(f"{statement} FOR UPDATE" if lock else statement, (username, domain))
            except MySQLError as error:
                if code_of(error) not in _OTHER_LETTERS:
                    raise
                return None
            return self.pick(cursor.fetchall(), username, domain)

    def rows(self, connection: Connection, names: Sequence[Name]) -> Sequence[Row]:
        """Return the rows of these, and of others; `pick` finds each."""
        found: list[Row] = []
        for start in range(0, len(names), MAX_NAMES):
            found += self._some_rows(connection, names[start : start + MAX_NAMES])
        return found

    def _some_rows(self, connection: Connection, names: Sequence[Name]) -> Sequence[Row]:
        usernames, domains = ({name[place] for name in names} for place in (0, 1))
        where, values = f"{self._username} IN %s", [tuple(usernames)]
        if self._table.use_domain:
            where, values = f"{where} AND {self._domain} IN %s", [*values, tuple(domains)]
        with connection.cursor() as cursor:
            try:
                cursor.execute(f"{self._select} WHERE {where} ORDER BY `{self.layout.order}`", values)
            except MySQLError as error:
                if code_of(error) not in _OTHER_LETTERS:
                    raise
                one_by_one = [self.row(connection, *name) for name in names]
                return [row for row in one_by_one if row is not None]
            rows: Sequence[Row] = cursor.fetchall()
        return rows

    def identity(self, username: str, domain: str) -> Name:
        """Return what two rows may not have in common."""
        return (username, domain) if self._table.use_domain else (username, "")

    def pick(self, rows: Iterable[Row], username: str, domain: str) -> Row | None:
        """Return which of these rows, the oldest first, is this subscriber's."""
        named = [row for row in rows if text_of(row[0]) == username]
        for row in named:
            if text_of(row[1]).lower() == domain:
                return row
        return named[0] if named and not self._table.use_domain else None

    def page(self, connection: Connection, after: Name, size: int) -> list[Subscriber]:
        """Return the first `size` subscribers after this username and domain in the table's order."""
        make = partial(subscriber_of, self.layout, self._table)
        with connection.cursor() as cursor:
            cursor.execute(self._page, (after[0], *after, size))
            return [make(text_of(row[0]), text_of(row[1]), row[2:]) for row in cursor.fetchall()]

    def takes(self, subscriber: Subscriber) -> bool:
        """Say whether there is a column for any hash of the subscriber's."""
        return any(self._hashes(subscriber).values())

    def insert(self, connection: Connection, subscribers: Sequence[tuple[Subscriber, str]]) -> None:
        """Add rows, each of a subscriber and the password, which may be ''."""
        rows = [self._new(*each) for each in subscribers]
        columns = ", ".join(f"`{name}`" for name in rows[0])
        values = ", ".join(["%s"] * len(rows[0]))
        with connection.cursor() as cursor:
            cursor.executemany(
                f"INSERT INTO {self._name} ({columns}) VALUES ({values})", [tuple(row.values()) for row in rows]
            )

    def update(self, connection: Connection, row: Row, subscriber: Subscriber, password: str) -> None:
        """Give a row the hashes of a subscriber, and the password, which may be ''."""
        written = self._written(subscriber, password, row[2:])
        columns = ", ".join(f"`{name}` = %s" for name in written)
        with connection.cursor() as cursor:
            cursor.execute(f"UPDATE {self._name} SET {columns} {self._exactly}", (*written.values(), *_key(row)))

    def delete(self, connection: Connection, row: Row) -> None:
        """Delete a row."""
        with connection.cursor() as cursor:
            cursor.execute(f"DELETE FROM {self._name} {self._exactly}", _key(row))

    def _new(self, subscriber: Subscriber, password: str) -> dict[str, object]:
        table = self._table
        named = {table.username_column: subscriber.username, table.domain_column: subscriber.domain}
        return {**self.layout.required, **named, **self._written(subscriber, password)}

    def _written(self, subscriber: Subscriber, password: str, old: Sequence[object] = ()) -> dict[str, object]:
        """Return the value of each column that tells of the password."""
        clear_text: dict[str, object] = {}
        if self.layout.has_clear_text:
            clear_text[self._table.password_column] = password if self._table.calculate_ha1 else ""
        hashes = self._hashes(subscriber, old)
        # One column may be configured for both; then it keeps what is read of it.
        return {**hashes, **clear_text} if self._table.calculate_ha1 else {**clear_text, **hashes}

    def _hashes(self, subscriber: Subscriber, old: Sequence[object] = ()) -> dict[str, object]:
        forms = {"ha1": subscriber.ha1, "ha1b": subscriber.ha1b}
        olds = [*map(text_of, old), *[""] * len(self.layout.hashes)]
        columns = zip(self.layout.hashes, olds, strict=False)
        return {column.name: column.written(forms[column.form], was) for column, was in columns}


def _key(row: Row) -> tuple[Any, ...]:
    return row[0], row[1], text_of(row[0]).encode()
