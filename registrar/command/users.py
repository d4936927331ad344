"""`rollcall user`: who may register. Works on the database itself, whether the registrar runs or not."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from secrets import token_urlsafe

import click

from registrar.command.settings import Command, Settings, anywhere, full_name, print_json, print_table, with_settings
from registrar.config import RegistrarConfig
from registrar.subscribers.contract import NoSuchSubscriber
from registrar.subscribers.table import SubscriberTable

RANDOM_PASSWORD_BYTES = 12


@click.group()
@anywhere
def user() -> None:
    """Who may register: users and their passwords."""


_password_options = (
    click.option("--password-stdin", is_flag=True, help="Read the password from the first line of the input."),
    click.option("--random", "make_random", is_flag=True, help="Make a password and print it, this once."),
)


def _takes_password(command: Command) -> Command:
    for option in _password_options:
        command = option(command)
    return command


@user.command()
@click.argument("name", metavar="USER[@DOMAIN]")
@_takes_password
@anywhere
@with_settings
def add(settings: Settings, name: str, password_stdin: bool, make_random: bool) -> None:
    """Add a user; asks for the password."""
    _give_password(settings, name, password_stdin, make_random, SubscriberTable.add, "added")


@user.command()
@click.argument("name", metavar="USER[@DOMAIN]")
@_takes_password
@anywhere
@with_settings
def passwd(settings: Settings, name: str, password_stdin: bool, make_random: bool) -> None:
    """Give a user another password; asks for it."""
    _give_password(settings, name, password_stdin, make_random, SubscriberTable.set_password, "changed")


def _give_password(
    settings: Settings,
    name: str,
    from_stdin: bool,
    make_random: bool,
    change: Callable[[SubscriberTable, str, str, str], None],
    done: str,
) -> None:
    if from_stdin and make_random:
        raise click.UsageError("give --password-stdin or --random, not both")
    config = settings.config()
    username, domain = full_name(config, name)
    password = _password(from_stdin, make_random)
    with _table(config, make=change is SubscriberTable.add) as table:
        change(table, username, domain, password)
    shown = {"password": password} if make_random else {}
    if settings.as_json:
        print_json({"username": username, "domain": domain, "done": done, **shown})
    else:
        click.echo(f"{username}@{domain} {done}" + (f"; the password is {password}" if make_random else ""))


def _password(from_stdin: bool, make_random: bool) -> str:
    if make_random:
        return token_urlsafe(RANDOM_PASSWORD_BYTES)
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    return str(click.prompt("Password", hide_input=True, confirmation_prompt="The same again", err=True))


@user.command()
@click.argument("name", metavar="USER[@DOMAIN]")
@anywhere
@with_settings
def remove(settings: Settings, name: str) -> None:
    """Remove a user. Phones registered as this user stay so until their registration lapses."""
    config = settings.config()
    username, domain = full_name(config, name, served=False)
    with _table(config) as table:
        table.remove(username, domain)
    if settings.as_json:
        print_json({"username": username, "domain": domain, "done": "removed"})
    else:
        click.echo(f"{username}@{domain} removed")


@user.command("list")
@anywhere
@with_settings
def list_users(settings: Settings) -> None:
    """List the users."""
    config = settings.config()
    found: list[dict[str, str]] = []
    if _file(config).exists():
        with _table(config) as table:
            found = [{"username": username, "domain": domain} for username, domain in _all_users(table)]
    if settings.as_json:
        print_json({"users": found})
    elif found:
        print_table(("user", "domain"), ((each["username"], each["domain"]) for each in found))
    else:
        click.echo("There are no users yet; `rollcall user add` adds one.", err=True)


def _all_users(table: SubscriberTable) -> Iterator[tuple[str, str]]:
    page = table.page()
    while page:
        for subscriber in page:
            yield subscriber.username, subscriber.domain
        page = table.page((page[-1].username, page[-1].domain))


def _table(config: RegistrarConfig, make: bool = False) -> SubscriberTable:
    path = _file(config)
    if make:
        path.parent.mkdir(parents=True, exist_ok=True)
    elif not path.exists():
        raise NoSuchSubscriber(f"there are no users yet: {path} does not exist")
    return SubscriberTable(path)


def _file(config: RegistrarConfig) -> Path:
    return config.path(config.subscribers.file, "subscribers.sqlite")
