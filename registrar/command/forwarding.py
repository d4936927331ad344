"""`rollcall forward`: where the calls of users go when that is not their phones. Works on the database itself."""

import click

from registrar.command.naming import address_of_record, target_uri
from registrar.command.settings import Settings, anywhere, place_of_tables, print_json, print_table, with_settings
from registrar.directory.entries import KINDS, Forwarding
from registrar.directory.opening import directory_at

_KIND = click.Choice(KINDS)


@click.group()
@anywhere
def forward() -> None:
    """Where calls go instead of the user's phones. Registrars know of changes within [database] cache_seconds."""


@forward.command("set")
@click.argument("name", metavar="USER[@DOMAIN]")
@click.argument("kind", metavar="|".join(KINDS), type=_KIND)
@click.argument("target", metavar="USER[@DOMAIN]|URI")
@click.option("--seconds", type=click.IntRange(min=1), help="With no-answer: how long the user's phones ring before.")
@anywhere
@with_settings
def set_forwarding(settings: Settings, name: str, kind: str, target: str, seconds: int | None) -> None:
    """Have the calls of USER go to TARGET: always, or when nobody takes them."""
    config = settings.config()
    aor, uri = address_of_record(config, name), target_uri(config, target)
    if uri == aor:
        raise click.ClickException(f"{aor} would be called instead of himself")
    with directory_at(place_of_tables(config)) as directory:
        directory.set_forwarding(aor, Forwarding(kind, uri, seconds))
    if settings.as_json:
        print_json({"aor": aor, "kind": kind, "target": uri, "seconds": seconds, "done": "set"})
    else:
        click.echo(f"calls of {aor} go to {uri}: {kind}" + (f" after {seconds} s" if seconds else ""))


@forward.command()
@click.argument("name", metavar="USER[@DOMAIN]")
@click.argument("kind", metavar="[" + "|".join(KINDS) + "]", type=_KIND, required=False)
@anywhere
@with_settings
def remove(settings: Settings, name: str, kind: str | None) -> None:
    """Have the calls of USER go elsewhere no more: in one case, or in none of them."""
    config = settings.config()
    aor = address_of_record(config, name, served=False)
    with directory_at(place_of_tables(config)) as directory:
        directory.remove_forwarding(aor, kind)
    if settings.as_json:
        print_json({"aor": aor, "kind": kind, "done": "removed"})
    else:
        click.echo(f"calls of {aor} go elsewhere no more" + (f": {kind}" if kind else ""))


@forward.command("list")
@click.argument("name", metavar="[USER[@DOMAIN]]", required=False)
@anywhere
@with_settings
def list_forwardings(settings: Settings, name: str | None) -> None:
    """List where calls go, of one user or of all."""
    config = settings.config()
    aor = None if name is None else address_of_record(config, name, served=False)
    with directory_at(place_of_tables(config)) as directory:
        found = directory.forwardings(aor)
    if settings.as_json:
        print_json({"forwardings": [
            {"aor": whose, "kind": each.kind, "target": each.target, "seconds": each.seconds}
            for whose, each in found]})
    elif found:
        print_table(("user", "when", "target", "seconds"),
                    ((whose, each.kind, each.target, "" if each.seconds is None else str(each.seconds))
                     for whose, each in found))
    else:
        click.echo("No calls go elsewhere; `rollcall forward set` has them do so.", err=True)
