"""Tests of what the stores offer to those who change one packed record without waiting (location.at_once)."""

from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from registrar.bindings import Binding
from registrar.location.contract import Conflict, Counts, Snapshot
from registrar.location.memory import SLOT_SECONDS, MemoryLocation
from registrar.location.rows import Rows
from registrar.location.sqlite import SqliteLocation
from registrar.records import record_key
from rollcall.net.wheel import TimerWheel
from tests.registrar.examples import ALICE, NOW, A, B, a_binding, a_bound
from tests.registrar.location_contract import BOB, LATE_SECONDS
from tests.registrar.writers import Held, a_file

KEY = record_key(ALICE)

Store = MemoryLocation | SqliteLocation

if TYPE_CHECKING:
    Mixin = SynchronousTestCase
else:
    Mixin = object


class AtOnceContract(Mixin):
    """What holds for bindings on connections in every store; `self.store` is started."""

    clock: Clock
    store: Store

    def load(self, aor: str = ALICE) -> Snapshot:
        """Return what the store has."""
        return self.successResultOf(Deferred.fromCoroutine(self.store.load(aor)))

    def pack(self, version: int, binding: Binding) -> bytes:
        """Return a record whose slot is that of the expiry."""
        return self.store.packing.pack(Snapshot(version, (binding,)), int(binding.expires_at // SLOT_SECONDS))

    def insert(self, binding: Binding, aor: str = ALICE) -> None:
        """Add the record of a first binding."""
        self.assertTrue(self.store.takes_at_once(record_key(aor), True))
        self.store.insert(record_key(aor), self.pack(1, binding), binding.source.transport)

    def refresh(self, version: int, binding: Binding, slot: int) -> None:
        """Replace ALICE's record by one that stands in the same slot."""
        self.assertTrue(self.store.takes_at_once(KEY, True))
        self.store.refresh(KEY, self.store.packing.pack(Snapshot(version, (binding,)), slot))

    def slot(self) -> int:
        """Return the slot that ALICE's record stands in."""
        return int.from_bytes(self.store.records[KEY][4:8], "little")

    def test_inserted(self) -> None:
        """A record that was inserted is loaded, counted and forgotten in its time as one that was saved."""
        bound = a_bound(A, 7, expires_at=NOW + 60)
        self.insert(bound)
        self.assertEqual((self.load(), self.store.counts()), (Snapshot(1, (bound,)), Counts(1, {"TCP": 1})))
        self.clock.advance(60 - 1)
        self.assertEqual(self.load().bindings, (bound,))
        self.clock.advance(1 + LATE_SECONDS)
        self.assertEqual((self.load(), self.store.counts(), self.store.records), (Snapshot(0, ()), Counts(), {}))

    def test_inserted_twice(self) -> None:
        """Nothing is inserted where there is a record, be it one that remembers no more than its version."""
        self.insert(a_bound(A, 7))
        self.assertRaises(Conflict, self.store.insert, KEY, self.pack(1, a_bound(B, 8)), "TCP")
        self.successResultOf(Deferred.fromCoroutine(self.store.save(ALICE, Snapshot(2, ()))))
        self.assertRaises(Conflict, self.store.insert, KEY, self.pack(1, a_bound(B, 8)), "TCP")
        self.assertEqual((self.load(), self.store.counts()), (Snapshot(2, ()), Counts()))

    def test_refreshed(self) -> None:
        """A refreshed record stays as long as it says, and counts once."""
        slot = int(NOW + 60) // SLOT_SECONDS
        self.insert(a_bound(A, 7, expires_at=NOW + 60))
        for version in range(2, 10):
            until = self.clock.seconds() + 60
            self.refresh(version, a_bound(A, 7, expires_at=until, cseq=version), slot)
            self.clock.advance(50)
            slot = self.slot()
        self.assertEqual((self.load().version, self.store.counts()), (9, Counts(1, {"TCP": 1})))
        self.clock.advance(10 + LATE_SECONDS)
        self.assertEqual((self.load(), self.store.counts()), (Snapshot(0, ()), Counts()))

    def test_refreshed_for_a_shorter_time(self) -> None:
        """A refresh that brings the end forward is heeded."""
        self.insert(a_bound(A, 7, expires_at=NOW + 3600))
        self.refresh(2, a_bound(A, 7, expires_at=NOW + 60), self.slot())
        self.assertEqual(self.load(), Snapshot(2, (a_bound(A, 7, expires_at=NOW + 60),)))
        self.clock.advance(60 + LATE_SECONDS)
        self.assertEqual((self.load(), self.store.counts()), (Snapshot(0, ()), Counts()))

    def test_a_save_meanwhile(self) -> None:
        """Who loaded before a refresh at once may not save after it without looking again."""
        self.insert(a_bound(A, 7))
        seen = self.load()
        self.refresh(2, a_bound(A, 7, cseq=2), self.slot())
        saving = Deferred.fromCoroutine(self.store.save(ALICE, seen.followed_by(())))
        self.failureResultOf(saving, Conflict)
        self.successResultOf(Deferred.fromCoroutine(self.store.save(ALICE, self.load().followed_by(()))))
        self.assertEqual(self.load(), Snapshot(3, ()))

    def test_unbound(self) -> None:
        """The end of the connection takes what was put on it at once."""
        self.insert(a_bound(A, 7))
        gone = self.successResultOf(Deferred.fromCoroutine(self.store.unbind(ALICE, "n1", 1, 7)))
        self.assertEqual((gone, self.load().bindings, self.store.counts()), ((a_bound(A, 7),), (), Counts()))


class MemoryAtOnceTests(AtOnceContract, SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(NOW)
        self.store = MemoryLocation(TimerWheel(self.clock), self.clock.seconds)

    def test_datagrams_too(self) -> None:
        """Memory takes everything at once."""
        self.assertTrue(self.store.takes_at_once(KEY, False))
        self.insert(a_binding(A))
        self.assertTrue(self.store.takes_at_once(KEY, False))
        self.assertEqual(self.store.counts(), Counts(1, {"UDP": 1}))


class SqliteAtOnceTests(AtOnceContract, SynchronousTestCase):
    store: SqliteLocation

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(NOW)
        self.writer = Held()
        rows = Rows(a_file(self))
        self.addCleanup(rows.leave)
        self.store = SqliteLocation(rows, self.writer, TimerWheel(self.clock), self.clock.seconds)
        self.assertFalse(self.store.takes_at_once(KEY, True))
        starting = Deferred.fromCoroutine(self.store.start())
        self.writer.finish_all()
        self.successResultOf(starting)

    def save(self, *bindings: Binding, aor: str = ALICE) -> "Deferred[None]":
        """Begin to save these bindings in the place of what is there."""
        return Deferred.fromCoroutine(self.store.save(aor, self.load(aor).followed_by(bindings)))

    def test_what_must_be_written_waits(self) -> None:
        """A binding without a connection is not taken at once, nor one that takes the place of such a one."""
        self.assertFalse(self.store.takes_at_once(KEY, False))
        self.insert(a_bound(A, 7))
        self.assertFalse(self.store.takes_at_once(KEY, False))
        saving = self.save(a_binding(A), aor=BOB)
        self.writer.finish()
        self.successResultOf(saving)
        self.assertFalse(self.store.takes_at_once(record_key(BOB), True))
        saving = self.save(a_bound(A, 7), aor=BOB)
        self.writer.finish()
        self.successResultOf(saving)
        self.assertTrue(self.store.takes_at_once(record_key(BOB), True))

    def test_what_builds_on_a_write_waits(self) -> None:
        """While a write is on its way, nothing is put upon it at once; others do not wait for that."""
        self.save(a_binding(A))
        moving = self.save(a_bound(A, 7))
        self.assertFalse(self.store.takes_at_once(KEY, True))
        self.assertTrue(self.store.takes_at_once(record_key(BOB), True))
        self.writer.finish()
        self.assertFalse(self.store.takes_at_once(KEY, True))
        self.writer.finish()
        self.successResultOf(moving)
        self.assertTrue(self.store.takes_at_once(KEY, True))

    def test_nothing_is_written(self) -> None:
        """What is put in at once costs no disk, nor does its end."""
        self.insert(a_bound(A, 7, expires_at=NOW + 60))
        self.refresh(2, a_bound(A, 7, expires_at=NOW + 70), self.slot())
        self.clock.advance(70 + LATE_SECONDS)
        self.assertEqual((self.load(), self.writer.calls), (Snapshot(0, ()), []))

    def test_closed(self) -> None:
        """A store that is closed takes nothing."""
        stopping = Deferred.fromCoroutine(self.store.stop())
        self.writer.finish()
        self.successResultOf(stopping)
        self.assertFalse(self.store.takes_at_once(KEY, True))
