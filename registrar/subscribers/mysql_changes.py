"""Our table in MySQL of who was changed: how it is written and how it is read."""

from collections.abc import Sequence
from typing import Any

from pymysql.err import MySQLError

from registrar.subscribers.bulk import Name
from registrar.subscribers.mysql_layout import CHANGES_TABLE, NOT_OURS
from registrar.subscribers.source import Changed
from rollcall.sql.connecting import Connection
from rollcall.sql.errors import code_of

KEPT_CHANGES = 10_000
"""Older ones are deleted. Who did not look for so many has to take it that anybody was changed."""

TRIM_EVERY = 100
"""So many changes come between two looks for old ones: each look locks the oldest row, for which others would wait."""

MAX_CHANGES = 1000
"""Names told at a time; when there are more, it is said that anybody was changed."""

OPEN_SECONDS = 10
"""A number that is missing may still come, for transactions take their numbers before they end: for so long it is
waited for. A change takes milliseconds, and its locks are waited for no longer than a query may take."""

ANYBODY = "*"

_OLD = f"at < UTC_TIMESTAMP(6) - INTERVAL {OPEN_SECONDS} SECOND"
_START = (
    f"SELECT COALESCE((SELECT MAX(id) FROM {CHANGES_TABLE} WHERE {_OLD}),"
    f" (SELECT MIN(id) - 1 FROM {CHANGES_TABLE}), 0)"
)
_ENDS = f"SELECT COALESCE(MIN(id), 1), COALESCE(MAX(id), 0) FROM {CHANGES_TABLE}"
_SINCE = f"SELECT id, username, domain, {_OLD} FROM {CHANGES_TABLE} WHERE id > %s ORDER BY id LIMIT {MAX_CHANGES + 1}"
_TRIM = f"DELETE FROM {CHANGES_TABLE} WHERE id <= %s ORDER BY id LIMIT {MAX_CHANGES}"


def note_changes(connection: Connection, names: Sequence[Name]) -> None:
    """Note that these subscribers are changed by the transaction that runs."""
    if not names:
        return
    values = ", ".join(["(%s, %s, UTC_TIMESTAMP(6))"] * len(names))
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {CHANGES_TABLE} (username, domain, at) VALUES {values}",
            [part for name in names for part in name],
        )
        number = cursor.lastrowid  # of the first one
        if number > KEPT_CHANGES and number % TRIM_EVERY < len(names):
            cursor.execute(_TRIM, (number - KEPT_CHANGES,))


def read_changes(connection: Connection, since: int | None) -> Changed | None:
    """Return who was changed, see Source.changes; None when there is no table of it.

    Somebody may be told twice, for a change is told until no earlier one can come any more.
    """
    try:
        with connection.cursor() as cursor:
            if since is None:
                cursor.execute(_START)
                return Changed(int(cursor.fetchall()[0][0]), ())
            cursor.execute(_ENDS)
            first, last = cursor.fetchall()[0]
            if last <= since:  # less: this server is behind, or was restored; what comes is told again
                return Changed(int(last), ())
            if since < first - 1:
                return Changed(int(last), None)
            cursor.execute(_SINCE, (since,))
            return _changed(since, int(last), cursor.fetchall())
    except MySQLError as error:
        if code_of(error) in NOT_OURS:
            return None
        raise


def _changed(since: int, last: int, rows: Sequence[Sequence[Any]]) -> Changed:
    if len(rows) > MAX_CHANGES or any(row[1] == ANYBODY for row in rows):
        return Changed(last, None)
    mark = since
    for number, _, _, is_old in rows:
        if number != mark + 1 and not is_old:
            break
        mark = number
    return Changed(mark, tuple((str(row[1]), str(row[2])) for row in rows))
