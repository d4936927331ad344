"""Making the table of subscribers in a MySQL database that has none.

It is Kamailio's (version 7) with OpenSIPS' two further columns of hashes, so that either can read it. A table that is
there is never changed. Importing this module takes a while, because of SQLAlchemy.
"""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import mysql
from sqlalchemy.schema import CreateIndex, CreateTable, ExecutableDDLElement

from registrar.database.engines import alone, in_words
from registrar.subscribers.columns import TableConfig

NAME_CHARS = 64
HASH_CHARS = 128


def make_table(engine: sa.Engine, config: TableConfig) -> bool:
    """Make the table with the names of `config` when there is none; return whether it was made.

    Waits for the database. Raises DatabaseProblem, and SqlUnavailable when no server can be asked.
    """
    if has_table(engine, config):
        return False
    with in_words(engine), alone(engine) as connection:
        _table(config).create(connection, checkfirst=True)
    return True


def has_table(engine: sa.Engine, config: TableConfig) -> bool:
    """Say whether there is such a table, or a view. Waits, and raises as `make_table` does."""
    with in_words(engine), engine.connect() as connection:
        return sa.inspect(connection).has_table(config.table)


def table_as_sql(config: TableConfig) -> str:
    """Return the statements that make the table in MySQL."""
    table = _table(config)
    statements: list[ExecutableDDLElement] = [CreateTable(table), *map(CreateIndex, table.indexes)]
    return "".join(f"{str(each.compile(dialect=mysql.dialect())).strip()};\n\n" for each in statements)


def _table(config: TableConfig) -> sa.Table:
    hashes = {
        config.ha1_column: "H(username:domain:password) by MD5",
        config.ha1b_column: "H(username@domain:domain:password) by MD5",
        config.ha1_sha256_column: "H(username:domain:password) by SHA-256",
        config.ha1_sha512t256_column: "H(username:domain:password) by SHA-512-256",
    }
    return sa.Table(
        config.table,
        sa.MetaData(),
        sa.Column("id", mysql.INTEGER(unsigned=True), primary_key=True, autoincrement=True, comment="Counts the rows"),
        _column(config.username_column, NAME_CHARS, "The part before the @; case matters"),
        _column(config.domain_column, NAME_CHARS, "The part behind the @, in lower case; also the realm"),
        _column(config.password_column, NAME_CHARS, "A password in clear text; empty: only hashes are kept"),
        *(_column(name, HASH_CHARS, f"{comment}; empty: not known") for name, comment in hashes.items() if name),
        sa.UniqueConstraint(config.username_column, config.domain_column, name="account_idx"),
        sa.Index("username_idx", config.username_column),
        comment="Who may register, as Kamailio and OpenSIPS keep it",
        mysql_engine="InnoDB",
        mysql_default_charset="utf8mb4",
        mysql_collate="utf8mb4_bin",
    )


def _column(name: str, chars: int, comment: str) -> sa.Column[Any]:
    return sa.Column(name, sa.String(chars), nullable=False, server_default="", comment=comment)
