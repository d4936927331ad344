"""What every LocationStore does: a mixin of tests that each implementation runs."""

from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from registrar.bindings import Binding
from registrar.location.contract import Conflict, Counts, LocationStore, Snapshot
from tests.registrar.examples import ALICE, NOW, A, B, C, a_binding, a_bound

T = TypeVar("T")

BOB = "sip:bob@example.com"

# How late a lapsed record may be forgotten at most.
LATE_SECONDS = 10.0

if TYPE_CHECKING:
    Mixin = SynchronousTestCase
else:
    Mixin = object


class LocationContract(Mixin):
    """Mix into a SynchronousTestCase that has `make_store`; `self.clock` is at NOW and is the store's wall clock."""

    clock: Clock
    store: LocationStore

    def make_store(self) -> LocationStore:
        """Return a new store that is not yet started."""
        raise NotImplementedError

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(NOW)
        self.store = self.make_store()
        self.run_now(self.store.start())
        self.addCleanup(lambda: self.run_now(self.store.stop()))

    def run_now(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Return the result of something that does not have to wait."""
        result: T = self.successResultOf(Deferred.fromCoroutine(coroutine))
        return result

    def refuse_now(self, coroutine: Coroutine[Any, Any, object], problem: type[Exception]) -> None:
        """Expect a failure that comes at once."""
        self.failureResultOf(Deferred.fromCoroutine(coroutine), problem)

    def load(self, aor: str = ALICE) -> Snapshot:
        """Return what the store has."""
        return self.run_now(self.store.load(aor))

    def save(self, *bindings: Binding, aor: str = ALICE) -> Snapshot:
        """Store these bindings in the place of what is there, and return the new snapshot."""
        new = self.load(aor).followed_by(bindings)
        self.run_now(self.store.save(aor, new))
        return new

    def counts(self) -> Counts:
        """Return the store's counts."""
        return self.store.counts()

    def pages(self, size: int) -> list[tuple[tuple[str, Snapshot], ...]]:
        """Return every page of a dump."""
        async def collect() -> list[tuple[tuple[str, Snapshot], ...]]:
            return [page async for page in self.store.pages(size)]

        return self.run_now(collect())

    def test_nothing_stored(self) -> None:
        """Of an unknown address-of-record there is version 0 without bindings."""
        self.assertEqual(self.load(), Snapshot(0, ()))

    def test_what_is_saved_is_loaded(self) -> None:
        """A saved snapshot comes back as it was, and is nobody else's."""
        new = self.save(a_binding(A), a_bound(B, 7, path=("<sip:p;lr>",), params=(("q", None),), user_agent="\udcff"))
        self.assertEqual(self.load(), new)
        self.assertEqual(self.load(BOB).bindings, ())

    def test_versions(self) -> None:
        """Each save is one version further; one that is not is a Conflict and changes nothing."""
        first = self.save(a_binding(A))
        self.assertEqual(first.version, 1)
        second = self.save(a_binding(B))
        self.assertEqual(second.version, 2)
        for version in (0, 1, 2, 4):
            self.refuse_now(self.store.save(ALICE, Snapshot(version, (a_binding(C),))), Conflict)
        self.refuse_now(self.store.save(BOB, Snapshot(2, (a_binding(C),))), Conflict)
        self.assertEqual((self.load(), self.load(BOB)), (second, Snapshot(0, ())))

    def test_two_writers(self) -> None:
        """Of two who build on the same snapshot the second is told, and can build on the first's."""
        seen = self.load()
        self.run_now(self.store.save(ALICE, seen.followed_by((a_binding(A),))))
        self.refuse_now(self.store.save(ALICE, seen.followed_by((a_binding(B),))), Conflict)
        self.save(*self.load().bindings, a_binding(B))
        self.assertEqual([binding.contact for binding in self.load().bindings], [A, B])

    def test_a_writer_who_saw_bindings_that_were_removed(self) -> None:
        """Who has seen bindings cannot bring them back after somebody removed all of them."""
        seen = self.save(a_binding(A))
        self.save()
        self.refuse_now(self.store.save(ALICE, seen.followed_by((a_binding(A, cseq=2),))), Conflict)
        self.assertEqual(self.load().bindings, ())

    def test_removing_nothing(self) -> None:
        """To save no bindings where there are none is fine, and a binding can be saved afterwards."""
        self.save()
        self.save(a_binding(A))
        self.assertEqual(len(self.load().bindings), 1)

    def test_unbind(self) -> None:
        """The end of a flow takes its bindings, tells which they were and makes a new version."""
        before = self.save(a_bound(A, 7), a_bound(B, 8), a_binding(C))
        removed = self.run_now(self.store.unbind(ALICE, "n1", 1, 7))
        self.assertEqual([binding.contact for binding in removed], [A])
        self.assertEqual([binding.contact for binding in self.load().bindings], [B, C])
        self.refuse_now(self.store.save(ALICE, before.followed_by(before.bindings)), Conflict)

    def test_unbind_nothing(self) -> None:
        """A flow that nothing is bound to any more changes nothing: its number alone is not its name."""
        before = self.save(a_bound(A, 7))
        for node, epoch, flow_id in (("n1", 1, 8), ("n1", 2, 7), ("n2", 1, 7)):
            self.assertEqual(self.run_now(self.store.unbind(ALICE, node, epoch, flow_id)), ())
        self.assertEqual(self.run_now(self.store.unbind(BOB, "n1", 1, 7)), ())
        self.assertEqual(self.load(), before)

    def test_lapsed_records_are_forgotten(self) -> None:
        """Once its last binding has lapsed, an address-of-record is gone without anybody's asking."""
        self.save(a_binding(A, expires_at=NOW + 60), a_bound(B, 7, expires_at=NOW + 90))
        self.clock.advance(90 + LATE_SECONDS)
        self.assertEqual((self.load(), self.counts(), self.pages(10)), (Snapshot(0, ()), Counts(), []))

    def test_one_of_two_lapses(self) -> None:
        """A lapsed binding goes alone, and the others stay."""
        self.save(a_binding(A, expires_at=NOW + 60), a_binding(B, expires_at=NOW + 600))
        self.clock.advance(60 + LATE_SECONDS)
        self.assertEqual([binding.contact for binding in self.load().bindings], [B])

    def test_a_refresh_prolongs(self) -> None:
        """A binding that is refreshed in time, again and again, stays."""
        for _ in range(5):
            self.save(a_binding(A, expires_at=self.clock.seconds() + 60))
            self.clock.advance(50)
        self.assertEqual(len(self.load().bindings), 1)
        self.clock.advance(10 + LATE_SECONDS)
        self.assertEqual(self.load().bindings, ())

    def test_a_shorter_time(self) -> None:
        """A refresh for a shorter time brings the end forward."""
        self.save(a_binding(A, expires_at=NOW + 3600))
        self.save(a_binding(A, expires_at=NOW + 60))
        self.clock.advance(60 + LATE_SECONDS)
        self.assertEqual(self.counts(), Counts())

    def test_a_removed_record_is_forgotten(self) -> None:
        """What was removed before its time leaves nothing, and what was bound anew meanwhile stays."""
        self.save(a_binding(A, expires_at=NOW + 60))
        self.save(a_binding(A, expires_at=NOW + 60), aor=BOB)
        self.save()
        self.save(aor=BOB)
        self.save(a_binding(A, expires_at=NOW + 600), aor=BOB)
        self.clock.advance(60 + LATE_SECONDS)
        self.assertEqual((self.load().version, len(self.load(BOB).bindings)), (0, 1))

    def test_counts(self) -> None:
        """Addresses-of-record and bindings by transport are counted through every kind of change."""
        self.assertEqual(self.counts(), Counts(0, {}))
        self.save(a_binding(A), a_bound(B, 7))
        self.save(a_bound(A, 8), aor=BOB)
        self.assertEqual(self.counts(), Counts(2, {"UDP": 1, "TCP": 2}))
        self.save(a_bound(A, 9), a_bound(B, 7))
        self.assertEqual(self.counts(), Counts(2, {"TCP": 3}))
        self.run_now(self.store.unbind(BOB, "n1", 1, 8))
        self.assertEqual(self.counts(), Counts(1, {"TCP": 2}))
        self.save(a_bound(A, 9))
        self.save(a_binding(A))
        self.assertEqual(self.counts(), Counts(1, {"UDP": 1}))
        self.save()
        self.assertEqual(self.counts(), Counts(0, {}))

    def test_pages(self) -> None:
        """A dump yields every address-of-record that has bindings once, so many at a time."""
        aors = [f"sip:{number}@example.com" for number in range(25)]
        for aor in aors:
            self.save(a_binding(A), aor=aor)
        self.save(aor=aors[3])
        pages = self.pages(10)
        self.assertLessEqual(max(map(len, pages)), 10)
        self.assertEqual(sorted(aor for page in pages for aor, _ in page), sorted(set(aors) - {aors[3]}))
        found = dict(entry for page in pages for entry in page)
        self.assertEqual(found[aors[0]], self.load(aors[0]))

    def test_pages_while_things_change(self) -> None:
        """A dump goes on when records come and go between its pages."""
        for number in range(25):
            self.save(a_binding(A, expires_at=NOW + 60), aor=f"sip:{number}@example.com")

        async def collect() -> int:
            seen = 0
            async for page in self.store.pages(10):
                seen += len(page)
                self.clock.advance(60 + LATE_SECONDS)
                self.save(a_binding(A), aor=BOB)
            return seen

        self.assertGreaterEqual(self.run_now(collect()), 10)

    def test_bindings_are_not_shared(self) -> None:
        """What a caller makes out of a loaded snapshot does not reach the store without a save."""
        self.save(a_binding(A))
        attrs.evolve(self.load().bindings[0], contact=B)
        self.assertEqual(self.load().bindings[0].contact, A)
