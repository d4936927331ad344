"""Tests of registrar.location.memory."""

from collections.abc import Callable

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from registrar.bindings import Binding
from registrar.location.calendar import CHUNK
from registrar.location.changes import Changes
from registrar.location.contract import Conflict, Counts, Snapshot
from registrar.location.memory import SLOT_SECONDS, MemoryLocation
from registrar.records import record_key
from rollcall.net.wheel import TimerWheel
from tests.registrar.examples import ALICE, NOW, A, B, a_binding, a_bound
from tests.registrar.location_contract import LATE_SECONDS, LocationContract

KEY = record_key(ALICE)


class MemoryLocationTests(LocationContract, SynchronousTestCase):
    def make_store(self) -> MemoryLocation:
        return MemoryLocation(TimerWheel(self.clock), self.clock.seconds)


class ExpiryTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(NOW)
        self.wheel = TimerWheel(self.clock)
        self.gone: list[tuple[str, int, Snapshot]] = []
        self.forgotten: list[bytes] = []
        self.store = MemoryLocation(self.wheel, self.clock.seconds, self.lapsed, self.forgotten.append)

    def lapsed(self, aor: str, gone: tuple[Binding, ...], left: Snapshot) -> None:
        """Note what the store tells."""
        self.gone.append((aor, len(gone), left))

    def save(self, *bindings: Binding, aor: str = ALICE) -> Snapshot:
        """Store these bindings in the place of what is there."""
        new = self.store.peek(aor).followed_by(bindings)
        self.store.put(aor, new)
        return new

    def test_one_timer(self) -> None:
        """However many records there are, and however often they are refreshed, one timer waits for the next."""
        for number in range(100):
            self.save(a_binding(A, expires_at=NOW + 60 + number), aor=f"sip:{number}@example.com")
        self.assertEqual(len(self.wheel), 1)
        calls = self.clock.getDelayedCalls()
        for number in range(100):
            self.save(a_binding(A, expires_at=NOW + 600 + number), aor=f"sip:{number}@example.com")
        self.assertEqual(len(self.wheel), 1)
        self.assertEqual(self.clock.getDelayedCalls(), calls)

    def test_nothing_waits_for_nothing(self) -> None:
        """An empty store leaves nothing with the clock, before and after."""
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.save(a_binding(A, expires_at=NOW + 60))
        self.clock.advance(60 + LATE_SECONDS)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_never_early(self) -> None:
        """A binding is there up to its last moment."""
        for moment in (59.0, 60.0, 61.7, 64.999):
            self.save(a_binding(A, expires_at=NOW + moment), aor=f"sip:{moment}@example.com")
        for moment in (59.0, 60.0, 61.7, 64.999):
            self.clock.advance(NOW + moment - 0.1 - self.clock.seconds())
            self.assertEqual(len(self.store.peek(f"sip:{moment}@example.com").bindings), 1)

    def test_tells_of_what_lapsed(self) -> None:
        """Whoever asked to is told of each loss to time, with what is left, and not of other losses."""
        self.save(a_binding(A, expires_at=NOW + 60), a_binding(B, expires_at=NOW + 120))
        self.clock.advance(60 + LATE_SECONDS)
        self.assertEqual(self.gone, [(ALICE, 1, self.store.peek(ALICE))])
        self.clock.advance(60)
        self.assertEqual(self.gone[1:], [(ALICE, 1, Snapshot(0, ()))])
        self.save(a_binding(A, expires_at=self.clock.seconds() + 60))
        self.save()
        self.clock.advance(60 + LATE_SECONDS)
        self.assertEqual(len(self.gone), 2)

    def test_tells_of_what_it_forgets(self) -> None:
        """Whoever asked to is told of each record that time has emptied, once it is gone, and of no other."""
        self.save(a_binding(A, expires_at=NOW + 60), a_binding(B, expires_at=NOW + 120))
        self.save(a_binding(A, expires_at=NOW + 60), aor="sip:emptied@example.com")
        self.save(aor="sip:emptied@example.com")
        self.clock.advance(60 + LATE_SECONDS)
        self.assertEqual((self.forgotten, list(self.store.records)), ([b"emptied@example.com"], [KEY]))
        self.clock.advance(60)
        self.assertEqual((self.forgotten[1:], self.store.records), ([KEY], {}))

    def test_taken_over_and_given_away(self) -> None:
        """A snapshot of any version can be taken over and goes on from there; one that is given away leaves nothing."""
        snapshot = Snapshot(41, (a_binding(A, expires_at=NOW + 60), a_bound(B, 7)))
        self.store.adopt(KEY, snapshot)
        self.assertEqual((self.store.peek(ALICE), self.store.counts().bindings), (snapshot, {"UDP": 1, "TCP": 1}))
        self.assertRaises(Conflict, self.store.adopt, KEY, snapshot)
        self.clock.advance(60 + LATE_SECONDS)
        self.assertEqual(self.store.peek(ALICE), Snapshot(42, (a_bound(B, 7),)))
        for _ in range(2):
            self.store.forget(KEY)
            self.assertEqual((self.store.peek(ALICE), self.store.counts()), (Snapshot(), Counts()))
        self.store.adopt(KEY, Snapshot(43, ()))
        self.clock.advance(3600 + LATE_SECONDS)
        self.assertEqual((self.store.records, self.forgotten), ({}, []))

    def test_a_lapse_is_a_new_version(self) -> None:
        """Who loaded before a lapse may not save after it without looking again."""
        seen = self.save(a_binding(A, expires_at=NOW + 60), a_binding(B))
        self.clock.advance(60 + LATE_SECONDS)
        self.assertEqual(self.store.peek(ALICE).version, seen.version + 1)

    def test_many_at_once(self) -> None:
        """When very many lapse at once, others have their turn in between, and all go in the end."""
        seen: list[int] = []
        for number in range(CHUNK * 2 + 1):
            self.save(a_binding(A, expires_at=NOW + 60), aor=f"sip:{number}@example.com")
        # Due at the same moment as the sweep, and scheduled after it.
        self.clock.callLater(65, lambda: seen.append(len(self.gone)))
        self.clock.advance(65)
        self.assertEqual(seen, [CHUNK])
        self.clock.advance(1)
        self.assertEqual(len(self.gone), CHUNK * 2 + 1)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_entries_do_not_multiply(self) -> None:
        """A record that was moved forward in the calendar stands in it once more, until its old slot has come up."""
        self.save(a_binding(A, expires_at=NOW + 600))
        self.save(a_binding(A, expires_at=NOW + 60))
        for _ in range(20):
            self.save(a_binding(A, expires_at=self.clock.seconds() + 90))
            self.clock.advance(50)
        entered = [key for keys in self.store._calendar._open.values() for key in keys]
        self.assertEqual(entered, list(self.store.records))

    def test_a_clock_that_was_set_back(self) -> None:
        """When the wall clock is set back, bindings stay until their time has come by the new one."""
        offset = 0.0
        store = MemoryLocation(self.wheel, lambda: self.clock.seconds() + offset)
        store.put(ALICE, Snapshot(1, (a_binding(A, expires_at=NOW + 60),)))
        offset = -1000.0
        self.clock.advance(100)
        self.assertEqual(len(store.peek(ALICE).bindings), 1)
        self.clock.advance(960 + LATE_SECONDS)
        self.assertEqual(store.peek(ALICE).bindings, ())


class ChangesTests(SynchronousTestCase):
    """Who waits for changes of a record is told of all but plain refreshes."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(NOW)
        self.heard = 0
        self.later: list[Callable[[], None]] = []
        changes = Changes(self.later.append)
        self.store = MemoryLocation(TimerWheel(self.clock), self.clock.seconds, changes=changes)
        changes.watch(KEY, self.hear)

    def hear(self) -> None:
        """Count."""
        self.heard += 1

    @property
    def told(self) -> int:
        """How often somebody was told until now."""
        for call in self.later:
            call()
        self.later.clear()
        return self.heard

    def save(self, *bindings: Binding) -> None:
        """Store these bindings in the place of what is there."""
        self.store.put(ALICE, self.store.peek(ALICE).followed_by(bindings))

    def test_told(self) -> None:
        """A first binding, another contact or connection, a removal, a lapse, a record that comes or goes are told."""
        record = self.store.packing.pack(Snapshot(1, (a_binding(A),)), 0)
        happening: tuple[Callable[[], object], ...] = (
            lambda: self.save(a_binding(A)), lambda: self.save(a_binding(A), a_binding(B)),
            lambda: self.save(a_bound(A, 7), a_binding(B)), lambda: self.save(a_binding(B, expires_at=NOW + 60)),
            lambda: self.clock.advance(60 + LATE_SECONDS),
            lambda: self.store.adopt(KEY, Snapshot(5, (a_binding(A),))), lambda: self.store.forget(KEY),
            lambda: self.store.insert(KEY, record, "UDP"))
        for number, happen in enumerate(happening):
            happen()
            self.assertEqual(self.told, number + 1)

    def test_not_told(self) -> None:
        """A refresh is not told, nor what happens to other records."""
        self.save(a_binding(A))
        self.assertEqual(self.told, 1)
        self.save(a_binding(A, cseq=2, expires_at=NOW + 7200, refreshed_at=NOW + 5))
        self.store.put("sip:bob@example.com", Snapshot(1, (a_binding(A),)))
        self.assertEqual(self.told, 1)


class CopyTests(SynchronousTestCase):
    """A copy of what is kept elsewhere."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(NOW)
        self.store = MemoryLocation(TimerWheel(self.clock), self.clock.seconds, is_copy=True)

    def put(self, snapshot: Snapshot, slot: int) -> None:
        """Put a record into a slot of the calendar."""
        self.store.put_record(KEY, self.store.packing.pack(snapshot, slot))

    def test_any_version(self) -> None:
        """A record takes the place of whatever is there, and is counted as what it is."""
        for version, bindings in ((7, (a_binding(A), a_bound(B, 7))), (3, (a_bound(A, 8),)), (9, ())):
            self.put(Snapshot(version, bindings), int(NOW // SLOT_SECONDS) + 10)
            self.assertEqual(self.store.peek(ALICE), Snapshot(version, bindings))
        self.assertEqual(self.store.counts(), Counts(0, {}))

    def test_the_last(self) -> None:
        """What was put last stands last: the others are older."""
        self.put(Snapshot(1, (a_binding(A),)), int(NOW // SLOT_SECONDS) + 10)
        self.store.put("sip:bob@example.com", Snapshot(1, (a_binding(A),)))
        self.put(Snapshot(2, (a_binding(A),)), int(NOW // SLOT_SECONDS) + 10)
        self.assertEqual(list(self.store.records), [record_key("sip:bob@example.com"), KEY])

    def test_a_lapse_makes_no_version(self) -> None:
        """Time takes a binding, and the version stays: it is not ours to count."""
        self.put(Snapshot(4, (a_binding(A, expires_at=NOW + 60), a_binding(B))), int((NOW + 60) // SLOT_SECONDS))
        self.clock.advance(60 + LATE_SECONDS)
        left = self.store.peek(ALICE)
        self.assertEqual((left.version, [binding.contact for binding in left.bindings]), (4, [B]))

    def test_an_earlier_end(self) -> None:
        """A record whose slot comes after its end goes at its end."""
        self.put(Snapshot(1, (a_binding(A, expires_at=NOW + 60),)), int((NOW + 3600) // SLOT_SECONDS))
        self.clock.advance(60 + LATE_SECONDS)
        self.assertEqual(self.store.records, {})

    def test_an_empty_record_goes(self) -> None:
        """A record without bindings goes with its slot."""
        self.put(Snapshot(4, (), NOW), int((NOW + 60) // SLOT_SECONDS))
        self.clock.advance(60 + LATE_SECONDS)
        self.assertEqual(self.store.records, {})
