"""`python -m tools.laboratory.packet_bench`: how many calls sound bad while one way to a media node loses packets.

Calls go through six real rtpengines, chosen by Rollcall, by Rollcall from load alone, and by Kamailio's hash of the
Call-ID. The phones of one carrier lose 8 % of the packets to and from one node for a while. With the same seed the same
way goes bad, and the same carriers call each other at the same time for as long; which packets are lost is the
kernel's chance.
"""

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import cast

import click
from attrs import asdict, evolve

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
def bench(seeds: str, proxies: str, rate: float, loss: float, healed: float, file: Path | None) -> None:
    """Count bad calls with each proxy, and print a table."""
    world = evolve(World(), calls_per_second=rate, loss=loss, healed_seconds=healed)
    began = time.monotonic()
    runs: list[Run] = []
    for seed in map(int, seeds.split(",")):
        for proxy in cast(list[Proxy], proxies.split(",")):
            with tempfile.TemporaryDirectory(prefix="rollcall-packets-") as folder:
                try:
                    runs.append(run(proxy, seed, world, Path(folder), lambda text: click.echo(
                        f"{time.monotonic() - began:6.1f} s  {text}")))  # each line as it happens
                except NoNamespaces as problem:
                    raise click.ClickException(f"this needs root: {problem}") from problem
            click.echo(f"{PROXIES[proxy]}, seed {seed}: {figures_of(runs[-1])}")
            if file is not None:
                file.write_text(json.dumps([asdict(each) for each in runs]))
    for line in table(runs):
        click.echo(line)
    stayed = [each for each in runs if each.proxy == "quality" and figures_of(each).stayed]
    for each in stayed:
        click.secho(f"seed {each.seed}: new calls took the bad way later than {LEAVE_SECONDS:g} s", fg="red")
    sys.exit(1 if stayed else 0)


if __name__ == "__main__":
    bench()
