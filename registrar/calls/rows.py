"""The rows of rollcall_call: what is written into them, in any order and any number of times, and what is read.

A part of a call either makes its row or completes it; to write it again changes nothing. Of a call that was answered
the first end counts, for both sides may hang up at once. A call that was not may be tried again under the same
Call-ID, and then the last try counts.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import mysql, sqlite

from registrar.calls.parts import CallPart
from registrar.database.tables import calls

SLICE = 1000
"""Rows that are removed at a time: some ten milliseconds, in which nobody else waits for them."""

LOCK = "rollcall retention"

_MOMENTS = ("started_at", "answered_at", "ended_at")
# As they are written: in MySQL an assignment sees what those before it have set.
_KEPT_ONCE_KNOWN = ("caller_tag", "caller", "callee", "answered_at", "status", "node", "media_node",
                    "quality")
_COLUMNS = ("call_id", "tag_low", "tag_high", *_KEPT_ONCE_KNOWN, "hung_up_by", "hung_up_tag", "started_at", "ended_at")


def values_of(part: CallPart) -> dict[str, Any]:
    """Return a part as values of the columns. Raises ValueError when no database can hold them."""
    values: dict[str, Any] = {name: getattr(part, name, None) for name in _COLUMNS}
    for name in _MOMENTS:
        if values[name] is not None:
            values[name] = as_moment(values[name])
    return values


def as_moment(seconds: float) -> datetime:
    """Return a moment as the columns hold it: UTC, without saying so. Raises ValueError."""
    try:
        return datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None)
    except (OverflowError, OSError) as problem:
        raise ValueError(f"{seconds} is no moment") from problem


def write(connection: sa.Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Make or complete the rows of these parts, in the connection's transaction."""
    statement = _IN_SQLITE if connection.dialect.name == "sqlite" else _IN_MYSQL
    connection.execute(statement, rows)


def remove_older(connection: sa.Connection, before: datetime) -> int:
    """Remove a slice of the calls that started earlier; return how many those were.

    One process at a time does it for all that share a database; the others remove none.
    """
    in_mysql = connection.dialect.name != "sqlite"
    if in_mysql and connection.scalar(sa.text("SELECT GET_LOCK(:name, 0)"), {"name": LOCK}) != 1:
        return 0
    try:
        if in_mysql:
            older = sa.text("DELETE FROM rollcall_call WHERE started_at < :before ORDER BY started_at LIMIT :most")
            return connection.execute(older, {"before": before, "most": SLICE}).rowcount
        oldest = sa.select(calls.c.id).where(calls.c.started_at < before).order_by(calls.c.started_at).limit(SLICE)
        return connection.execute(sa.delete(calls).where(calls.c.id.in_(oldest))).rowcount
    finally:
        connection.commit()
        if in_mysql:
            connection.execute(sa.text("SELECT RELEASE_LOCK(:name)"), {"name": LOCK})


def recent(connection: sa.Connection, most: int, since: datetime | None = None,
           party: str | None = None) -> list[dict[str, Any]]:
    """Return the latest calls, the newest first; those since a moment, and of one address, if asked for."""
    chosen = sa.select(calls).order_by(calls.c.started_at.desc(), calls.c.id.desc()).limit(most)
    if since is not None:
        chosen = chosen.where(calls.c.started_at >= since)
    if party is None:
        return _read(connection, chosen)
    # Two questions, for one with OR would use none of the two indexes.
    found = {row["id"]: row for column in (calls.c.caller, calls.c.callee)
             for row in _read(connection, chosen.where(column == party))}
    return sorted(found.values(), key=lambda row: (row["started_at"], row["id"]), reverse=True)[:most]


def _read(connection: sa.Connection, chosen: sa.Select[Any]) -> list[dict[str, Any]]:
    return [dict(row) for row in connection.execute(chosen).mappings()]


def _completed(new: Any, least: Any, greatest: Any) -> list[tuple[str, Any]]:
    """Return what becomes of each column of a row that is there when a part comes: the row's are `calls.c`."""
    old = calls.c
    tag = sa.func.coalesce(old.caller_tag, new.caller_tag)
    ends_first = sa.or_(old.ended_at.is_(None), new.ended_at < old.ended_at)
    hung_up_tag = sa.case((ends_first, sa.func.coalesce(new.hung_up_tag, old.hung_up_tag)), else_=old.hung_up_tag)
    by = sa.case((hung_up_tag.is_(None), sa.null()), (tag.is_(None), sa.null()), (hung_up_tag == tag, _CALLER),
                 else_=_CALLEE)
    both_ended = sa.case((old.tag_low == _NOBODY, greatest(old.ended_at, new.ended_at)),
                         else_=least(old.ended_at, new.ended_at))
    return [
        # Before the columns that they are made of are set.
        ("hung_up_by", by),
        ("hung_up_tag", hung_up_tag),
        *((name, sa.func.coalesce(new[name], old[name])) for name in _KEPT_ONCE_KNOWN),
        ("started_at", least(old.started_at, new.started_at)),
        ("ended_at", sa.func.coalesce(both_ended, old.ended_at, new.ended_at)),
    ]


def _in_mysql() -> sa.Executable:
    insert = mysql.insert(calls).values({name: sa.bindparam(name) for name in _COLUMNS})
    return insert.on_duplicate_key_update(_completed(insert.inserted, sa.func.least, sa.func.greatest))


def _in_sqlite() -> sa.Executable:
    insert = sqlite.insert(calls).values({name: sa.bindparam(name) for name in _COLUMNS})
    completed = dict(_completed(insert.excluded, sa.func.min, sa.func.max))
    return insert.on_conflict_do_update(index_elements=["call_id", "tag_low", "tag_high"], set_=completed)


# Not parameters: PyMySQL makes many rows one statement only when what follows them has none.
_CALLER: sa.ColumnElement[str] = sa.literal_column("'caller'")
_CALLEE: sa.ColumnElement[str] = sa.literal_column("'callee'")
_NOBODY: sa.ColumnElement[str] = sa.literal_column("''")

_IN_MYSQL = _in_mysql()
_IN_SQLITE = _in_sqlite()
