"""What a server says about itself: whether it takes writes, whom it follows, and how far it is behind.

MariaDB: https://mariadb.com/kb/en/show-replica-status/; MySQL: SHOW REPLICA STATUS since 8.0.22, alone since 8.4.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from attrs import frozen
from pymysql.cursors import DictCursor
from pymysql.err import MySQLError

from rollcall.sql.connecting import Connection
from rollcall.sql.contract import Role
from rollcall.sql.errors import code_of

Lag = Literal["seconds_behind", "heartbeat", "none"]

NO_SUCH_TABLE = 1146
SYNTAX_ERROR = 1064
DENIED = frozenset({1142, 1143, 1227})
MICROSECOND = 1e-6
WRITABLE = ("0", "OFF")
"""What read_only is where writes are taken: a number, or a word in versions of MariaDB that know more kinds."""

HEARTBEAT_AGE = "SELECT TIMESTAMPDIFF(MICROSECOND, at, UTC_TIMESTAMP(6)) FROM rollcall_heartbeat WHERE id = 1"
HEARTBEAT = "REPLACE INTO rollcall_heartbeat (id, at) VALUES (1, UTC_TIMESTAMP(6))"


@frozen(kw_only=True)
class Look:
    """What was seen at one moment."""

    is_read_only: bool
    follows: bool | None = None
    """Whether it applies what another server sends; None when that was not asked or may not be."""
    lag_seconds: float | None = None
    unfit: str | None = None
    """Why nobody can say how far it is behind; None when somebody can, or nobody asks."""
    notice: str | None = None
    """Something that an operator should set right."""


def look(connection: Connection, role: Role, lag: Lag) -> Look:
    """Ask a server, in a thread. Raises what PyMySQL raises when it does not answer."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT @@GLOBAL.read_only")
        is_read_only = str(cursor.fetchone()[0]) not in WRITABLE
    if role == "primary" or (lag == "none" and is_read_only):
        return Look(is_read_only=is_read_only)
    if lag == "heartbeat":
        follows = None if is_read_only else _follows(connection)
        return _by_heartbeat(connection, is_read_only, follows)
    try:
        rows = _replication(connection)
    except MySQLError as error:
        if code_of(error) not in DENIED:
            raise
        return Look(is_read_only=is_read_only, notice=_NO_RIGHT if lag == "seconds_behind" else None)
    if lag == "none":
        return Look(is_read_only=is_read_only, follows=applies(rows))
    return by_status(rows, is_read_only)


def beat(connection: Connection) -> None:
    """Write the moment where replicas will show it."""
    with connection.cursor() as cursor:
        cursor.execute(HEARTBEAT)


def by_status(rows: Sequence[Mapping[str, Any]], is_read_only: bool) -> Look:
    """Return what the rows of SHOW REPLICA STATUS say; of several sources the one furthest behind counts."""
    lags = [_value(row, "Seconds_Behind_Master", "Seconds_Behind_Source") for row in rows]
    unfit = None
    if not rows:
        unfit = "it follows nobody"
    elif None in lags:
        unfit = next(_why(row) for row, lag in zip(rows, lags, strict=True) if lag is None)
    known = [float(lag) for lag in lags if lag is not None]
    return Look(
        is_read_only=is_read_only,
        follows=applies(rows),
        lag_seconds=max(known) if known and not unfit else None,
        unfit=unfit,
    )


def applies(rows: Sequence[Mapping[str, Any]]) -> bool:
    """Tell whether what others send is applied here: then whoever writes here loses it, or breaks replication."""
    return any(_value(row, "Slave_SQL_Running", "Replica_SQL_Running") == "Yes" for row in rows)


_NO_RIGHT = "it may not be asked how far it is behind: grant REPLICA MONITOR (MySQL: REPLICATION CLIENT), or set lag"
_NO_HEARTBEAT = "it has no table rollcall_heartbeat, so that nobody knows how far it is behind: run rollcall db upgrade"


def _by_heartbeat(connection: Connection, is_read_only: bool, follows: bool | None) -> Look:
    try:
        with connection.cursor() as cursor:
            cursor.execute(HEARTBEAT_AGE)
            row = cursor.fetchone()
    except MySQLError as error:
        if code_of(error) != NO_SUCH_TABLE:
            raise
        return Look(is_read_only=is_read_only, follows=follows, notice=_NO_HEARTBEAT)
    age = max(row[0] * MICROSECOND, 0.0) if row else None
    unfit = None if row else "no heartbeat has come yet"
    return Look(is_read_only=is_read_only, follows=follows, lag_seconds=age, unfit=unfit)


def _follows(connection: Connection) -> bool | None:
    try:
        return applies(_replication(connection))
    except MySQLError as error:
        if code_of(error) in DENIED:
            return None
        raise


def _replication(connection: Connection) -> Sequence[Mapping[str, Any]]:
    with connection.cursor(DictCursor) as cursor:
        try:
            cursor.execute("SHOW REPLICA STATUS")
        except MySQLError as error:
            if code_of(error) != SYNTAX_ERROR:
                raise
            cursor.execute("SHOW SLAVE STATUS")
        rows: Sequence[Mapping[str, Any]] = cursor.fetchall()
    return rows


def _value(row: Mapping[str, Any], *names: str) -> Any:
    return next((row[name] for name in names if name in row), None)


def _why(row: Mapping[str, Any]) -> str:
    receiving = _value(row, "Slave_IO_Running", "Replica_IO_Running")
    applying = _value(row, "Slave_SQL_Running", "Replica_SQL_Running")
    error = _value(row, "Last_SQL_Error") or _value(row, "Last_IO_Error") or "no error told"
    return f"replication stands still (receiving: {receiving}, applying: {applying}): {' '.join(str(error).split())}"
