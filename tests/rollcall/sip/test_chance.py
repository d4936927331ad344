"""Tests for rollcall.sip.chance."""

import os
from unittest import TestCase

from rollcall.sip.chance import NAMES_AT_ONCE, random_name, random_number, random_tag


class RandomNameTests(TestCase):
    def test_names_differ(self) -> None:
        """No name comes twice, also when the pool is filled again; each has 64 bits."""
        names = [random_name() for _ in range(3 * NAMES_AT_ONCE)]
        self.assertEqual(len(set(names)), len(names))
        self.assertTrue(all(len(name) == 16 and int(name, 16) >= 0 for name in names))

    def test_tags_and_numbers(self) -> None:
        """Tags are names in bytes; numbers have 32 bits."""
        tags = [random_tag() for _ in range(2 * NAMES_AT_ONCE)]
        self.assertEqual(({len(tag) for tag in tags}, len(set(tags))), ({16}, len(tags)))
        numbers = [random_number() for _ in range(2 * NAMES_AT_ONCE)]
        self.assertTrue(all(0 <= number < 2**32 for number in numbers))
        self.assertGreater(max(numbers), 2**24)

    def test_a_child_has_its_own(self) -> None:
        """A forked process does not give out the names that its parent gives out."""
        random_name()
        reading, writing = os.pipe()
        child = os.fork()
        if not child:
            os.write(writing, random_name().encode())
            os._exit(0)
        os.waitpid(child, 0)
        theirs = os.read(reading, 64).decode()
        os.close(reading)
        os.close(writing)
        self.assertNotIn(theirs, [random_name() for _ in range(NAMES_AT_ONCE)])
