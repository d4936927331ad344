"""`python -m tools.bench register`: what a REGISTER and an idle phone cost, as a table and as JSON."""

import json
import os
import platform
import signal
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

import click
from attrs import asdict
from rich.console import Console

from tools.bench import accepted, plans, plot, report, undisturbed
from tools.bench.cases import CASES, RETURN, WORKERS, Case
from tools.bench.generator import build
from tools.bench.hold import PHONES_PER_PROCESS, hold
from tools.bench.processes import BenchError
from tools.bench.profile import profile, table
from tools.bench.servers import FLOOR, OURS, REFERENCE, SERVERS, describe_python
from tools.bench.soak import soak, verdict

SLICE_SECONDS = 30.0


class Commands(click.Group):
    """The commands; `register` is meant when an option comes first, as in `tools/bench --check FILE`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the missing word in front."""
        if args and args[0].startswith("--") and args[0] != "--help":
            args = ["register", *args]
        return super().parse_args(ctx, args)


@click.group(cls=Commands)
def main() -> None:
    """Measure Rollcall beside Kamailio and the bare kernel. Everything stays on loopback.

    BENCH_PYTHON names the Python, of a virtual environment, that is to run Rollcall.
    """
    signal.signal(signal.SIGTERM, _leave)


@main.command()
@click.option("--rounds", "count", default=5, show_default=True, type=click.IntRange(1, 99), help="Rounds per server.")
@click.option("--seconds", default=2.0, show_default=True, type=click.FloatRange(0.1, 60), help="Length of a round.")
@click.option("--case", "cases", multiple=True, type=click.Choice(plans.NAMES), help="Only these cases.")
@click.option("--all", "whole", is_flag=True, help="Every case: rates, a million contacts, a return, two workers.")
@click.option("--server", "servers", multiple=True, type=click.Choice([*SERVERS]), help="Only these servers.")
@click.option("--phones", default=10_000, show_default=True, type=click.IntRange(100, 19_000), help="Idle phones held.")
@click.option("--contacts", default=1_000_000, show_default=True, type=click.IntRange(100, 1_000_000))
@click.option("--json", "path", default="results/bench.json", show_default=True, type=click.Path(path_type=Path))
@click.option("--check", type=click.Path(path_type=Path, exists=True), help="Fail when behind this file's ratios.")
@click.option("--accept", type=click.Path(path_type=Path), help="Write this run's ratios there, to be kept to.")
def register(
    count: int,
    seconds: float,
    cases: Sequence[str],
    whole: bool,
    servers: Sequence[str],
    phones: int,
    contacts: int,
    path: Path,
    check: Path | None,
    accept: Path | None,
) -> None:
    """Measure what a REGISTER and a registered phone cost; cases are taken one after the other, servers in turn.

    Ends with status 1 when a single REGISTER did not get its 200 from Rollcall; others' failures are told.
    """
    plan = plans.Plan(rounds=count, seconds=seconds, servers=tuple(servers), phones=phones, contacts=contacts)
    findings, console = plans.Findings(), _console()
    try:
        agreed = accepted.read(check) if check else []
        build()
        machine = _machine()
        for name in cases or (plans.WHOLE if whole else plans.SHORT):
            plans.measure(name, plan, findings, console.print)
    except BenchError as error:
        raise click.ClickException(str(error))
    rows = report.rows(findings.rounds, findings.holdings, REFERENCE, FLOOR)
    spreads = report.ratio_spreads(findings.rounds, findings.holdings, REFERENCE)
    report.write(path, machine, rows, findings.rounds, findings.holdings)
    path.with_suffix(".svg").write_text(plot.svg(rows, f"{machine['cpu']}, {machine['taken_at'][:10]}"))
    _show(console, rows, findings)
    console.print(f"written to {path} and {path.with_suffix('.svg')}")
    if accept:
        accepted.write(accept, machine, accepted.accept(rows, spreads))
    complaints = report.complaints(findings.rounds, findings.holdings)
    for server, sentence in complaints:
        if not server.startswith(OURS):
            console.print(f"[yellow]{sentence}", soft_wrap=True)
    wrong = [sentence for server, sentence in complaints if server.startswith(OURS)]
    _end(console, wrong + accepted.fallen_behind(agreed, rows, spreads))


def _show(console: Console, rows: Sequence[report.Row], findings: plans.Findings) -> None:
    console.print(report.table(rows, report.spread(findings.rounds)))
    if workers := findings.of(WORKERS):
        console.print(report.rates_table(workers))
    if returns := findings.of(RETURN.name):
        console.print(report.returns_table(returns))


def _end(console: Console, wrong: Sequence[str]) -> None:
    for sentence in wrong:
        console.print(f"[red]{sentence}", soft_wrap=True)
    sys.exit(1 if wrong else 0)


def _console() -> Console:
    return Console(width=None if sys.stdout.isatty() else 140, highlight=False)


@main.command("hold")
@click.option("--phones", default=150_000, show_default=True, type=click.IntRange(1_000, 1_000_000))
@click.option("--rate", default=5_000.0, show_default=True, type=click.FloatRange(100, 50_000), help="REGISTER/s.")
@click.option("--per-worker", default=PHONES_PER_PROCESS, show_default=True, type=click.IntRange(100, 19_000))
@click.option("--digest", is_flag=True, help="Each phone has a password.")
@click.option("--independent", is_flag=True, help="Registrars that share the port, instead of one with workers.")
@click.option("--json", "path", type=click.Path(path_type=Path), help="[default: results/hold-PHONES.json]")
def hold_command(phones: int, rate: float, per_worker: int, digest: bool, independent: bool, path: Path | None) -> None:
    """Register very many TCP phones, hold them all at once, and let each refresh once."""
    console, path = _console(), path or Path("results") / f"hold-{phones}.json"
    try:
        build()
        machine = _machine()
        held = hold(phones, rate, console.print, per_worker=per_worker, digest=digest, independent=independent)
    except BenchError as error:
        raise click.ClickException(str(error))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"machine": machine, "sentences": held.sentences(), "held": asdict(held)}, indent=1))
    console.print(f"written to {path}")
    sys.exit(0 if held.clean else 1)


@main.command("profile")
@click.argument("case", type=click.Choice([*CASES, RETURN.name]))
@click.option("--seconds", default=10.0, show_default=True, type=click.FloatRange(1, 300))
@click.option("--lines", default=40, show_default=True, type=click.IntRange(1, 1000), help="Functions shown.")
def profile_command(case: str, seconds: float, lines: int) -> None:
    """Show in which functions Rollcall spends its time in CASE. Needs py-spy."""
    build()
    try:
        found = profile(SERVERS[OURS], RETURN if case == RETURN.name else CASES[case], seconds)
    except BenchError as error:
        raise click.ClickException(str(error))
    Console(width=140).print(table(found, lines))


@main.command("soak")
@click.option("--minutes", default=30.0, show_default=True, type=click.FloatRange(0.1, 24 * 60))
@click.option("--rate", default=500.0, show_default=True, type=click.FloatRange(1, 20_000), help="REGISTER per second.")
@click.option("--phones", default=5_000, show_default=True, type=click.IntRange(100, 10_000), help="TCP phones held.")
def soak_command(minutes: float, rate: float, phones: int) -> None:
    """Let phones refresh with digest for a long time: nothing may fail, and memory may not grow."""
    build()
    console = _console()
    case = Case(name="soak", transport="tcp", digest=True, connections=phones, phones=phones, rate=rate)
    try:
        slices = soak(SERVERS[OURS], case, minutes * 60, min(minutes * 60 / 6, SLICE_SECONDS), console.print)
    except BenchError as error:
        raise click.ClickException(str(error))
    _end(console, verdict(slices))


@main.command("undisturbed")
@click.option("--phones", default=15_000, show_default=True, type=click.IntRange(100, 15_000), help="TCP phones held.")
@click.option("--rate", default=2_000.0, show_default=True, type=click.FloatRange(1, 20_000), help="REGISTER/s.")
@click.option("--seconds", default=10.0, show_default=True, type=click.FloatRange(3, 50), help="Length of a stretch.")
def undisturbed_command(phones: int, rate: float, seconds: float) -> None:
    """Disturb phones that refresh with digest: by TLS handshakes, the disk, scrapes… No turn may take over 50 ms."""
    console = _console()
    try:
        build()
        stretches = undisturbed.undisturbed(phones, rate, seconds, console.print)
    except BenchError as error:
        raise click.ClickException(str(error))
    _end(console, undisturbed.verdict(stretches))


def _machine() -> dict[str, Any]:
    """What ran where: figures travel between machines only as ratios."""
    versions = subprocess.run(["kamailio", "-v"], capture_output=True, text=True, check=False).stdout
    return {
        "taken_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": sys.argv[1:],
        "kernel": platform.release(),
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        **describe_python(),
        "kamailio": versions.partition("\n")[0],
    }


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _leave(number: int, frame: FrameType | None) -> None:
    """End as by Ctrl-C, so that what was started is ended too."""
    raise KeyboardInterrupt
