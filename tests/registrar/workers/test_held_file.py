"""Records that move between workers above one file: what nobody holds is read, and who writes last has seen it all."""

from twisted.internet.defer import Deferred

from registrar.location.contract import LocationUnavailable, Snapshot
from registrar.location.held import MovableStore
from registrar.location.rows import Rows
from registrar.location.sqlite import FETCHED_AT_ONCE, SqliteLocation
from registrar.records import record_key
from rollcall.net.wheel import TimerWheel
from tests.registrar.examples import ALICE, NOW, A, B, C, a_binding
from tests.registrar.location_contract import BOB
from tests.registrar.workers.sharing import Sharing, SharingWorker
from tests.registrar.workers.test_held import SharingCase, on_flow
from tests.registrar.writers import AtOnce, Held, a_file

KEY = record_key(ALICE)


class FileCase(SharingCase):
    """Two workers above one SQLite file; their writers are held when `writers` says so."""

    writers: type[AtOnce] = AtOnce

    def make_sharing(self) -> Sharing:
        self.path = a_file(self)
        rows = Rows(self.path)
        rows.open()
        rows.close()
        self.used: dict[int, AtOnce] = {}
        return Sharing(self.clock, self.make_store)

    def make_store(self, wheel: TimerWheel, worker: SharingWorker) -> MovableStore:
        """Return a store above the file."""
        writer = self.used[worker.number] = self.writers()
        rows = Rows(self.path)
        self.addCleanup(rows.close)
        store = SqliteLocation(rows, writer, wheel, self.clock.seconds, shared=True,
                               forgotten=worker.forgotten)
        starting = Deferred.fromCoroutine(store.start())
        if isinstance(writer, Held):
            writer.finish()
        self.successResultOf(starting)
        return store


class FileTests(FileCase):
    def test_read_when_needed(self) -> None:
        """What nobody holds is read from the file by who asks for it: connections are not in it."""
        self.add(self.one, a_binding(A))
        self.add(self.one, on_flow(B, 1, 7))
        self.sharing.end(1)
        self.sharing.deliver()
        self.assertEqual(self.contacts(self.two), [A])

    def test_rows_stay_right(self) -> None:
        """Whoever writes last has seen what was written before: the file ends as the record does."""
        self.add(self.one, a_binding(A))
        self.add(self.two, a_binding(B))
        self.remove(self.one, A)
        self.add(self.two, a_binding(C))
        self.sharing.end(1)
        self.sharing.end(2)
        self.assertEqual(self.contacts(self.sharing.worker(3)), [B, C])

    def test_lapsed_rows(self) -> None:
        """What has lapsed in the file while nobody held it is not found."""
        self.add(self.one, a_binding(A, expires_at=NOW + 60))
        self.sharing.end(1)
        self.clock.advance(61)
        self.assertEqual(self.contacts(self.two), [])


class SlowDiskTests(FileCase):
    writers = Held

    def finish(self, number: int, problem: Exception | None = None) -> None:
        """Let the disk of one worker finish what it does."""
        writer = self.used[number]
        assert isinstance(writer, Held)
        writer.finish(problem)
        self.sharing.deliver()

    def begin(self) -> "Deferred[None]":
        """Let worker 1 save a binding, up to where the disk is waited for."""
        adding = self.sharing.add(self.one, a_binding(A))
        self.sharing.deliver()
        self.finish(1)
        self.assertNoResult(adding)
        return adding

    def test_released_when_written(self) -> None:
        """A record is not handed over before all of it is written; what comes meanwhile waits for it to come back."""
        adding = self.begin()
        loading = self.sharing.load(self.two)
        self.sharing.deliver()
        again = self.sharing.add(self.one, a_binding(B))
        self.sharing.deliver()
        self.assertNoResult(loading)
        self.finish(1)
        self.successResultOf(adding)
        self.assertEqual([binding.contact for binding in self.successResultOf(loading).bindings], [A])
        self.finish(1)
        self.successResultOf(again)
        self.assertTrue(self.one.holds(KEY))

    def test_released_when_it_cannot_be_written(self) -> None:
        """A record whose last change could not be written is handed over without it."""
        adding = self.begin()
        loading = self.sharing.load(self.two)
        self.sharing.deliver()
        self.finish(1, OSError("no space left"))
        self.failureResultOf(adding, LocationUnavailable)
        self.assertEqual(self.successResultOf(loading).bindings, ())
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)

    def test_unreadable(self) -> None:
        """A record that cannot be read is not held: the next one to ask tries again."""
        loading = self.sharing.load(self.one)
        self.sharing.deliver()
        self.finish(1, OSError("broken"))
        self.failureResultOf(loading, LocationUnavailable)
        self.assertEqual((self.one.holds(KEY), len(self.sharing.directory)), (False, 0))

    def test_unreadable_and_wanted(self) -> None:
        """When another waits for what cannot be read, that one reads it itself."""
        first, second = self.sharing.load(self.one), self.sharing.load(self.two)
        self.sharing.deliver()
        self.finish(1, OSError("broken"))
        self.failureResultOf(first, LocationUnavailable)
        self.finish(2)
        self.assertEqual(self.successResultOf(second), Snapshot())

    def test_wanted_while_reading(self) -> None:
        """A record that is asked for while it is read is used here first, and then goes on."""
        first, second = self.sharing.load(self.one), self.sharing.load(self.two)
        self.sharing.deliver()
        self.assertNoResult(first)
        self.finish(1)
        self.successResultOf(first)
        self.successResultOf(second)
        self.assertEqual((self.one.holds(KEY), self.two.holds(KEY)), (False, True))

    def test_read_together(self) -> None:
        """What is needed while the disk is busy is read in one go afterwards, so many at a time."""
        aors = [f"sip:{number}@example.com" for number in range(FETCHED_AT_ONCE + 2)]
        loading = [self.sharing.load(self.one, aor) for aor in aors]
        self.sharing.deliver()
        writer = self.used[1]
        assert isinstance(writer, Held)
        sizes = []
        while writer.calls:
            read = writer.finish()
            assert isinstance(read, list)
            sizes.append(len(read))
        self.assertEqual(sizes, [1, FETCHED_AT_ONCE, 1])
        for each in loading:
            self.assertEqual(self.successResultOf(each), Snapshot())

    def test_granted_twice(self) -> None:
        """A record that was anticipated and then needed is read once, and what is saved meanwhile is not lost."""
        self.one.takes_at_once(KEY, True)
        adding = self.sharing.add(self.one, a_binding(A))
        self.sharing.deliver()
        self.finish(1)
        self.finish(1)
        self.successResultOf(adding)
        writer = self.used[1]
        assert isinstance(writer, Held)
        self.assertEqual(writer.calls, [])
        self.assertEqual([each.contact for each in self.successResultOf(self.sharing.load(self.one)).bindings], [A])

    def test_stopped_while_reading(self) -> None:
        """A store that stops reads nothing more; what is being read is still answered."""
        first, second = self.sharing.load(self.one), self.sharing.load(self.one, BOB)
        self.sharing.deliver()
        stopping = Deferred.fromCoroutine(self.one.stop())
        self.failureResultOf(second, LocationUnavailable)
        writer = self.used[1]
        assert isinstance(writer, Held)
        reading, closing = writer.calls
        for function, arguments, done in (reading, closing):
            done.callback(function(*arguments))
        self.successResultOf(first)
        self.successResultOf(stopping)
        later = self.sharing.load(self.one, BOB)
        self.sharing.deliver()
        self.failureResultOf(later, LocationUnavailable)

    def test_not_given_back_before_written(self) -> None:
        """Who has unregistered is not given back before the file has lost the row, for somebody else may write next."""
        self.finish_adding(self.begin())
        removing = self.sharing.remove(self.one, A)
        self.pass_time(10)
        self.assertEqual((len(self.sharing.directory), self.sharing.directory.holder(KEY)), (1, 1))
        self.finish(1)
        self.successResultOf(removing)
        self.pass_time(10)
        self.assertEqual(len(self.sharing.directory), 0)

    def finish_adding(self, adding: "Deferred[None]") -> None:
        """Let the disk finish, and the save with it."""
        self.finish(1)
        self.successResultOf(adding)
