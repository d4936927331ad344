"""`rollcall calls`: the records of calls in the database. SQLAlchemy is imported when it is needed: that is slow."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from json import loads
from typing import TYPE_CHECKING, Any

import click

from registrar.command.asking import meant_aor
from registrar.command.settings import Settings, anywhere, print_json, print_table, with_settings
from registrar.config import RegistrarConfig
from registrar.database.errors import DatabaseProblem
from rollcall.sql.errors import SqlUnavailable

if TYPE_CHECKING:
    from sqlalchemy import Engine

SHOWN = 50
UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
AGO = re.compile(r"(\d{1,5})([smhd])")
MOMENTS = ("%Y-%m-%d", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S",
           "%Y-%m-%dT%H:%M:%SZ")

Row = Mapping[str, Any]


@click.command()
@click.option("--since", metavar="WHEN", help="Those that began since then: 2026-11-21, \"2026-11-21 13:00\" (UTC), "
                                              "or 90m, 12h, 7d ago.")
@click.option("--user", "party", metavar="USER[@DOMAIN]", help="Those that this user made or got.")
@click.option("--limit", type=click.IntRange(1, 100_000), default=SHOWN, show_default=True, help="No more than these.")
@anywhere
@with_settings
def calls(settings: Settings, since: str | None, party: str | None, limit: int) -> None:
    """Show the latest calls, the newest first, as the database has them. Times are UTC."""
    config = settings.config()
    began = _moment_of(since) if since is not None else None
    found = _found(config, limit, began, meant_aor(config, party) if party is not None else None)
    if settings.as_json:
        print_json({"calls": [_for_programs(row) for row in found]})
    elif found:
        print_table(("began", "caller", "callee", "status", "talked", "hung up", "node", "media node",
                     "Call-ID"),
                    (_for_people(row) for row in found))
    else:
        click.echo("There is no such call in the database.", err=True)
    if not config.calls.records:
        click.echo("No calls are recorded: see [calls] records in the configuration.", err=True)


def _found(config: RegistrarConfig, limit: int, since: datetime | None, party: str | None) -> Sequence[Row]:
    """Return rows from the first server that answers."""
    from sqlalchemy.exc import SQLAlchemyError

    from registrar.calls.rows import recent
    from registrar.calls.writing import words

    problem: SqlUnavailable | None = None
    for make_engine in _engines(config):
        try:
            with make_engine().connect() as connection:
                return recent(connection, limit, since, party)
        except SqlUnavailable as unavailable:
            problem = unavailable
        except SQLAlchemyError as error:
            raise DatabaseProblem(words(error)) from error
    assert problem is not None
    raise problem


def _engines(config: RegistrarConfig) -> "Iterator[Callable[[], Engine]]":
    """Yield how each database is reached, replicas first: what is asked here may take them a while."""
    from registrar.database.engines import engine_of

    if config.subscribers.kind != "mysql":
        file = config.path(config.database.file, "rollcall.sqlite")
        if not file.exists():
            raise DatabaseProblem(f"{file} does not exist: a registrar makes it that keeps records of calls "
                                  "([calls] records = true)")
        yield partial(engine_of, file)
        return
    for address in (*config.mysql.replicas, config.mysql.primary):
        yield partial(engine_of, config.mysql, address)


def _moment_of(text: str) -> datetime:
    """Return what --since means: UTC, without saying so, as the columns hold it."""
    if ago := AGO.fullmatch(text):
        length = timedelta(**{UNITS[ago[2]]: int(ago[1])})
        return (datetime.now(UTC) - length).replace(tzinfo=None)
    for form in MOMENTS:
        try:
            return datetime.strptime(text, form)
        except ValueError:
            continue
    raise click.BadParameter(f"{text!r} is neither a moment such as 2026-11-21 nor a time such as 12h",
                             param_hint="--since")


def _for_programs(row: Row) -> dict[str, Any]:
    shown = {name: value for name, value in row.items() if name not in ("id", "tag_low", "tag_high")}
    shown["tags"] = [row["tag_low"], row["tag_high"]]
    shown["quality"] = loads(row["quality"]) if row["quality"] else None
    for name in ("started_at", "answered_at", "ended_at"):
        shown[name] = f"{row[name].isoformat(timespec='milliseconds')}Z" if row[name] is not None else None
    return shown


def _for_people(row: Row) -> tuple[str, ...]:
    status = "" if row["status"] is None else str(row["status"])
    return (f"{row['started_at']:%Y-%m-%d %H:%M:%S}Z", row["caller"] or "?", row["callee"] or "?", status,
            _talked(row), row["hung_up_by"] or "", row["node"] or "", row["media_node"] or "", row["call_id"])


def _talked(row: Row) -> str:
    if row["answered_at"] is None:
        return ""
    if row["ended_at"] is None:
        return "no end yet"
    seconds = max(0, round((row["ended_at"] - row["answered_at"]).total_seconds()))
    return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"
