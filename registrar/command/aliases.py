"""`rollcall alias`: other names of users, and names for what is elsewhere. Works on the database itself."""

import click

from registrar.command.naming import address_of_record, target_uri
from registrar.command.settings import Settings, anywhere, place_of_tables, print_json, print_table, with_settings
from registrar.directory.opening import directory_at


@click.group()
@anywhere
def alias() -> None:
    """Other names that users are called by. Registrars know of changes within [database] cache_seconds."""


@alias.command()
@click.argument("name", metavar="ALIAS[@DOMAIN]")
@click.argument("target", metavar="USER[@DOMAIN]|URI")
@anywhere
@with_settings
def add(settings: Settings, name: str, target: str) -> None:
    """Have whatever is for ALIAS go to somebody else, of ours or elsewhere."""
    config = settings.config()
    aor, uri = address_of_record(config, name), target_uri(config, target)
    with directory_at(place_of_tables(config)) as directory:
        directory.add_alias(aor, uri)
    if settings.as_json:
        print_json({"alias": aor, "target": uri, "done": "added"})
    else:
        click.echo(f"{aor} is an alias of {uri}")


@alias.command()
@click.argument("name", metavar="ALIAS[@DOMAIN]")
@anywhere
@with_settings
def remove(settings: Settings, name: str) -> None:
    """Remove an alias."""
    config = settings.config()
    aor = address_of_record(config, name, served=False)
    with directory_at(place_of_tables(config)) as directory:
        directory.remove_alias(aor)
    if settings.as_json:
        print_json({"alias": aor, "done": "removed"})
    else:
        click.echo(f"{aor} is an alias no more")


@alias.command("list")
@anywhere
@with_settings
def list_aliases(settings: Settings) -> None:
    """List the aliases."""
    with directory_at(place_of_tables(settings.config())) as directory:
        found = directory.aliases()
    if settings.as_json:
        print_json({"aliases": [{"alias": name, "target": target} for name, target in found]})
    elif found:
        print_table(("alias", "target"), found)
    else:
        click.echo("There are no aliases yet; `rollcall alias add` adds one.", err=True)
