"""The load generator in C, driven over its standard input (src/load.c says what it does and what its lines mean)."""

import json
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from attrs import field, frozen

from tools.bench.cases import Case
from tools.bench.processes import END_SECONDS, LOOPBACK, BenchError, pinned

FOLDER = Path(__file__).parent
LOAD = FOLDER / "build" / "load"
DOMAIN = "bench.test"
PASSWORD = "bench"


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
    """A running generator: all its phones have registered once, and their connections are open."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        self.ready = self._read("ready")

    def run(self, seconds: float, *, requests: int = 0, rate: float = 0.0) -> Tally:
        """Make one measured run of at most `seconds` and (unless 0) `requests`; `rate` 0 is a closed loop."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"run {seconds} {requests} {rate}\n")
        self._process.stdin.flush()
        return self._read("done")

    def _read(self, phase: str) -> Tally:
        assert self._process.stdout is not None
        return parse_tally(self._process.stdout.readline(), phase)


def words(case: Case, port: int, *, canned: bool = False, first: int = 0) -> list[str]:
    """Return the command line for a case against a server on loopback; `canned` for one that only echoes."""
    options = {
        "--server": f"{LOOPBACK}:{port}",
        "--transport": case.transport,
        "--connections": str(case.connections),
        "--phones": str(case.phones),
        "--first": str(first),
        "--domain": DOMAIN,
        "--password": PASSWORD,
    }
    flags = {"--digest": case.digest, "--fresh": case.fresh, "--canned": canned}
    return [
        str(LOAD),
        *(word for option in options.items() for word in option),
        *(flag for flag, wanted in flags.items() if wanted),
    ]


@contextmanager
def generator(case: Case, port: int, *, core: int = 1, canned: bool = False, first: int = 0) -> Iterator[Generator]:
    """Open a case's phones; their connections close when the block is left."""
    process = subprocess.Popen(
        [*pinned(core), *words(case, port, canned=canned, first=first)],
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


def build() -> None:
    """Compile the generator and the floor, when their sources are newer. Raises BenchError when that fails."""
    made = subprocess.run(["make", "-s", "-C", str(FOLDER)], capture_output=True, text=True, check=False)
    if made.returncode != 0:
        raise BenchError(f"make -C {FOLDER} failed:\n{made.stderr}")
