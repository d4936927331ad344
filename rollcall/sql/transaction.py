"""A change in one transaction, and whether anything of a failed one can have stayed."""

from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from pymysql.err import MySQLError

from rollcall.sql.connecting import Connection
from rollcall.sql.errors import has_no_effect

T = TypeVar("T")


class Undone(Exception):
    """Nothing of the change can have stayed, so that it may be tried again; `__cause__` says why."""


def transacted(change: Callable[[Connection], T], connection: Connection) -> T:
    """Return what `change` returns, once it is committed; otherwise it is rolled back and its error raised.

    Raises Undone when the connection was dead before the first statement, and when the server refused and did nothing.
    An error of the connection later says nothing about the change: the commit may have reached the server.
    """
    try:
        connection.begin()
    except MySQLError as error:
        raise Undone from error
    try:
        value = change(connection)
        connection.commit()
    except BaseException as error:
        _roll_back(connection)
        if has_no_effect(error):
            raise Undone from error
        raise
    return value


def _roll_back(connection: Connection) -> None:
    """End the transaction; when that cannot be said the connection is closed, and the server ends it."""
    try:
        connection.rollback()
    except MySQLError:
        with suppress(MySQLError):
            connection.close()
