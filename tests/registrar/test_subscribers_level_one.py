"""Tests of what is remembered of subscribers in memory, and in which form."""

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from registrar.subscribers.cache import CacheConfig
from registrar.subscribers.contract import subscriber_with
from registrar.subscribers.level_one import LevelOne, Recent, entry_of, packed_of, read_at
from registrar.subscribers.packed import pack, packed_md5
from registrar.subscribers.sealing import NotSealed, Sealing, key_from
from registrar.subscribers.windows import MOST, Windows

PACKED = pack(subscriber_with("alice", "example.org", "secret"))
PLACE = b"sub:{alice@example.org}"


class RecentTests(SynchronousTestCase):
    def test_bounded(self) -> None:
        """It never holds more than was allowed, and what came last is there."""
        recent: Recent[int] = Recent(10)
        for number in range(100):
            recent.put(str(number), number)
            self.assertLessEqual(len(recent), 10)
            self.assertEqual(recent.get(str(number)), number)
        self.assertEqual((len(recent), recent.room), (10, 0))

    def test_all_room_is_used(self) -> None:
        """While there is room nobody is forgotten, however often all are asked for and put again."""
        recent: Recent[int] = Recent(10)
        for turn in range(20):
            for number in range(10):
                recent.put(str(number), turn)
                self.assertEqual(recent.get(str(number * turn % 10)) is None, not turn and number * turn % 10 > number)
        self.assertEqual(len(recent), 10)

    def test_busy_ones_stay(self) -> None:
        """Whoever is asked for again and again outlives those who come once."""
        recent: Recent[int] = Recent(10)
        recent.put("busy", 1)
        for number in range(1000):
            recent.put(str(number), number)
            if number % 3 == 0:
                self.assertEqual(recent.get("busy"), 1)

    def test_newest_counts(self) -> None:
        """What is put again replaces what was there, in whichever generation; and it can be forgotten."""
        recent: Recent[int] = Recent(4)
        for value in range(20):
            recent.put("a", value)
            recent.put(str(value), value)
            self.assertEqual(recent.get("a"), value)
        recent.forget("a")
        self.assertIsNone(recent.get("a"))

    def test_clear(self) -> None:
        """Nothing is left of either generation."""
        recent: Recent[int] = Recent(4)
        for value in range(6):
            recent.put(str(value), value)
        recent.clear()
        self.assertEqual(len(recent), 0)


class LevelOneTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.level = LevelOne(CacheConfig(cache_seconds=100, negative_cache_seconds=10, stale_seconds=1000))

    def test_entry(self) -> None:
        """An entry is the hashes, which lie where they did, and when they were read."""
        entry = entry_of(PACKED, 1234.5)
        self.assertEqual((packed_of(entry), read_at(entry)), (PACKED, 1234.5))
        self.assertEqual(packed_md5(entry), packed_md5(PACKED))

    def test_ages(self) -> None:
        """Hashes count for `cache_seconds`, and help out for `stale_seconds`; nobody is forgotten sooner."""
        self.level.learn("a", PACKED, 1000)
        self.level.learn("n", None, 1000)
        for age, counts, is_aging, helps, is_nobody in (
            (0, True, False, True, True), (50, True, False, True, False), (51, True, True, True, False),
            (100, True, True, True, False), (101, False, True, True, False), (1000, False, True, True, False),
            (1001, False, True, False, False),
        ):
            now = 1000 + age
            entry = self.level.known.get("a")
            assert entry is not None
            self.assertEqual(self.level.counts(entry, now), counts, age)
            self.assertEqual(self.level.is_aging(entry, now), is_aging, age)
            self.assertEqual(self.level.stale("a", now) is not None, helps, age)
            self.assertEqual(self.level.is_nobody("n", now), is_nobody, age)

    def test_doubt(self) -> None:
        """What is doubted does not count, nor that there is nobody; hashes help out still. What comes later counts."""
        self.level.learn("a", PACKED, 1000)
        self.level.learn("n", None, 1000)
        self.level.doubt(1001)
        self.assertFalse(self.level.counts(entry_of(PACKED, 1000), 1001))
        self.assertFalse(self.level.is_nobody("n", 1001))
        self.assertIsNotNone(self.level.stale("a", 1001))
        self.level.learn("a", PACKED, 1001)
        self.assertTrue(self.level.counts(self.level.known.get("a") or b"", 1001))

    def test_expire(self) -> None:
        """One user can be made to help out only."""
        self.level.learn("a", PACKED, 1000)
        self.level.expire("a", 1001)
        self.assertFalse(self.level.counts(self.level.known.get("a") or b"", 1001))
        self.assertIsNotNone(self.level.stale("a", 1001))

    def test_either_or(self) -> None:
        """Somebody is known or nobody, as was said last; what others have read counts when it is younger."""
        self.level.learn("a", PACKED, 1000)
        self.level.learn("a", None, 1001)
        self.assertIsNone(self.level.known.get("a"))
        self.assertEqual(self.level.asked_at("a"), 1001)
        self.level.offer("a", entry_of(PACKED, 1002))
        self.assertFalse(self.level.is_nobody("a", 1002))
        self.level.offer("a", entry_of(PACKED, 990))
        self.assertEqual(self.level.asked_at("a"), 1002)


class WindowsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.ended: list[str | None] = []
        self.windows = Windows(self.clock, 10, self.ended.append)

    def test_opens_and_ends(self) -> None:
        """A window is open for its time from the last change on, and its end is told once."""
        self.windows.open("a")
        self.clock.advance(5)
        self.windows.open("b")
        self.windows.open("a")
        self.clock.advance(9)
        self.assertTrue(self.windows.covers("a") and self.windows.covers("b") and not self.windows.covers("c"))
        self.clock.advance(1)
        self.assertEqual((self.ended, len(self.windows)), (["b", "a"], 0))
        self.assertFalse(self.windows.covers("a"))

    def test_everybody(self) -> None:
        """A window for everybody covers everybody."""
        self.windows.open_all()
        self.assertTrue(self.windows.covers("whoever"))
        self.clock.advance(10)
        self.assertEqual(self.ended, [None])

    def test_too_many(self) -> None:
        """When very many are changed at a time it is as if everybody had been."""
        for number in range(MOST + 1):
            self.windows.open(str(number))
        self.assertEqual(len(self.windows), 1)
        self.assertTrue(self.windows.covers("0"))

    def test_none(self) -> None:
        """Where no change can arrive late there are no windows; and who stops watches no clock."""
        none = Windows(self.clock, 0, self.ended.append)
        none.open("a")
        self.assertFalse(none.covers("a"))
        self.windows.open("a")
        self.windows.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])


class SealingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.sealing = Sealing(bytes(32))
        self.value = self.sealing.seal(PLACE, (7, 1), 1234.5, PACKED)

    def test_opened(self) -> None:
        """What was sealed is opened by whoever has the key."""
        self.assertEqual(Sealing(bytes(32)).open(PLACE, self.value), ((7, 1), 1234.5, PACKED))

    def test_never_the_same(self) -> None:
        """The same hashes never look the same: nobody sees who has the same password, or has got back an old one."""
        self.assertNotEqual(self.sealing.seal(PLACE, (7, 1), 1234.5, PACKED), self.value)

    def test_not_opened(self) -> None:
        """Another key, another place, a changed bit anywhere, an older epoch put in, or a part opens nothing."""
        flipped = [bytes(byte ^ (1 if place == at else 0) for place, byte in enumerate(self.value))
                   for at in range(len(self.value))]
        parts = [self.value[:length] for length in range(len(self.value))]
        for value in (*flipped, *parts, self.value + b"\0"):
            self.assertRaises(NotSealed, self.sealing.open, PLACE, value)
        self.assertRaises(NotSealed, self.sealing.open, b"sub:{bob@example.org}", self.value)
        self.assertRaises(NotSealed, Sealing(key_from("other")).open, PLACE, self.value)

    def test_configured_key(self) -> None:
        """Any text makes a key, another text another one."""
        self.assertEqual(len(key_from("x")), 32)
        self.assertEqual(len({key_from(text) for text in ("", "x", "y", "x" * 100)}), 4)
