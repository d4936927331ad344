"""Tests of registrar.location.journal and registrar.location.journal_file."""

import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryDirectory

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from registrar.location.contract import LocationUnavailable
from registrar.location.journal import MOST_BYTES_EACH, TOLD_AT_ONCE, Journal
from registrar.location.journal_file import MAGIC, MOST_ENTRY_BYTES, JournalFile, done, written
from registrar.location.merging import Change
from registrar.location.writer import Writer
from tests.registrar.examples import ALICE, NOW, PHONE, A, B, a_binding, a_bound
from tests.registrar.writers import AtOnce, Held

BOB = "sip:bob@example.com"
MANY = 1000
LARGE = 2**20

Entry = tuple[str, Change]


def a_change(number: int = 1, contact: str = A, size: int = 0) -> Change:
    """Return a change, the number of which is the CSeq of its binding."""
    return Change((a_binding(contact, cseq=number, call_id="x" * size),), (), NOW + number)


class JournalCase(SynchronousTestCase):
    def setUp(self) -> None:
        folder = TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = f"{folder.name}/bindings.journal"

    def open(self, writer: Writer | None = None, max_writes: int = MANY,
             max_bytes: int = LARGE) -> tuple[Journal, list[Entry]]:
        """Return an open journal, and what an earlier one has left."""
        journal = Journal(self.path, writer or AtOnce(), max_writes, max_bytes)
        left = self.successResultOf(Deferred.fromCoroutine(journal.open()))
        return journal, left

    def close(self, journal: Journal) -> None:
        """Close a journal."""
        self.successResultOf(Deferred.fromCoroutine(journal.close()))

    def reopened(self, journal: Journal) -> list[Entry]:
        """Close a journal and return what the next one finds."""
        self.close(journal)
        again, left = self.open()
        self.close(again)
        return left


class JournalTests(JournalCase):
    def test_what_was_left(self) -> None:
        """What was appended is there after a restart, in its order and whatever it holds."""
        odd = a_bound(B, 7, path=("<sip:p;lr>",), q=500, params=(("a", "ä"), ("b", None)), instance=PHONE, reg_id=1,
                      user_agent="Téléphone \udcff", generation=2**60)
        changes = [(ALICE, a_change(1)), ("sip:b\udcffb@example.com", Change((odd,), (a_binding(),), NOW)),
                   (ALICE, Change((), (odd,), NOW + 2)), (BOB, Change((), (), 0.0))]
        journal, left = self.open()
        self.assertEqual(left, [])
        for aor, change in changes:
            self.successResultOf(journal.append(aor, change))
        self.assertEqual((journal.aors, journal.appended, journal.failed), (3, 4, 0))
        self.assertEqual(self.reopened(journal), changes)

    def test_on_disk_before_it_is_told(self) -> None:
        """Nobody is told before the change is on the disk."""
        writer = Held()
        journal, appended = Journal(self.path, writer, MANY, LARGE), []
        opening = Deferred.fromCoroutine(journal.open())
        writer.finish()
        self.successResultOf(opening)
        appended = [journal.append(ALICE, a_change(number)) for number in (1, 2)]
        writer.turn()
        appended.append(journal.append(BOB, a_change(3)))
        for deferred in appended:
            self.assertNoResult(deferred)
        self.assertEqual(os.path.getsize(self.path), 0)
        writer.finish()
        self.assertEqual(os.path.getsize(self.path), len(MAGIC + written(ALICE, a_change(1)) * 2))
        for deferred in appended[:2]:
            self.successResultOf(deferred)
        self.assertNoResult(appended[2])
        writer.finish()
        self.successResultOf(appended[2])
        self.assertEqual(journal.size, os.path.getsize(self.path))

    def test_told_in_turns(self) -> None:
        """Many who wait for the same write are told some at a time, so that others have their turn."""
        writer = Held()
        journal = Journal(self.path, writer, MANY, LARGE)
        opening = Deferred.fromCoroutine(journal.open())
        writer.finish()
        self.successResultOf(opening)
        appended = [journal.append(ALICE, a_change(number)) for number in range(TOLD_AT_ONCE + 1)]
        writer.turn()
        writer.finish()
        self.assertEqual([deferred.called for deferred in appended], [True] * TOLD_AT_ONCE + [False])
        closing = Deferred.fromCoroutine(journal.close())
        writer.turn()
        self.successResultOf(appended[-1])
        writer.finish()
        self.successResultOf(closing)

    def test_done(self) -> None:
        """What is done is not found again, and what was appended for the same address-of-record since is."""
        journal, _ = self.open()
        for number, aor in enumerate((ALICE, BOB, ALICE)):
            self.successResultOf(journal.append(aor, a_change(number)))
        journal.done((ALICE, "sip:nobody@example.com"))
        self.assertEqual(journal.aors, 1)
        self.successResultOf(journal.append(ALICE, a_change(5)))
        self.assertEqual(self.reopened(journal), [(BOB, a_change(1)), (ALICE, a_change(5))])

    def test_all_done(self) -> None:
        """When nothing is left the file is empty."""
        journal, _ = self.open()
        self.successResultOf(journal.append(ALICE, a_change()))
        self.successResultOf(journal.append(BOB, a_change()))
        journal.done((ALICE,))
        self.assertGreater(os.path.getsize(self.path), 0)
        journal.done((BOB,))
        self.assertEqual((os.path.getsize(self.path), journal.size, journal.aors), (0, 0, 0))
        self.successResultOf(journal.append(BOB, a_change(2)))
        self.assertEqual(self.reopened(journal), [(BOB, a_change(2))])

    def test_done_before_it_was_written(self) -> None:
        """What is done before its write began does not come back, and whoever waits for it is told."""
        writer = Held()
        journal = Journal(self.path, writer, MANY, LARGE)
        opening = Deferred.fromCoroutine(journal.open())
        writer.finish()
        self.successResultOf(opening)
        appended = journal.append(ALICE, a_change())
        journal.done((ALICE,))
        writer.turn()
        writer.finish()
        self.successResultOf(appended)
        self.assertEqual(os.path.getsize(self.path), 0)

    def test_full(self) -> None:
        """A journal takes so many addresses-of-record and so many bytes, and no more until something is done."""
        journal, _ = self.open(max_writes=2)
        for aor in (ALICE, BOB, ALICE):
            self.assertEqual(journal.is_full, aor is not BOB and journal.aors == 2)
            self.successResultOf(journal.append(aor, a_change()))
        self.failureResultOf(journal.append("sip:c@example.com", a_change()), LocationUnavailable)
        self.assertEqual((journal.is_full, journal.failed), (True, 1))
        journal.done((BOB,))
        self.assertFalse(journal.is_full)
        self.successResultOf(journal.append("sip:c@example.com", a_change()))

    def test_too_large(self) -> None:
        """The file grows no larger than it may, and no entry larger than would be read again."""
        journal, _ = self.open(max_bytes=3000)
        self.successResultOf(journal.append(ALICE, a_change(size=2000)))
        self.failureResultOf(journal.append(BOB, a_change(size=1000)), LocationUnavailable)
        self.successResultOf(journal.append(BOB, a_change(size=100)))
        self.close(journal)
        journal, _ = self.open(max_bytes=2 * MOST_ENTRY_BYTES)
        self.failureResultOf(journal.append(BOB, a_change(size=MOST_ENTRY_BYTES)), LocationUnavailable)

    def test_one_without_end(self) -> None:
        """One address-of-record has so much room and no more, until what it has is done; the others have theirs."""
        journal, _ = self.open(max_bytes=4 * MOST_BYTES_EACH)
        size = MOST_BYTES_EACH // 4
        for number in range(3):
            self.successResultOf(journal.append(ALICE, a_change(number, size=size)))
        self.failureResultOf(journal.append(ALICE, a_change(3, size=size)), LocationUnavailable)
        self.successResultOf(journal.append(BOB, a_change(4, size=size)))
        journal.done((ALICE,))
        self.successResultOf(journal.append(ALICE, a_change(5, size=size)))

    def test_written_anew(self) -> None:
        """A file of which little counts any more is written anew, so that it takes what is new for ever."""
        journal, _ = self.open(max_bytes=20_000)
        self.successResultOf(journal.append(BOB, a_change()))
        for number in range(500):
            self.successResultOf(journal.append(ALICE, a_change(number, size=100)))
            journal.done((ALICE,))
        self.assertLessEqual(os.path.getsize(self.path), 20_000)
        self.assertEqual(journal.size, os.path.getsize(self.path))
        self.successResultOf(journal.append(ALICE, a_change(501)))
        self.assertEqual(self.reopened(journal), [(BOB, a_change()), (ALICE, a_change(501))])

    def test_closed(self) -> None:
        """A journal that is closed, or was never opened, takes nothing; closing it twice does no harm."""
        journal, _ = self.open()
        self.close(journal)
        self.close(journal)
        self.failureResultOf(journal.append(ALICE, a_change()), LocationUnavailable)
        journal.done((ALICE,))
        self.failureResultOf(Journal(self.path, AtOnce(), MANY, LARGE).append(ALICE, a_change()), LocationUnavailable)

    def test_one_process(self) -> None:
        """Nobody else may open a journal that is open."""
        journal, _ = self.open()
        other = Journal(self.path, AtOnce(), MANY, LARGE)
        problem = self.failureResultOf(Deferred.fromCoroutine(other.open()), LocationUnavailable)
        self.assertIn("another registrar", problem.getErrorMessage())
        self.close(journal)
        self.close(self.open()[0])

    def test_cannot_be_opened(self) -> None:
        """A journal that cannot be opened says so, and one that is none is left as it is."""
        missing = Journal(f"{self.path}/x/y", AtOnce(), MANY, LARGE)
        self.failureResultOf(Deferred.fromCoroutine(missing.open()), LocationUnavailable)
        with open(self.path, "wb") as file:
            file.write(b"something else")
        other = Journal(self.path, AtOnce(), MANY, LARGE)
        self.failureResultOf(Deferred.fromCoroutine(other.open()), LocationUnavailable)
        with open(self.path, "rb") as file:
            self.assertEqual(file.read(), b"something else")


class FailingDiskTests(JournalCase):
    def test_disk_full(self) -> None:
        """While the disk is full no change is taken, none that was taken is lost, and none that was refused comes."""
        journal, _ = self.open()
        self.successResultOf(journal.append(ALICE, a_change(1, size=500)))
        with files_of_at_most(os.path.getsize(self.path) + 100):
            for number in (2, 3):
                problem = self.failureResultOf(journal.append(BOB, a_change(number, size=500)), LocationUnavailable)
                self.assertIn("cannot be written", problem.getErrorMessage())
        self.assertIn("cannot be written", journal.problem or "")
        self.assertEqual((journal.aors, journal.appended, journal.failed), (1, 1, 2))
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)
        self.successResultOf(journal.append(BOB, a_change(4)))
        self.assertIsNone(journal.problem)
        self.assertEqual(journal.size, os.path.getsize(self.path))
        self.assertEqual(self.reopened(journal), [(ALICE, a_change(1, size=500)), (BOB, a_change(4))])

    def test_done_while_disk_is_full(self) -> None:
        """What is done while nothing can be written is said with the next write."""
        journal, _ = self.open()
        self.successResultOf(journal.append(ALICE, a_change(1)))
        self.successResultOf(journal.append(BOB, a_change(2)))
        with files_of_at_most(os.path.getsize(self.path)):
            journal.done((ALICE,))
            self.failureResultOf(journal.append(ALICE, a_change(3)), LocationUnavailable)
        self.flushLoggedErrors(OSError)
        self.successResultOf(journal.append(BOB, a_change(4)))
        self.assertEqual(self.reopened(journal), [(BOB, a_change(2)), (BOB, a_change(4))])

    def test_not_written_anew(self) -> None:
        """A file that cannot be written anew is kept as it is."""
        file = JournalFile(self.path)
        file.open()
        self.addCleanup(file.close)
        file.append(written(ALICE, a_change(1, size=500)) + done(ALICE) + written(BOB, a_change(2, size=500)))
        size = file.size
        with files_of_at_most(300):
            self.assertRaises(OSError, file.compact)
        self.assertEqual((os.path.getsize(self.path), file.size), (size, size))
        self.assertFalse(os.path.exists(f"{self.path}.new"))
        file.append(written(ALICE, a_change(3)))
        file.compact()
        file.close()
        left = JournalFile(self.path)
        self.assertEqual([(aor, change) for aor, change, _ in left.open()],
                         [(BOB, a_change(2, size=500)), (ALICE, a_change(3))])
        left.close()


class DamagedFileTests(JournalCase):
    def write(self, data: bytes) -> None:
        """Replace the file."""
        with open(self.path, "wb") as file:
            file.write(data)

    @given(st.integers(0, 400), st.binary(max_size=40))
    def test_torn_end(self, kept: int, garbage: bytes) -> None:
        """Whatever a crash has left at the end, all whole entries before it are found, and new ones can follow."""
        changes = [(ALICE, a_change(1)), (BOB, a_change(2))]
        whole = [written(aor, change) for aor, change in changes]
        data = (MAGIC + b"".join(whole))[:len(MAGIC) + kept]
        ends = [len(MAGIC) + len(whole[0]), len(MAGIC) + len(whole[0]) + len(whole[1])]
        self.write(data + garbage)
        expected = [change for change, end in zip(changes, ends, strict=True) if end <= len(data)]
        journal, left = self.open()
        if data + garbage[:ends[1] - len(data)] != MAGIC + b"".join(whole):
            self.assertEqual(left[:len(expected)], expected)
            self.assertLessEqual(len(left), len(changes))
        self.successResultOf(journal.append(BOB, a_change(3)))
        self.assertEqual(self.reopened(journal), [*left, (BOB, a_change(3))])

    @given(st.integers(0, 2**20), st.integers(1, 255))
    def test_changed_byte(self, place: int, difference: int) -> None:
        """A byte that was changed ends what is read, and is not taken for anything else."""
        changes = [(ALICE, a_change(1)), (BOB, a_change(2))]
        data = bytearray(MAGIC + b"".join([written(aor, change) for aor, change in changes]))
        place = len(MAGIC) + place % (len(data) - len(MAGIC))
        data[place] ^= difference
        self.write(bytes(data))
        journal, left = self.open()
        self.close(journal)
        self.assertEqual(left, changes[:int(place >= len(MAGIC) + len(written(*changes[0])))])

    def test_zeros(self) -> None:
        """Zeros, which a power cut leaves in the place of what was not written, are no entries."""
        for data in (bytes(5), bytes(100)):
            self.write(MAGIC + written(ALICE, a_change()) + data)
            journal, left = self.open()
            self.assertEqual(left, [(ALICE, a_change())])
            self.close(journal)

    def test_many_entries(self) -> None:
        """A file that is read in several parts is read as it was written."""
        changes = [(f"sip:{number}@example.com", a_change(number, size=number)) for number in range(2000)]
        journal, _ = self.open(max_writes=3000, max_bytes=2**24)
        for aor, change in changes:
            self.successResultOf(journal.append(aor, change))
        self.assertGreater(journal.size, 2**21)
        self.assertEqual(self.reopened(journal), changes)


class CrashTests(JournalCase):
    def test_killed(self) -> None:
        """Of a process that is killed while it appends, each change that was acknowledged is found."""
        command = [sys.executable, "-m", "tests.registrar.journal_crash", self.path]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            lines = [process.stdout.readline() for _ in range(6000)]
            process.kill()
            lines += process.stdout.readlines()
        acknowledged: dict[str, int] = {}
        for line in lines:
            if line.endswith(b"\n"):
                aor, number = line.decode().split()
                acknowledged[aor] = int(number)
        self.assertGreater(len(acknowledged), 100)
        journal, left = self.open(max_writes=100_000, max_bytes=2**26)
        self.close(journal)
        found = {aor: change.kept[0].cseq for aor, change in left}
        late = {aor: number for aor, number in acknowledged.items() if found.get(aor, 0) < number}
        self.assertEqual(late, {})


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Let no file grow beyond `size` bytes, as if the disk was full."""
    before, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, most))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (before, most))
