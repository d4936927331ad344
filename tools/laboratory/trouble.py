"""`tools/lab avalanche` and `tools/lab churn`: a lab of their own, and what came of the trouble in it."""

import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

import click

from tools.laboratory.avalanche import Way, avalanche
from tools.laboratory.churn import Plan, churn
from tools.laboratory.churned import verdict

MINUTE_SECONDS = 60.0


@click.command("avalanche")
@click.argument("way", type=click.Choice(["kill", "stop", "drain"]))
@click.option("--phones", type=click.IntRange(30, 15_000), default=6000, show_default=True, help="On 3 registrars.")
@click.option("--pace", type=click.IntRange(1, 10_000), default=200, show_default=True, help="Drained per second.")
@click.option("--within", type=click.FloatRange(0, 60), default=0.0, show_default=True,
              help="Phones come back at random within so many seconds; 0: all at once.")
def avalanche_command(way: str, phones: int, pace: int, within: float) -> None:
    """Take one of three registrars away from its phones, and tell how they come to the others."""
    with tempfile.TemporaryDirectory(prefix="rollcall-avalanche-") as folder:
        seen = avalanche(Path(folder), cast(Way, way), phones, pace, within, _teller())
    _end(seen.lines(), seen.failed)


@click.command("churn")
@click.option("--minutes", type=click.FloatRange(1.2, 24 * 60), default=5.0, show_default=True)
@click.option("--phones", type=click.IntRange(30, 15_000), default=Plan().phones, show_default=True)
@click.option("--seed", type=int, default=1, show_default=True, help="Which phones do what.")
@click.option("--folder", type=click.Path(path_type=Path), help="Where logs and data stay. [default: nowhere]")
def churn_command(minutes: float, phones: int, seed: int, folder: Path | None) -> None:
    """Let phones come, go, move and call while registrars and masters of Redis die: nothing may be lost or fail."""
    with tempfile.TemporaryDirectory(prefix="rollcall-churn-") as temporary:
        plan = Plan(seconds=minutes * MINUTE_SECONDS, phones=phones)
        seen = churn(folder or Path(temporary), plan, _teller(), seed)
    _end(seen.lines(), verdict(seen))


def _teller() -> Callable[[str], None]:
    began = time.monotonic()
    return lambda text: click.echo(f"{time.monotonic() - began:6.1f} s  {text}")


def _end(lines: Sequence[str], wrong: Sequence[str]) -> None:
    for line in lines:
        click.echo(line)
    for sentence in wrong:
        click.secho(sentence, fg="red")
    sys.exit(1 if wrong else 0)
