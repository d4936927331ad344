"""`python -m tools.simulate`: every policy in the same worlds, as a table and a picture."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import click
from attrs import evolve

from tools.simulate.demand import Demand
from tools.simulate.plot import svg
from tools.simulate.policies import ABLATIONS, COMPARED, REFERENCE, SETTINGS, Make
from tools.simulate.report import tables
from tools.simulate.running import Play, Stage
from tools.simulate.scoring import Result, result
from tools.simulate.verdict import broken
from tools.simulate.world import Scenario, build

SUITES: Mapping[str, Mapping[str, Make]] = {"baselines": COMPARED, "parts": ABLATIONS, "settings": SETTINGS}
EQUAL = "equal ways"
WORLDS: Mapping[str, Scenario] = {
    "55 % load": Scenario(load=0.55),
    "70 % load": Scenario(load=0.70),
    EQUAL: Scenario(load=0.70, is_equal=True),
    "many liars": Scenario(load=0.60, lying=0.05),
    "many registrars": Scenario(load=0.60, registrars=12),
}
USUAL: Mapping[str, Sequence[str]] = {
    "baselines": ("55 % load", "70 % load", EQUAL),
    "parts": ("70 % load",),
    "settings": ("70 % load",),
}
"""The worlds of a suite when none is named."""


def simulate(world: str, scenario: Scenario, seed: int, suite: str, policies: Sequence[str] = ()) -> list[Result]:
    """Return what the policies of a suite, or only those named, do with one seed."""
    truth = build(scenario, seed)
    demand = Demand(truth, seed)
    calls = demand.calls()
    results = []
    for name, make in SUITES[suite].items():
        if not policies or name in policies or name == REFERENCE:
            stage = Stage(truth, seed)
            results.append(result(world, seed, name, Play(stage, make(stage, demand)).play(calls)))
    return results


def smaller(scenario: Scenario) -> Scenario:
    """Return one for a quick look."""
    return evolve(scenario, carriers=2, nodes_per_site=2, seconds=150.0, stale_polls=1, late_reports=1)


@click.command()
@click.option("--seeds", default=20, show_default=True, type=click.IntRange(1, 1000), help="Worlds of each kind.")
@click.option("--world", "worlds", multiple=True, type=click.Choice([*WORLDS]), help="These kinds.")
@click.option("--suite", default="baselines", show_default=True, type=click.Choice([*SUITES]),
              help="Whom the rule is compared to: others, itself without a part, itself with other settings.")
@click.option("--policy", "policies", multiple=True, help="Only these of the suite, beside the rule.")
@click.option("--small", is_flag=True, help="Small and short worlds, for a quick look.")
@click.option("--jobs", default=1, show_default=True, type=click.IntRange(1, 64), help="Processes.")
@click.option("--check", is_flag=True, help="Fail when what is claimed of the rule is not shown.")
@click.option("--out", default="results", show_default=True, type=click.Path(path_type=Path, file_okay=False),
              help="Where simulate-<suite>.md and .svg are written.")
def main(seeds: int, worlds: tuple[str, ...], suite: str, policies: tuple[str, ...], small: bool, jobs: int,
         check: bool, out: Path) -> None:
    """Play the choice of media nodes in worlds whose truth is known, and compare policies seed by seed."""
    unknown = set(policies) - set(SUITES[suite])
    if unknown:
        raise click.BadParameter(f"not in this suite: {', '.join(sorted(unknown))}", param_hint="--policy")
    results: list[Result] = []
    for some in _played(worlds or USUAL[suite], seeds, suite, policies, small, jobs):
        results += some
        click.echo(f"{some[0].world}, seed {some[0].seed}", err=True)
    text = tables(results, REFERENCE)
    out.mkdir(parents=True, exist_ok=True)
    (out / f"simulate-{suite}.md").write_text(text, encoding="utf-8")
    (out / f"simulate-{suite}.svg").write_text(svg(results), encoding="utf-8")
    click.echo(text)
    claims = broken(results, REFERENCE, EQUAL) if check else []
    if claims:
        raise click.ClickException("not shown:\n" + "\n".join(claims))


def _played(worlds: Sequence[str], seeds: int, suite: str, policies: Sequence[str], small: bool,
            jobs: int) -> Iterator[list[Result]]:
    kinds = {world: smaller(WORLDS[world]) if small else WORLDS[world] for world in worlds}
    wanted = [(world, scenario, seed, suite, policies) for world, scenario in kinds.items() for seed in range(seeds)]
    if jobs == 1:
        yield from (simulate(*each) for each in wanted)
        return
    with ProcessPoolExecutor(jobs) as pool:
        for future in [pool.submit(simulate, *each) for each in wanted]:
            yield future.result()
