"""A long run: the same phones refresh for hours, and nothing may fail, slow down or grow."""

import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from attrs import frozen

from tools.bench.cases import Case
from tools.bench.generator import Tally, generator
from tools.bench.processes import BenchError
from tools.bench.servers import Server

GROWTH_ALLOWED = 0.03
"""Of the memory, from the end of the first third to the end: by then every cache is as large as it gets."""


@frozen(kw_only=True)
class Slice:
    """What one part of the run saw; `memory` is that of all processes at its end, in bytes."""

    cpu_us: float
    memory: int
    tally: Tally


def soak(server: Server, case: Case, seconds: float, slice_seconds: float, tell: Callable[[str], None]) -> list[Slice]:
    """Let a case's phones refresh at its rate for so long; returns what each slice saw."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=f"soak-{server.name}-")))
        server_running = stack.enter_context(server.start(case.digest, folder))
        phones = stack.enter_context(generator(case, server_running.port))
        if not phones.ready.clean:
            raise BenchError(f"{server.name} did not register every phone: {phones.ready}")
        slices: list[Slice] = []
        ends_at = time.monotonic() + seconds
        while time.monotonic() < ends_at:
            before = server_running.cpu_microseconds()
            tally = phones.run(slice_seconds, rate=case.rate)
            cpu_us = (server_running.cpu_microseconds() - before) / max(tally.answered, 1)
            slices.append(Slice(cpu_us=cpu_us, memory=server_running.memory().proportional, tally=tally))
            tell(_line(slices[-1]))
        return slices


def _line(one: Slice) -> str:
    return (
        f"{one.tally.answered} answers, {one.tally.failed} failures, {one.tally.challenged} challenges, "
        f"{one.cpu_us:.1f} µs each, p99 {one.tally.p99_us / 1000:.1f} ms, {one.memory / 2**20:.1f} MiB"
    )


def verdict(slices: Sequence[Slice]) -> list[str]:
    """Return what went wrong, a sentence each; nothing when the run was good."""
    found = [f"slice {number + 1}: {_line(one)}" for number, one in enumerate(slices) if not one.tally.clean]
    early, late = slices[len(slices) // 3].memory, slices[-1].memory
    if late > early * (1 + GROWTH_ALLOWED):
        found.append(f"memory grew from {early / 2**20:.1f} to {late / 2**20:.1f} MiB after the first third of the run")
    return found
