"""The spool: what is appended outlives its process, is taken oldest first, and is taken over from who has ended."""

import errno
import os
from pathlib import Path
from unittest import mock

from twisted.trial.unittest import TestCase

from registrar.calls.parts import line_of
from registrar.calls.segments import READ_AT_ONCE, SUFFIX, Segment
from registrar.calls.spool import REJECTED, SEGMENTS, Spool, SpoolFull
from tests.registrar.call_records import a_folder, an_answer

BATCH = 500


def a_line(number: int) -> bytes:
    """Return a line."""
    return line_of(an_answer(number))


class SpoolCase(TestCase):
    max_bytes = 2**30

    def setUp(self) -> None:
        self.folder = a_folder(self) / "calls"
        self.spool = self.another()

    def another(self, owner: str = "n1") -> Spool:
        """Return the spool of another process."""
        spool = Spool(self.folder, self.max_bytes, owner)
        spool.open()
        self.addCleanup(spool.close)
        return spool

    def files(self) -> list[Path]:
        """Return the segments that are on disk."""
        return sorted(self.folder.glob(f"*{SUFFIX}"))

    def taken(self, spool: Spool | None = None) -> list[bytes]:
        """Take all lines, and remove what they came from."""
        spool, found = spool or self.spool, []
        while (segment := spool.oldest()) is not None:
            while lines := segment.read(BATCH):
                found += lines
                spool.pass_over(segment, lines)
            spool.done(segment)
        return found


class SpoolTests(SpoolCase):
    def test_in_order(self) -> None:
        """What was appended is taken in its order, and nothing is left."""
        lines = [a_line(number) for number in range(3 * BATCH)]
        self.spool.append(lines[:BATCH])
        self.spool.append(lines[BATCH:])
        self.assertEqual((self.spool.waiting, self.spool.size), (len(lines), sum(map(len, lines))))
        self.assertEqual(self.taken(), lines)
        self.assertEqual((self.files(), self.spool.waiting, self.spool.size), ([], 0, 0))

    def test_meanwhile(self) -> None:
        """What comes while a segment is taken goes into another."""
        self.spool.append([a_line(1)])
        segment = self.spool.oldest()
        self.spool.append([a_line(2)])
        self.assertEqual((self.spool.oldest(), len(self.files())), (segment, 2))
        self.assertEqual(self.taken(), [a_line(1), a_line(2)])

    def test_many_segments(self) -> None:
        """A file grows so large and no larger, so that what is written makes room."""
        lines = [a_line(1)] * (self.max_bytes // SEGMENTS // len(a_line(1)) + 1)
        for _ in range(3):
            self.spool.append(lines)
        self.assertEqual(len(self.files()), 3)
        self.assertEqual(len(self.taken()), 3 * len(lines))

    def test_private(self) -> None:
        """Who calls whom is nobody else's business."""
        self.spool.append([a_line(1)])
        self.spool.put_aside([a_line(2)])
        modes = {path.stat().st_mode & 0o077 for path in (self.folder, *self.folder.iterdir())}
        self.assertEqual(modes, {0})

    def test_disk_is_full(self) -> None:
        """Of what could not be written whole nothing is found, and what comes afterwards is whole."""
        self.spool.append([a_line(1)])
        real = os.pwrite

        def half(descriptor: int, data: bytes, place: int) -> int:
            if len(data) < 20:
                raise OSError(errno.ENOSPC, "no space")
            return real(descriptor, bytes(data)[:-10], place)

        with mock.patch("os.pwrite", half):
            self.assertRaises(OSError, self.spool.append, [a_line(2)])
        self.assertEqual(self.spool.waiting, 1)
        self.spool.append([a_line(3)])
        self.assertEqual(self.taken(), [a_line(1), a_line(3)])


class FullTests(SpoolCase):
    max_bytes = 2**20

    def test_bound(self) -> None:
        """There is room for so much from all processes, and again when something was taken."""
        lines = [a_line(1)] * 1000
        other = self.another("n1.1")
        while True:
            try:
                self.spool.append(lines)
                other.append(lines)
            except SpoolFull:
                break
        size = sum(path.stat().st_size for path in self.files())
        self.assertTrue(self.max_bytes - 2 * 1000 * len(lines[0]) < size <= self.max_bytes, size)
        self.assertRaises(SpoolFull, self.spool.append, lines)
        self.taken(other)
        self.spool.append(lines)

    def test_what_was_put_aside(self) -> None:
        """What was put aside counts, too, so that it cannot fill the disk."""
        self.spool.put_aside([b"x" * self.max_bytes])
        self.assertRaises(SpoolFull, self.spool.append, [a_line(1)] * 10_000)
        self.assertEqual((self.folder / REJECTED).stat().st_size, self.max_bytes)


class ClaimTests(SpoolCase):
    def test_after_the_end(self) -> None:
        """What an ended process has left is taken first, however it was called."""
        gone = self.another("n1.7")
        gone.append([a_line(1)])
        gone.oldest()
        gone.append([a_line(2)])
        self.spool.append([a_line(3)])
        gone.close()
        self.spool.claim()
        self.assertEqual(self.spool.waiting, 3)
        self.assertEqual(self.taken(), [a_line(1), a_line(2), a_line(3)])

    def test_of_the_living(self) -> None:
        """What belongs to a process that lives is left to it, and its own is no news to it."""
        other = self.another("n1.1")
        other.append([a_line(1)])
        self.spool.claim()
        other.claim()
        self.assertEqual((self.spool.waiting, other.waiting), (0, 1))
        self.assertEqual(self.taken(other), [a_line(1)])

    def test_in_the_middle(self) -> None:
        """What was taken in part is taken whole by the next one, for nobody knows how far it came."""
        self.spool.append([a_line(1), a_line(2)])
        segment = self.spool.oldest()
        assert segment is not None
        self.spool.pass_over(segment, segment.read(1))
        self.spool.close()
        other = self.another()
        other.claim()
        self.assertEqual((other.waiting, self.taken(other)), (2, [a_line(1), a_line(2)]))

    def test_just_removed(self) -> None:
        """A file that its process removes at this moment is not claimed."""
        self.spool.append([a_line(1)])
        (path,) = self.files()
        segment = self.spool.oldest()
        assert segment is not None
        with mock.patch("registrar.calls.segments.flock", lambda *_: self.spool.done(segment)):
            self.assertIsNone(Segment.claim(path))
        self.assertIsNone(Segment.claim(path))

    def test_torn(self) -> None:
        """The last line of a process that was killed may lack its end, which is handed out as it is."""
        self.spool.append([a_line(1), a_line(2)])
        (path,) = self.files()
        self.spool.close()
        os.truncate(path, path.stat().st_size - 5)
        other = self.another()
        other.claim()
        self.assertEqual(self.taken(other), [a_line(1), a_line(2)[:-5]])
        self.assertEqual((other.waiting, self.files()), (0, []))

    def test_no_lines_at_all(self) -> None:
        """A file that holds something else is passed over, however large it is."""
        (self.folder / f"n9-1{SUFFIX}").write_bytes(b"\0" * (3 * READ_AT_ONCE + 1))
        self.spool.claim()
        self.assertEqual([len(line) for line in self.taken()], [READ_AT_ONCE] * 3 + [1])
