"""A connection for commands: to the server that takes writes, whichever that is, else to one that can be read."""

from collections.abc import Sequence

from pymysql.err import MySQLError

from rollcall.sql.config import MysqlConfig
from rollcall.sql.connecting import Connection, connect
from rollcall.sql.contract import Role
from rollcall.sql.errors import SqlUnavailable
from rollcall.sql.looking import look


def open_writer(mysql: MysqlConfig) -> tuple[Connection, str | None]:
    """Return a connection, and why nothing can be written on it; None when it can. Raises SqlUnavailable.

    That is one to the primary; while it is away or read only, to the one replica that was promoted; else to any that
    answers. When the primary and a replica both seem to be it, nobody is written to: a command cannot know which of the
    two the registrars use. (With `lag` "none" several may take writes by design.)
    """
    found: list[Connection] = []
    writers: list[tuple[str, Connection]] = []
    problems: list[str] = []
    for address in (mysql.primary, *mysql.replicas):
        try:
            connection = connect(mysql, address)
            found.append(connection)
            if _takes_writes(connection, "primary" if address == mysql.primary else "replica", mysql):
                writers.append((address, connection))
        except (SqlUnavailable, MySQLError) as error:
            problems.append(str(error))
    if not found:
        raise SqlUnavailable("; ".join(problems))
    is_clear = len(writers) == 1 or (bool(writers) and mysql.lag == "none")
    chosen = writers[0][1] if is_clear else found[0]
    for connection in found:
        if connection is not chosen:
            connection.close()
    return chosen, None if is_clear else _why_not(mysql, [address for address, _ in writers], problems)


def _why_not(mysql: MysqlConfig, writers: Sequence[str], problems: Sequence[str]) -> str:
    if writers:
        return f"{' and '.join(writers)} take writes and follow nobody; only one of them may"
    reason = "; ".join(problems) or f"MySQL at {mysql.primary} is read only"
    return f"{reason}; no replica was promoted" if mysql.replicas else reason


def _takes_writes(connection: Connection, role: Role, mysql: MysqlConfig) -> bool:
    seen = look(connection, role, mysql.lag)
    return not (seen.is_read_only or seen.follows)
