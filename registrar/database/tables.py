"""Our own tables, for SQLAlchemy Core. What stands here is what the newest migration leaves behind.

Their names begin with rollcall_, so that they can stand in a database with Kamailio's or OpenSIPS'. In MySQL every text
in them is utf8mb4 and compared by its bytes, as SQLite does. Moments are UTC without saying so.
"""

from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    Index,
    Integer,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy.dialects import mysql
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

PREFIX = "rollcall_"

# InnoDB keys have at most 3072 bytes, and a character of utf8mb4 may have four of them.
ADDRESS_CHARS = 190
NAME_CHARS = 64
TAG_CHARS = 128
URI_CHARS = 255

FORWARDING_KINDS = ("always", "busy", "no-answer", "unreachable")

METADATA = MetaData()

_IN_MYSQL: dict[str, Any] = {
    "mysql_engine": "InnoDB",
    "mysql_default_charset": "utf8mb4",
    "mysql_collate": "utf8mb4_bin",
}


class utc_now(FunctionElement[datetime]):
    """The moment of the statement, UTC, as a column's default."""

    inherit_cache = True


@compiles(utc_now)
def _utc_now(element: utc_now, compiler: Any, **_: Any) -> str:
    return "CURRENT_TIMESTAMP"


@compiles(utc_now, "mysql", "mariadb")
def _utc_now_in_mysql(element: utc_now, compiler: Any, **_: Any) -> str:
    return "(UTC_TIMESTAMP(6))"


def moment() -> DateTime:
    """Return the type of a moment: to the microsecond, UTC."""
    return DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")


def counter() -> BigInteger:
    """Return the type of a row's number. SQLite counts in INTEGER only, which is as wide."""
    return BigInteger().with_variant(Integer(), "sqlite")


domains = Table(
    "rollcall_domain",
    METADATA,
    Column("name", String(NAME_CHARS), primary_key=True, comment="A SIP domain that is served, in lower case"),
    Column("comment", String(255), nullable=False, server_default="", comment="What the operator noted"),
    comment="Domains that are served beside those of the configuration",
    **_IN_MYSQL,
)

aliases = Table(
    "rollcall_alias",
    METADATA,
    Column("alias", String(ADDRESS_CHARS), primary_key=True, comment="The address that is called: sip:user@domain"),
    Column("target", String(ADDRESS_CHARS), nullable=False, comment="Where such a call goes: a SIP URI, ours or not"),
    comment="Further addresses of users, and of groups and numbers elsewhere",
    **_IN_MYSQL,
)

forwarding = Table(
    "rollcall_forwarding",
    METADATA,
    Column("aor", String(ADDRESS_CHARS), primary_key=True, comment="Whose calls: sip:user@domain"),
    Column("kind", String(16), primary_key=True, comment="When: always, busy, no-answer or unreachable"),
    Column("target", String(URI_CHARS), nullable=False, comment="Where the call goes then: a SIP URI, ours or not"),
    Column("seconds", Integer(), comment="With no-answer: how long it rings before; NULL: as long as calls may ring"),
    CheckConstraint(f"kind IN {FORWARDING_KINDS}", name="rollcall_forwarding_kind"),
    comment="Calls that go elsewhere",
    **_IN_MYSQL,
)

calls = Table(
    "rollcall_call",
    METADATA,
    Column("id", counter(), primary_key=True, autoincrement=True, comment="Counts the rows"),
    Column("call_id", String(ADDRESS_CHARS), nullable=False, comment="The Call-ID"),
    Column("tag_low", String(TAG_CHARS), nullable=False, comment="The tag of the two that sorts first; may be empty"),
    Column("tag_high", String(TAG_CHARS), nullable=False, comment="The other one"),
    Column("caller_tag", String(TAG_CHARS), comment="The From tag of the INVITE; NULL: not known"),
    Column("caller", String(ADDRESS_CHARS), comment="Who calls: sip:user@domain; NULL: not known"),
    Column("callee", String(ADDRESS_CHARS), comment="Who is called: sip:user@domain; NULL: not known"),
    Column("started_at", moment(), nullable=False, comment="When the INVITE came, UTC; not known: the first we know"),
    Column("answered_at", moment(), comment="When it was answered with 2xx, UTC; NULL: never"),
    Column("ended_at", moment(), comment="When one of the two hung up, UTC; NULL: not, or nobody saw it"),
    Column("status", SmallInteger(), comment="The final SIP status of the INVITE"),
    Column("hung_up_by", String(8), comment="caller or callee; NULL: nobody, or not known"),
    Column("hung_up_tag", String(TAG_CHARS), comment="The From tag of the BYE"),
    Column("node", String(NAME_CHARS), comment="The node that the answer passed"),
    Column("media_node", String(NAME_CHARS), comment="The media node that carried it; NULL: none of ours"),
    Column("quality", Text(), comment="What the phones reported of the sound when they hung up"),
    UniqueConstraint("call_id", "tag_low", "tag_high", name="rollcall_call_parties_idx"),
    Index("rollcall_call_started_idx", "started_at"),
    Index("rollcall_call_caller_idx", "caller", "started_at"),
    Index("rollcall_call_callee_idx", "callee", "started_at"),
    comment="Calls: who, whom, when, how it ended",
    **_IN_MYSQL,
)

heartbeat = Table(
    "rollcall_heartbeat",
    METADATA,
    Column("id", SmallInteger(), primary_key=True, autoincrement=False, comment="Always 1"),
    Column("at", moment(), nullable=False, comment="When a registrar last wrote this at the primary, UTC"),
    comment="How a replica's lag is told",
    **_IN_MYSQL,
)

changes = Table(
    "rollcall_change",
    METADATA,
    Column("id", counter(), primary_key=True, autoincrement=True, comment="Grows with every change"),
    Column("username", String(NAME_CHARS), nullable=False, comment="Whose password or row was changed; *: anybody's"),
    Column("domain", String(NAME_CHARS), nullable=False, comment="In which domain; empty: in any"),
    Column("at", moment(), nullable=False, server_default=utc_now(), comment="When, UTC"),
    comment="Changes of subscribers that registrars may remember otherwise",
    **_IN_MYSQL,
)
