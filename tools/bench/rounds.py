"""The order of a measurement: all servers of a case stand ready, and take their turns round after round."""

import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from attrs import evolve

from tools.bench.cases import IDLE_CASE, Case
from tools.bench.generator import Generator, generator
from tools.bench.processes import BenchError
from tools.bench.report import Holding, Round
from tools.bench.servers import Running, Server

Tell = Callable[[str], None]

WARM_SECONDS = 0.3
REFRESH_SECONDS = 60.0
REFRESH_RATE = 2_000.0
SETTLE_SECONDS = 2.0
WARM_PHONES = 100
FIRST_IDLE = 100_000  # numbers of the held phones, so that those of the warm-up are others


def measure_case(case: Case, servers: Sequence[Server], count: int, seconds: float, tell: Tell) -> list[Round]:
    """Return `count` rounds of each server, the servers taking turns so that the machine's moods hit all alike."""
    with ExitStack() as stack:
        ready = [(server, *_prepared(stack, server, case)) for server in servers]
        made = []
        for number in range(count):
            for server, server_running, phones in ready:
                one = _round(case, server, server_running, phones, seconds)
                tell(f"{case.name} {server.name} round {number + 1}: {one.cpu_us:.2f} µs, {one.tally.answered} answers")
                made.append(one)
        return made


def _prepared(stack: ExitStack, server: Server, case: Case) -> tuple[Running, Generator]:
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=f"bench-{server.name}-")))
    server_running = stack.enter_context(server.start(case.digest, folder))
    phones = stack.enter_context(generator(case, server_running.port, canned=server.canned))
    if not phones.ready.clean:
        raise BenchError(f"{case.name}: {server.name} did not register every phone: {phones.ready}")
    phones.run(WARM_SECONDS, rate=case.rate)
    return server_running, phones


def _round(case: Case, server: Server, server_running: Running, phones: Generator, seconds: float) -> Round:
    before = server_running.cpu_microseconds()
    tally = phones.run(seconds, rate=case.rate)
    used = server_running.cpu_microseconds() - before
    return Round(case=case.name, server=server.name, cpu_us=used / max(tally.answered, 1), tally=tally)


def measure_idle(servers: Sequence[Server], phones: int, count: int, tell: Tell) -> list[Holding]:
    """Return what `phones` registered TCP phones cost each server, from `count` fresh starts of each."""
    case = Case(name=IDLE_CASE, transport="tcp", connections=phones, phones=phones)
    made = []
    for number in range(count):
        for server in servers:
            one = _holding(case, server)
            tell(f"{case.name} {server.name} start {number + 1}: {one.proportional:.0f} bytes per phone")
            made.append(one)
    return made


def _holding(case: Case, server: Server) -> Holding:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=f"bench-{server.name}-")))
        server_running = stack.enter_context(server.start(False, folder))
        # What a first phone makes the server load and allocate is not a phone's cost.
        with generator(evolve(case, connections=WARM_PHONES, phones=WARM_PHONES), server_running.port) as first:
            first.run(WARM_SECONDS)
        time.sleep(SETTLE_SECONDS)
        before, shared_before = server_running.memory(), server_running.shared_used()
        held = stack.enter_context(generator(case, server_running.port, first=FIRST_IDLE))
        if not held.ready.clean:
            raise BenchError(f"{case.name}: {server.name} did not register every phone: {held.ready}")
        tally = held.run(REFRESH_SECONDS, requests=case.phones, rate=REFRESH_RATE)
        time.sleep(SETTLE_SECONDS)
        grown, shared_after = server_running.memory() - before, server_running.shared_used()
        return Holding(
            case=case.name,
            server=server.name,
            phones=case.phones,
            proportional=grown.proportional / case.phones,
            private=grown.private / case.phones,
            shared_used=_growth(shared_before, shared_after, case.phones),
            tally=tally,
        )


def _growth(before: int | None, after: int | None, phones: int) -> float | None:
    return None if before is None or after is None else (after - before) / phones
