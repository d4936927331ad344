"""The load generator in C, driven over its standard input (src/load.c says what it does and what its lines mean)."""

import json
import subprocess
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from attrs import field, frozen

from tools.bench.cases import Case
from tools.bench.processes import END_SECONDS, LOOPBACK, BenchError, pinned

FOLDER = Path(__file__).parent
LOAD = FOLDER / "build" / "load"
DOMAIN = "bench.test"
PASSWORD = "bench"
PHONES_CORE = 1
FIRST_SOURCE = "127.0.1.1"
SOURCES = 100
"""Addresses that the phones share, so that what a server counts per source is spread as in a network."""
COUNTS = ("sent", "answered", "failed", "challenged", "unanswered", "retransmitted", "lost")
WORST = ("seconds", "p50_us", "p99_us", "p999_us", "largest_us")


@frozen(kw_only=True)
class Tally:
    """What one phase of the generator saw. `answered` counts 200s; latencies are in microseconds."""

    seconds: float
    sent: int
    answered: int
    failed: int
    challenged: int
    unanswered: int
    retransmitted: int
    lost: int
    request_bytes: float
    answer_bytes: float
    p50_us: int
    p99_us: int
    p999_us: int
    largest_us: int
    statuses: Mapping[str, int] = field(factory=dict)

    @property
    def clean(self) -> bool:
        """Whether every request was answered with 200 and every connection lived."""
        return self.answered > 0 and self.failed == self.unanswered == self.lost == 0


def parse_tally(line: str, phase: str) -> Tally:
    """Return the tally of `phase` from a line of the generator's. Raises BenchError when it is another line."""
    try:
        values: dict[str, Any] = json.loads(line)
        if values.pop("phase") != phase:
            raise ValueError(f"not the phase {phase}")
        return Tally(**values)
    except (ValueError, KeyError, TypeError) as error:
        raise BenchError(f"the load generator said {line!r}: {error}")


class Generator:
    """A running generator. Once `ready` was read, its phones have registered once, and their connections are open."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    @cached_property
    def ready(self) -> Tally:
        """What the opening saw; waits for its end."""
        return self._read("ready")

    def run(self, seconds: float, *, requests: int = 0, rate: float = 0.0) -> Tally:
        """Make one measured run of at most `seconds` and (unless 0) `requests`; `rate` 0 is a closed loop."""
        self.begin(seconds, requests=requests, rate=rate)
        return self.done()

    def begin(self, seconds: float, *, requests: int = 0, rate: float = 0.0) -> None:
        """Begin a run, once the phones are there, whose end `done` waits for."""
        _ = self.ready  # its line comes first
        assert self._process.stdin is not None
        self._process.stdin.write(f"run {seconds} {requests} {rate}\n")
        self._process.stdin.flush()

    def done(self) -> Tally:
        """Return what the run saw, when it is over."""
        return self._read("done")

    def _read(self, phase: str) -> Tally:
        assert self._process.stdout is not None
        return parse_tally(self._process.stdout.readline(), phase)


def words(
    case: Case, port: int, *, canned: bool = False, first: int = 0, source: str = FIRST_SOURCE, program: Path = LOAD
) -> list[str]:
    """Return the command line for a case against a server on loopback; `canned` for one that only echoes."""
    options = {
        "--server": f"{LOOPBACK}:{port}",
        "--transport": case.transport,
        "--connections": str(case.connections),
        "--phones": str(case.phones),
        "--opening-rate": str(case.opening_rate),
        "--first": str(first),
        "--domain": DOMAIN,
        "--password": PASSWORD,
        "--source": source,
        "--sources": str(SOURCES),
    }
    flags = {"--digest": case.digest, "--fresh": case.fresh, "--canned": canned}
    return [
        str(program),
        *(word for option in options.items() for word in option),
        *(flag for flag, wanted in flags.items() if wanted),
    ]


@contextmanager
def generator(
    case: Case,
    port: int,
    *,
    core: int | None = PHONES_CORE,
    canned: bool = False,
    first: int = 0,
    source: str = FIRST_SOURCE,
    program: Path = LOAD,
) -> Iterator[Generator]:
    """Open a case's phones; their connections close when the block is left."""
    process = subprocess.Popen(
        [*pinned(core), *words(case, port, canned=canned, first=first, source=source, program=program)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield Generator(process)
    finally:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.close()  # this ends it; killed it is when it does not listen
        try:
            process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()


def together(tallies: Sequence[Tally]) -> Tally:
    """Return what several generators saw at the same time: sums, and of latencies and times the worst."""
    sent, answers = sum(one.sent for one in tallies), sum(one.answered + one.failed for one in tallies)
    statuses: Counter[str] = Counter()
    for one in tallies:
        statuses.update(one.statuses)
    sums = {name: sum(getattr(one, name) for one in tallies) for name in COUNTS}
    worst = {name: max(getattr(one, name) for one in tallies) for name in WORST}
    return Tally(
        **sums,
        **worst,
        request_bytes=sum(one.request_bytes * one.sent for one in tallies) / max(sent, 1),
        answer_bytes=sum(one.answer_bytes * (one.answered + one.failed) for one in tallies) / max(answers, 1),
        statuses=statuses,
    )


def build() -> None:
    """Compile the generator and the floor, when their sources are newer. Raises BenchError when that fails."""
    made = subprocess.run(["make", "-s", "-C", str(FOLDER)], capture_output=True, text=True, check=False)
    if made.returncode != 0:
        raise BenchError(f"make -C {FOLDER} failed:\n{made.stderr}")
