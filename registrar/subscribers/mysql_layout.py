"""What a table of subscribers in MySQL has of the configured columns, and what its rows say."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from pymysql.constants import ER
from pymysql.err import MySQLError

from registrar.auth import StoreUnavailable, Subscriber
from registrar.subscribers.columns import TableConfig
from rollcall.sip.digest import ALGORITHMS, HEX_DIGITS, ha1
from rollcall.sip.values import frozen
from rollcall.sql.connecting import Connection
from rollcall.sql.errors import code_of

CHANGES_TABLE = "rollcall_change"

NOT_OURS = (ER.NO_SUCH_TABLE, ER.TABLEACCESS_DENIED_ERROR)
"""Errors of a table that is not there for us: who has rights to some tables only is not told which others there are."""

_HEX = re.compile(r"[0-9a-fA-F]+")
# What a new row says in a column of a site's own that must say something: as MySQL itself would have it, and of a
# time what Kamailio's tables say for "unknown".
_NOTHING: tuple[tuple["re.Pattern[str]", object], ...] = (
    (re.compile(r".*(char|text|blob|binary)"), ""),
    (re.compile(r"(tiny|small|medium|big)?int|decimal|numeric|float|double|real|bit"), 0),
    (re.compile(r"date|time"), "2000-01-01 00:00:01"),
)


@frozen
class HashColumn:
    """A column for hashes: of one algorithm, or of the one that the number of digits tells."""

    name: str
    form: str
    """Of the name in A1: "ha1", or with the domain "ha1b"."""
    algorithms: tuple[str, ...]
    """The first one that a subscriber has is written."""

    def algorithm_of(self, text: str) -> str | None:
        """Return by which algorithm `text` is a hash; None when it is none."""
        if _HEX.fullmatch(text) is None:
            return None
        return next((each for each in self.algorithms if HEX_DIGITS[each] == len(text)), None)

    def written(self, hashes: Mapping[str, str], instead_of: str = "") -> str:
        """Return which of a subscriber's hashes to write instead of an old text: by its algorithm if that can be."""
        held = self.algorithm_of(instead_of)
        for algorithm in (held, *self.algorithms) if held is not None else self.algorithms:
            if algorithm in hashes:
                return hashes[algorithm]
        return ""


@frozen
class Layout:
    """What the table has."""

    hashes: tuple[HashColumn, ...]
    has_clear_text: bool
    required: Mapping[str, object]
    """Columns of the site's own that a new row has to give a value, and which."""
    order: str
    """The column that tells which row is the oldest."""
    has_changes: bool
    """Whether there is a table for what was changed."""


def read_layout(connection: Connection, table: TableConfig) -> Layout:
    """Return what the table has. Raises StoreUnavailable when that does not do."""
    columns = _columns(connection, table.table)
    if columns is None:
        raise StoreUnavailable(f"the database has no table {table.table}; `rollcall db upgrade` makes one")
    names = {str(column[0]).lower() for column in columns}
    hashes = tuple(column for column in _hash_columns(table) if column.name.lower() in names)
    has_clear_text = table.password_column.lower() in names
    missing = [each for each in (table.username_column, table.domain_column) if each.lower() not in names]
    if not hashes and not (has_clear_text and table.calculate_ha1):
        missing.append(table.password_column if table.calculate_ha1 else table.ha1_column)
    if missing:
        raise StoreUnavailable(f"the table {table.table} has no column {' and no '.join(missing)}")
    ours = {table.username_column, table.domain_column, table.password_column, *(each.name for each in hashes)}
    return Layout(
        hashes,
        has_clear_text,
        _required(columns, {each.lower() for each in ours}),
        _oldest_first(columns) or table.domain_column,
        _columns(connection, CHANGES_TABLE) is not None,
    )


def subscriber_of(
    layout: Layout, table: TableConfig, username: str, domain: str, values: Sequence[object]
) -> Subscriber:
    """Return the subscriber of a row that has these values in its columns for hashes, and last the clear text.

    What is no hash of an algorithm that its column may have is as if it were not there.
    """
    password = text_of(values[-1])
    if table.calculate_ha1 and password:
        return _of_clear_text(username, domain, password)
    forms: dict[str, dict[str, str]] = {"ha1": {}, "ha1b": {}}
    for column, value in zip(layout.hashes, values, strict=False):
        digits = text_of(value)
        algorithm = column.algorithm_of(digits)
        if algorithm is not None:
            forms[column.form][algorithm] = digits.lower()
    return Subscriber(username, domain, forms["ha1"], forms["ha1b"])


def text_of(value: object) -> str:
    """Return what a column says as text, whatever type it has; NULL is nothing."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return "" if value is None else str(value)


def _of_clear_text(username: str, domain: str, password: str) -> Subscriber:
    long_name = f"{username}@{domain}"
    return Subscriber(
        username,
        domain,
        {algorithm: ha1(algorithm, username, domain, password) for algorithm in ALGORITHMS},
        {algorithm: ha1(algorithm, long_name, domain, password) for algorithm in ALGORITHMS},
    )


def _hash_columns(table: TableConfig) -> tuple[HashColumn, ...]:
    """Return all that are configured; those of one algorithm last, so that they count where two say something."""
    by_digits = "MD5", table.hash_of_64_digits
    all_columns = (
        HashColumn(table.ha1_column, "ha1", by_digits),
        HashColumn(table.ha1b_column, "ha1b", by_digits),
        HashColumn(table.ha1_sha256_column, "ha1", ("SHA-256",)),
        HashColumn(table.ha1_sha512t256_column, "ha1", ("SHA-512-256",)),
    )
    return tuple(column for column in all_columns if column.name)


def _columns(connection: Connection, table: str) -> Sequence[Sequence[Any]] | None:
    """Return (name, type, "YES" if it may be NULL, key, default, extra) of each column; None without such a table."""
    with connection.cursor() as cursor:
        try:
            cursor.execute(f"SHOW COLUMNS FROM `{table}`")
        except MySQLError as error:
            if code_of(error) == ER.NO_SUCH_TABLE or (table == CHANGES_TABLE and code_of(error) in NOT_OURS):
                return None
            raise
        found: Sequence[Sequence[Any]] = cursor.fetchall()
    return found


def _required(columns: Sequence[Sequence[Any]], ours: set[str]) -> dict[str, object]:
    values: dict[str, object] = {}
    for name, kind, may_be_null, _, default, extra in columns:
        if may_be_null == "YES" or default is not None or extra or name.lower() in ours:
            continue
        for pattern, nothing in _NOTHING:
            if pattern.match(text_of(kind)):
                values[name] = nothing
                break
    return values


def _oldest_first(columns: Sequence[Sequence[Any]]) -> str | None:
    """Return the primary key, when it is one column."""
    keys = [str(column[0]) for column in columns if column[3] == "PRI"]
    return keys[0] if len(keys) == 1 else None
