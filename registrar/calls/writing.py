"""Records of calls on their way from the spool into the database. Everything here waits; it is for one thread.

Importing this module takes a while, because of SQLAlchemy; import it where it is needed.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, SQLAlchemyError, StatementError
from twisted.logger import Logger

from registrar.calls.config import CallsConfig
from registrar.calls.parts import NoPart, part_of
from registrar.calls.rows import SLICE, as_moment, remove_older, values_of, write
from registrar.calls.segments import Segment
from registrar.calls.spool import Spool
from rollcall.sql.errors import SqlUnavailable, code_of, told

DAY_SECONDS = 86400
RETENTION_SECONDS = 3600

DEADLOCK = 1213
DEADLOCK_TRIES = 3
"""Nodes that write at the same time may come into each other's way; InnoDB then undoes all of one of them."""

# MySQL: wrong value for a type, out of range, too long, no such date. PyMySQL has no class of its own for some.
_WRONG_VALUE = frozenset({1264, 1265, 1292, 1366, 1406, 1441})
_NO_TABLE = 1146

_Row = tuple[bytes, dict[str, Any]]


class CallWriter:
    """Writes what waits in a spool, and removes what is too old."""

    _log = Logger()

    def __init__(self, spool: Spool, make_engine: Callable[[], sa.Engine], config: CallsConfig,
                 now: Callable[[], float]) -> None:
        """`make_engine` is called again after each failure: where writes go may have changed."""
        self._spool = spool
        self._make_engine = make_engine
        self._config = config
        self._now = now
        self._engine: sa.Engine | None = None
        self._batch = config.batch
        self._next_retention_at = 0.0
        self.problem: str | None = None
        """Why the database cannot be written; None while it can."""
        # Read by other threads.
        self.written = 0
        self.rejected = 0
        self.lost = 0
        """Lines that were no whole ones: their process or machine ended while it wrote them."""

    def write_all(self, until: float | None = None) -> bool:
        """Write all that waits, or what can be written `until` then; say whether the database took it."""
        try:
            while (segment := self._spool.oldest()) is not None:
                for lines in self._lines(segment):
                    if until is not None and self._now() >= until:
                        return True
                    self._write_lines(lines)
                    self._spool.pass_over(segment, lines)
                self._spool.done(segment)
        except (SQLAlchemyError, SqlUnavailable, OSError) as problem:
            self._failed(problem)
            return False
        self._succeeded()
        return True

    def keep_retention(self) -> None:
        """Remove a slice of what is too old, once an hour, and until none is left."""
        if not self._config.retention_days or self.problem is not None or self._now() < self._next_retention_at:
            return
        before = as_moment(self._now() - self._config.retention_days * DAY_SECONDS)
        try:
            with self._connected() as connection:
                removed = remove_older(connection, before)
        except (SQLAlchemyError, SqlUnavailable) as problem:
            self._log.warn("calls older than {days} days cannot be removed: {why}", days=self._config.retention_days,
                           why=words(problem), log_rationed=True)
            removed = 0
        if removed:
            self._log.info("{count} calls older than {days} days were removed", count=removed,
                           days=self._config.retention_days)
        if removed < SLICE:
            self._next_retention_at = self._now() + RETENTION_SECONDS

    def close(self) -> None:
        """Let go of the database."""
        if self._engine is not None:
            self._engine.dispose()
            self._engine = None

    def _lines(self, segment: Segment) -> Iterator[list[bytes]]:
        while lines := segment.read(self._batch):
            yield lines
            self._batch = min(2 * self._batch, self._config.batch)

    def _connected(self) -> sa.Connection:
        if self._engine is None:
            self._engine = self._make_engine()
        return self._engine.connect()

    def _write_lines(self, lines: Sequence[bytes]) -> None:
        rows, broken = [], []
        for line in lines:
            try:
                rows.append((line, values_of(part_of(line))))
            except NoPart:
                broken.append(line)
            except ValueError as problem:
                self._put_aside(line, str(problem))
        if rows:
            # In the same order everywhere, so that nodes get into each other's way less often.
            rows.sort(key=lambda row: (row[1]["call_id"], row[1]["tag_low"], row[1]["tag_high"]))
            self._write_rows(rows)
        if broken:
            self.lost += len(broken)
            self._log.error("{count} records of calls were not whole and are lost: the process or the machine ended "
                            "while they were written", count=len(broken))

    def _write_rows(self, rows: Sequence[_Row]) -> None:
        """Write rows in one transaction; if the database refuses it for good, all but those that are to blame."""
        try:
            self._commit(rows)
        except (StatementError, ValueError) as problem:
            if not _is_refusal(problem):
                raise
            if len(rows) == 1:
                self._put_aside(rows[0][0], words(problem))
                return
            middle = len(rows) // 2
            self._write_rows(rows[:middle])
            self._write_rows(rows[middle:])
        else:
            self.written += len(rows)

    def _commit(self, rows: Sequence[_Row]) -> None:
        for tries_left in reversed(range(DEADLOCK_TRIES)):
            try:
                with self._connected() as connection, connection.begin():
                    write(connection, [values for _, values in rows])
                return
            except DBAPIError as problem:
                if not tries_left or problem.orig is None or code_of(problem.orig) != DEADLOCK:
                    raise

    def _put_aside(self, line: bytes, why: str) -> None:
        self._spool.put_aside([line])
        self.rejected += 1
        self._log.error("the database refuses a record of a call, which is put aside: {why}", why=why,
                        log_rationed=True)

    def _failed(self, problem: Exception) -> None:
        self.close()
        # A server that is slow, but not away, has time for less at once.
        self._batch = max(self._batch // 2, 1)
        why = words(problem)
        if self.problem is None:
            self._log.warn("records of calls cannot be written and wait on disk: {why}", why=why)
        self.problem = why

    def _succeeded(self) -> None:
        if self.problem is not None:
            self._log.info("records of calls are written again")
        self.problem = None


def _is_refusal(problem: Exception) -> bool:
    """Say whether the database, or its driver, does not take these values, now or later."""
    if not isinstance(problem, DBAPIError):
        return isinstance(problem, StatementError | ValueError)
    wrong_value = problem.orig is not None and code_of(problem.orig) in _WRONG_VALUE
    return wrong_value or isinstance(problem, DataError | IntegrityError)


def words(problem: Exception) -> str:
    """Return an error in one line, without what was to be written: who calls whom is nobody else's business."""
    cause: BaseException = problem
    if isinstance(problem, StatementError) and problem.orig is not None:
        cause = problem.orig
    if code_of(cause) == _NO_TABLE or str(cause).startswith("no such table"):
        return "there is no table rollcall_call; run `rollcall db upgrade`"
    return told(cause)
