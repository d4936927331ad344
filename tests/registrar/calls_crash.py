"""A process to be killed: it records calls as fast as it can, and says how many are safe: on disk, or in the database.

Its arguments are a folder and a number, which its calls are named by.
"""

import sys
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater, react

from registrar.calls.config import CallsConfig
from registrar.calls.records import CallRecords
from registrar.calls.spool import Spool
from registrar.calls.writing import CallWriter
from registrar.database.engines import engine_of
from tests.registrar.call_records import an_answer, an_end

CALLS_AT_A_TIME = 25
NUMBERS = 1_000_000


async def main(folder: Path, life: int) -> None:
    """Never return."""
    config = CallsConfig(write_seconds=0.02, batch=20)
    spool = Spool(folder / "calls", config.max_spool_bytes, f"n1.{life % 2}")
    seconds = reactor.seconds
    writer = CallWriter(spool, lambda: engine_of(folder / "rollcall.sqlite", kept=1), config, seconds)
    records = CallRecords(reactor, config, spool, writer, seconds)
    records.start()
    recorded = 0
    while True:
        for _ in range(CALLS_AT_A_TIME):
            recorded += 1
            records.record(an_answer(life * NUMBERS + recorded))
            records.record(an_end(life * NUMBERS + recorded))
        while records.queued:
            await deferLater(reactor, 0)
        sys.stdout.write(f"{recorded}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    react(lambda _: Deferred.fromCoroutine(main(Path(sys.argv[1]), int(sys.argv[2]))))
