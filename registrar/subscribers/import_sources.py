"""Where users are taken over from: a CSV file, or a table of Kamailio or OpenSIPS in MySQL.

Both are read in order, from any row, and a piece at a time: a million rows need no more memory than a thousand.
"""

import csv
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from pymysql.err import MySQLError

from registrar.subscribers.importing import BATCH, SECRET_COLUMNS, Counts, Row
from rollcall.sql.config import MysqlConfig
from rollcall.sql.connecting import Connection, connect
from rollcall.sql.errors import SqlUnavailable, is_unavailable, told

# Longer than any row can be that is taken.
MAX_LINE_BYTES = 65_536
_DELIMITERS = ",;\t"


class ImportProblem(Exception):
    """Nothing can be taken over from there; the text says why."""


class ImportSource(Protocol):
    """Where rows come from."""

    @property
    def what(self) -> Mapping[str, Any]:
        """What it is, so that a later run can tell whether it is the same: values for JSON."""

    @property
    def total(self) -> int:
        """How much there is to be read, in the unit of `done`."""

    def done(self, row: Row, counts: Counts) -> int:
        """Return how much of it has been read with this row, the last one that `counts` counts."""

    def rows(self, after: tuple[int, ...]) -> Iterator[Row]:
        """Yield the rows behind this position of a row; all when it is empty."""


class CsvFile:
    """A CSV file in UTF-8 whose first line names the columns; commas, semicolons or tabs are between them.

    Each row is one line, so that a quotation mark too few spoils only its own row. A position is (offset, lines).
    """

    def __init__(self, path: Path) -> None:
        """Read the header. Raises ImportProblem and OSError."""
        self._path = path
        with path.open("rb") as file:
            header = file.readline(MAX_LINE_BYTES)
            self._begin, status = file.tell(), os.fstat(file.fileno())
        self.total = status.st_size
        self.what: Mapping[str, Any] = {"file": str(path.resolve()), "bytes": status.st_size,
                                        "changed_ns": status.st_mtime_ns}
        try:
            text = header.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise ImportProblem(f"{path} is not in UTF-8") from error
        self._delimiter = max(_DELIMITERS, key=text.count)
        self._columns = [name.strip().lower() for name in _cells(text, self._delimiter)]
        self._check_columns()

    def done(self, row: Row, counts: Counts) -> int:
        """Return how many bytes have been read."""
        return row.position[0]

    def rows(self, after: tuple[int, ...]) -> Iterator[Row]:
        """Yield the rows behind (offset, lines)."""
        offset, line = after or (self._begin, 1)
        with self._path.open("rb") as file:
            file.seek(offset)
            while text := file.readline(MAX_LINE_BYTES):
                is_whole = len(text) < MAX_LINE_BYTES or text.endswith(b"\n")
                offset, line = offset + len(text), line + 1
                while not is_whole:
                    more = file.readline(MAX_LINE_BYTES)
                    offset += len(more)
                    is_whole = len(more) < MAX_LINE_BYTES or more.endswith(b"\n")
                    text = b""
                if text.strip() or not text:
                    yield self._row(text, (offset, line))

    def _row(self, line: bytes, position: tuple[int, ...]) -> Row:
        place = f"line {position[1]}"
        if not line:
            return Row(position, place, problem="the line is too long")
        try:
            cells = _cells(line.decode("utf-8"), self._delimiter)
        except UnicodeDecodeError:
            return Row(position, place, problem="it is not in UTF-8")
        except csv.Error as error:
            return Row(position, place, problem=f"it is no CSV: {error}")
        if len(cells) != len(self._columns):
            return Row(position, place, problem=f"it has {len(cells)} columns and the header {len(self._columns)}")
        found = dict(zip(self._columns, cells, strict=True))
        return Row(position, place, found["username"], found.get("domain", ""),
                   {name: found[name] for name in SECRET_COLUMNS if name in found})

    def _check_columns(self) -> None:
        secrets = set(SECRET_COLUMNS) - {"ha1b"}
        if "username" not in self._columns or secrets.isdisjoint(self._columns):
            raise ImportProblem(f"{self._path}: the first line names the columns: username, domain, and password or "
                                f"one of {', '.join(sorted(secrets - {'password'}))}")
        if len(set(self._columns)) < len(self._columns):
            raise ImportProblem(f"{self._path}: the first line names a column twice")


class MysqlTableSource:
    """A table of Kamailio or OpenSIPS, with the names they give its columns. A position is (id,).

    Reading waits for the server. Raises SqlUnavailable, and ImportProblem when it refuses.
    """

    def __init__(self, config: MysqlConfig, table: str) -> None:
        self._address, self._database, self._name = config.primary, config.database, table
        self._connection: Connection = connect(config, config.primary)
        self.what: Mapping[str, Any] = {"server": config.primary, "database": config.database, "table": table}
        ask = "SELECT LOWER(COLUMN_NAME) FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = %s AND TABLE_NAME = %s"
        there = {str(name) for (name,) in self._ask(ask, config.database, table)}
        if lacking := {"id", "username", "domain"} - there:
            raise ImportProblem(f"{config.database} at {config.primary} has no table {table} with "
                                f"{', '.join(sorted(lacking))}")
        self._secrets = [name for name in SECRET_COLUMNS if name in there]
        self.total = int(self._ask(f"SELECT COUNT(*) FROM `{table}`")[0][0])

    def done(self, row: Row, counts: Counts) -> int:
        """Return how many rows have been read."""
        return counts.read

    def rows(self, after: tuple[int, ...]) -> Iterator[Row]:
        """Yield the rows behind (id,)."""
        last = after[0] if after else -1
        columns = ", ".join(f"`{name}`" for name in ("id", "username", "domain", *self._secrets))
        while page := self._ask(f"SELECT {columns} FROM `{self._name}` WHERE id > %s ORDER BY id LIMIT {BATCH}", last):
            for number, *texts in page:
                username, domain, *secrets = map(_text, texts)
                last = int(number)
                yield Row((last,), f"id {last}", username, domain, dict(zip(self._secrets, secrets, strict=True)))

    def close(self) -> None:
        """Let go of the server."""
        self._connection.close()

    def _ask(self, statement: str, *values: object) -> Sequence[tuple[Any, ...]]:
        try:
            with self._connection.cursor() as cursor:
                cursor.execute(statement, values)
                rows: Sequence[tuple[Any, ...]] = cursor.fetchall()
        except MySQLError as error:
            text = f"{self._database} at {self._address}: {told(error)}"
            raise SqlUnavailable(text) if is_unavailable(error) else ImportProblem(text) from error
        return rows


def _text(value: object) -> str:
    """Return what stands in a column, also in one of bytes; "" for NULL."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return "" if value is None else str(value)


def _cells(line: str, delimiter: str) -> list[str]:
    return next(csv.reader([line], delimiter=delimiter, strict=True), [])
