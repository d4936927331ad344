"""`rollcall demo`: a registrar to try, which is what `make run` starts."""

import os
import sys
from datetime import UTC, datetime
from pathlib import Path

import click
from attrs import evolve
from rich.table import Table
from rich.text import Text

from registrar.command.ports import Wanted, find_taken, own_address
from registrar.command.preparing import MAX_PORT_OFFSET, Demo, look_ahead, prepare
from registrar.command.settings import Settings, console, json_anywhere, print_json, with_settings

OFFSET_STEP = 100
OFFSETS_TRIED = 20


@click.command()
@click.option(
    "--dir",
    "directory",
    type=click.Path(path_type=Path),
    default="run",
    show_default=True,
    help="Where everything is kept.",
)
@click.option(
    "--address", default="127.0.0.1", show_default=True, help="The address of this machine that phones shall use."
)
@click.option(
    "--port-offset", type=click.IntRange(0, MAX_PORT_OFFSET), default=0, help="Added to every port, if some are taken."
)
@json_anywhere
@with_settings
def demo(settings: Settings, directory: Path, address: str, port_offset: int) -> None:
    """Start a registrar to try, with two users; Ctrl-C ends it."""
    wanted = look_ahead(directory, address, port_offset)
    taken = find_taken(wanted)
    if taken:
        lines = "".join(f"\n  {each}" for each in taken)
        raise click.ClickException(f"these cannot be listened on:{lines}\n{_way_out(wanted, port_offset)}")
    ready = prepare(directory, address, port_offset, datetime.now(UTC))
    if settings.as_json:
        print_json(ready.as_json())
    else:
        _greet(ready)
    sys.stdout.flush()
    twistd = Path(sys.executable).with_name("twistd")
    os.execv(twistd, [str(twistd), "-n", "--pidfile=", "registrar", "--config", str(ready.config_file)])


def _way_out(wanted: list[Wanted], port_offset: int) -> str:
    for more in range(OFFSET_STEP, OFFSET_STEP * OFFSETS_TRIED, OFFSET_STEP):
        if not find_taken(evolve(each, port=each.port + more) for each in wanted):
            offset = port_offset + more
            return f"These ports are free with --port-offset {offset} (make run PORT_OFFSET={offset})."
    return "Give an address of this machine with --address (make run ADDRESS=…)."


def _greet(ready: Demo) -> None:
    click.secho("\nType into two phones", bold=True, nl=False)
    click.echo(", a user into each, and call by the other user's name:\n")
    console().print(_for_phones(ready))
    click.echo(f"\nTLS and WSS show a test certificate: trust {ready.authority}, or tell the phone not to verify.")
    others = own_address()
    if ready.domain.startswith("127.") and others:
        click.echo(f"Only this machine reaches {ready.domain}. For phones of the network: make run ADDRESS={others}")
    click.echo(f"Health and metrics: {ready.config.admin.url}/readyz and /metrics. Ctrl-C ends the registrar.\n")


def _for_phones(ready: Demo) -> Table:
    grid = Table.grid(padding=(0, 2))
    for user in ready.users:
        grid.add_row("user, password", Text.assemble((user.username, "bold"), f"  {user.password}"))
    grid.add_row("domain", ready.domain)
    for transport in ("udp", "tcp", "tls"):
        if endpoint := ready.endpoint(transport):
            grid.add_row(f"server for {transport.upper()}", endpoint)
    for transport in ("ws", "wss"):
        if endpoint := ready.endpoint(transport):
            grid.add_row("browser phones", f"{transport}://{endpoint}")
    return grid
