"""Connections to the database of our own tables, for SQLAlchemy."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.pool import NullPool, QueuePool

from registrar.database.errors import DatabaseProblem
from rollcall.sql.config import MysqlConfig
from rollcall.sql.connecting import connect

BUSY_SECONDS = 10.0
LOCK = "rollcall db upgrade"
LOCK_SECONDS = 30

_RIGHTS = "our user needs SELECT, INSERT, UPDATE, DELETE, and for `rollcall db upgrade` CREATE, ALTER and INDEX there"
# MySQL's errors: access denied for this user to the database, the command, the column, the operation.
_NO_RIGHT = (1044, 1142, 1143, 1227)


def engine_of(where: MysqlConfig | Path, address: str | None = None, make: bool = False, kept: int = 0) -> sa.Engine:
    """Return the engine of a MySQL server (the primary, or the one at `address`) or of an SQLite file.

    Nothing is connected yet. `make` makes the file and its folder. `kept` connections stay open; with 0 each is closed
    when it is given back. Using it waits for the database; where no server answers that raises SqlUnavailable.
    """
    pool: dict[str, Any] = {"poolclass": NullPool}
    if kept:
        # MySQL closes a connection that was idle for its wait_timeout: it is looked at before it is used.
        pool = {"poolclass": QueuePool, "pool_size": kept, "max_overflow": 0, "pool_pre_ping": True}
    if isinstance(where, Path):
        return _engine_of_file(where, make, pool)
    config, server = where, address or where.primary

    def connected() -> Any:
        connection = connect(config, server)
        # SQLAlchemy begins no transaction itself: it relies on the connection to have begun one.
        connection.autocommit(False)
        return connection

    host, _, port = server.rpartition(":")
    url = URL.create("mysql+pymysql", host=host.strip("[]"), port=int(port), database=config.database)
    return sa.create_engine(url, creator=connected, **pool)


def _engine_of_file(path: Path, make: bool, pool: dict[str, Any]) -> sa.Engine:
    if make:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Who calls whom is nobody else's business.
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))

    def opened() -> sqlite3.Connection:
        # Without `mode=rw` looking at a file that is not there would make it. "begin" below begins transactions.
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=BUSY_SECONDS,
                                     isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA journal_mode = WAL")
        return connection

    engine = sa.create_engine(URL.create("sqlite", database=str(path)), creator=opened, **pool)
    sa.event.listen(engine, "begin", _begin)
    return engine


def _begin(connection: sa.Connection) -> None:
    """Begin a transaction that tables are changed in, too, which Python's own way of beginning leaves out."""
    connection.exec_driver_sql(connection.get_execution_options().get("sqlite_begin", "BEGIN"))


@contextmanager
def alone(engine: sa.Engine) -> Iterator[sa.Connection]:
    """Yield a connection in a transaction, while no other process is here. Raises DatabaseProblem when one stays."""
    with engine.connect().execution_options(sqlite_begin="BEGIN IMMEDIATE") as connection:
        if engine.dialect.name == "sqlite":
            with connection.begin():
                yield connection
            return
        got = connection.execute(sa.text("SELECT GET_LOCK(:name, :seconds)"), {"name": LOCK, "seconds": LOCK_SECONDS})
        if got.scalar() != 1:
            raise DatabaseProblem(f"{name_of(engine)} is being upgraded by somebody else")
        connection.commit()
        try:
            with connection.begin():
                yield connection
        finally:
            # Not before all is committed: who comes next would not see it, and do it again.
            connection.execute(sa.text("DO RELEASE_LOCK(:name)"), {"name": LOCK})
            connection.commit()


@contextmanager
def in_words(engine: sa.Engine) -> Iterator[None]:
    """Turn what SQLAlchemy raises into DatabaseProblem, whose text is for the operator."""
    try:
        yield
    except DBAPIError as error:
        # Its own text has the whole statement in it. PyMySQL's errors begin with a number.
        number, *words = error.orig.args if error.orig is not None and error.orig.args else (None, str(error))
        rights = f"; {_RIGHTS}" if number in _NO_RIGHT else ""
        said = words[0] if words else number
        raise DatabaseProblem(f"{name_of(engine)}: {said}{rights}") from error
    except SQLAlchemyError as error:
        raise DatabaseProblem(f"{name_of(engine)}: {error}") from error


def name_of(engine: sa.Engine) -> str:
    """Return what the operator calls this database: its name and server, or its file."""
    url = engine.url
    return f"{url.database} at {url.host}:{url.port}" if url.host else str(url.database)
