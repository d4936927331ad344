"""`rollcall contacts`: who is registered. Asks the running registrar, which alone knows the connections."""

from collections.abc import Iterator, Mapping
from typing import Any

import click

from registrar.command.asking import ask, ask_all, meant_aor
from registrar.command.settings import Settings, anywhere, print_json, print_table, with_settings
from registrar.config import RegistrarConfig

CONTACTS = "/v1/contacts"


@click.command()
@click.argument("aor", required=False, metavar="[USER[@DOMAIN]]")
@click.option("--node", metavar="NODE", help="Only what came over a connection or socket of this node.")
@anywhere
@with_settings
def contacts(settings: Settings, aor: str | None, node: str | None) -> None:
    """Show who is registered, and where; asks the running registrar."""
    config = settings.config()
    found = list(_ask_contacts(config, aor, {} if node is None else {"node": node}))
    if settings.as_json:
        print_json({"contacts": found})
    elif found:
        print_table(
            ("address", "contact", "over", "from", "node", "expires", "agent"),
            (
                (
                    each["aor"],
                    each["contact"],
                    each["transport"],
                    f"{each['host']}:{each['port']}",
                    each["node"],
                    f"{each['expires_seconds']} s",
                    each["user_agent"] or "",
                )
                for each in found
            ),
        )
    else:
        click.echo(_nobody(aor, node), err=True)


def _ask_contacts(config: RegistrarConfig, aor: str | None, query: Mapping[str, str]) -> Iterator[Mapping[str, Any]]:
    if aor is not None:
        yield from ask(config, CONTACTS, aor=meant_aor(config, aor), **query)["contacts"]
        return
    yield from ask_all(config, CONTACTS, "contacts", **query)


def _nobody(aor: str | None, node: str | None) -> str:
    where = "" if node is None else f" at {node}"
    return f"Nobody is registered{where}." if aor is None else f"{aor} is not registered{where}."
