"""`tools/lab up` and `tools/lab down`, and what trouble.py adds."""

import json
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import NoReturn, cast

import click

from tests.interop.process import InteropError
from tools.laboratory.lab import STATE_FILE, Lab, MysqlKind, RedisKind
from tools.laboratory.leftovers import MARK, end_all, processes_of
from tools.laboratory.trouble import avalanche_command, churn_command

_folder = click.option(
    "--folder", type=click.Path(path_type=Path), help="Where everything is kept, instead of a temporary folder."
)


@click.group()
def lab() -> None:
    """A whole cluster for real on this machine's loopback."""


lab.add_command(avalanche_command)
lab.add_command(churn_command)


@lab.command()
@click.option("--registrars", type=click.IntRange(1, 64), default=3, show_default=True, help="How many registrars.")
@click.option(
    "--redis",
    type=click.Choice(["single", "sentinel", "cluster", "none"]),
    default="single",
    show_default=True,
    help="What they share bindings in; with none each is for itself.",
)
@click.option(
    "--mysql",
    type=click.Choice(["none", "single", "replica"]),
    default="none",
    show_default=True,
    help="Where users are: a file, one MariaDB, or a primary and a replica.",
)
@click.option("--users", type=click.IntRange(0, 1_000_000), default=10, show_default=True, help="Who may register.")
@click.option("--workers", type=click.IntRange(1, 64), default=1, show_default=True, help="Workers of each registrar.")
@click.option("--media", type=click.IntRange(0, 100), default=0, show_default=True,
              help="How many rtpengines calls go through; needs Redis.")
@click.option("--balancers", type=click.IntRange(1, 9), default=1, show_default=True,
              help="With --media: how many balancers, one of which is the master.")
@click.option(
    "--sections",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="TOML that is joined with the configuration of every registrar.",
)
@_folder
def up(
    registrars: int, redis: str, mysql: str, users: int, workers: int, media: int, balancers: int,
    sections: Path | None, folder: Path | None
) -> None:
    """Start it, print one JSON with every address and password, and leave it running."""
    if media and redis == "none":
        raise click.UsageError("--media needs Redis")
    place = _own(folder or default_folder())
    if left := processes_of(place):
        raise click.ClickException(f"a lab runs in {place}: {len(left)} processes; end it: tools/lab down")
    _clear(place)
    # Everything that is started inherits it: so `down` finds what is left of an `up` that was killed half-way.
    os.environ[MARK] = str(place)
    signal.signal(signal.SIGTERM, _interrupted)
    text = sections.read_text() if sections is not None else ""
    made = Lab(place, registrars, cast(RedisKind, redis), users, text, workers, outlives=True,
               mysql=cast(MysqlKind, mysql), media=media, balancers=balancers)
    try:
        made.start()
    except (InteropError, OSError, ValueError) as problem:
        raise click.ClickException(str(problem)) from problem
    click.echo(json.dumps(made.as_json(), indent=2))


@lab.command()
@_folder
@click.option("--keep", is_flag=True, help="Leave the folder with its logs and data.")
def down(folder: Path | None, keep: bool) -> None:
    """End all of it, also what a failed start has left, and remove its folder."""
    place = folder or default_folder()
    ended = end_all(place)
    click.echo(f"{ended} processes ended", err=True)
    if not keep:
        _clear(place)


def default_folder() -> Path:
    """Return the folder of the lab of this user who names none."""
    return Path(tempfile.gettempdir()) / f"rollcall-lab-{os.getuid()}"


def _own(folder: Path) -> Path:
    """Return the folder, which only we may look into: passwords are in it."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.getuid():
        raise click.ClickException(f"{folder} belongs to somebody else; name another with --folder")
    if any(folder.iterdir()) and not (folder / STATE_FILE).exists():
        raise click.ClickException(f"{folder} holds something else than a lab; name another with --folder")
    return folder.resolve()


def _clear(folder: Path) -> None:
    """Remove what a lab has left; nothing else."""
    if (folder / STATE_FILE).exists():
        shutil.rmtree(folder)


def _interrupted(*_: object) -> NoReturn:
    sys.exit("interrupted")
