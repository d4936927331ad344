"""Where Rollcall's time goes in a case, function by function, as py-spy sees it from outside."""

import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from attrs import frozen
from rich.table import Table

from tools.bench.cases import Case
from tools.bench.generator import FOLDER, generator
from tools.bench.processes import BenchError
from tools.bench.servers import Server

SAMPLES_PER_SECOND = 500
SLACK_SECONDS = 1.0
IDLE = ("Condition.wait (", "_WatchedPoller.poll (")
"""Where threads wait: for work, and the reactor for its descriptors."""


@frozen
class Cost:
    """A function's part of all samples, from 0 to 1: in itself, and with all that it calls."""

    function: str
    own: float
    total: float


def profile(server: Server, case: Case, seconds: float) -> list[Cost]:
    """Return what each function of the server's cost while a case's phones refreshed. Raises BenchError."""
    spy = shutil.which("py-spy", path=f"{Path(sys.executable).parent}:{Path('/usr/bin')}:/usr/local/bin")
    if spy is None:
        raise BenchError(f"py-spy is missing: {sys.executable} -m pip install py-spy")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="profile-")))
        server_running = stack.enter_context(server.start(case.digest, folder))
        load = stack.enter_context(_loading(case, server_running.port))
        load(SLACK_SECONDS)
        stacks = folder / "stacks"
        watched = [spy, "record", "--format", "raw", "--function", "--rate", str(SAMPLES_PER_SECOND)]
        watched += ["--duration", str(round(seconds)), "--pid", str(server_running.pid), "--output", str(stacks)]
        with subprocess.Popen(watched, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as watching:
            load(round(seconds) + SLACK_SECONDS)
            _, said = watching.communicate(timeout=60)
        if watching.returncode != 0:
            raise BenchError(f"py-spy failed: {said}")
        return costs(stacks.read_text().splitlines())


@contextmanager
def _loading(case: Case, port: int) -> Iterator[Callable[[float], object]]:
    """Give what lets the phones do for some seconds what the case is about: register on, or come back time and again.

    Phones that register on are the same all the time: over UDP others would be second contacts.
    """
    if case.opening_rate:
        yield lambda seconds: _return(case, port, seconds)
        return
    with generator(case, port) as phones:
        yield lambda seconds: phones.run(seconds, rate=case.rate)


def _return(case: Case, port: int, seconds: float) -> None:
    ends_at = time.monotonic() + seconds
    while time.monotonic() < ends_at:
        with generator(case, port) as phones:
            _ = phones.ready


def costs(lines: Iterable[str]) -> list[Cost]:
    """Return the costs behind lines of "outer;inner;innermost count", the largest of their own first.

    Threads that wait for work are left out.
    """
    own: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for line in lines:
        stack, _, count = line.rpartition(" ")
        functions = stack.split(";")
        if functions[-1].startswith(IDLE):
            continue
        own[functions[-1]] += int(count)
        for function in set(functions):
            total[function] += int(count)
    samples = own.total()
    found = [Cost(_short(name), own[name] / samples, times / samples) for name, times in total.items()]
    return sorted(found, key=lambda cost: (cost.own, cost.total), reverse=True)


def _short(function: str) -> str:
    """Leave out the folders that all our files share."""
    return function.replace(f"{FOLDER.parents[1]}/", "").replace("site-packages/", "")


def table(found: Iterable[Cost], most: int) -> Table:
    """Return the largest for a terminal."""
    drawn = Table("function")
    for heading in ("own %", "with callees %"):
        drawn.add_column(heading, justify="right")
    for cost in list(found)[:most]:
        drawn.add_row(cost.function, f"{cost.own * 100:.1f}", f"{cost.total * 100:.1f}")
    return drawn
