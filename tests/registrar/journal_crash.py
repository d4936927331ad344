"""A process to be killed: it appends to a journal as fast as the disk takes it, and says what was acknowledged.

Each line of its output is an address-of-record and the CSeq that is safe, 0 when nothing is any more.
"""

import sys

from twisted.internet.defer import Deferred
from twisted.internet.task import react

from registrar.location.journal import Journal
from registrar.location.merging import Change
from registrar.location.writer import WriterThread
from tests.registrar.examples import NOW, A, a_binding

PHONES = 200
MAX_WRITES = 100_000
MAX_BYTES = 2**20
"""Small, so that the file is written anew again and again."""


async def refresh(journal: Journal, aor: str) -> None:
    """Register one phone again and again; now and then what it did before is done."""
    number = 0
    while True:
        number += 1
        await journal.append(aor, Change((a_binding(A, cseq=number),), (), NOW + number))
        sys.stdout.write(f"{aor} {number}\n")
        sys.stdout.flush()
        if number % 5 == 0:
            sys.stdout.write(f"{aor} 0\n")
            sys.stdout.flush()
            journal.done((aor,))
            number += 1
            await journal.append(aor, Change((a_binding(A, cseq=number),), (), NOW + number))


async def main(reactor: object, path: str) -> None:
    """Never return."""
    journal = Journal(path, WriterThread(reactor, "journal"), MAX_WRITES, MAX_BYTES)  # type: ignore[arg-type]
    await journal.open()
    phones = [Deferred.fromCoroutine(refresh(journal, f"sip:{number}@example.com")) for number in range(PHONES)]
    for phone in phones:
        await phone


if __name__ == "__main__":
    react(lambda reactor: Deferred.fromCoroutine(main(reactor, sys.argv[1])))
