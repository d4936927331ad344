"""`rollcall user`: who may register. Works on the database itself, whether the registrar runs or not."""

import sys
from collections.abc import Iterator
from secrets import token_urlsafe

import click

from registrar.command.settings import Command, Settings, anywhere, full_name, print_json, print_table, with_settings
from registrar.command.telling import open_users, tell_registrars
from registrar.config import RegistrarConfig
from registrar.subscribers.contract import NoSuchSubscriber

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
    _give_password(settings, name, password_stdin, make_random, is_new=True)


@user.command()
@click.argument("name", metavar="USER[@DOMAIN]")
@_takes_password
@anywhere
@with_settings
def passwd(settings: Settings, name: str, password_stdin: bool, make_random: bool) -> None:
    """Give a user another password; asks for it."""
    _give_password(settings, name, password_stdin, make_random, is_new=False)


def _give_password(settings: Settings, name: str, from_stdin: bool, make_random: bool, is_new: bool) -> None:
    if from_stdin and make_random:
        raise click.UsageError("give --password-stdin or --random, not both")
    config = settings.config()
    username, domain = full_name(config, name)
    password = _password(from_stdin, make_random)
    with open_users(config, make=is_new) as table:
        change = table.add if is_new else table.set_password
        change(username, domain, password)
    tell_registrars(config, [(username, domain)])
    shown = {"password": password} if make_random else {}
    done = "added" if is_new else "changed"
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
    with open_users(config) as table:
        table.remove(username, domain)
    tell_registrars(config, [(username, domain)])
    if settings.as_json:
        print_json({"username": username, "domain": domain, "done": "removed"})
    else:
        click.echo(f"{username}@{domain} removed")


@user.command()
@click.argument("name", metavar="[USER[@DOMAIN]]", required=False)
@click.option("--all", "is_all", is_flag=True, help="Whoever it is.")
@anywhere
@with_settings
def forget(settings: Settings, name: str | None, is_all: bool) -> None:
    """Let registrars look a user up again who was changed by other means, such as kamctl."""
    if (name is None) is not is_all:
        raise click.UsageError("name a user, or give --all")
    config = settings.config()
    names = None if name is None else [full_name(config, name, served=False)]
    with open_users(config) as table:
        is_seen = table.forget(names)
    if not (tell_registrars(config, names) or is_seen):
        seconds = config.subscribers.cache_seconds
        raise click.ClickException(f"nobody could be told: registrars look again after {seconds:g} s. `rollcall db "
                                   "upgrade` makes a table where they see it; those above one Redis hear it there")
    if settings.as_json:
        print_json({"forgotten": "all" if names is None else "@".join(names[0])})
    else:
        click.echo(f"{'everybody' if names is None else '@'.join(names[0])} is looked up again")


@user.command("list")
@anywhere
@with_settings
def list_users(settings: Settings) -> None:
    """List the users."""
    config = settings.config()
    found = [{"username": username, "domain": domain} for username, domain in _all_users(config)]
    if settings.as_json:
        print_json({"users": found})
    elif found:
        print_table(("user", "domain"), ((each["username"], each["domain"]) for each in found))
    else:
        click.echo("There are no users yet; `rollcall user add` adds one.", err=True)


def _all_users(config: RegistrarConfig) -> Iterator[tuple[str, str]]:
    try:
        opened = open_users(config)
    except NoSuchSubscriber:
        return
    with opened as table:
        page = table.page()
        while page:
            for subscriber in page:
                yield subscriber.username, subscriber.domain
            page = table.page((page[-1].username, page[-1].domain))
