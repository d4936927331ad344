"""A table of subscribers in MySQL, as Kamailio and OpenSIPS make them, on a connection that somebody else has.

It is used as it is: no statement here alters a table, and none writes a column that is not configured (but a new row
gives something to columns that must say something). Every change is also noted in the table rollcall_change where there
is one, in the same transaction; that is for others to begin and to commit. What MySQL itself refuses is raised as it
is, where it is not said otherwise.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from pymysql.constants import ER
from pymysql.err import DataError, IntegrityError, MySQLError

from registrar.auth import Subscriber
from registrar.subscribers.bulk import Bulk, Name
from registrar.subscribers.columns import TableConfig
from registrar.subscribers.contract import (
    PAGE_SIZE,
    InvalidSubscriber,
    NoSuchSubscriber,
    SubscriberExists,
    checked_domain,
    checked_password,
    checked_username,
    subscriber_with,
)
from registrar.subscribers.mysql_changes import ANYBODY, note_changes, read_changes
from registrar.subscribers.mysql_layout import read_layout, text_of
from registrar.subscribers.mysql_statements import Row, Statements
from registrar.subscribers.source import Changed
from rollcall.sql.connecting import Connection
from rollcall.sql.errors import code_of

T = TypeVar("T")

_COLUMN = re.compile(r"column '?([^' ]+)")


class MysqlRows:
    """What can be done with the rows. Any thread may call, each with a connection of its own.

    A collation may take Alice for alice; here both are what they are. Without `use_domain` the row is somebody's that
    has the username and the domain that is asked for, else the oldest one with the username; its hashes are those for
    the realm of whatever domain is asked for.
    """

    def __init__(self, table: TableConfig) -> None:
        self._table = table
        self._statements: Statements | None = None

    def find(self, connection: Connection, username: str, domain: str) -> Subscriber | None:
        """Return the subscriber or None."""
        return self._read(connection, lambda statements: statements.find(connection, username, domain))

    def page(self, connection: Connection, after: Name = ("", ""), size: int = PAGE_SIZE) -> list[Subscriber]:
        """Return the first `size` subscribers after this username and domain, in the table's order; [] at the end."""
        return self._read(connection, lambda statements: statements.page(connection, after, size))

    def count(self, connection: Connection) -> int:
        """Return how many rows there are."""
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT COUNT(*) FROM `{self._table.table}`")
            return int(cursor.fetchall()[0][0])

    def changes(self, connection: Connection, since: int | None) -> Changed | None:
        """Return who was changed, see Source.changes; None when nobody notes it."""
        return read_changes(connection, since)

    def add(self, connection: Connection, username: str, domain: str, password: str) -> None:
        """Add a subscriber. Raises SubscriberExists, InvalidSubscriber."""
        subscriber = subscriber_with(username, domain, password)
        statements = self._learn(connection)
        # An index need not be there, and could not tell without use_domain.
        if statements.row(connection, username, subscriber.domain) is not None:
            raise SubscriberExists(f"{username}@{domain} exists already")
        with _refusals(username, domain):
            statements.insert(connection, [(subscriber, checked_password(password))])
        self._note(connection, statements, [(username, subscriber.domain)])

    def set_password(self, connection: Connection, username: str, domain: str, password: str) -> None:
        """Give a subscriber another password. Raises NoSuchSubscriber, InvalidSubscriber.

        Every column for hashes gets the new one, or nothing. The password in clear text is only kept with
        `calculate_ha1`; else that column is emptied, for it would tell the old one.
        """
        subscriber = subscriber_with(username, domain, password)
        statements = self._learn(connection)
        row = _present(statements.row(connection, username, subscriber.domain, lock=True), username, domain)
        with _refusals(username, domain):
            statements.update(connection, row, subscriber, checked_password(password))
        self._note(connection, statements, [(username, subscriber.domain)])

    def remove(self, connection: Connection, username: str, domain: str) -> None:
        """Remove a subscriber. Raises NoSuchSubscriber, InvalidSubscriber."""
        name = checked_username(username), checked_domain(domain)
        statements = self._learn(connection)
        statements.delete(connection, _present(statements.row(connection, *name, lock=True), username, domain))
        self._note(connection, statements, [name])

    def add_hashed(
        self, connection: Connection, subscribers: Sequence[Subscriber], replace: bool = False
    ) -> Bulk:
        """Add many of whom hashes are known; who is there already gets these instead, or is left alone.

        Their names have been checked. Only who is replaced is noted as changed: nobody remembers the hashes of one who
        was not there.
        """
        statements = self._learn(connection)
        adding = _Adding(connection, statements)
        adding.add(subscribers, replace)
        self._note(connection, statements, adding.replaced)
        return Bulk(adding.added, len(adding.replaced), tuple(adding.existing), tuple(adding.refused))

    def forget(self, connection: Connection, names: Sequence[Name] | None) -> bool:
        """Note that these were changed by others, None: perhaps anybody; return False where nothing can be noted."""
        statements = self._learn(connection)
        self._note(connection, statements, [(ANYBODY, "")] if names is None else names)
        return statements.layout.has_changes

    def _read(self, connection: Connection, query: Callable[[Statements], T]) -> T:
        """Return what `query` does; when a column has gone since the table was looked at, look again."""
        statements = self._statements
        if statements is None:
            return query(self._learn(connection))
        try:
            return query(statements)
        except MySQLError as error:
            if code_of(error) != ER.BAD_FIELD_ERROR:
                raise
        return query(self._learn(connection))

    def _learn(self, connection: Connection) -> Statements:
        """Look at what the table has: before the first query, and before each change, for those are rare."""
        self._statements = statements = Statements(self._table, read_layout(connection, self._table))
        return statements

    @staticmethod
    def _note(connection: Connection, statements: Statements, names: Sequence[Name]) -> None:
        if statements.layout.has_changes:
            note_changes(connection, names)


class _Adding:
    """Many subscribers on their way into the table."""

    def __init__(self, connection: Connection, statements: Statements) -> None:
        self._connection = connection
        self._statements = statements
        self.added = 0
        self.replaced: list[Name] = []
        self.existing: list[Name] = []
        self.refused: list[tuple[str, str, str]] = []

    def add(self, subscribers: Sequence[Subscriber], replace: bool) -> None:
        """Add them. When two have the same name, the second one finds the first one there."""
        there = self._there(subscribers)
        new: dict[Name, Subscriber] = {}
        for each in subscribers:
            name = each.username, each.domain
            key = self._statements.identity(*name)
            row = self._statements.pick(there.get(each.username, ()), *name)
            if not self._statements.takes(each):
                self.refused.append((*name, "the table has no column for such hashes"))
            elif row is None and key not in new:
                new[key] = each
            elif not replace:
                self.existing.append(name)
            elif row is None:
                new[key] = each
                self.replaced.append(name)
            else:
                self._replace(row, each)
        if new:
            self._insert(list(new.values()))

    def _there(self, subscribers: Sequence[Subscriber]) -> dict[str, list[Row]]:
        there: dict[str, list[Row]] = {}
        for row in self._statements.rows(self._connection, [(each.username, each.domain) for each in subscribers]):
            there.setdefault(text_of(row[0]), []).append(row)
        return there

    def _replace(self, row: Row, subscriber: Subscriber) -> None:
        self._statements.update(self._connection, row, subscriber, "")
        self.replaced.append((subscriber.username, subscriber.domain))

    def _insert(self, subscribers: Sequence[Subscriber]) -> None:
        """Add rows in one statement; when the table does not take all of them, one by one."""
        try:
            self._statements.insert(self._connection, [(each, "") for each in subscribers])
        except (IntegrityError, DataError):
            for each in subscribers:
                self._insert_one(each)
        else:
            self.added += len(subscribers)

    def _insert_one(self, subscriber: Subscriber) -> None:
        name = subscriber.username, subscriber.domain
        try:
            with _refusals(*name):
                self._statements.insert(self._connection, [(subscriber, "")])
        except SubscriberExists:
            self.existing.append(name)
        except InvalidSubscriber as error:
            self.refused.append((*name, str(error)))
        else:
            self.added += 1


def _present(row: Row | None, username: str, domain: str) -> Row:
    if row is None:
        raise NoSuchSubscriber(f"there is no subscriber {username}@{domain}")
    return row


@contextmanager
def _refusals(username: str, domain: str) -> Iterator[None]:
    """Say in our words why a row is not taken. MySQL's own may contain a part of the password."""
    try:
        yield
    except IntegrityError as error:
        if code_of(error) != ER.DUP_ENTRY:
            raise
        raise SubscriberExists(f"{username}@{domain} exists already, perhaps in other letters") from None
    except DataError as error:
        found = _COLUMN.search(str(error.args[-1]))
        column = found[1] if found else "one of its columns"
        raise InvalidSubscriber(f"{username}@{domain} does not fit into the table: too much for {column}") from None
