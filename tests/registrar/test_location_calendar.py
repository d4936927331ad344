"""Tests of registrar.location.calendar."""

import gc

from twisted.trial.unittest import SynchronousTestCase

from registrar.location.calendar import CHUNK, CHUNKS_SHOWN_AT_ONCE, Calendar


def some_keys(count: int) -> list[bytes]:
    """Return so many different keys."""
    return [b"%d@example.com" % number for number in range(count)]


class CalendarTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.calendar = Calendar()

    def fill(self, slot: int, count: int) -> None:
        """Put so many keys into a slot."""
        for key in some_keys(count):
            self.calendar.enter(slot, key)

    def test_everything_comes_once(self) -> None:
        """However many keys a slot has, all are taken, each once and no more than a chunk at a time."""
        for count in (1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 2 * CHUNK + 1):
            self.fill(7, count)
            taken: list[bytes] = []
            while self.calendar:
                keys = self.calendar.take(7)
                self.assertTrue(0 < len(keys) <= CHUNK)
                taken.extend(keys)
            self.assertEqual(sorted(taken), sorted(some_keys(count)))

    def test_slots_are_told_apart(self) -> None:
        """The first slot is known, whether a slot is new too, and each gives its own keys."""
        self.assertFalse(self.calendar)
        self.assertEqual([self.calendar.enter(slot, b"%d" % slot) for slot in (9, 7, 9, 8)], [True, True, False, True])
        taken = []
        while self.calendar:
            taken.append(sorted(self.calendar.take(self.calendar.first)))
        self.assertEqual(taken, [[b"7"], [b"8"], [b"9", b"9"]])
        self.assertTrue(self.calendar.enter(7, b"7"))

    def test_entered_while_it_is_emptied(self) -> None:
        """A key that comes into a slot between two takings is taken too."""
        self.fill(7, CHUNK)
        self.calendar.take(7)
        self.assertTrue(self.calendar.enter(7, b"late"))
        self.fill(7, CHUNK)
        self.assertEqual(sum(len(self.calendar.take(7)) for _ in range(2)), CHUNK + 1)
        self.assertFalse(self.calendar)

    def test_nothing_to_walk_through(self) -> None:
        """The garbage collector, which has no other reason to run, knows of no keys but those of the last chunks."""
        gc.disable()
        self.addCleanup(gc.enable)
        self.fill(7, 2 * CHUNKS_SHOWN_AT_ONCE * CHUNK + 1)
        (full,) = self.calendar._full.values()
        self.assertEqual([gc.is_tracked(keys) for keys in full], [False] * 2 * CHUNKS_SHOWN_AT_ONCE)
