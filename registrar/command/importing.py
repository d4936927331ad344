"""`rollcall user import`: many users from a CSV file, or from the table of a Kamailio or OpenSIPS."""

import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, unquote, urlsplit

import click
from attrs import evolve

from registrar.auth import Subscriber
from registrar.command.settings import Settings, anywhere, domains_of_the_table, print_json, with_settings
from registrar.command.telling import open_users, tell_registrars
from registrar.config import RegistrarConfig
from registrar.subscribers.announcing import MOST_NAMES
from registrar.subscribers.bulk import Bulk, Name
from registrar.subscribers.import_journal import ImportJournal
from registrar.subscribers.import_sources import CsvFile, ImportProblem, ImportSource, MysqlTableSource
from registrar.subscribers.importing import Counts, Reading, Row, Trust, import_rows
from registrar.subscribers.tables import UserTable

if TYPE_CHECKING:
    from rich.progress import Progress

SCHEMES = ("mysql", "mariadb")
DEFAULT_PORT = 3306
DEFAULT_TABLE = "subscriber"
# What a thousand rows may take, and reading as many, beside the traffic of a busy server.
TIMEOUT_SECONDS = 60.0

_TABLE = re.compile(r"[A-Za-z0-9_$]{1,64}")


@click.command("import")
@click.argument("source", metavar="FILE.csv|mysql://USER@HOST/DATABASE[/TABLE]")
@click.option("--update", is_flag=True, help="Replace the hashes of users who are there already.")
@click.option("--trust", type=click.Choice(["password", "hashes"]),
              help="Which is right where a row has both and they differ; default: such rows are rejected.")
@click.option("--any-domain", is_flag=True, help="Take users of domains that are not served, too.")
@click.option("--state", "state_file", type=click.Path(path_type=Path), help="Where it is noted how far it has come.")
@click.option("--rejected", "report_file", type=click.Path(path_type=Path), help="Where rejected rows are listed.")
@click.option("--tls/--no-tls", default=None, help="Speak TLS with the database there; default: as [mysql] tls says.")
@anywhere
@with_settings
def import_users(settings: Settings, source: str, update: bool, trust: Trust | None, any_domain: bool, tls: bool | None,
                 state_file: Path | None, report_file: Path | None) -> None:
    """Take users over from a CSV file or from a database of Kamailio or OpenSIPS.

    The first line of a CSV file names its columns: username, domain (else user@domain, else the first domain of the
    configuration), and password or ha1, ha1b, ha1_sha256, ha1_sha512t256; others are ignored. The password of a
    database is read from $MYSQL_PWD, or asked for. When it is ended half-way the same command goes on.
    """
    config = settings.config()
    name = _name(source)
    state, report = state_file or Path(f"{name}.import-state"), report_file or Path(f"{name}.rejected.csv")
    with _source(source, config, tls) as rows, open_users(_patient(config), make=True) as table:
        journal = ImportJournal(state, report, {**rows.what, "into": _target(config), "update": update})
        if journal.is_resumed:
            click.echo(f"Going on after {journal.counts.read} rows.", err=True)
        reading, noting = _reading(config, trust, any_domain), _Noting(table)
        changed: set[Name] | None = None
        try:
            with _progress(rows, journal.counts) as told:
                import_rows(rows.rows(journal.position), reading, noting, journal, update, told)
            # Whom an import has replaced that was ended is not known.
            changed = None if journal.is_resumed else noting.replaced
        except KeyboardInterrupt:
            raise click.ClickException(f"stopped after {journal.counts.read} rows; the same command goes on") from None
        finally:
            if journal.counts.replaced:
                tell_registrars(config, changed)
    journal.finish()
    _print(settings, journal.counts, report)


class _Noting:
    """A table, and who may have been replaced there."""

    def __init__(self, table: UserTable) -> None:
        self._table = table
        self.replaced: set[Name] | None = set()
        """None: more than are told one by one."""

    def find(self, username: str, domain: str) -> Subscriber | None:
        """Return the subscriber or None."""
        return self._table.find(username, domain)

    def add_hashed(self, subscribers: Sequence[Subscriber], replace: bool = False) -> Bulk:
        """Add these; when any of them was replaced, note all."""
        bulk = self._table.add_hashed(subscribers, replace)
        if bulk.replaced and self.replaced is not None:
            self.replaced.update((each.username, each.domain) for each in subscribers)
            if len(self.replaced) > MOST_NAMES:
                self.replaced = None
        return bulk


def _print(settings: Settings, counts: Counts, report: Path) -> None:
    if settings.as_json:
        print_json({"read": counts.read, "added": counts.added, "replaced": counts.replaced,
                    "rejected": counts.rejected, "report": str(report)})
        return
    replaced = f", {counts.replaced} replaced" if counts.replaced else ""
    rejected = f", {counts.rejected} rejected: {report} says why" if counts.rejected else ""
    click.echo(f"{counts.read} rows: {counts.added} added{replaced}{rejected}")


def _reading(config: RegistrarConfig, trust: Trust | None, any_domain: bool) -> Reading:
    names = {
        name.lower(): domain.name.lower() for domain in config.domains for name in (domain.name, *domain.aliases)
    }
    if not any_domain:
        names = {**{name: name for name in domains_of_the_table(config)}, **names}
    return Reading(
        domains={} if any_domain else names,
        default_domain=config.domains[0].name.lower(),
        hash_of_64_digits=config.subscribers.hash_of_64_digits,
        trust=trust,
    )


def _patient(config: RegistrarConfig) -> RegistrarConfig:
    return evolve(config, mysql=evolve(config.mysql, timeout_seconds=TIMEOUT_SECONDS))


def _target(config: RegistrarConfig) -> str:
    if config.subscribers.kind == "mysql":
        return f"{config.subscribers.table} of {config.mysql.database} at {config.mysql.primary}"
    return str(config.path(config.subscribers.file, "subscribers.sqlite").absolute())


def _name(source: str) -> str:
    """Return the beginning of the names of the files that an import leaves: beside the CSV file, or here."""
    url = _url(source)
    return "-".join((url.hostname or "mysql", *_database_and_table(url))) if url else source


@contextmanager
def _source(source: str, config: RegistrarConfig, tls: bool | None) -> Iterator[ImportSource]:
    url = _url(source)
    if url is None:
        yield CsvFile(Path(source))
        return
    database, table = _database_and_table(url)
    host = f"[{url.hostname}]" if ":" in (url.hostname or "") else url.hostname or "127.0.0.1"
    # What is said of TLS in [mysql] holds there, too: hashes are as good as passwords to whoever listens.
    server = evolve(config.mysql, primary=f"{host}:{url.port or DEFAULT_PORT}", replicas=(), database=database,
                    user=unquote(url.username or "root"), password=_password(url), timeout_seconds=TIMEOUT_SECONDS,
                    tls=config.mysql.tls if tls is None else tls)
    ours = config.mysql.primary, config.mysql.database, config.subscribers.table
    if config.subscribers.kind == "mysql" and (server.primary, database, table) == ours:
        raise ImportProblem("this is the table that the registrar uses already")
    with closing(MysqlTableSource(server, table)) as rows:
        yield rows


def _url(source: str) -> SplitResult | None:
    return urlsplit(source) if source.partition("://")[0] in SCHEMES and "://" in source else None


def _database_and_table(url: SplitResult) -> tuple[str, str]:
    database, _, table = url.path.strip("/").partition("/")
    if not database or _TABLE.fullmatch(table or DEFAULT_TABLE) is None:
        raise click.UsageError("mysql://USER@HOST[:PORT]/DATABASE[/TABLE]")
    return database, table or DEFAULT_TABLE


def _password(url: SplitResult) -> str:
    if url.password is not None:
        raise click.UsageError("everybody on this machine sees a password on the command line: give it in $MYSQL_PWD")
    given = os.environ.get("MYSQL_PWD")
    if given is None and sys.stdin.isatty():
        given = str(click.prompt("Password", hide_input=True, default="", show_default=False, err=True))
    return given or ""


@contextmanager
def _progress(source: ImportSource, counts: Counts) -> Iterator[Callable[[Row, Counts], None]]:
    """Yield what shows a row that was reached: a bar on a terminal, else nothing."""
    if not sys.stderr.isatty():
        yield lambda row, counts: None
        return
    with _bar() as bar:
        task = bar.add_task("", total=source.total, counts=counts)
        yield lambda row, counts: bar.update(task, completed=source.done(row, counts), counts=counts)


def _bar() -> "Progress":
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    said = TextColumn("{task.fields[counts].read} rows, {task.fields[counts].rejected} rejected")
    return Progress(BarColumn(), TaskProgressColumn(), said, TimeRemainingColumn(), console=Console(stderr=True))
