"""`rollcall nodes`, `rollcall flows` and `rollcall drain`: the nodes of a cluster, and who hangs on them.

Any node knows all nodes, so that the one whose configuration is at hand is asked. Connections only the node knows that
has them.
"""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import click

from registrar.command.asking import ask, ask_all, in_path, meant_aor, tell
from registrar.command.settings import Settings, anywhere, print_json, print_table, with_settings
from registrar.config import RegistrarConfig

NODES = "/v1/nodes"
FLOWS = "/v1/flows"
SHOWN_AORS = 3


@click.command()
@anywhere
@with_settings
def nodes(settings: Settings) -> None:
    """Show which nodes live, which of them are drained, and how many phones each has and wants (its weight, of 100).

    Asks the running registrar.
    """
    answer = ask(settings.config(), NODES)
    if settings.as_json:
        print_json(answer)
        return
    print_table(
        ("node", "site", "state", "since", "other nodes reach it at", "phones reach it at", "connections", "weight"),
        (
            (
                each["node"],
                each["site"] or "",
                "draining" if each["draining"] else "serving",
                _moment(each["started_at"]),
                _internal(each),
                ", ".join(f"{name} {place}" for name, place in sorted(each["listeners"].items())),
                _load(each),
                str(each["weight"]),
            )
            for each in answer["nodes"]
        ),
    )
    if answer["problem"]:
        click.echo("Others may believe that this node is dead, for its lease is not renewed: "
                   f"{answer['problem']}", err=True)


@click.command()
@click.argument("aor", required=False, metavar="[USER[@DOMAIN]]")
@anywhere
@with_settings
def flows(settings: Settings, aor: str | None) -> None:
    """Show the connections of this node, and who is registered over them; asks the running registrar."""
    found = list(_ask_flows(settings.config(), aor))
    if settings.as_json:
        print_json({"flows": found})
    elif found:
        print_table(
            ("flow", "node", "over", "from", "listener", "registered since", "addresses"),
            (
                (
                    str(each["flow"]),
                    each["node"],
                    each["transport"],
                    f"{each['host']}:{each['port']}",
                    each["listener"] or "",
                    "" if each["since"] is None else _moment(each["since"]),
                    _addresses(each),
                )
                for each in found
            ),
        )
    else:
        click.echo("No connection is open." if aor is None else f"{aor} has no connection here.", err=True)


@click.command()
@click.argument("node", metavar="NODE")
@click.option("--undo", is_flag=True, help="Let phones come to it again.")
@anywhere
@with_settings
def drain(settings: Settings, node: str, undo: bool) -> None:
    """Have the phones of NODE move over to the other nodes, at the pace of [cluster] drain_flows_per_second.

    It takes nobody new from then on, and says so to whoever asks for its health. Any node can be told, for any other.
    """
    answer = tell(settings.config(), f"{NODES}/{in_path(node)}/drain", {"undo": undo})
    if settings.as_json:
        print_json(answer)
    else:
        names = ", ".join(answer["nodes"])
        said = "phones may come again." if undo else "its phones move over; see rollcall nodes."
        click.echo(f"{names}: {said}")


def _ask_flows(config: RegistrarConfig, aor: str | None) -> Iterator[Mapping[str, Any]]:
    if aor is not None:
        yield from ask(config, FLOWS, aor=meant_aor(config, aor))["flows"]
        return
    yield from ask_all(config, FLOWS, "flows")


def _internal(node: Mapping[str, Any]) -> str:
    if node["host"] is None:
        return "alone"
    host = f"[{node['host']}]" if ":" in node["host"] else node["host"]
    return f"{host}:{node['port']}{' (TLS)' if node['tls'] else ''}"


def _load(node: Mapping[str, Any]) -> str:
    if node["connections"] is None:
        return ""
    return f"{node['connections']} of {node['capacity']}" if node["capacity"] else str(node["connections"])


def _addresses(flow: Mapping[str, Any]) -> str:
    shown = flow["aors"][:SHOWN_AORS]
    more = flow["bound"] - len(shown)
    return ", ".join([*shown, f"{more} more"] if more else shown)


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
