"""`rollcall media`: the media nodes, and how good the way from each access group to each of them is."""

from collections.abc import Mapping
from typing import Any

import click

from registrar.command.asking import ask
from registrar.command.settings import Settings, anywhere, print_json, print_table, with_settings
from registrar.media_api import MEDIA


@click.command()
@click.option("--ways", is_flag=True, help="Show loss and delay of each way, too.")
@anywhere
@with_settings
def media(settings: Settings, ways: bool) -> None:
    """Show the media nodes and their scores, by which calls are placed; asks the running registrar.

    A score is the rating R of the E-model: 93 is perfect, below 70 many users are not satisfied.
    """
    config = settings.config()
    if not config.media.enabled:
        raise click.ClickException("calls do not go through media nodes: [media] enabled is false")
    answer = ask(config, MEDIA)
    if settings.as_json:
        print_json(answer)
        return
    if not answer["nodes"]:
        click.echo(f"No media node is known: {_why(answer['snapshot'])}", err=True)
        return
    _show_nodes(answer["nodes"])
    if answer["ways"]:
        click.echo()
        _show_scores(answer)
    else:
        click.echo("Of no way anything is known yet: no phone has reported.", err=True)
    if ways and answer["ways"]:
        click.echo()
        print_table(("access group", "node", "R", "loss", "delay"), (
            (_group(way), way["node"], f"{way['r']:.0f}", f"{way['loss']:.2%}", f"{way['delay_ms']:.0f} ms")
            for way in answer["ways"]))
    if not answer["snapshot"]["is_fresh"]:
        click.echo(f"This is as old as {answer['snapshot']['age_seconds']:.0f} s: {_why(answer['snapshot'])}", err=True)


def _show_nodes(nodes: list[dict[str, Any]]) -> None:
    print_table(("node", "state", "kind", "address", "region", "groups", "sessions", "load", "calls here"), (
        (each["id"], each["state"], each["kind"], each["address"], each["region"], ", ".join(each["groups"]),
         f"{each['sessions']}/{each['capacity']}", f"{each['load']:.0%}", str(each["calls"])) for each in nodes))


def _show_scores(answer: Mapping[str, Any]) -> None:
    """Show R as a table: a row for each access group, a column for each node."""
    names = [node["id"] for node in answer["nodes"]]
    scores: dict[str, dict[str, float]] = {}
    for way in answer["ways"]:
        scores.setdefault(_group(way), {})[way["node"]] = way["r"]
    print_table(("R from access group", *names), (
        (group, *(f"{row[name]:.0f}" if name in row else "-" for name in names)) for group, row in scores.items()))


def _group(way: Mapping[str, Any]) -> str:
    return way["group"] or "(unknown)"


def _why(snapshot: Mapping[str, Any]) -> str:
    return snapshot["problem"] or "no balancer publishes"
