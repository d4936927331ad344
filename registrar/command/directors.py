"""`rollcall keepalived`, `rollcall haproxy`, `rollcall nftables`, `rollcall sysctl`: files for directors and nodes."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from socket import gethostname
from tempfile import NamedTemporaryFile
from time import sleep

import click

from registrar.command.settings import Settings, anywhere, with_settings
from registrar.config import RegistrarConfig
from registrar.distribution.directors import haproxy as haproxy_cfg
from registrar.distribution.directors import keepalived as keepalived_conf
from registrar.distribution.directors import nftables as nftables_table
from registrar.distribution.directors import sysctl as sysctl_conf
from registrar.distribution.directors.layout import CannotRender, Layout, Role, layout_of, warnings
from registrar.distribution.directors.running import cannot_run
from registrar.distribution.directors.watching import Change, Watch

ROLES = ("director", "node", "both")
KERNEL_SECONDS = 10
"""How long nft and conntrack may take."""

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
def haproxy() -> None:
    """What HAProxy has to know."""


@haproxy.command("render")
@_output
@anywhere
@with_settings
def render_haproxy(settings: Settings, output: Path | None) -> None:
    """Write haproxy.cfg, which is the same on all directors."""
    _render(settings, output, haproxy_cfg.render)


@click.group()
@anywhere
def nftables() -> None:
    """Tables of the kernel that spread phones over nodes."""


@nftables.command("render")
@_output
@anywhere
@with_settings
def render_nftables(settings: Settings, output: Path | None) -> None:
    """Write the table for `nft -f`, which is the same on all directors."""
    _render(settings, output, nftables_table.render)


@nftables.command("weights")
@click.option("--apply", is_flag=True, help="Run nft, and conntrack for nodes that are dead, instead of printing.")
@click.option("--every", type=click.FloatRange(0.5, 3600), metavar="SECONDS", help="Do so again and again.")
@anywhere
@with_settings
def nftables_weights(settings: Settings, apply: bool, every: float | None) -> None:
    """Write the commands for `nft -f` that give each node its share as it is now: nodes are asked, as by check-sip."""
    layout = layout_in(settings.config())
    if not layout.spread_by("nftables"):
        raise click.ClickException("nothing is spread by nftables: see [directors] streams_by and datagrams_by")
    watch = Watch(layout)
    while True:
        change = watch.look()
        try:
            _tell(change, apply)
        except click.ClickException as problem:
            if every is None:
                raise
            click.echo(problem.message, err=True)
            watch.forget()
        if every is None:
            return
        sleep(every)


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
    try:
        return described(config)
    except CannotRender as problem:
        raise click.ClickException(str(problem)) from problem


def described(config: RegistrarConfig) -> Layout:
    """Return what a configuration says of directors and nodes. Raises CannotRender."""
    own = [site for site in config.sites if site.name == config.cluster.site or len(config.sites) == 1]
    addresses = own[0].addresses if own else ()
    return layout_of(config.directors, config.listeners, addresses, config.domains[0].name, config.health,
                     config.keepalive, config.bindings.max_expires_seconds, _rollcall())


def _render(settings: Settings, output: Path | None, render: Callable[[Layout], str]) -> None:
    config = settings.config()
    layout = layout_in(config)
    try:
        text = render(layout)
    except CannotRender as problem:
        raise click.ClickException(str(problem)) from problem
    for warning in warnings(layout, config.listeners, config.health):
        click.echo(f"Warning: {warning}.", err=True)
    user = config.directors.check_user
    if layout.check_command in text and (why := cannot_run(layout.check_command, user)):
        click.echo(f"Warning: {user} cannot run {layout.check_command} ({why}), and keepalived takes a check that "
                   "it cannot run for a good one: install it where everybody may read, or set [directors] check_user.",
                   err=True)
    if output is None:
        click.echo(text, nl=False)
    else:
        _replace(output, text)


def _tell(change: Change, apply: bool) -> None:
    """Print what has changed, or tell it to the kernel. Raises ClickException."""
    if not apply:
        if change.said:
            click.echo(change.commands, nl=False)
        for address in change.dead:
            click.echo(f"# dead: conntrack -D --reply-src {address}")
        return
    if change.commands:
        _run(["nft", "-f", "-"], change.commands)
        if change.said:
            click.echo(f"Weights: {change.said}")
    for address in change.dead:
        click.echo(f"{address} is dead: its connections are forgotten")
        # It ends with 1 when there was none.
        _run(["conntrack", "-D", "-f", "ipv6" if ":" in address else "ipv4", "--reply-src", address], "", (0, 1))


def _run(words: list[str], text: str, good: tuple[int, ...] = (0,)) -> None:
    try:
        done = subprocess.run(words, input=text, capture_output=True, text=True, check=False, timeout=KERNEL_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as problem:
        raise click.ClickException(f"{words[0]}: {problem}") from problem
    if done.returncode not in good:
        raise click.ClickException(f"{words[0]}: {done.stderr.strip() or f'ended with {done.returncode}'}")


def _replace(path: Path, text: str) -> None:
    """Write a file that others see whole or not at all, through links to it. Raises ClickException."""
    try:
        path = path.resolve()
        if path.exists() and not path.is_file():
            raise click.ClickException(f"{path} is no file")
        _put(path, text)
    except OSError as problem:
        raise click.ClickException(f"{path} cannot be written: {problem.strerror}") from problem


def _put(path: Path, text: str) -> None:
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
