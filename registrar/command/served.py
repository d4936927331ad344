"""`rollcall domain`: domains that are served beside those of the configuration. Works on the database itself."""

import click

from registrar.command.settings import Settings, anywhere, place_of_tables, print_json, print_table, with_settings
from registrar.directory.entries import EntryExists, InvalidEntry, checked_domain
from registrar.directory.opening import directory_at
from registrar.directory.reaching import NoTables

MAX_COMMENT_CHARS = 255  # as the table has it


@click.group()
@anywhere
def domain() -> None:
    """Domains beside those of the configuration. Registrars know of changes within [database] domains_seconds."""


@domain.command()
@click.argument("name", metavar="DOMAIN")
@click.option("--comment", default="", help="What to remember about it.")
@anywhere
@with_settings
def add(settings: Settings, name: str, comment: str) -> None:
    """Serve one more domain."""
    config = settings.config()
    proper = checked_domain(name)
    if len(comment) > MAX_COMMENT_CHARS:
        raise InvalidEntry(f"a comment has at most {MAX_COMMENT_CHARS} characters")
    for each in config.domains:
        if proper in (each.name.lower(), *(other.lower() for other in each.aliases)):
            raise EntryExists(f"{proper} is served already: the configuration says so")
    with directory_at(place_of_tables(config)) as directory:
        directory.add_domain(proper, comment)
    if settings.as_json:
        print_json({"domain": proper, "done": "added"})
    else:
        click.echo(f"{proper} added")


@domain.command()
@click.argument("name", metavar="DOMAIN")
@anywhere
@with_settings
def remove(settings: Settings, name: str) -> None:
    """Serve a domain of the table no more. Its users stay in their table."""
    proper = checked_domain(name)
    with directory_at(place_of_tables(settings.config())) as directory:
        directory.remove_domain(proper)
    if settings.as_json:
        print_json({"domain": proper, "done": "removed"})
    else:
        click.echo(f"{proper} removed")


@domain.command("list")
@anywhere
@with_settings
def list_domains(settings: Settings) -> None:
    """List the domains that are served, those of the configuration first."""
    config = settings.config()
    found = [(each.name, "configuration", "") for each in config.domains]
    try:
        with directory_at(place_of_tables(config)) as directory:
            found += [(name, "table", comment) for name, comment in directory.domains()]
    except NoTables:
        pass
    if settings.as_json:
        print_json({"domains": [{"domain": name, "from": place, "comment": comment} for name, place, comment in found]})
    else:
        print_table(("domain", "from", "comment"), found)
