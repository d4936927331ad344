"""`rollcall sites`: all sites as a node knows them, and what it has asked the others."""

from collections.abc import Mapping
from typing import Any

import click

from registrar.command.asking import ask
from registrar.command.settings import Settings, anywhere, print_json, print_table, with_settings
from registrar.sites.listing import SITES


@click.command()
@anywhere
@with_settings
def sites(settings: Settings) -> None:
    """Show the sites, whether each answers, and who lives there; asks the running registrar."""
    config = settings.config()
    if not config.sites:
        raise click.ClickException("there is one site only: the configuration has no [[site]]")
    answer = ask(config, SITES)
    if settings.as_json:
        print_json(answer)
        return
    print_table(("site", "state", "heard", "nodes", "connections", "asked", "without an answer"),
                (_row(each) for each in answer["sites"]))
    if answer["lookups"]:
        click.echo("Who was looked for at other sites: " + _counts(answer["lookups"]))
        click.echo("What other sites were told here: " + _counts(answer["answers"]))


def _row(site: Mapping[str, Any]) -> tuple[str, ...]:
    heard, asked = site["heard_seconds_ago"], site["questions"]
    return (
        site["site"],
        _state(site),
        "never" if heard is None else f"{heard:.1f} s ago",
        ", ".join(node["node"] + (" (draining)" if node["draining"] else "") for node in site["nodes"]),
        str(sum(node["connections"] for node in site["nodes"])),
        str(sum(asked.values())) if asked else "-",
        str(asked["failed"] + asked["silent"]) if asked else "-",
    )


def _state(site: Mapping[str, Any]) -> str:
    if site["this"]:
        return "this one"
    if not site["reachable"]:
        return "not reachable"
    return "answers" if site["answers"] else "does not answer"


def _counts(outcomes: Mapping[str, int]) -> str:
    return ", ".join(f"{number} {outcome.replace('_', ' ')}" for outcome, number in outcomes.items())
