"""Tests of registrar.location.rows: the file itself."""

import os
import sqlite3

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from registrar.location.contract import LocationUnavailable
from registrar.location.rows import Rows
from registrar.location.sqlite import SqliteLocation
from rollcall.net.wheel import TimerWheel
from tests.registrar.examples import ALICE, NOW, A, B, a_binding
from tests.registrar.location_contract import BOB
from tests.registrar.writers import AtOnce, a_file, everything


class RowsTests(SynchronousTestCase):
    def test_reopens_after_an_error(self) -> None:
        """After a write that failed the file is opened anew: here somebody had locked it."""
        path = a_file(self)
        rows = Rows(path, busy_seconds=0.0)
        everything(rows, NOW)
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with self.assertRaises(sqlite3.OperationalError):
            rows.write({ALICE: (a_binding(A),)})
        other.execute("ROLLBACK")
        other.close()
        rows.write({ALICE: (a_binding(A),)})
        self.assertEqual(everything(rows, NOW), {ALICE: (a_binding(A),)})
        rows.close()

    def test_one_registrar_at_a_time(self) -> None:
        """A file that a registrar has is refused to every other one, until the first has gone."""
        path = a_file(self)
        first, second, clock = Rows(path), Rows(path), Clock()
        first.claim()
        store = SqliteLocation(second, AtOnce(), TimerWheel(clock), clock.seconds)
        failure = self.failureResultOf(Deferred.fromCoroutine(store.start()), LocationUnavailable)
        self.assertEqual(failure.getErrorMessage(), f"{path}: another registrar uses this file")
        first.leave()
        self.successResultOf(Deferred.fromCoroutine(store.start()))
        self.successResultOf(Deferred.fromCoroutine(store.stop()))

    def test_removed_while_in_use(self) -> None:
        """A file that somebody removed is begun anew, with a word: what is acknowledged goes where it is found."""
        path = a_file(self)
        rows = Rows(path)
        rows.write({BOB: (a_binding(A),)})
        for name in (path, f"{path}-wal", f"{path}-shm"):
            os.unlink(name)
        with capturedLogs() as events:
            rows.write({ALICE: (a_binding(A),)})
        self.assertEqual([event["path"] for event in events], [path])
        rows.close()
        self.assertEqual(everything(Rows(path), NOW), {ALICE: (a_binding(A),)})

    def test_all_or_nothing(self) -> None:
        """One row that cannot be written keeps the others of its transaction out."""
        rows = Rows(a_file(self))
        rows.write({BOB: (a_binding(A),)})
        with self.assertRaises(ValueError):
            rows.write({ALICE: (a_binding(A),), "sip:\udcff@example.com": (a_binding(A),)})
        self.assertEqual(everything(rows, NOW), {BOB: (a_binding(A),)})
        rows.close()

    def test_durable_by_configuration(self) -> None:
        """The file is in WAL mode and synced as configured."""
        for synchronous, number in (("FULL", 2), ("NORMAL", 1)):
            rows = Rows(a_file(self), synchronous)  # type: ignore[arg-type]
            connection = rows._connect()
            self.assertEqual(connection.execute("PRAGMA journal_mode").fetchone(), ("wal",))
            self.assertEqual(connection.execute("PRAGMA synchronous").fetchone(), (number,))
            rows.close()

    def test_a_row_that_makes_no_sense(self) -> None:
        """A row that is not understood is reported and left alone, and the others are read."""
        path = a_file(self)
        rows = Rows(path)
        rows.write({ALICE: (a_binding(A),)})
        connection = rows._connect()
        for number, text in enumerate(("nonsense", "[{}]", '[{"contact": "\\udcff"}]', "\\udcff")):
            connection.execute("INSERT INTO location VALUES (?, ?, ?)", (f"sip:{number}@x", NOW + 60, text))
        self.assertEqual(everything(rows, NOW), {ALICE: (a_binding(A),)})
        self.assertEqual(connection.execute("SELECT count(*) FROM location").fetchone(), (5,))
        rows.close()

    def test_a_later_schema(self) -> None:
        """A file that a later version has written is refused with a reason."""
        path = a_file(self)
        connection = sqlite3.connect(path)
        connection.execute("PRAGMA user_version = 99")
        connection.close()
        with self.assertRaisesRegex(sqlite3.DatabaseError, "99"):
            everything(Rows(path), NOW)

    def test_no_place_for_the_file(self) -> None:
        """A store whose file cannot be opened does not start, and names the file."""
        clock = Clock()
        path = a_file(self) + "/none/file"
        store = SqliteLocation(Rows(path), AtOnce(), TimerWheel(clock), clock.seconds)
        failure = self.failureResultOf(Deferred.fromCoroutine(store.start()), LocationUnavailable)
        self.assertIn(path, failure.getErrorMessage())


class SomeRowsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.rows = Rows(a_file(self))
        self.addCleanup(self.rows.close)
        self.rows.open()
        bindings = a_binding(A), a_binding(B, expires_at=NOW + 60)
        self.rows.write({f"sip:{name}@example.com": bindings for name in "cab"})

    def test_read_some(self) -> None:
        """Some rows are read, without what has lapsed in them; of whom there is none, or a damaged one, nothing."""
        aors = ["sip:b@example.com", ALICE, "sip:a@example.com"]
        self.assertEqual(self.rows.read_some(aors, NOW + 60), [(a_binding(A),), (), (a_binding(A),)])
        with sqlite3.connect(self.rows.path) as connection:
            connection.execute("UPDATE location SET bindings = '{'")
        connection.close()
        with capturedLogs() as events:
            self.assertEqual(self.rows.read_some(aors, NOW), [(), (), ()])
        self.assertEqual(len(events), 2)

    def test_read_after(self) -> None:
        """Rows can be walked through in their order, so many at a time."""
        first = self.rows.read_after("", 2, NOW + 60)
        self.assertEqual(first, [(f"sip:{name}@example.com", (a_binding(A),)) for name in "ab"])
        self.assertEqual([aor for aor, _ in self.rows.read_after(first[-1][0], 2, NOW)], ["sip:c@example.com"])

    def test_delete_lapsed(self) -> None:
        """Rows whose time is over are deleted, the others stay as they are."""
        self.rows.write({ALICE: (a_binding(A, expires_at=NOW + 60),)})
        self.rows.delete_lapsed(NOW + 60)
        self.assertEqual([aor for aor, _ in self.rows.read_after("", 9, NOW)],
                         [f"sip:{name}@example.com" for name in "abc"])
