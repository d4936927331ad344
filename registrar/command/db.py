"""`rollcall db`: the tables in the database. SQLAlchemy and alembic are imported when they are needed: that is slow."""

from pathlib import Path
from typing import TYPE_CHECKING

import click
from attrs import evolve

from registrar.command.settings import Settings, anywhere, print_json, with_settings
from registrar.config import RegistrarConfig
from registrar.database.errors import DatabaseProblem
from rollcall.sql.errors import SqlUnavailable

if TYPE_CHECKING:
    from sqlalchemy import Engine

# A statement that changes a table waits for those who use it, and may copy the table.
CHANGE_SECONDS = 3600.0


@click.group()
@anywhere
def db() -> None:
    """The tables in the database: make them, and see whether they are right."""


@db.command()
@click.option("--sql", "as_sql", is_flag=True, help="Print the statements that would be run, and change nothing.")
@anywhere
@with_settings
def upgrade(settings: Settings, as_sql: bool) -> None:
    """Make the tables that are missing, and bring ours to this version. Other tables are left as they are."""
    config = settings.config()
    if as_sql:
        click.echo(_statements(config) or "-- There is nothing to do.\n", nl=False)
        return
    from registrar.database.upgrading import upgrade
    from registrar.subscribers.making import make_table

    engine = _engine(config, make=True)
    made = _is_mysql(config) and make_table(engine, config.subscribers)
    done = [f"{config.subscribers.table}: who may register"] if made else []
    done += upgrade(engine)
    if settings.as_json:
        print_json({"done": done})
    else:
        click.echo("\n".join(f"made {each}" for each in done) or "There is nothing to do.")


@db.command()
@anywhere
@with_settings
def check(settings: Settings) -> None:
    """Say whether the tables are as this version wants them; exit code 1 when not."""
    wrong = _what_is_wrong(settings.config())
    if settings.as_json:
        print_json({"ok": wrong is None, **({} if wrong is None else {"problem": wrong})})
    elif wrong is None:
        click.echo("The tables are as this version wants them.")
    else:
        click.echo(wrong, err=True)
    if wrong is not None:
        raise click.exceptions.Exit(1)


def _what_is_wrong(config: RegistrarConfig) -> str | None:
    from registrar.database.upgrading import check
    from registrar.subscribers.making import has_table

    if not _is_mysql(config) and not _file(config).exists():
        return f"{_file(config)} does not exist. `rollcall db upgrade` makes it, or a registrar with [calls] records"
    engine = _engine(config)
    wrong = check(engine)
    if wrong is None and _is_mysql(config) and not has_table(engine, config.subscribers):
        return f"There is no table {config.subscribers.table} of those who may register. Run `rollcall db upgrade`"
    return wrong


def _statements(config: RegistrarConfig) -> str:
    """Return what `upgrade` would run; what cannot be asked for is taken to be missing."""
    from registrar.database.upgrading import upgrade_as_sql, version_of
    from registrar.subscribers.making import has_table, table_as_sql

    if not _is_mysql(config):
        return upgrade_as_sql("sqlite", version_of(_engine(config)) if _file(config).exists() else None)
    engine = _engine(config)
    made, version = "", None
    try:
        made = "" if has_table(engine, config.subscribers) else table_as_sql(config.subscribers)
        version = version_of(engine)
    except DatabaseProblem as error:
        click.echo(f"{error}; so this is for a database with none of our tables.", err=True)
    except SqlUnavailable as error:
        click.echo(f"{error}; so this is for a database with no tables.", err=True)
        made = table_as_sql(config.subscribers)
    return made + upgrade_as_sql("mysql", version)


def _is_mysql(config: RegistrarConfig) -> bool:
    return config.subscribers.kind == "mysql"


def _engine(config: RegistrarConfig, make: bool = False) -> "Engine":
    from registrar.database.engines import engine_of

    if _is_mysql(config):
        return engine_of(evolve(config.mysql, timeout_seconds=CHANGE_SECONDS))
    return engine_of(_file(config), make=make)


def _file(config: RegistrarConfig) -> Path:
    return config.path(config.database.file, "rollcall.sqlite")
