"""`rollcall check`: what a configuration would do, and what is wrong with it."""

from datetime import UTC, datetime
from typing import Any

import click
from rich.table import Table

from registrar.command.checking import Checked
from registrar.command.checking import check as check_here
from registrar.command.settings import Settings, anywhere, console, print_json, with_settings
from rollcall.ops.config import ConfigError


@click.command()
@anywhere
@with_settings
def check(settings: Settings) -> None:
    """Say what the configuration would do, and what is wrong."""
    try:
        config = settings.config()
    except ConfigError as error:
        if settings.as_json:
            problems = [{"key": each.key, "value": each.value, "allowed": each.allowed} for each in error.problems]
            print_json({"ok": False, "file": str(settings.config_path), "mistakes": problems})
            raise click.exceptions.Exit(1) from error
        raise
    checked = check_here(config, datetime.now(UTC))
    if settings.as_json:
        print_json(_checked_as_json(settings, checked))
    else:
        _print_checked(settings, checked)
    if not checked.is_good:
        raise click.exceptions.Exit(1)


def _checked_as_json(settings: Settings, checked: Checked) -> dict[str, Any]:
    return {
        "ok": checked.is_good,
        "file": str(settings.config_path),
        "listeners": [
            {"name": each.name, "transport": each.transport, "host": each.host, "port": each.port}
            for each in checked.listeners
        ],
        "domains": list(checked.domains),
        "certificates": [
            {
                "file": each.file,
                "names": list(each.names),
                "not_after": each.not_after.isoformat() if each.not_after else None,
            }
            for each in checked.certificates
        ],
        "data_dir": checked.data_dir,
        "admin": checked.admin,
        "dns": checked.dns or None,
        "agent": checked.agent or None,
        "redis": checked.redis or None,
        "internal": checked.internal or None,
        "mysql": checked.mysql or None,
        "media": checked.media or None,
        "findings": [{"kind": each.kind, "text": each.text} for each in checked.findings],
    }


def _print_checked(settings: Settings, checked: Checked) -> None:
    grid = Table.grid(padding=(0, 2))
    for each in checked.listeners:
        grid.add_row("listens", f"{each.transport} on {each.host}:{each.port} ({each.name})")
    grid.add_row("serves", ", ".join(checked.domains))
    for certificate in checked.certificates:
        if certificate.not_after:
            names = ", ".join(certificate.names)
            grid.add_row("certificate", f"{certificate.file} for {names}, until {certificate.not_after:%Y-%m-%d}")
    if checked.dns:
        grid.add_row("name server", f"answers at {checked.dns}")
    if checked.agent:
        grid.add_row("directors", f"ask it for its health at {checked.agent}")
    grid.add_row("keeps", f"its data in {checked.data_dir}")
    if checked.redis:
        grid.add_row("shares", f"bindings by Redis, {checked.redis}")
        grid.add_row("other nodes", f"reach it at {checked.internal}")
    if checked.mysql:
        grid.add_row("users", f"are in MySQL, {checked.mysql}")
    if checked.media:
        grid.add_row("calls", f"go through media nodes that balancers publish in Redis, {checked.media}")
    grid.add_row("admin site", checked.admin)
    console().print(grid)
    for finding in checked.findings:
        click.echo(f"{finding.kind}: {finding.text}", err=True)
    if checked.is_good:
        click.echo(f"{settings.config_path} is good.")
