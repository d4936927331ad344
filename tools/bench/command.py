"""`python -m tools.bench register`: what a REGISTER and an idle phone cost, as a table and as JSON."""

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
from rich.console import Console

from tools.bench import report
from tools.bench.cases import CASES, IDLE_CASE, REGISTER_CASES, Case
from tools.bench.generator import build
from tools.bench.processes import BenchError
from tools.bench.profile import profile, table
from tools.bench.rounds import measure_case, measure_idle
from tools.bench.servers import FLOOR, OURS, REFERENCE, SERVERS
from tools.bench.soak import soak, verdict

IDLE_STARTS = 3
SLICE_SECONDS = 30.0


@click.group()
def main() -> None:
    """Measure Rollcall beside Kamailio and the bare kernel. Everything stays on loopback."""
    signal.signal(signal.SIGTERM, _leave)


@main.command()
@click.option("--rounds", "count", default=5, show_default=True, type=click.IntRange(1, 99), help="Rounds per server.")
@click.option("--seconds", default=2.0, show_default=True, type=click.FloatRange(0.1, 60), help="Length of a round.")
@click.option("--case", "cases", multiple=True, type=click.Choice([*CASES, IDLE_CASE]), help="Only these cases.")
@click.option("--server", "servers", multiple=True, type=click.Choice([*SERVERS]), help="Only these servers.")
@click.option("--phones", default=10_000, show_default=True, type=click.IntRange(100, 19_000), help="Idle phones held.")
@click.option("--json", "path", default="results/bench.json", show_default=True, type=click.Path(path_type=Path))
def register(count: int, seconds: float, cases: Sequence[str], servers: Sequence[str], phones: int, path: Path) -> None:
    """Measure CPU per REGISTER and memory per idle registered TCP phone."""
    build()
    chosen = [SERVERS[name] for name in servers or SERVERS]
    names = cases or [*(case.name for case in REGISTER_CASES), IDLE_CASE]
    console = Console(width=None if sys.stdout.isatty() else 120, highlight=False)
    rounds, holdings = [], []
    try:
        for name in names:
            if name != IDLE_CASE:
                rounds += measure_case(CASES[name], chosen, count, seconds, console.print)
                continue
            readers = [server for server in chosen if not server.canned]
            holdings += measure_idle(readers, phones, min(count, IDLE_STARTS), console.print)
    except BenchError as error:
        raise click.ClickException(str(error))
    made = report.rows(rounds, holdings, REFERENCE, FLOOR)
    report.write(path, _machine(), made, rounds, holdings)
    console.print(report.table(made, report.spread(rounds)), f"written to {path}")
    complaints = report.complaints(rounds, holdings)
    for complaint in complaints:
        console.print(f"[red]{complaint}")
    sys.exit(1 if complaints else 0)


@main.command("profile")
@click.argument("case", type=click.Choice([*CASES]))
@click.option("--seconds", default=10.0, show_default=True, type=click.FloatRange(1, 300))
@click.option("--lines", default=40, show_default=True, type=click.IntRange(1, 1000), help="Functions shown.")
def profile_command(case: str, seconds: float, lines: int) -> None:
    """Show in which functions Rollcall spends its time in CASE. Needs py-spy."""
    build()
    try:
        found = profile(SERVERS[OURS], CASES[case], seconds)
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
    console = Console(highlight=False)
    case = Case(name="soak", transport="tcp", digest=True, connections=phones, phones=phones, rate=rate)
    try:
        slices = soak(SERVERS[OURS], case, minutes * 60, min(minutes * 60 / 6, SLICE_SECONDS), console.print)
    except BenchError as error:
        raise click.ClickException(str(error))
    found = verdict(slices)
    for sentence in found:
        console.print(f"[red]{sentence}")
    sys.exit(1 if found else 0)


def _machine() -> dict[str, Any]:
    """What ran where: figures travel between machines only as ratios."""
    versions = subprocess.run(["kamailio", "-v"], capture_output=True, text=True, check=False).stdout
    return {
        "taken_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": sys.argv[1:],
        "kernel": platform.release(),
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "python": f"{platform.python_version()} {platform.python_compiler()}",
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
