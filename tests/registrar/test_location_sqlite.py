"""Tests of registrar.location.sqlite and writer: what survives, what waits, and what a failing disk does."""

import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any, TypeVar

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase, TestCase

import registrar.location.sqlite as sqlite_module
from registrar.bindings import Binding
from registrar.location.contract import Conflict, LocationUnavailable, Snapshot
from registrar.location.rows import Rows
from registrar.location.sqlite import TOLD_AT_ONCE, SqliteLocation
from registrar.location.writer import WriterThread
from registrar.records import aor_of_key
from rollcall.net.wheel import TimerWheel
from tests.registrar.examples import ALICE, NOW, A, B, C, a_binding, a_bound
from tests.registrar.location_contract import BOB, LATE_SECONDS, LocationContract
from tests.registrar.location_crash import PHONES
from tests.registrar.writers import AtOnce, Held, a_file, everything

T = TypeVar("T")


def _note(_: None, told: list[int], number: int) -> None:
    told.append(number)


class SqliteContractTests(LocationContract, SynchronousTestCase):
    def make_store(self) -> SqliteLocation:
        return SqliteLocation(Rows(a_file(self)), AtOnce(), TimerWheel(self.clock), self.clock.seconds)


class SqliteCase(SynchronousTestCase):
    """Has a store above a file, whose writer is held or not."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(NOW)
        self.path = a_file(self)
        self.writer = Held()
        self.rows = Rows(self.path)
        self.store = self.open()

    def open(self, **limits: Any) -> SqliteLocation:
        """Return a started store above the file, whose writer is held."""
        rows = Rows(self.path)
        # Whoever had the file before has ended, as a process does: without a word.
        self.rows.leave()
        self.rows = rows
        self.addCleanup(rows.leave)
        store = SqliteLocation(rows, self.writer, TimerWheel(self.clock), self.clock.seconds, **limits)
        starting = Deferred.fromCoroutine(store.start())
        self.writer.finish_all()
        self.successResultOf(starting)
        return store

    def save(self, *bindings: Binding, aor: str = ALICE) -> Deferred[None]:
        """Begin to save these bindings in the place of what is there."""
        new = self.load(aor).followed_by(bindings)
        return Deferred.fromCoroutine(self.store.save(aor, new))

    def load(self, aor: str = ALICE) -> Snapshot:
        """Return what readers see."""
        return self.successResultOf(Deferred.fromCoroutine(self.store.load(aor)))

    def contacts(self, aor: str = ALICE) -> list[str]:
        """Return the contacts that readers see."""
        return [binding.contact for binding in self.load(aor).bindings]

    def on_disk(self) -> dict[str, list[str]]:
        """Return the contacts that a process started now would find."""
        rows = Rows(self.path)
        found = everything(rows, self.clock.seconds())
        rows.close()
        return {aor: [binding.contact for binding in bindings] for aor, bindings in found.items()}


class DurabilityTests(SqliteCase):
    def test_acknowledged_when_committed(self) -> None:
        """A save returns when its transaction is committed, not before; readers see it earlier."""
        saving = self.save(a_binding(A))
        self.assertNoResult(saving)
        self.assertEqual((self.contacts(), self.on_disk()), ([A], {}))
        self.writer.finish()
        self.successResultOf(saving)
        self.assertEqual(self.on_disk(), {ALICE: [A]})

    def test_group_commit(self) -> None:
        """All that is saved while a transaction runs is committed together in the next."""
        first = self.save(a_binding(A))
        others = [self.save(a_binding(B), aor=f"sip:{number}@example.com") for number in range(50)]
        self.assertEqual(self.writer.finish(), {ALICE: (a_binding(A),)})
        self.successResultOf(first)
        self.assertNoResult(others[0])
        written = self.writer.finish()
        assert isinstance(written, dict)
        self.assertEqual(len(written), 50)
        for saving in others:
            self.successResultOf(saving)
        self.assertEqual((len(self.on_disk()), self.writer.calls), (51, []))

    def test_overlapping_saves(self) -> None:
        """Several saves of one address-of-record are written in their order, each acknowledged with its own."""
        first = self.save(a_binding(A, cseq=1))
        second = self.save(a_binding(A, cseq=2))
        third = self.save(a_binding(A, cseq=3))
        self.writer.finish()
        self.successResultOf(first)
        self.assertNoResult(second)
        self.assertEqual(self.writer.finish(), {ALICE: (a_binding(A, cseq=3),)})
        self.successResultOf(second)
        self.successResultOf(third)

    def test_conflict_with_a_pending_save(self) -> None:
        """A snapshot that was loaded before a save was accepted is in conflict with it, though not yet committed."""
        seen = self.load()
        self.save(a_binding(A))
        self.failureResultOf(Deferred.fromCoroutine(self.store.save(ALICE, seen.followed_by(()))), Conflict)
        self.writer.finish()
        self.assertEqual(self.on_disk(), {ALICE: [A]})

    def test_connections_are_not_written(self) -> None:
        """What lives on a connection is acknowledged at once and never written, alone or beside others."""
        self.successResultOf(self.save(a_bound(B, 7)))
        self.assertEqual(self.writer.calls, [])
        self.save(a_bound(B, 7), a_binding(A))
        self.writer.finish()
        self.assertEqual(self.on_disk(), {ALICE: [A]})
        self.successResultOf(self.save(a_bound(B, 7, cseq=2), a_binding(A)))
        self.assertEqual(self.writer.calls, [])

    def test_moving_to_a_connection(self) -> None:
        """A phone that leaves UDP for TCP is no longer in the file."""
        self.save(a_binding(A))
        self.writer.finish()
        saving = self.save(a_bound(A, 7))
        self.writer.finish()
        self.successResultOf(saving)
        self.assertEqual(self.on_disk(), {})

    def test_starts_with_what_was_kept(self) -> None:
        """A new process has every binding that was committed and has not lapsed, as it was."""
        kept = a_binding(A, path=("<sip:p;lr>",), params=(("x", None),), user_agent="\udcff€", expires_at=NOW + 600)
        self.save(kept, a_binding(B, expires_at=NOW + 60), a_bound(C, 7))
        self.writer.finish()
        self.save(a_binding(A, expires_at=NOW + 60), aor=BOB)
        self.writer.finish()
        self.clock.advance(60)
        self.store = self.open()
        self.assertEqual((self.load().bindings, self.load(BOB).bindings), ((kept,), ()))
        self.assertEqual(self.on_disk(), {ALICE: [A]})
        counts = self.store.counts()
        self.assertEqual((counts.aors, counts.bindings), (1, {"UDP": 1}))

    def test_starts_in_parts(self) -> None:
        """However many rows there are, and however they divide into parts, all are read, a part at a time."""
        self.patch(sqlite_module, "READ_AT_ONCE", 3)
        expected: list[str] = []
        for count in (0, 1, 2, 3, 4, 6, 7):
            for number in range(len(expected), count):
                self.save(a_binding(A), aor=f"sip:{number}@example.com")
                self.writer.finish()
                expected.append(f"sip:{number}@example.com")
            self.store = self.open()
            self.assertEqual(sorted(map(aor_of_key, self.store.records)), expected)

    def test_lapsed_bindings_leave_the_file(self) -> None:
        """What lapses is deleted from the file too, in its turn."""
        self.save(a_binding(A, expires_at=NOW + 60), a_binding(B))
        self.save(a_bound(A, 7, expires_at=NOW + 60), aor=BOB)
        self.writer.finish()
        self.clock.advance(60 + LATE_SECONDS)
        self.assertEqual(self.writer.finish(), {ALICE: (a_binding(B),)})
        self.clock.advance(3600)
        self.assertEqual(self.writer.finish(), {ALICE: ()})
        self.assertEqual(self.on_disk(), {})

    def test_a_long_batch(self) -> None:
        """Very many saves that were written together are acknowledged in order, some in each turn of the reactor."""
        told: list[int] = []
        self.save(a_binding(A))
        count = 2 * TOLD_AT_ONCE + 1
        for number in range(count):
            self.save(a_binding(A), aor=f"sip:{number}@example.com").addCallback(_note, told, number)
        self.writer.finish()
        self.writer.finish()
        for turns in (1, 2):
            self.assertEqual(told, list(range(turns * TOLD_AT_ONCE)))
            self.writer.turn()
        self.assertEqual((told, self.writer.turns), (list(range(count)), []))

    def test_a_batch_beside_another(self) -> None:
        """What is written while others still wait to be told is acknowledged after them, failures too."""
        told: list[str] = []

        def begin(aor: str, word: str) -> None:
            saving = self.save(a_binding(A), aor=aor)
            saving.addCallbacks(lambda _: told.append(word), lambda failure: told.append(f"no {word}"))

        begin(ALICE, "first")
        for number in range(TOLD_AT_ONCE + 1):
            begin(f"sip:{number}@example.com", "long")
        self.writer.finish()
        begin(BOB, "last")
        self.writer.finish()
        self.writer.finish(FailureTests.PROBLEM)
        self.flushLoggedErrors(sqlite3.OperationalError)
        self.assertEqual(told, ["first"] + ["long"] * TOLD_AT_ONCE)
        stopping = Deferred.fromCoroutine(self.store.stop())
        self.assertEqual(self.writer.calls, [])
        self.writer.turn()
        self.assertEqual(told[-2:], ["long", "no last"])
        self.writer.finish()
        self.successResultOf(stopping)

    def test_stop_waits(self) -> None:
        """To stop writes what was accepted first, and refuses what comes later."""
        first, second = self.save(a_binding(A)), self.save(a_binding(B), aor=BOB)
        stopping = Deferred.fromCoroutine(self.store.stop())
        self.failureResultOf(self.save(a_binding(C)), LocationUnavailable)
        self.writer.finish()
        self.assertNoResult(stopping)
        self.writer.finish()
        self.successResultOf(first)
        self.successResultOf(second)
        self.writer.finish()
        self.successResultOf(stopping)
        self.assertEqual(self.on_disk(), {ALICE: [A], BOB: [B]})


class FailureTests(SqliteCase):
    PROBLEM = sqlite3.OperationalError("disk I/O error")

    def fail_write(self) -> None:
        """Let the write that waits fail."""
        self.writer.finish(self.PROBLEM)
        self.flushLoggedErrors(sqlite3.OperationalError)

    def test_undone(self) -> None:
        """A save that cannot be written fails, and readers see what was acknowledged before."""
        self.save(a_binding(A))
        self.writer.finish()
        seen = self.load()
        saving = self.save(a_binding(A, cseq=2), a_binding(B))
        self.fail_write()
        self.failureResultOf(saving, LocationUnavailable)
        self.assertEqual(self.load().bindings, seen.bindings)
        self.assertGreater(self.load().version, seen.version)

    def test_tells_those_who_ask_for_readiness(self) -> None:
        """After a failed write the store has a problem, until a write succeeds or it is time to try again."""
        self.assertIsNone(self.store.problem)
        saving = self.save(a_binding(A))
        self.fail_write()
        self.failureResultOf(saving, LocationUnavailable)
        self.assertEqual(self.store.problem, "bindings cannot be written")
        self.save(a_binding(A, cseq=2))
        self.writer.finish()
        self.assertIsNone(self.store.problem)
        saving = self.save(a_binding(A, cseq=3))
        self.fail_write()
        self.failureResultOf(saving, LocationUnavailable)
        self.clock.advance(31)
        self.assertIsNone(self.store.problem)

    def test_what_was_built_on_it_is_undone_too(self) -> None:
        """Saves that were accepted on top of one that failed fail with it; those of others go on."""
        first, second = self.save(a_binding(A)), self.save(a_binding(A), a_binding(B))
        third = self.save(a_binding(A), a_binding(B), a_bound(C, 7))
        other = self.save(a_binding(C), aor=BOB)
        self.fail_write()
        for saving in (first, second, third):
            self.failureResultOf(saving, LocationUnavailable)
        self.writer.finish()
        self.successResultOf(other)
        self.assertEqual((self.contacts(), self.contacts(BOB), self.on_disk()), ([], [C], {BOB: [C]}))

    def test_back_to_the_last_commit(self) -> None:
        """When the second of two transactions fails, the first stands."""
        first, second = self.save(a_binding(A)), self.save(a_binding(A), a_binding(B))
        self.writer.finish()
        self.successResultOf(first)
        self.fail_write()
        self.failureResultOf(second, LocationUnavailable)
        self.assertEqual(self.contacts(), [A])

    def test_a_connection_that_joined(self) -> None:
        """A TCP phone whose save builds on an uncommitted one is acknowledged with it, and then stays."""
        first = self.save(a_binding(A))
        joined = self.save(a_binding(A), a_bound(B, 7))
        self.assertNoResult(joined)
        self.writer.finish()
        self.successResultOf(first)
        self.successResultOf(joined)
        later = self.save(a_binding(A, cseq=2), a_bound(B, 7))
        self.fail_write()
        self.failureResultOf(later, LocationUnavailable)
        self.assertEqual(self.contacts(), [A, B])

    def test_the_dead_stay_dead(self) -> None:
        """A connection that ended while a write was on its way does not come back when the write fails."""
        self.save(a_binding(A), a_bound(B, 7), a_bound(C, 8))
        self.writer.finish()
        running = self.save(a_binding(A, cseq=2), a_bound(B, 7), a_bound(C, 8))
        waiting = self.save(a_binding(A, cseq=3), a_bound(B, 7), a_bound(C, 8))
        self.successResultOf(Deferred.fromCoroutine(self.store.unbind(ALICE, "n1", 1, 7)))
        self.writer.finish()
        self.successResultOf(running)
        self.successResultOf(Deferred.fromCoroutine(self.store.unbind(ALICE, "n1", 1, 8)))
        self.fail_write()
        self.failureResultOf(waiting, LocationUnavailable)
        self.assertEqual([(binding.contact, binding.cseq) for binding in self.load().bindings], [(A, 2)])

    def test_the_next_save_tries_again(self) -> None:
        """After a failure the next save is written as if nothing had happened."""
        self.save(a_binding(A)).addErrback(lambda failure: failure.trap(LocationUnavailable))
        self.fail_write()
        saving = self.save(a_binding(A))
        self.writer.finish()
        self.successResultOf(saving)
        self.assertEqual(self.on_disk(), {ALICE: [A]})

    def test_told_once(self) -> None:
        """A disk that fails is reported once, and once more when it works again."""
        with capturedLogs() as events:
            for _ in range(3):
                self.save(a_binding(A)).addErrback(lambda failure: failure.trap(LocationUnavailable))
                self.writer.finish(self.PROBLEM)
            for cseq in (1, 2):
                self.save(a_binding(A, cseq=cseq))
                self.writer.finish()
        self.assertEqual([event["log_level"].name for event in events], ["critical", "info"])
        self.assertEqual(len(self.flushLoggedErrors(sqlite3.OperationalError)), 1)

    def test_too_much_waits(self) -> None:
        """Beyond the bound a save is refused at once and nothing of it is seen; others still may fit later."""
        self.store = self.open(max_waiting=2)
        self.save(a_binding(A))
        self.save(a_binding(A), aor=BOB)
        self.failureResultOf(self.save(a_binding(A), aor="sip:carol@example.com"), LocationUnavailable)
        self.assertEqual(self.contacts("sip:carol@example.com"), [])
        self.successResultOf(self.save(a_bound(A, 7), aor="sip:dave@example.com"))
        self.writer.finish()
        self.writer.finish()
        self.save(a_binding(A), aor="sip:carol@example.com")
        self.writer.finish()
        self.assertEqual(len(self.on_disk()), 3)


class ThreadTests(TestCase):
    """The real thread, once."""

    async def test_saves_and_stops(self) -> None:
        """Saves that are made at once through the thread are all there afterwards, in fewer transactions."""
        rows = CountingRows(a_file(self))
        store = SqliteLocation(rows, WriterThread(reactor, "bindings"), TimerWheel(Clock()), lambda: NOW)  # type: ignore[arg-type]
        await store.start()
        saving = [Deferred.fromCoroutine(store.save(f"sip:{number}@example.com", Snapshot(1, (a_binding(A),))))
                  for number in range(200)]
        for each in saving:
            await each
        await store.stop()
        self.assertLess(rows.transactions, 20)
        again = Rows(rows.path)
        self.assertEqual(len(everything(again, NOW)), 200)
        again.close()


class CountingRows(Rows):
    """Counts transactions."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = path
        self.transactions = 0

    def write(self, changes: Any) -> None:
        """Write, and count it."""
        self.transactions += 1
        super().write(changes)


class CrashTests(SynchronousTestCase):
    """A process that saves as fast as it can is killed; what it had acknowledged must be there."""

    def test_kill(self) -> None:
        """Every binding whose save had returned is found after a kill -9, with that CSeq or a later one."""
        path = a_file(self)
        child = subprocess.Popen([sys.executable, "-m", "tests.registrar.location_crash", path],
                                 stdout=subprocess.PIPE, cwd=Path(__file__).parents[2], text=True)
        assert child.stdout is not None
        acknowledged: dict[str, int] = {}
        for count, line in enumerate(child.stdout):
            if not line.endswith("\n"):
                break
            aor, cseq = line.split()
            acknowledged[aor] = int(cseq)
            if count == 5000:
                os.kill(child.pid, signal.SIGKILL)
        child.stdout.close()
        self.assertEqual(child.wait(), -signal.SIGKILL)
        rows = Rows(path)
        found = everything(rows, 0.0)
        rows.close()
        self.assertEqual(len(acknowledged), PHONES)
        lost = {aor: cseq for aor, cseq in acknowledged.items() if aor not in found or found[aor][0].cseq < cseq}
        self.assertEqual(lost, {})
