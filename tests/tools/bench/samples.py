"""What the generator and the rounds might have said."""

import shutil

from attrs import evolve

from tools.bench.generator import Tally
from tools.bench.metrics import Pauses
from tools.bench.report import Holding, Round

COMPILER = shutil.which("cc")
NO_COMPILER = "the generator is C, and there is no compiler"

TALLY = Tally(
    seconds=1.0,
    sent=10,
    answered=10,
    failed=0,
    challenged=0,
    unanswered=0,
    retransmitted=0,
    lost=0,
    request_bytes=480.0,
    answer_bytes=440.0,
    p50_us=500,
    p99_us=2_000,
    p999_us=3_000,
    largest_us=4_000,
    statuses={"200": 10},
)


def a_round(server: str, cpu_us: float, case: str = "tcp-refresh", p99_us: int = 2_000) -> Round:
    """One run of a server at a cost."""
    return Round(case=case, server=server, cpu_us=cpu_us, tally=evolve(TALLY, p99_us=p99_us))


def a_holding(server: str, proportional: float) -> Holding:
    """One look at a server that holds idle phones."""
    return Holding(
        case="tcp-idle",
        server=server,
        phones=100,
        proportional=proportional,
        private=proportional,
        shared_used=None,
        pauses=Pauses(),
        tally=TALLY,
    )
