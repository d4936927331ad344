"""Tables of domains, aliases, forwarding and calls, the heartbeat and the log of changes.

MySQL commits each CREATE TABLE for itself. When this was ended half-way the next run makes what is missing.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

from registrar.database.tables import utc_now

revision = "0001"
down_revision = None

_IN_MYSQL: dict[str, Any] = {
    "mysql_engine": "InnoDB",
    "mysql_default_charset": "utf8mb4",
    "mysql_collate": "utf8mb4_bin",
}


def upgrade() -> None:
    """Make the tables that are not there."""
    _make_directory()
    _make_calls()
    _make_what_registrars_tell()


def _moment() -> sa.DateTime:
    return sa.DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")


def _counter() -> sa.BigInteger:
    return sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _make_directory() -> None:
    _make(
        "rollcall_domain",
        sa.Column("name", sa.String(64), primary_key=True, comment="A SIP domain that is served, in lower case"),
        sa.Column("comment", sa.String(255), nullable=False, server_default="", comment="What the operator noted"),
        comment="Domains that are served beside those of the configuration",
    )
    _make(
        "rollcall_alias",
        sa.Column("alias", sa.String(190), primary_key=True, comment="The address that is called: sip:user@domain"),
        sa.Column("target", sa.String(190), nullable=False, comment="Where such a call goes: a SIP URI, ours or not"),
        comment="Further addresses of users, and of groups and numbers elsewhere",
    )
    _make(
        "rollcall_forwarding",
        sa.Column("aor", sa.String(190), primary_key=True, comment="Whose calls: sip:user@domain"),
        sa.Column("kind", sa.String(16), primary_key=True, comment="When: always, busy, no-answer or unreachable"),
        sa.Column("target", sa.String(255), nullable=False,
                  comment="Where the call goes then: a SIP URI, ours or not"),
        sa.Column("seconds", sa.Integer(),
                  comment="With no-answer: how long it rings before; NULL: as long as calls may ring"),
        sa.CheckConstraint("kind IN ('always', 'busy', 'no-answer', 'unreachable')", name="rollcall_forwarding_kind"),
        comment="Calls that go elsewhere",
    )


def _make_calls() -> None:
    _make(
        "rollcall_call",
        sa.Column("id", _counter(), primary_key=True, autoincrement=True, comment="Counts the rows"),
        sa.Column("call_id", sa.String(190), nullable=False, comment="The Call-ID"),
        sa.Column("tag_low", sa.String(128), nullable=False,
                  comment="The tag of the two that sorts first; may be empty"),
        sa.Column("tag_high", sa.String(128), nullable=False, comment="The other one"),
        sa.Column("caller_tag", sa.String(128), comment="The From tag of the INVITE; NULL: not known"),
        sa.Column("caller", sa.String(190), comment="Who calls: sip:user@domain; NULL: not known"),
        sa.Column("callee", sa.String(190), comment="Who is called: sip:user@domain; NULL: not known"),
        sa.Column("started_at", _moment(), nullable=False,
                  comment="When the INVITE came, UTC; not known: the first we know"),
        sa.Column("answered_at", _moment(), comment="When it was answered with 2xx, UTC; NULL: never"),
        sa.Column("ended_at", _moment(), comment="When one of the two hung up, UTC; NULL: not, or nobody saw it"),
        sa.Column("status", sa.SmallInteger(), comment="The final SIP status of the INVITE"),
        sa.Column("hung_up_by", sa.String(8), comment="caller or callee; NULL: nobody, or not known"),
        sa.Column("hung_up_tag", sa.String(128), comment="The From tag of the BYE"),
        sa.Column("node", sa.String(64), comment="The node that the answer passed"),
        sa.Column("media_node", sa.String(64), comment="The media node that carried it; NULL: none of ours"),
        sa.Column("quality", sa.Text(), comment="What the phones reported of the sound when they hung up"),
        sa.UniqueConstraint("call_id", "tag_low", "tag_high", name="rollcall_call_parties_idx"),
        comment="Calls: who, whom, when, how it ended",
    )
    _make_index("rollcall_call_started_idx", "rollcall_call", "started_at")
    _make_index("rollcall_call_caller_idx", "rollcall_call", "caller", "started_at")
    _make_index("rollcall_call_callee_idx", "rollcall_call", "callee", "started_at")


def _make_what_registrars_tell() -> None:
    _make(
        "rollcall_heartbeat",
        sa.Column("id", sa.SmallInteger(), primary_key=True, autoincrement=False, comment="Always 1"),
        sa.Column("at", _moment(), nullable=False, comment="When a registrar last wrote this at the primary, UTC"),
        comment="How a replica's lag is told",
    )
    _make(
        "rollcall_change",
        sa.Column("id", _counter(), primary_key=True, autoincrement=True, comment="Grows with every change"),
        sa.Column("username", sa.String(64), nullable=False, comment="Whose password or row was changed; *: anybody's"),
        sa.Column("domain", sa.String(64), nullable=False, comment="In which domain; empty: in any"),
        sa.Column("at", _moment(), nullable=False, server_default=utc_now(), comment="When, UTC"),
        comment="Changes of subscribers that registrars may remember otherwise",
    )


def _make(name: str, *columns: sa.Column[Any] | sa.Constraint, comment: str) -> None:
    op.create_table(name, *columns, comment=comment, if_not_exists=True, **_IN_MYSQL)


def _make_index(name: str, table: str, *columns: str) -> None:
    context = op.get_context()
    if context.as_sql or name not in {each["name"] for each in sa.inspect(op.get_bind()).get_indexes(table)}:
        op.create_index(name, table, columns)
