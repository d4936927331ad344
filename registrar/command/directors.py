"""`rollcall keepalived`, `rollcall haproxy`, `rollcall nftables`, `rollcall sysctl`: files for directors and nodes."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from socket import gethostname
from tempfile import NamedTemporaryFile

import click

from registrar.command.settings import Settings, anywhere, with_settings
from registrar.config import RegistrarConfig
from registrar.distribution.directors import keepalived as keepalived_conf
from registrar.distribution.directors import sysctl as sysctl_conf
from registrar.distribution.directors.layout import CannotRender, Layout, Role, layout_of, warnings

ROLES = ("director", "node", "both")

_role = click.option("--role", type=click.Choice(ROLES), required=True, help="What the machine is.")
_name = click.option("--name", metavar="NAME", default=gethostname, show_default="the host's name",
                     help="What [directors] calls it.")
_output = click.option("--output", type=click.Path(dir_okay=False, path_type=Path),
                       help="Write this file, whole or not at all; default: standard output.")


@click.group()
@anywhere
def keepalived() -> None:
    """Virtual addresses, and LVS: what keepalived has to know."""


@keepalived.command("render")
@_role
@_name
@_output
@anywhere
@with_settings
def render_keepalived(settings: Settings, role: Role, name: str, output: Path | None) -> None:
    """Write keepalived.conf for one machine."""
    _render(settings, output, lambda layout: keepalived_conf.render(layout, role, name))


@click.group()
@anywhere
def sysctl() -> None:
    """What kernels have to be told."""


@sysctl.command("render")
@_role
@_output
@anywhere
@with_settings
def render_sysctl(settings: Settings, role: Role, output: Path | None) -> None:
    """Write a file for /etc/sysctl.d."""
    _render(settings, output, lambda layout: sysctl_conf.render(layout, role))


def layout_in(config: RegistrarConfig) -> Layout:
    """Return what a configuration says of directors and nodes. Raises ClickException."""
    own = [site for site in config.sites if site.name == config.cluster.site or len(config.sites) == 1]
    addresses = own[0].addresses if own else ()
    try:
        return layout_of(config.directors, config.listeners, addresses, config.domains[0].name, config.health,
                         config.keepalive, _rollcall())
    except CannotRender as problem:
        raise click.ClickException(str(problem)) from problem


def _render(settings: Settings, output: Path | None, render: Callable[[Layout], str]) -> None:
    config = settings.config()
    layout = layout_in(config)
    try:
        text = render(layout)
    except CannotRender as problem:
        raise click.ClickException(str(problem)) from problem
    for warning in warnings(layout, config.listeners):
        click.echo(f"Warning: {warning}.", err=True)
    if output is None:
        click.echo(text, nl=False)
    else:
        _replace(output, text)


def _replace(path: Path, text: str) -> None:
    """Write a file that others see whole or not at all."""
    with NamedTemporaryFile("w", dir=path.parent, prefix=f".{path.name}.", encoding="utf-8", delete=False) as new:
        try:
            new.write(text)
            new.flush()
            os.fsync(new.fileno())
            os.fchmod(new.fileno(), 0o644)
            os.replace(new.name, path)
        except BaseException:
            os.unlink(new.name)
            raise


def _rollcall() -> str:
    """Return where the `rollcall` command stands here, which is where directors look for it."""
    return str(Path(sys.executable).with_name("rollcall"))
