"""Reading a stream from where one stands."""

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from rollcall.cluster.streams import BEGINNING, LOOK_AFTER, Entry, EntryId, Tail, id_of, text_of
from tests.rollcall.cluster.stream_redis import StreamRedis

KEY = b"stream"


class TailTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.redis = StreamRedis(Clock())
        self.tail = Tail(self.redis, KEY, most=2)

    def now(self, coroutine: Any) -> Any:
        """Return what it returns at once."""
        return self.successResultOf(Deferred.fromCoroutine(coroutine))

    def add(self, *ids: EntryId) -> None:
        """Add entries."""
        for id in ids:
            self.redis.xadd(KEY, id, [b"is", text_of(id)])

    def read(self, times: int = 1) -> list[EntryId]:
        """Return the ids of what is read in so many times."""
        return [entry.id for _ in range(times) for entry in self.now(self.tail.read())]

    def test_in_pieces(self) -> None:
        """What is there is read in order, some at a time, and once."""
        self.add((1, 0), (1, 1), (2, 0))
        self.assertEqual([self.read(), self.read(), self.read()], [[(1, 0), (1, 1)], [(2, 0)], []])
        self.assertEqual(self.tail.position, (2, 0))

    def test_fields(self) -> None:
        """An entry has its fields."""
        self.add((7, 3))
        self.assertEqual(self.now(self.tail.read()), [Entry((7, 3), {b"is": b"7-3"})])

    def test_from_the_middle(self) -> None:
        """Who begins at an entry has it and what came after it, and stands behind that."""
        self.add((1, 0), (2, 0), (3, 0), (4, 0))
        newest = self.now(self.tail.newest())
        self.assertEqual((newest.id, self.tail.position), ((4, 0), BEGINNING))
        self.assertEqual([entry.id for entry in self.now(self.tail.since((2, 0)))], [(2, 0), (3, 0)])
        self.assertEqual(self.read(), [(4, 0)])

    def test_no_stream(self) -> None:
        """A stream that is not there has no entries, and no newest one."""
        self.assertEqual((self.read(), self.now(self.tail.newest())), ([], None))

    def test_entries_lost(self) -> None:
        """A stream that has lost its newest entries and does not grow is waited for."""
        self.add((1, 0), (2, 0))
        self.read()
        self.redis.lose(KEY, 1)
        self.assertEqual(self.read(3 * LOOK_AFTER), [])
        self.assertFalse(self.tail.is_another())
        self.add((3, 0))
        self.assertEqual(self.read(), [(3, 0)])

    def test_another_stream(self) -> None:
        """One that is older and grows is another one: it is read from where it was when that was seen first."""
        self.add((5, 0))
        self.read()
        self.redis.clear()
        self.add((1, 0))
        self.read(LOOK_AFTER)
        self.add((2, 0))
        self.read(LOOK_AFTER)
        self.assertEqual([self.tail.is_another(), self.tail.is_another()], [True, False])
        self.assertEqual(self.read(), [(2, 0)])


class IdTests(SynchronousTestCase):
    def test_text(self) -> None:
        """Ids are read as Redis writes them; what is none is before all."""
        self.assertEqual(id_of(text_of((1700000000000, 7))), (1700000000000, 7))
        for text in (b"", b"5", b"-", b"a-1", b"1-a", b"-1-2"):
            self.assertEqual(id_of(text), BEGINNING, text)
