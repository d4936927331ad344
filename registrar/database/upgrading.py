"""Making our own tables, and seeing whether they are as this version wants them (alembic's migrations).

Nothing but tables whose names begin with rollcall_ is looked at or touched: Kamailio's and OpenSIPS' tables may stand
beside them. Importing this module takes a while, because of SQLAlchemy and alembic; import it where it is needed.
"""

from collections.abc import Mapping
from io import StringIO
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from registrar.database.engines import alone, in_words, name_of
from registrar.database.errors import DatabaseProblem
from registrar.database.tables import METADATA, PREFIX

MIGRATIONS = Path(__file__).parent / "migrations"
VERSION_TABLE = "rollcall_version"


def upgrade(engine: sa.Engine) -> tuple[str, ...]:
    """Bring our tables to what this version wants; return what was done, a line for each step. Waits for the database.

    One process does it at a time. Raises DatabaseProblem, and SqlUnavailable when no server can be asked.
    """
    with in_words(engine), alone(engine) as connection:
        steps = _missing_steps(connection)
        if steps:
            command.upgrade(_alembic(connection), "head")
    return steps


def upgrade_as_sql(dialect: str, version: str | None = None) -> str:
    """Return the statements that `upgrade` runs from this version of the tables, or from nothing."""
    config = _alembic()
    config.attributes["dialect"] = dialect
    printed = config.output_buffer = StringIO()
    command.upgrade(config, f"{version or 'base'}:head", sql=True)
    return printed.getvalue()


def check(engine: sa.Engine) -> str | None:
    """Return what is missing, in words; None when the tables are as this version wants them. Waits for the database.

    Raises DatabaseProblem when they were made by a newer version, and SqlUnavailable when no server can be asked.
    """
    with in_words(engine), engine.connect() as connection:
        steps = _missing_steps(connection)
        there = sa.inspect(connection).get_table_names()
    if steps:
        return f"{name_of(engine)} lacks: {'; '.join(steps)}. Run `rollcall db upgrade`"
    if gone := sorted(set(METADATA.tables) - set(there)):
        return f"{name_of(engine)} says that it has everything, but these tables are gone: {', '.join(gone)}"
    return None


def version_of(engine: sa.Engine) -> str | None:
    """Return the version of our tables, None when there are none. Waits for the database."""
    with in_words(engine), engine.connect() as connection:
        return _version(connection)


def alembic_settings(connection: sa.Connection | None, dialect: str = "mysql") -> Mapping[str, Any]:
    """Return what alembic is to know: our tables only, in this database, or as text for this dialect."""
    where: dict[str, Any] = {"connection": connection}
    if connection is None:
        where = {"dialect_name": dialect, "literal_binds": True}
    return {**where, "target_metadata": METADATA, "version_table": VERSION_TABLE, "include_name": _is_ours}


def _is_ours(name: str | None, kind: str, _: object) -> bool:
    # Alembic would drop what it finds and does not know: Kamailio's tables, and their indexes.
    return kind != "table" or (name is not None and name.startswith(PREFIX))


def _alembic(connection: sa.Connection | None = None) -> Config:
    config = Config()
    # "%" begins an interpolation there.
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def _missing_steps(connection: sa.Connection) -> tuple[str, ...]:
    """Return the steps from what there is to what this version wants, the first one first."""
    scripts = ScriptDirectory.from_config(_alembic())
    version = _version(connection)
    known = {script.revision: f"{script.revision}: {script.doc.rstrip('.')}" for script in scripts.walk_revisions()}
    if version is not None and version not in known:
        raise DatabaseProblem(f"{name_of(connection.engine)} was upgraded by a newer version of Rollcall to {version}, "
                              f"and this one knows {scripts.get_current_head()} at most")
    missing = []
    for revision, step in known.items():  # the newest first
        if revision == version:
            break
        missing.append(step)
    return tuple(reversed(missing))


def _version(connection: sa.Connection) -> str | None:
    return MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE}).get_current_revision()
