"""The order of a measurement: all servers of a case stand ready, and take their turns round after round."""

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from attrs import evolve

from tools.bench import accounting
from tools.bench.cases import Case
from tools.bench.generator import PHONES_CORE, Generator, Tally, generator, together
from tools.bench.processes import BenchError
from tools.bench.report import Holding, Round
from tools.bench.servers import Running, Server

Tell = Callable[[str], None]

WARM_SECONDS = 0.3
REFRESH_SECONDS = 600.0
REFRESH_RATE = 2_000.0
SETTLE_SECONDS = 2.0
FORGET_SECONDS = 40.0  # an answered datagram is remembered for 32 s (RFC 3261 §17.2.2), which is not a contact's cost
WARM_PHONES = 100
FIRST_IDLE = 100_000  # numbers of the held phones, so that those of the warm-up are others


class Crowd:
    """The phones of a case in one generator or several, which run at the same time."""

    def __init__(self, generators: Sequence[Generator]) -> None:
        self._generators = generators
        self.ready = together([one.ready for one in generators])

    def cpu_microseconds(self) -> float:
        """Return the CPU time that the generators have used so far."""
        return accounting.cpu_microseconds(one.pid for one in self._generators)

    def run(self, seconds: float, *, requests: int = 0, rate: float = 0.0) -> Tally:
        """Make one measured run; requests and rate are shared by the generators."""
        for one in self._generators:
            one.begin(seconds, requests=requests // len(self._generators), rate=rate / len(self._generators))
        return together([one.done() for one in self._generators])


@contextmanager
def crowd(
    case: Case, port: int, *, processes: int = 1, core: int | None = PHONES_CORE, canned: bool = False
) -> Iterator[Crowd]:
    """Open a case's phones in so many generators, each with addresses of its own."""
    part = evolve(case, connections=case.connections // processes, phones=case.phones // processes)
    with ExitStack() as stack:
        opened = [
            stack.enter_context(
                generator(
                    part,
                    port,
                    core=core,
                    canned=canned,
                    first=number * part.phones,
                    source=f"127.0.{number + 1}.1",
                )
            )
            for number in range(processes)
        ]
        yield Crowd(opened)


@contextmanager
def started(server: Server, digest: bool) -> Iterator[Running]:
    """Run a server in a folder that is gone afterwards."""
    with (
        tempfile.TemporaryDirectory(prefix=f"bench-{server.name}-") as folder,
        server.start(digest, Path(folder)) as server_running,
    ):
        yield server_running


def measure_case(
    case: Case,
    servers: Sequence[Server],
    count: int,
    seconds: float,
    tell: Tell,
    *,
    processes: int = 1,
    core: int | None = PHONES_CORE,
) -> list[Round]:
    """Return `count` rounds of each server, the servers taking turns so that the machine's moods hit all alike.

    The phones are in so many processes, kept on a core or (None) wherever there is room.
    """
    with ExitStack() as stack:
        ready = []
        for server in servers:
            server_running = stack.enter_context(started(server, case.digest))
            phones = stack.enter_context(
                crowd(case, server_running.port, processes=processes, core=core, canned=server.canned)
            )
            _demand_all(case, server, phones.ready)
            phones.run(WARM_SECONDS, rate=case.rate)
            ready.append((server, server_running, phones))
        made = []
        for number in range(count):
            for server, server_running, phones in ready:
                before, theirs = server_running.cpu_microseconds(), phones.cpu_microseconds()
                tally = phones.run(seconds, rate=case.rate)
                used, theirs = server_running.cpu_microseconds() - before, phones.cpu_microseconds() - theirs
                made.append(_round(case, server, used, tally, theirs))
                tell(f"round {number + 1}: {made[-1].line}")
        return made


def measure_return(case: Case, servers: Sequence[Server], count: int, tell: Tell) -> list[Round]:
    """Return what it cost, `count` times per server, that all phones came to a server that has just started.

    A few others were there before, so that the server's first steps are not theirs. A round's latency is that of a
    whole registration, from the moment at which the phone was to connect; `tally.seconds` is the time until all were
    registered.
    """
    made = []
    for number in range(count):
        for server in servers:
            with started(server, case.digest) as server_running:
                few = evolve(case, connections=WARM_PHONES, phones=WARM_PHONES, opening_rate=0)
                with generator(few, server_running.port, first=case.phones) as first:
                    first.run(WARM_SECONDS)
                time.sleep(SETTLE_SECONDS)
                before = server_running.cpu_microseconds()
                with generator(case, server_running.port) as phones:
                    tally = phones.ready
                    used = server_running.cpu_microseconds() - before
            made.append(_round(case, server, used, tally))
            tell(f"round {number + 1}: {made[-1].line}, all in {tally.seconds:.2f} s, {tally.failed} failed")
    return made


def measure_memory(case: Case, servers: Sequence[Server], count: int, tell: Tell) -> list[Holding]:
    """Return what a case's registered phones cost each server in memory, from `count` fresh starts of each."""
    made = []
    for number in range(count):
        for server in servers:
            made.append(_holding(case, server))
            tell(f"start {number + 1}: {made[-1].line}")
    return made


def _holding(case: Case, server: Server) -> Holding:
    with started(server, False) as server_running:
        # What a first phone makes the server load and allocate is not a phone's cost.
        with generator(evolve(case, connections=WARM_PHONES, phones=WARM_PHONES), server_running.port) as first:
            _demand_all(case, server, first.ready)
            first.run(WARM_SECONDS)
        time.sleep(SETTLE_SECONDS)
        before, shared_before = server_running.memory(), server_running.shared_used()
        with generator(case, server_running.port, first=FIRST_IDLE) as held:
            _demand_all(case, server, held.ready)
            pauses = server_running.pauses()
            tally = _refreshed(case, held)
            time.sleep(SETTLE_SECONDS if case.transport == "tcp" else FORGET_SECONDS)
            pauses = pauses.or_longer(server_running.pauses())
            grown, shared_after = server_running.memory() - before, server_running.shared_used()
        return Holding(
            case=case.name,
            server=server.name,
            phones=case.phones,
            proportional=grown.proportional / case.phones,
            private=grown.private / case.phones,
            shared_used=_growth(shared_before, shared_after, case.phones),
            pauses=pauses,
            tally=tally,
        )


def _refreshed(case: Case, held: Generator) -> Tally:
    """Let phones on connections of their own refresh once each; those that share sockets are too many for it."""
    if case.transport == "udp":
        return held.ready
    return held.run(REFRESH_SECONDS, requests=case.phones, rate=REFRESH_RATE)


def _demand_all(case: Case, server: Server, tally: Tally) -> None:
    if not tally.clean:
        raise BenchError(f"{case.name}: {server.name} did not register every phone: {tally}")


def _round(case: Case, server: Server, used: float, tally: Tally, theirs: float | None = None) -> Round:
    return Round(
        case=case.name,
        server=server.name,
        cpu_us=used / max(tally.answered, 1),
        phones_us=None if theirs is None else theirs / max(tally.answered, 1),
        tally=tally,
    )


def _growth(before: int | None, after: int | None, phones: int) -> float | None:
    return None if before is None or after is None else (after - before) / phones
