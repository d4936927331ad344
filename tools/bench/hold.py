"""A demonstration: very many registered TCP phones, held at once by as many workers as the descriptor limit asks for.

Each generator process has source addresses of its own (127.1.n.x) and about as many phones as a worker has. What the
kernel needs is counted for the whole machine, and so for both ends of each connection.
"""

import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from attrs import frozen

from tools.bench import accounting
from tools.bench.cases import Case
from tools.bench.generator import Generator, Tally, generator, together
from tools.bench.processes import BenchError, free_port, wait_for_listeners
from tools.bench.rounds import SETTLE_SECONDS
from tools.bench.servers import Running, rollcall

PHONES_PER_PROCESS = 18_500
"""Below the 20,000 descriptors of a process by so much as the kernel's choice of a worker may be uneven."""

OPENING_TOGETHER = 2
FAILED_ALLOWED = 0.01
REFRESH_SECONDS = 600.0

Tell = Callable[[str], None]


@frozen(kw_only=True)
class Look:
    """What was in use at a moment: the workers' memory, their CPU so far, and the kernel's memory, for all of it."""

    server_bytes: int
    server_cpu_us: float
    kernel_bytes: int
    largest: int
    """Descriptors of the worker that has most."""


@frozen(kw_only=True)
class Held:
    """What holding the phones took; the looks are before them, with them, and after each has refreshed once."""

    phones: int
    workers: int
    registering: Tally
    refreshing: Tally
    looks: tuple[Look, Look, Look]
    opened_seconds: float

    def sentences(self) -> list[str]:
        """Return the figures in words."""
        before, held, after = self.looks
        user, kernel = held.server_bytes - before.server_bytes, held.kernel_bytes - before.kernel_bytes
        grown = after.server_bytes - before.server_bytes
        refresh = (after.server_cpu_us - held.server_cpu_us) / max(self.refreshing.answered, 1)
        register = (held.server_cpu_us - before.server_cpu_us) / max(self.registering.answered, 1)
        seen = self.refreshing
        return [
            f"{self.registering.answered} of {self.phones} phones registered in {self.opened_seconds:.0f} s "
            f"({register:.1f} µs of the workers' CPU each, accepting included), {self.registering.failed} failed",
            f"{self.registering.challenged} were challenged",
            f"{self.workers} workers; the largest has {held.largest} descriptors",
            f"workers: {before.server_bytes / 2**20:.0f} MiB empty, {held.server_bytes / 2**20:.0f} MiB with all "
            f"({user / self.phones:.0f} bytes per phone), {after.server_bytes / 2**20:.0f} MiB after the refreshes "
            f"({grown / self.phones:.0f})",
            f"kernel, both ends: {kernel / 2**20:.0f} MiB ({kernel / self.phones:.0f} bytes per phone)",
            f"{seen.answered} refreshed in {seen.seconds:.0f} s, {refresh:.1f} µs each, "
            f"p50 {seen.p50_us / 1000:.1f} ms, p99 {seen.p99_us / 1000:.1f} ms, {seen.failed} failed, "
            f"{seen.lost} connections lost",
        ]

    @property
    def clean(self) -> bool:
        """Whether every phone was registered, held and refreshed."""
        return (
            self.registering.clean
            and self.refreshing.clean
            and self.registering.answered == self.refreshing.answered == self.phones
        )


def hold(
    phones: int,
    rate: float,
    tell: Tell,
    *,
    per_worker: int = PHONES_PER_PROCESS,
    digest: bool = False,
    independent: bool = False,
) -> Held:
    """Let so many phones register and stay, then refresh once each at `rate` per second in all.

    With `digest` each has a password. `independent` starts registrars that share only the port, instead of one with
    workers. Raises BenchError.
    """
    processes = -(-phones // per_worker)
    # The workers end before the phones, so that nobody has to mourn a million connections one by one.
    with ExitStack() as stack, _servers(processes, phones if digest else 0, independent) as servers:
        before = _look(servers)
        tell(f"{processes} workers listen, {before.server_bytes / 2**20:.0f} MiB")
        began = time.monotonic()
        held = _open(stack, phones, processes, servers[0].port, digest, tell)
        opened_seconds = time.monotonic() - began
        time.sleep(SETTLE_SECONDS)
        full = _look(servers)
        tell(f"all are held, {full.server_bytes / 2**20:.0f} MiB")
        for number, one in enumerate(held):
            part = _part(phones, processes, number)
            one.begin(REFRESH_SECONDS, requests=part, rate=rate * part / phones)
        refreshing = together([one.done() for one in held])
        time.sleep(SETTLE_SECONDS)
        found = Held(
            phones=phones,
            workers=processes,
            registering=together([one.ready for one in held]),
            refreshing=refreshing,
            looks=(before, full, _look(servers)),
            opened_seconds=opened_seconds,
        )
        for sentence in found.sentences():  # before anything ends, which takes a while
            tell(sentence)
        return found


def _part(phones: int, processes: int, number: int) -> int:
    """How many of the phones are those of a process."""
    return phones * (number + 1) // processes - phones * number // processes


def _open(stack: ExitStack, phones: int, processes: int, port: int, digest: bool, tell: Tell) -> list[Generator]:
    """Open all phones, a few processes at a time."""
    opened: list[Generator] = []
    first = 0
    for number in range(processes):
        part = _part(phones, processes, number)
        case = Case(name="hold", transport="tcp", digest=digest, connections=part, phones=part)
        source = f"127.1.{number + 1}.1"
        opened.append(stack.enter_context(generator(case, port, core=None, first=first, source=source)))
        first += part
        if number >= OPENING_TOGETHER:
            _demand(opened[number - OPENING_TOGETHER], number - OPENING_TOGETHER, tell)
    for number in range(max(processes - OPENING_TOGETHER, 0), processes):
        _demand(opened[number], number, tell)
    return opened


def _demand(one: Generator, number: int, tell: Tell) -> None:
    """Wait for a generator's phones. A few that were refused do not end the demonstration, but they are counted."""
    if one.ready.failed + one.ready.unanswered > one.ready.sent * FAILED_ALLOWED:
        raise BenchError(f"generator {number + 1}: too few phones registered: {one.ready}")
    failed = f", {one.ready.failed} failed" if one.ready.failed else ""
    tell(f"generator {number + 1}: {one.ready.answered} phones in {one.ready.seconds:.1f} s{failed}")


@contextmanager
def _servers(count: int, subscribers: int, independent: bool) -> Iterator[Sequence[Running]]:
    """Run a registrar with so many workers, or so many registrars on one port; with subscribers, all must be proven."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-hold-")))
        if independent:
            port, made = free_port(), []
            for number in range(count):
                (folder / str(number)).mkdir()
                start = rollcall(port=port, subscribers=subscribers)
                made.append(stack.enter_context(start(subscribers > 0, folder / str(number))))
            wait_for_listeners(port, count)
        else:
            made = [stack.enter_context(rollcall(workers=count, subscribers=subscribers)(subscribers > 0, folder))]
        try:
            yield made
        finally:
            for one in made:  # all at once: each takes seconds to let so many phones go
                with suppress(ProcessLookupError):
                    os.kill(one.pid, signal.SIGTERM)


def kernel_memory(meminfo: str) -> int:
    """Return the bytes that the kernel has for its own objects and page tables, from the lines of /proc/meminfo."""
    sizes = {line.partition(":")[0]: line.split()[1] for line in meminfo.splitlines()}
    return sum(int(sizes[name]) for name in ("Slab", "PageTables", "KernelStack")) * 1024


def _look(servers: Sequence[Running]) -> Look:
    pids = [pid for server in servers for pid in accounting.family(server.pid)]
    return Look(
        server_bytes=accounting.memory(pids).proportional,
        server_cpu_us=accounting.cpu_microseconds(pids),
        kernel_bytes=kernel_memory(Path("/proc/meminfo").read_text()),
        largest=max(len(os.listdir(f"/proc/{pid}/fd")) for pid in pids),
    )
