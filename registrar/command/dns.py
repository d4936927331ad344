"""`rollcall dns`: which sites the name server tells to whom."""

from collections.abc import Mapping
from typing import Any

import click

from registrar.command.asking import ask
from registrar.command.settings import Settings, anywhere, print_json, print_table, with_settings
from registrar.distribution.dns.listing import DNS


@click.command()
@click.option("--address", help="Show only what a resolver or client with this address is told.")
@anywhere
@with_settings
def dns(settings: Settings, address: str | None) -> None:
    """Show how sites stand and which ones DNS tells to whom; asks the running registrar.

    Of the sites with the least priority number each gets phones by its weight, the next ones when these fail.
    """
    config = settings.config()
    if not config.dns.listen:
        raise click.ClickException("there is no name server: [dns] listen is empty")
    answer = ask(config, DNS, **({"address": address} if address else {}))
    if settings.as_json:
        print_json(answer)
        return
    if "asked" in answer:
        group = answer["asked"]["group"] or "(unknown)"
        click.echo(f"{address} is of the access group {group}.\n")
        answer["views"] = [view for view in answer["views"] if view["view"] == answer["asked"]["view"]]
    _show_sites(answer["sites"])
    click.echo()
    _show_views(answer["views"])
    click.echo(f"\nSerial number {answer['serial']} of {', '.join(answer['zones'])}")


def _show_sites(sites: list[dict[str, Any]]) -> None:
    print_table(("site", "state", "nodes", "weight", "share", "addresses"), (
        (site["site"], site["fitness"] or "-", "-" if site["nodes"] is None else str(site["nodes"]),
         _number(site["weight"]), "-" if site["share"] is None else f"{site['share']:.0%}",
         ", ".join(site["addresses"])) for site in sites))


def _show_views(views: list[dict[str, Any]]) -> None:
    print_table(("access groups", "TTL", "sites: priority/weight"), (
        (", ".join("all others" if group == "*/*" else group for group in view["groups"]), f"{view['ttl_seconds']} s",
         ", ".join(map(_answer, view["answers"]))) for view in views))


def _answer(answer: Mapping[str, Any]) -> str:
    return f"{answer['site']} {answer['priority']}/{answer['weight']}"


def _number(value: int | None) -> str:
    return "-" if value is None else str(value)
