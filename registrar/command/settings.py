"""What every command shares: the options that may stand anywhere on the line, and how results are printed."""

import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import click
from attrs import define
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table

from registrar.config import RegistrarConfig
from rollcall.ops.config import load
from rollcall.sql.config import MysqlConfig

DEFAULT_CONFIG = "etc/registrar.toml"
PIPE_COLUMNS = 10_000  # to a file or pipe lines stay whole, for grep
MAX_STYLED = 1000  # rows of a table that are laid out by rich, which takes 130 µs for each

Command = TypeVar("Command", bound=Callable[..., Any])


@define
class Settings:
    """What the options that stand anywhere on the line have set."""

    config_file: Path | None = None
    as_json: bool = False

    @property
    def config_path(self) -> Path:
        """The configuration file to read."""
        return self.config_file or Path(os.environ.get("ROLLCALL_CONFIG") or DEFAULT_CONFIG)

    def config(self) -> RegistrarConfig:
        """Return the configuration. Raises ConfigError."""
        return load(self.config_path, RegistrarConfig)


with_settings = click.make_pass_decorator(Settings, ensure=True)


def _remember(context: click.Context, option: click.Parameter, value: Any) -> None:
    if value and option.name:
        setattr(context.ensure_object(Settings), option.name, value)


_config_option = click.option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path),
    expose_value=False,
    callback=_remember,
    help=f"The registrar's configuration; default $ROLLCALL_CONFIG or {DEFAULT_CONFIG}.",
)
_json_option = click.option(
    "--json", "as_json", is_flag=True, expose_value=False, callback=_remember, help="Print JSON for programs."
)


def anywhere(command: Command) -> Command:
    """Give a command the options that may stand before or after its name."""
    return _config_option(json_anywhere(command))


def json_anywhere(command: Command) -> Command:
    """Give --json alone to a command that reads no configuration."""
    return _json_option(command)


def full_name(config: RegistrarConfig, text: str, served: bool = True) -> tuple[str, str]:
    """Return (username, domain); the first domain when none is given, the proper name when it is an alias."""
    username, at, domain = text.rpartition("@")
    if not at:
        return text, config.domains[0].name
    for each in config.domains:
        if domain.lower() in (each.name.lower(), *(alias.lower() for alias in each.aliases)):
            return username, each.name
    if served:
        also = domains_of_the_table(config)
        if domain.lower() in also:
            return username, domain.lower()
        names = ", ".join([*(each.name for each in config.domains), *also])
        raise click.ClickException(f"{domain} is no domain of this registrar; its domains: {names}")
    return username, domain


def domains_of_the_table(config: RegistrarConfig) -> list[str]:
    """Return the domains that are served beside those of the file."""
    from registrar.directory.opening import directory_at
    from registrar.directory.reaching import NoTables

    try:
        with directory_at(place_of_tables(config)) as directory:
            return [name for name, _ in directory.domains()]
    except NoTables:
        return []


def place_of_tables(config: RegistrarConfig) -> MysqlConfig | Path:
    """Return where our own tables are, but for the subscribers'."""
    return config.mysql if config.subscribers.kind == "mysql" else config.path(config.database.file, "rollcall.sqlite")


def print_json(value: object) -> None:
    """Print a value on one line."""
    click.echo(json.dumps(value, ensure_ascii=False))


def print_table(columns: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> None:
    """Print rows below their headings. What a phone said of itself can neither style nor steer the terminal."""
    printed = [tuple(map(_printable, row)) for row in rows]
    if len(printed) > MAX_STYLED:
        _print_plainly(columns, printed)
        return
    table = Table(*columns, box=None, pad_edge=False)
    for row in printed:
        table.add_row(*row)
    console().print(table)


def _print_plainly(columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    widths = [max(map(cell_len, column)) for column in zip(columns, *rows, strict=True)]
    lines: list[str] = []
    for row in (columns, *rows):
        lines.append("  ".join(text + " " * (width - cell_len(text)) for text, width in zip(row, widths, strict=True)))
    click.echo("\n".join(lines))


def _printable(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def console() -> Console:
    """Return where tables are printed; "[…]" and ":…:" in them mean themselves."""
    terminal = _plain_console()
    return terminal if terminal.is_terminal else _plain_console(width=PIPE_COLUMNS)


def _plain_console(width: int | None = None) -> Console:
    return Console(highlight=False, soft_wrap=True, markup=False, emoji=False, width=width)
