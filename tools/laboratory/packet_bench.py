"""`python -m tools.laboratory.packet_bench`: how many calls sound bad while one way to a media node loses packets.

Calls go through six real rtpengines, chosen by Rollcall, by Rollcall from load alone, and by Kamailio's hash of the
Call-ID. The phones of one carrier lose 8 % of the packets to and from one node for a while. With the same seed the same
way goes bad, and the same carriers call each other at the same time for as long; which packets are lost is the
kernel's chance.
"""

import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import click
import msgspec
from attrs import evolve

from tests.cluster.namespaces import NoNamespaces
from tools.laboratory.packet_figures import LEAVE_SECONDS, figures_of, table
from tools.laboratory.packet_run import run
from tools.laboratory.packet_world import PROXIES, Proxy, Run, World


@click.command()
@click.option("--seeds", default="1,2,3", show_default=True, help="One run of each proxy for each.")
@click.option("--proxies", default=",".join(PROXIES), show_default=True, help="Which are tried.")
@click.option("--rate", type=click.FloatRange(0.5, 20), default=World().calls_per_second, show_default=True,
              help="Calls that begin in a second; each takes 20 s on average.")
@click.option("--loss", type=click.FloatRange(0, 1), default=World().loss, show_default=True, help="Of the bad way.")
@click.option("--healed", type=click.FloatRange(0, 600), default=World().healed_seconds, show_default=True,
              help="So many seconds calls go on after it has healed.")
@click.option("--json", "file", type=click.Path(path_type=Path, dir_okay=False), help="Where every call is written.")
@click.option("--with", "earlier", multiple=True, type=click.Path(path_type=Path, dir_okay=False, exists=True),
              help="Runs that --json has written, for the same table.")
def bench(seeds: str, proxies: str, rate: float, loss: float, healed: float, file: Path | None,
          earlier: Sequence[Path]) -> None:
    """Count bad calls with each proxy, and print a table."""
    world = evolve(World(), calls_per_second=rate, loss=loss, healed_seconds=healed)
    began = time.monotonic()
    runs: list[Run] = []
    for seed in map(int, filter(None, seeds.split(","))):
        for proxy in cast(list[Proxy], proxies.split(",")):
            with tempfile.TemporaryDirectory(prefix="rollcall-packets-") as folder:
                try:
                    runs.append(run(proxy, seed, world, Path(folder), lambda text: click.echo(
                        f"{time.monotonic() - began:6.1f} s  {text}")))  # each line as it happens
                except NoNamespaces as problem:
                    raise click.ClickException(f"this needs root: {problem}") from problem
            click.echo(f"{PROXIES[proxy]}, seed {seed}: {figures_of(runs[-1])}")
            if file is not None:
                file.write_bytes(msgspec.json.encode(runs))
    for before in earlier:
        runs += msgspec.json.decode(before.read_bytes(), type=list[Run])
    for line in table(runs):
        click.echo(line)
    late = [each for each in runs if each.proxy == "quality" and _is_late(each)]
    for each in late:
        click.secho(f"seed {each.seed}: new calls took the bad way for more than {LEAVE_SECONDS:g} s", fg="red")
    sys.exit(1 if late else 0)


def _is_late(seen: Run) -> bool:
    left_after = figures_of(seen).left_after
    return left_after is None or left_after > LEAVE_SECONDS


if __name__ == "__main__":
    bench()
