"""Subscribers in MySQL, in a table of Kamailio's, OpenSIPS' or our own: asked in threads, nothing is remembered."""

from collections.abc import Sequence
from functools import partial
from typing import TypeVar

from pymysql.constants import ER
from pymysql.err import MySQLError
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from registrar.auth import StoreUnavailable, Subscriber
from registrar.subscribers.bulk import Name
from registrar.subscribers.columns import TableConfig
from registrar.subscribers.mysql_layout import CHANGES_TABLE
from registrar.subscribers.mysql_rows import MysqlRows
from registrar.subscribers.source import Changed
from rollcall.sql.contract import Sql
from rollcall.sql.errors import SqlUnavailable, code_of, told

T = TypeVar("T")


class MysqlSource:
    """A Source over servers that others use, too: it neither starts nor stops them."""

    _log = Logger()

    def __init__(self, sql: Sql, table: TableConfig) -> None:
        self._sql = sql
        self._table = table
        self._rows = MysqlRows(table)
        self._is_running = False
        self._has_told = False

    async def start(self) -> None:
        """Begin to answer; no server need be there."""
        self._is_running = True

    async def stop(self) -> None:
        """Answer no more."""
        self._is_running = False

    @property
    def may_be_late(self) -> bool:
        """Whether only a replica that is behind has answered lately."""
        return self._sql.may_be_late

    async def find(self, username: str, domain: str, fresh: bool) -> Subscriber | None:
        """Return the subscriber or None. `fresh`: from the server that takes writes, if that can be had."""
        self._check()
        return await self._answer(self._sql.read(partial(self._rows.find, username=username, domain=domain), fresh))

    async def page(self, after: Name, size: int) -> Sequence[Subscriber]:
        """Return the first `size` subscribers that come after this username and domain; none at the end."""
        self._check()
        return await self._answer(self._sql.read(partial(self._rows.page, after=after, size=size)))

    async def count(self) -> int:
        """Return how many subscribers there are."""
        self._check()
        return await self._answer(self._sql.read(self._rows.count))

    async def add(self, username: str, domain: str, password: str) -> None:
        """Add a subscriber."""
        self._check()
        add = partial(self._rows.add, username=username, domain=domain, password=password)
        await self._answer(self._sql.write(add))

    async def set_password(self, username: str, domain: str, password: str) -> None:
        """Give a subscriber another password."""
        self._check()
        change = partial(self._rows.set_password, username=username, domain=domain, password=password)
        await self._answer(self._sql.write(change))

    async def remove(self, username: str, domain: str) -> None:
        """Remove a subscriber."""
        self._check()
        await self._answer(self._sql.write(partial(self._rows.remove, username=username, domain=domain)))

    async def changes(self, since: int | None) -> Changed:
        """Return who was changed since a mark, as far as it is noted: by us it is, where there is our table for it."""
        self._check()
        changed = await self._answer(self._sql.read(partial(self._rows.changes, since=since), fresh=True))
        if changed is None and not self._has_told:
            self._log.warn("there is no table {table}, so changes of subscribers are seen late; `rollcall db upgrade` "
                           "makes it", table=CHANGES_TABLE)
        self._has_told = changed is None
        # Another server may have the table, and goes on from there.
        return Changed(since or 0, ()) if changed is None else changed

    async def _answer(self, asked: "Deferred[T]") -> T:
        try:
            return await asked
        except SqlUnavailable as error:
            raise StoreUnavailable(str(error)) from error
        except MySQLError as error:
            raise refused(error, self._table) from error

    def _check(self) -> None:
        if not self._is_running:
            raise StoreUnavailable("the subscribers are closed")


def refused(error: MySQLError, table: TableConfig) -> StoreUnavailable:
    """Return what is raised when MySQL answers, but with an error that is about the table or our rights there."""
    if code_of(error) == ER.NO_SUCH_TABLE:
        return StoreUnavailable(f"the database has no table {table.table}; `rollcall db upgrade` makes one")
    return StoreUnavailable(f"the table {table.table} in MySQL: {told(error)}")
