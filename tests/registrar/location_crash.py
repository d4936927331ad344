"""A process to be killed: it saves bindings as fast as the disk takes them, and says which were acknowledged.

Each line of its output is an address-of-record and the CSeq that is safe.
"""

import sys

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.task import react

from registrar.location.contract import Snapshot
from registrar.location.rows import Rows
from registrar.location.sqlite import SqliteLocation
from registrar.location.writer import WriterThread
from rollcall.net.wheel import TimerWheel
from tests.registrar.examples import A, a_binding

PHONES = 400
STRIDE = 7


async def refresh(store: SqliteLocation, aor: str, until: float) -> None:
    """Register one phone again and again."""
    binding = a_binding(A, expires_at=until)
    while True:
        seen = await store.load(aor)
        binding = attrs.evolve(binding, cseq=binding.cseq + STRIDE)
        await store.save(aor, Snapshot(seen.version + 1, (binding,)))
        sys.stdout.write(f"{aor} {binding.cseq}\n")
        sys.stdout.flush()


async def main(reactor: object, path: str) -> None:
    """Never return."""
    wheel = TimerWheel(reactor)  # type: ignore[arg-type]
    store = SqliteLocation(Rows(path), WriterThread(reactor, "bindings"), wheel, wheel.now)  # type: ignore[arg-type]
    await store.start()
    phones = [Deferred.fromCoroutine(refresh(store, f"sip:{number}@example.com", wheel.now() + 3600))
              for number in range(PHONES)]
    for phone in phones:
        await phone


if __name__ == "__main__":
    react(lambda reactor: Deferred.fromCoroutine(main(reactor, sys.argv[1])))
