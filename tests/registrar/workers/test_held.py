"""Records that move between workers: whoever needs one gets it, one at a time, and nothing acknowledged is lost."""

from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from registrar.bindings import Binding
from registrar.location.contract import Conflict, LocationStore, LocationUnavailable
from registrar.location.held import HeldLocation
from registrar.records import record_key
from tests.registrar.examples import ALICE, NOW, A, B, C, a_binding, over_tcp
from tests.registrar.location_contract import BOB, LATE_SECONDS, LocationContract
from tests.registrar.workers import sharing
from tests.registrar.workers.sharing import Sharing

KEY = record_key(ALICE)


def on_flow(contact: str, number: int, flow_id: int) -> Binding:
    """Return a binding that lives on a connection of worker `number`."""
    return a_binding(contact, source=over_tcp(flow_id, f"n{number}"), connection_bound=True)


class SharingCase(SynchronousTestCase):
    """Two workers above memory."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(NOW)
        self.sharing = self.make_sharing()
        self.one, self.two = self.sharing.worker(1), self.sharing.worker(2)

    def make_sharing(self) -> Sharing:
        """Return what the workers share."""
        return Sharing(self.clock)

    def add(self, location: HeldLocation, binding: Binding, aor: str = ALICE) -> None:
        """Add a binding, whatever has to be said for it."""
        adding = self.sharing.add(location, binding, aor)
        self.sharing.deliver()
        self.successResultOf(adding)

    def remove(self, location: HeldLocation, contact: str, aor: str = ALICE) -> None:
        """Remove a binding, whatever has to be said for it."""
        removing = self.sharing.remove(location, contact, aor)
        self.sharing.deliver()
        self.successResultOf(removing)

    def contacts(self, location: HeldLocation, aor: str = ALICE) -> list[str]:
        """Return what a worker finds, whatever has to be said for it."""
        loading = self.sharing.load(location, aor)
        self.sharing.deliver()
        return [binding.contact for binding in self.successResultOf(loading).bindings]

    def pass_time(self, seconds: float) -> None:
        """Let time pass and everything be said."""
        self.clock.advance(seconds)
        self.sharing.deliver()


class MovingTests(SharingCase):
    def test_held_here(self) -> None:
        """What is held is answered at once, without a word to anybody."""
        self.add(self.one, a_binding(A))
        self.assertEqual([each.contact for each in self.successResultOf(self.sharing.load(self.one)).bindings], [A])
        self.successResultOf(self.sharing.add(self.one, a_binding(B)))
        self.assertEqual(list(self.sharing.workers[1].outbox), [])

    def test_moves(self) -> None:
        """A record goes to the worker that asks for it, whole, and back to the first when that needs it again."""
        self.add(self.one, a_binding(A, user_agent="\udcff"))
        self.add(self.two, a_binding(B))
        self.assertEqual((self.one.holds(KEY), self.two.holds(KEY)), (False, True))
        self.assertEqual((self.one.counts().aors, self.two.counts().aors), (0, 1))
        self.assertEqual(self.contacts(self.one), [A, B])
        self.assertEqual((self.one.holds(KEY), self.two.holds(KEY)), (True, False))

    def test_waits(self) -> None:
        """Who asks waits until the record is there; several at once ask once and see the same."""
        self.add(self.one, a_binding(A))
        loading = [self.sharing.load(self.two) for _ in range(3)]
        self.assertEqual(len(self.sharing.workers[2].outbox), 1)
        for each in loading:
            self.assertNoResult(each)
        self.sharing.deliver()
        self.assertEqual({self.successResultOf(each).bindings[0].contact for each in loading}, {A})

    def test_lost_before_saved(self) -> None:
        """A save of a record that has gone to another worker since it was loaded is a Conflict."""
        self.add(self.one, a_binding(A))
        loaded = self.successResultOf(self.sharing.load(self.one))
        self.add(self.two, a_binding(B))
        saving = Deferred.fromCoroutine(self.one.save(ALICE, loaded.followed_by(())))
        self.failureResultOf(saving, Conflict)
        self.contacts(self.one)
        saving = Deferred.fromCoroutine(self.one.save(ALICE, loaded.followed_by(())))
        self.failureResultOf(saving, Conflict)
        self.assertEqual(self.contacts(self.one), [A, B])

    def test_at_once(self) -> None:
        """The short way may change a record that is held here, and none that is elsewhere or nowhere."""
        self.assertFalse(self.one.takes_at_once(KEY, True))
        self.add(self.one, a_binding(A))
        self.assertEqual((self.one.takes_at_once(KEY, True), self.two.takes_at_once(KEY, True)), (True, False))
        self.assertIn(KEY, self.one.records)
        self.contacts(self.two)
        self.assertEqual((self.one.takes_at_once(KEY, True), self.two.takes_at_once(KEY, True)), (False, True))
        self.assertNotIn(KEY, self.one.records)

    def test_anticipated(self) -> None:
        """A record that the short way has looked for and nobody has may soon be changed; unused it is given back."""
        self.assertFalse(self.one.takes_at_once(KEY, True))
        self.sharing.deliver()
        self.assertEqual((self.one.takes_at_once(KEY, True), self.two.takes_at_once(KEY, True)), (True, False))
        self.sharing.deliver()
        self.assertEqual((self.one.holds(KEY), self.two.holds(KEY)), (True, False))
        self.pass_time(10)
        self.assertEqual(len(self.sharing.directory), 0)

    def test_anticipated_and_needed(self) -> None:
        """What was anticipated and is needed before it has come is there for both."""
        self.one.takes_at_once(KEY, True)
        adding = self.sharing.add(self.one, a_binding(A))
        self.sharing.deliver()
        self.successResultOf(adding)
        self.assertEqual(self.contacts(self.two), [A])

    def test_patience(self) -> None:
        """A record that does not come in time is a store that is not available; when it comes, it is held."""
        self.add(self.one, a_binding(A))
        loading = self.sharing.load(self.two)
        self.clock.advance(5.1)
        self.failureResultOf(loading, LocationUnavailable)
        self.sharing.deliver()
        self.assertTrue(self.two.holds(KEY))
        self.assertEqual([each.contact for each in self.successResultOf(self.sharing.load(self.two)).bindings], [A])

    def test_too_many(self) -> None:
        """No more records are waited for than may be, and none when the directory is behind."""
        three = self.sharing.worker(3, max_waiting=2)
        waiting = [self.sharing.load(three, f"sip:{number}@example.com") for number in range(2)]
        self.failureResultOf(self.sharing.load(three), LocationUnavailable)
        self.sharing.deliver()
        for each in waiting:
            self.successResultOf(each)
        self.sharing.workers[3].is_behind = True
        self.failureResultOf(self.sharing.load(three), LocationUnavailable)

    def test_unbound_elsewhere(self) -> None:
        """A connection that ends takes its binding along, wherever the record is."""
        self.add(self.one, on_flow(A, 1, 7))
        self.add(self.two, a_binding(B))
        unbinding = Deferred.fromCoroutine(self.one.unbind(ALICE, "n1", 1, 7))
        self.sharing.deliver()
        self.assertEqual([binding.contact for binding in self.successResultOf(unbinding)], [A])
        self.assertEqual(self.contacts(self.two), [B])

    def test_superseded_elsewhere(self) -> None:
        """The worker of a connection hears when a record elsewhere has nothing more on it, and only then."""
        self.add(self.one, on_flow(A, 1, 7))
        self.add(self.two, on_flow(B, 2, 7))
        self.assertEqual(self.sharing.workers[1].released, [])
        self.add(self.two, on_flow(A, 2, 8))
        self.assertEqual((self.sharing.workers[1].released, self.sharing.workers[2].released), ([(7, KEY)], []))
        self.assertEqual(self.contacts(self.one), [B, A])


class IdleTests(SharingCase):
    def test_strangers(self) -> None:
        """Names that nobody registered are given back after a while, all of them together."""
        for number in range(5):
            self.assertEqual(self.contacts(self.one, f"sip:{number}@example.com"), [])
        self.assertEqual(len(self.sharing.directory), 5)
        self.clock.advance(2.1)
        self.assertEqual(len(self.sharing.workers[1].outbox), 1)
        self.sharing.deliver()
        self.assertEqual((len(self.sharing.directory), self.clock.getDelayedCalls()), (0, []))

    def test_many_strangers(self) -> None:
        """However many names are tried at once, a worker holds no more of them than it may."""
        three = self.sharing.worker(3, max_idle=20)
        for number in range(100):
            self.contacts(three, f"sip:{number}@example.com")
            self.assertLessEqual(len(self.sharing.directory), 20)

    def test_registered_meanwhile(self) -> None:
        """What is registered before it would be given back stays."""
        self.contacts(self.one)
        self.add(self.one, a_binding(A))
        self.pass_time(10)
        self.assertEqual((self.one.holds(KEY), len(self.sharing.directory)), (True, 1))

    def test_unregistered(self) -> None:
        """Whoever unregisters, or loses the connection, is nobody's after a while."""
        self.add(self.one, a_binding(A))
        self.add(self.one, on_flow(A, 1, 7), BOB)
        self.remove(self.one, A)
        self.successResultOf(Deferred.fromCoroutine(self.one.unbind(BOB, "n1", 1, 7)))
        self.pass_time(10)
        self.assertEqual((len(self.sharing.directory), self.one.records), (0, {}))
        self.assertEqual(self.contacts(self.two), [])

    def test_lapsed(self) -> None:
        """What time has ended is nobody's after a while."""
        self.add(self.one, a_binding(A, expires_at=NOW + 60))
        self.pass_time(60 + LATE_SECONDS)
        self.pass_time(10)
        self.assertEqual(len(self.sharing.directory), 0)


class EndTests(SharingCase):
    def test_guests(self) -> None:
        """When a worker ends, its connections are gone from the records of others; whose are empty, are given back."""
        self.add(self.one, on_flow(A, 1, 7))
        self.add(self.two, a_binding(B))
        self.add(self.one, on_flow(A, 1, 8), BOB)
        self.contacts(self.two, BOB)
        self.sharing.end(1)
        self.sharing.deliver()
        self.assertEqual((self.contacts(self.two), self.contacts(self.two, BOB)), ([B], []))
        self.pass_time(10)
        self.assertEqual(len(self.sharing.directory), 1)

    def test_orphans(self) -> None:
        """When a worker ends that held a record with connections of another, that one lets go of them."""
        self.add(self.one, on_flow(A, 1, 7))
        self.add(self.one, on_flow(B, 1, 8))
        self.contacts(self.two)
        self.sharing.worker(3)
        self.sharing.end(3)
        self.sharing.deliver()
        self.assertEqual(self.sharing.workers[1].released, [])
        self.sharing.end(2)
        self.sharing.deliver()
        self.assertEqual(sorted(self.sharing.workers[1].released), [(7, KEY), (8, KEY)])

    def test_orphan_that_is_back(self) -> None:
        """A record that has come back, or has dropped the connection, is not missed."""
        self.add(self.one, on_flow(A, 1, 7))
        self.contacts(self.two)
        self.contacts(self.one)
        self.add(self.one, on_flow(A, 1, 7), BOB)
        self.contacts(self.two, BOB)
        self.remove(self.two, A, BOB)
        self.assertEqual(self.sharing.workers[1].released, [(7, record_key(BOB))])
        self.sharing.end(2)
        self.sharing.deliver()
        self.assertEqual(self.sharing.workers[1].released, [(7, record_key(BOB))])

    def test_anticipated_then_needed(self) -> None:
        """What was anticipated is asked for once, and asked back from another only when it is needed."""
        self.add(self.one, a_binding(A))
        self.assertFalse(self.two.takes_at_once(KEY, True))
        loading = self.sharing.load(self.two)
        self.assertEqual(len(self.sharing.workers[2].outbox), 1)
        self.sharing.deliver()
        self.assertEqual([binding.contact for binding in self.successResultOf(loading).bindings], [A])
        self.assertEqual((self.one.holds(KEY), self.two.holds(KEY)), (False, True))

    def test_holder_ends_while_asked(self) -> None:
        """Who waits for a record of a worker that ends gets what there is: in memory alone, nothing."""
        self.add(self.one, a_binding(A))
        loading = self.sharing.load(self.two)
        self.sharing.end(1)
        self.sharing.deliver()
        self.assertEqual(self.successResultOf(loading).bindings, ())


class HeldContractTests(LocationContract, SynchronousTestCase):
    """A worker's store is a store like any other."""

    def make_store(self) -> LocationStore:
        together = Sharing(self.clock)
        store = together.worker(1)
        worker = together.workers[1]
        worker.outbox, worker.inbox = sharing.AtOnce(), sharing.AtOnce()
        return store


def _note(_: None, said: list[tuple[str, str, int]], word: tuple[str, str, int]) -> None:
    said.append(word)


OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(("add", "remove")), st.integers(1, 3), st.sampled_from((A, B, C))),
        st.tuples(st.sampled_from(("out", "in")), st.integers(1, 3), st.just("")),
        st.tuples(st.just("time"), st.integers(1, 3), st.just("")),
    ),
    max_size=60,
)


class HeldModelTests(SynchronousTestCase):
    # What was anticipated and then needed too was granted twice, and given back between.
    @example([("time", 1, "")] * 5 + [("out", 1, ""), ("out", 2, ""), ("remove", 2, A), ("in", 2, ""), ("time", 2, "")])
    @settings(deadline=None)
    @given(OPERATIONS)
    def test_nothing_is_lost(self, operations: list[tuple[str, int, str]]) -> None:
        """However messages and REGISTERs of three workers interleave, the last acknowledged word on a contact holds."""
        clock = Clock()
        clock.advance(NOW)
        workers = Sharing(clock)
        for number in (1, 2, 3):
            workers.worker(number, patience_seconds=1000.0)
        said: list[tuple[str, str, int]] = []
        waiting: list[Deferred[None]] = []
        for turn, (what, number, contact) in enumerate(operations):
            location = workers.workers[number].location
            if what in ("out", "in") and turn % 3 == 0:
                location.takes_at_once(KEY, True)
            if what in ("add", "remove"):
                doing = (workers.add(location, a_binding(contact, cseq=turn)) if what == "add"
                         else workers.remove(location, contact))
                doing.addCallback(_note, said, (what, contact, turn))
                waiting.append(doing)
            elif what == "time":
                clock.advance(number)
            else:
                workers.pass_one(number, what == "out")
        workers.deliver()
        for each in waiting:
            self.successResultOf(each)
        expected: dict[str, int] = {}
        for what, contact, turn in said:
            expected.pop(contact, None)
            if what == "add":
                expected[contact] = turn
        loading = workers.load(workers.workers[1].location)
        workers.deliver()
        found = {binding.contact: binding.cseq for binding in self.successResultOf(loading).bindings}
        self.assertEqual(found, expected)
        self.assertEqual(sum(worker.location.holds(KEY) for worker in workers.workers.values()), 1)
