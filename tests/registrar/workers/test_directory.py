"""Who holds which record: granted to one at a time, in the order in which it was asked for."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from registrar.workers.directory import Deny, Directory, Grant, Release, Step

KEY = b"alice@example.com"
RECORD = (3, "[]")


class DirectoryTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = Directory()

    def test_nobodys(self) -> None:
        """What nobody holds is granted at once, to be looked for in the file."""
        self.assertEqual(self.directory.acquire(1, KEY), [Grant(1, KEY, None)])
        self.assertEqual((self.directory.holder(KEY), len(self.directory)), (1, 1))

    def test_own(self) -> None:
        """Who asks for what it holds already is told so."""
        self.directory.acquire(1, KEY)
        self.assertEqual(self.directory.acquire(1, KEY), [Grant(1, KEY, None)])

    def test_anothers(self) -> None:
        """What another holds is asked back from it, and passed on as it was."""
        self.directory.acquire(1, KEY)
        self.assertEqual(self.directory.acquire(2, KEY), [Release(1, KEY)])
        self.assertEqual(self.directory.released(1, KEY, RECORD), [Grant(2, KEY, RECORD)])
        self.assertEqual(self.directory.holder(KEY), 2)

    def test_anticipated(self) -> None:
        """What nobody holds may be had in advance; what another holds is not taken from it for that."""
        self.assertEqual(self.directory.anticipate(1, KEY), [Grant(1, KEY, None)])
        self.assertEqual(self.directory.anticipate(2, KEY), [Deny(2, KEY)])
        self.assertEqual(self.directory.acquire(2, KEY), [Release(1, KEY)])

    def test_order(self) -> None:
        """Several who ask are served in their order, who asks twice once, and who had it may ask again."""
        self.directory.acquire(1, KEY)
        self.directory.acquire(2, KEY)
        for worker in (3, 2, 1):
            self.assertEqual(self.directory.acquire(worker, KEY), [])
        self.assertEqual(self.directory.released(1, KEY, RECORD), [Grant(2, KEY, RECORD), Release(2, KEY)])
        self.assertEqual(self.directory.released(2, KEY, RECORD), [Grant(3, KEY, RECORD), Release(3, KEY)])
        self.assertEqual(self.directory.released(3, KEY, RECORD), [Grant(1, KEY, RECORD)])

    def test_not_asked(self) -> None:
        """Nobody can release what it does not hold, or was not asked for."""
        self.directory.acquire(1, KEY)
        self.assertEqual(self.directory.released(1, KEY, RECORD), [])
        self.directory.acquire(2, KEY)
        self.assertEqual(self.directory.released(2, KEY, RECORD), [])
        self.assertEqual(self.directory.holder(KEY), 1)

    def test_given_back(self) -> None:
        """What was given back is nobody's; others' records cannot be given back, nor what is on its way."""
        self.directory.acquire(1, KEY)
        self.directory.give_back(2, [KEY])
        self.assertEqual(self.directory.holder(KEY), 1)
        self.directory.acquire(2, KEY)
        self.directory.give_back(1, [KEY])
        self.assertEqual(self.directory.released(1, KEY, RECORD), [Grant(2, KEY, RECORD)])
        self.directory.give_back(2, [KEY, b"bob@example.com"])
        self.assertEqual((self.directory.holder(KEY), len(self.directory)), (None, 0))

    def test_holder_ends(self) -> None:
        """What an ended worker held is nobody's; what was asked back from it goes to who asked, without a record."""
        self.directory.acquire(1, KEY)
        self.directory.acquire(1, b"bob@example.com")
        self.directory.acquire(2, KEY)
        self.directory.acquire(3, KEY)
        self.assertEqual(self.directory.left(1), [Grant(2, KEY, None), Release(2, KEY)])
        self.assertEqual((self.directory.holder(KEY), len(self.directory)), (2, 1))

    def test_asker_ends(self) -> None:
        """When nobody wants it any more, the record goes back to who released it."""
        self.directory.acquire(1, KEY)
        self.directory.acquire(2, KEY)
        self.assertEqual(self.directory.left(2), [])
        self.assertEqual(self.directory.released(1, KEY, RECORD), [Grant(1, KEY, RECORD)])
        self.assertEqual(self.directory.acquire(1, KEY), [Grant(1, KEY, None)])

    def test_both_end(self) -> None:
        """Nothing is left of a record when its holder and all who asked for it have ended."""
        self.directory.acquire(1, KEY)
        self.directory.acquire(2, KEY)
        self.directory.left(2)
        self.assertEqual(self.directory.left(1), [])
        self.assertEqual(self.directory.acquire(3, KEY), [Grant(3, KEY, None)])


class _Workers:
    """Workers that do what they are told, and the record that must never be lost or in two hands."""

    def __init__(self) -> None:
        self.directory = Directory()
        self.held: dict[int, tuple[int, str] | None] = {}
        self.asked: set[int] = set()
        self.waiting: list[int] = []
        self.lost = False

    def hear(self, steps: list[Step]) -> None:
        for step in steps:
            if isinstance(step, Grant):
                assert not self.held.keys() - {step.worker}, "two hold it"
                if step.record is not None or step.worker not in self.held:
                    self.held[step.worker] = step.record
                if step.worker in self.waiting:
                    self.waiting.remove(step.worker)
            else:
                self.asked.add(step.worker)

    def do(self, worker: int, what: str) -> None:
        if what == "acquire" and worker not in self.held:
            if worker not in self.waiting:
                self.waiting.append(worker)
            self.hear(self.directory.acquire(worker, KEY))
        elif what == "release" and worker in self.asked:
            self.asked.discard(worker)
            self.hear(self.directory.released(worker, KEY, self.held.pop(worker, None)))
        elif what == "give back" and worker in self.held and worker not in self.asked:
            del self.held[worker]
            self.directory.give_back(worker, [KEY])
        elif what == "end":
            self.held.pop(worker, None)
            self.asked.discard(worker)
            self.waiting = [each for each in self.waiting if each != worker]
            self.hear(self.directory.left(worker))


class DirectoryModelTests(SynchronousTestCase):
    @given(st.lists(st.tuples(st.integers(1, 3), st.sampled_from(("acquire", "release", "give back", "end")))))
    def test_one_at_a_time(self, history: list[tuple[int, str]]) -> None:
        """Whatever happens, one worker at most holds a record, and who asked has it once all do what they are told."""
        workers = _Workers()
        for worker, what in history:
            workers.do(worker, what)
        for _ in range(8):
            for worker in list(workers.asked):
                workers.do(worker, "release")
        self.assertEqual((workers.waiting, workers.asked), ([], set()))
        self.assertLessEqual(len(workers.held), 1)
