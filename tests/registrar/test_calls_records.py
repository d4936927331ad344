"""Records of calls from signalling to an SQLite file, through the threads and the disk between them."""

import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import sqlalchemy as sa
from twisted.internet import reactor
from twisted.internet.task import deferLater
from twisted.logger import capturedLogs
from twisted.trial.unittest import TestCase

from registrar.calls import records as records_module
from registrar.calls.config import CallsConfig
from registrar.calls.parts import CallPart, line_of
from registrar.calls.records import CallRecords
from registrar.calls.spool import REJECTED, Spool
from registrar.calls.writing import RETENTION_SECONDS, CallWriter
from registrar.database.engines import engine_of
from registrar.observing_calls import watch_calls
from rollcall.ops.metrics import Metrics
from rollcall.sql.errors import SqlUnavailable
from tests.registrar.call_records import a_database, a_folder, an_answer, an_end, counted
from tests.registrar.examples import NOW

PATIENCE_SECONDS = 20.0
MOST_SPOOL = 2**20
DAY = 86400


class WriterCase(TestCase):
    """A writer that this thread runs."""

    config = CallsConfig(batch=10, retention_days=30)

    def setUp(self) -> None:
        self.folder = a_folder(self)
        self.engine = a_database(self, self.folder)
        self.spool = Spool(self.folder / "calls", self.config.max_spool_bytes, "n1")
        self.spool.open()
        self.addCleanup(self.spool.close)
        self.now = NOW
        self.writer = CallWriter(self.spool, self.make_engine, self.config, lambda: self.now)
        self.addCleanup(self.writer.close)
        self.file = self.folder / "rollcall.sqlite"

    def make_engine(self) -> sa.Engine:
        """Return an engine as the registrar makes it."""
        return engine_of(self.file, kept=1)

    def append(self, *parts: CallPart) -> None:
        """Put these into the spool."""
        self.spool.append([line_of(part) for part in parts])


class WriterTests(WriterCase):
    def test_all(self) -> None:
        """All that waits is written, batch after batch, and nothing waits afterwards."""
        self.append(*(an_answer(number) for number in range(25)), *(an_end(number) for number in range(25)))
        self.assertTrue(self.writer.write_all())
        self.assertEqual((self.writer.written, self.spool.waiting), (50, 0))
        self.assertEqual((counted(self.engine), counted(self.engine, "hung_up_by = 'caller'")), (25, 25))

    def test_database_is_away(self) -> None:
        """What the database does not take waits, is said once, and is written when it is back."""
        self.append(*(an_answer(number) for number in range(25)))
        elsewhere, self.file = self.file, self.folder / "nowhere.sqlite"
        with capturedLogs() as logs:
            self.assertEqual([self.writer.write_all(), self.writer.write_all()], [False, False])
        self.assertEqual((self.spool.waiting, len(logs)), (25, 1))
        self.assertIn("unable to open", self.writer.problem or "")
        self.file = elsewhere
        self.assertTrue(self.writer.write_all())
        self.assertEqual((self.writer.problem, counted(self.engine)), (None, 25))

    def test_slow(self) -> None:
        """A database that has no time for a whole batch is given less, and then more again."""
        asked: list[int] = []

        def slow(connection: sa.Connection, rows: list[object]) -> None:
            asked.append(len(rows))
            if len(rows) > 3:
                raise SqlUnavailable("time is over")

        self.append(*(an_answer(number) for number in range(9)))
        with mock.patch("registrar.calls.writing.write", slow):
            took = [self.writer.write_all() for _ in range(6)]
        self.assertEqual(took, [False, False, False, False, True, True])
        self.assertEqual((asked, self.spool.waiting), ([9, 5, 2, 4, 2, 4, 2, 3], 0))

    def test_no_table(self) -> None:
        """Without the table records wait, and it is said how it is made."""
        with self.engine.begin() as connection:
            connection.execute(sa.text("ALTER TABLE rollcall_call RENAME TO elsewhere"))
        self.append(an_answer())
        self.assertFalse(self.writer.write_all())
        self.assertIn("run `rollcall db upgrade`", self.writer.problem or "")
        self.assertEqual(self.spool.waiting, 1)

    def test_torn(self) -> None:
        """A line that is not whole is lost, counted and said; all others are written."""
        self.spool.append([line_of(an_answer(1)), line_of(an_answer(2))[:-9] + b"\n", line_of(an_answer(3))])
        with capturedLogs() as logs:
            self.assertTrue(self.writer.write_all())
        self.assertEqual((self.writer.lost, counted(self.engine), len(logs)), (1, 2, 1))

    def test_refused(self) -> None:
        """Rows that the database refuses for good are put aside and hold up nobody."""
        with self.engine.begin() as connection:
            connection.execute(sa.text(
                "CREATE TRIGGER poison BEFORE INSERT ON rollcall_call WHEN NEW.call_id IN ('call-3', 'call-17') "
                "BEGIN SELECT RAISE(ABORT, 'never'); END"))
        self.append(*(an_answer(number) for number in range(25)))
        self.assertTrue(self.writer.write_all())
        self.assertEqual((self.writer.written, self.writer.rejected, counted(self.engine)), (23, 2, 23))
        aside = (self.folder / "calls" / REJECTED).read_bytes()
        self.assertEqual(sorted(aside.splitlines(keepends=True)),
                         sorted([line_of(an_answer(3)), line_of(an_answer(17))]))

    def test_no_moment(self) -> None:
        """So is one that has no place in any calendar."""
        self.append(an_answer(1), an_answer(2, started_at=1e200), an_answer(3))
        self.assertTrue(self.writer.write_all())
        self.assertEqual((self.writer.rejected, counted(self.engine)), (1, 2))

    def test_until(self) -> None:
        """Writing ends when its time is over; the rest is written by who comes next."""
        self.append(*(an_answer(number) for number in range(25)))
        self.assertTrue(self.writer.write_all(until=NOW))
        self.assertEqual((self.writer.written, self.spool.waiting), (0, 25))

    def test_retention(self) -> None:
        """Calls are removed once they are older than is wanted, looked for once an hour."""
        self.append(an_answer(1, NOW - 31 * DAY), an_answer(2, NOW - 29 * DAY), an_answer(3, NOW - 30 * DAY + 1800))
        self.writer.write_all()
        self.writer.keep_retention()
        self.assertEqual(counted(self.engine), 2)
        self.now += RETENTION_SECONDS - 1
        self.writer.keep_retention()
        self.assertEqual(counted(self.engine), 2)
        self.now += 1
        self.writer.keep_retention()
        self.assertEqual(counted(self.engine, "call_id = 'call-2'"), 1)
        self.assertEqual(counted(self.engine), 1)


class EternalTests(WriterCase):
    config = CallsConfig(retention_days=0)

    def test_for_ever(self) -> None:
        """With a retention of 0 nothing is ever removed."""
        self.append(an_answer(1, 0.0))
        self.writer.write_all()
        self.writer.keep_retention()
        self.assertEqual(counted(self.engine), 1)


class RecordsCase(TestCase):
    """Records as a registrar has them, with real threads."""

    config = CallsConfig(write_seconds=0.01, max_spool_bytes=MOST_SPOOL)

    def setUp(self) -> None:
        self.folder = a_folder(self)
        self.engine = a_database(self, self.folder)
        self.file = self.folder / "rollcall.sqlite"

    def records(self, spool: Path | None = None) -> CallRecords:
        """Return what was started."""
        place = Spool(spool or self.folder / "calls", self.config.max_spool_bytes, "n1")
        seconds = reactor.seconds
        writer = CallWriter(place, lambda: engine_of(self.file, kept=1), self.config, seconds)
        records = CallRecords(reactor, self.config, place, writer, seconds)
        records.start()
        return records

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for what threads do."""
        for _ in range(round(PATIENCE_SECONDS / 0.01)):
            if condition():
                return
            await deferLater(reactor, 0.01)
        self.fail("it never happened")


class RecordsTests(RecordsCase):
    async def test_until_the_end(self) -> None:
        """All that was recorded is in the database when the registrar has ended, and nothing is on disk."""
        records = self.records()
        for number in range(2500):
            records.record(an_answer(number))
            records.record(an_end(number))
        await records.stop()
        self.assertEqual((counted(self.engine), counted(self.engine, "ended_at IS NOT NULL")), (2500, 2500))
        self.assertEqual((records.written, records.lost, records.waiting), (5000, 0, 0))
        self.assertEqual(list((self.folder / "calls").iterdir()), [])

    async def test_soon(self) -> None:
        """A call is in the database soon after it was recorded."""
        records = self.records()
        records.record(an_answer())
        await self.until(lambda: counted(self.engine) == 1)
        await records.stop()

    async def test_next_start(self) -> None:
        """What the database did not take before the end is written after the next start."""
        elsewhere, self.file = self.file, self.folder / "nowhere.sqlite"
        records = self.records()
        records.record(an_answer(1))
        await self.until(lambda: records.problem is not None)
        records.record(an_answer(2))
        await records.stop()
        self.assertEqual((records.written, counted(self.engine)), (0, 0))
        self.file = elsewhere
        again = self.records()
        await self.until(lambda: counted(self.engine) == 2)
        await again.stop()

    async def test_spool_is_full(self) -> None:
        """What finds no more room on disk is lost, and counted; what was there before is not."""
        self.file = self.folder / "nowhere.sqlite"
        records, most = self.records(), MOST_SPOOL // len(line_of(an_answer(10_000)))
        for number in range(10_000, 10_000 + 2 * most):
            records.record(an_answer(number))
        await self.until(lambda: not records.queued)
        self.assertTrue(0 < records.spool_bytes <= MOST_SPOOL)
        self.assertEqual(records.lost, 2 * most - records.waiting)
        await records.stop()

    async def test_disk_cannot_be_written(self) -> None:
        """What cannot be put on disk waits in memory, as much as may, and is lost at the end only."""
        blocked = self.folder / "blocked"
        blocked.write_text("not a folder")
        with mock.patch.object(records_module, "DISK_SECONDS", 0.01):
            records = self.records(blocked)
            for number in range(10):
                records.record(an_answer(number))
            await deferLater(reactor, 0.05)
            self.assertEqual(records.lost, 0)
            blocked.unlink()
            await self.until(lambda: counted(self.engine) == 10)
            await records.stop()

    async def test_after_the_end(self) -> None:
        """What comes after the end is lost and counted."""
        records = self.records()
        await records.stop()
        records.record(an_answer())
        self.assertEqual((records.lost, counted(self.engine)), (1, 0))

    async def test_metrics(self) -> None:
        """Operators see what was written and what waits."""
        metrics, records = Metrics(process=False), self.records()
        watch_calls(metrics, records)
        records.record(an_answer())
        await self.until(lambda: records.written == 1)
        page = metrics.render().decode()
        self.assertIn('rollcall_call_records_total{outcome="written"} 1.0', page)
        self.assertIn("rollcall_call_records_waiting 0.0", page)
        await records.stop()


class TooManyTests(RecordsCase):
    config = CallsConfig(max_waiting=1000)

    async def test_memory_is_bounded(self) -> None:
        """No more than so many wait for the disk."""
        place = Spool(self.folder / "calls", MOST_SPOOL, "n1")
        writer: Any = mock.Mock(lost=0)
        records = CallRecords(reactor, self.config, place, writer, lambda: NOW)
        for number in range(1003):
            records.record(an_answer(number))
        self.assertEqual((records.waiting, records.lost), (1000, 3))


    async def test_never_started(self) -> None:
        """What was never started ends at once."""
        records = CallRecords(reactor, self.config, Spool(self.folder, MOST_SPOOL, "n1"), mock.Mock(), lambda: NOW)
        await records.stop()
        self.assertEqual(list(self.folder.glob("*.calls")), [])


class CrashTests(RecordsCase):
    """A process that records calls is killed at moments that nobody chose."""

    async def test_killed(self) -> None:
        """What was on disk, or in the database, is in the database after the next start, and exactly once."""
        chance, acknowledged = random.Random(1), 0
        for life in range(6):
            acknowledged += self.killed(life, chance.randrange(1, 60))
        await self.records().stop()
        whole = counted(self.engine, "caller IS NOT NULL AND ended_at IS NOT NULL")
        self.assertTrue(acknowledged <= whole <= counted(self.engine), (acknowledged, whole))
        self.assertEqual(counted(self.engine, "caller IS NULL"), 0)
        self.assertEqual(list((self.folder / "calls").glob("*.calls")), [])

    def killed(self, life: int, after: int) -> int:
        """Kill a process after it has said so many times how many calls are safe; return what it said last."""
        command = [sys.executable, "-m", "tests.registrar.calls_crash", str(self.folder), str(life)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            lines = [process.stdout.readline() for _ in range(after)]
            process.send_signal(signal.SIGKILL)
            lines += process.stdout.readlines()
        return [int(line) for line in lines if line.endswith("\n")][-1]
