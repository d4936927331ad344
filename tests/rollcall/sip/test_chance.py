"""Tests for rollcall.sip.chance."""

import os
from unittest import TestCase

from rollcall.sip.chance import NAMES_AT_ONCE, random_name


class RandomNameTests(TestCase):
    def test_names_differ(self) -> None:
        """No name comes twice, also when the pool is filled again; each has 64 bits."""
        names = [random_name() for _ in range(3 * NAMES_AT_ONCE)]
        self.assertEqual(len(set(names)), len(names))
        self.assertTrue(all(len(name) == 16 and int(name, 16) >= 0 for name in names))

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
