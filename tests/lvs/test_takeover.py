"""A director is killed, and the other one takes over: what becomes of connections that it knows, or does not know."""

import pytest

from tests.lvs.case import TCP_PHONES, LvsCase

pytestmark = pytest.mark.lvs

MOST_ELSEWHERE = 0.25
"""A director that chose as it likes would give 64 % of all connections to another registrar than the one before."""


class HashTests(LvsCase):
    """As rendered without being asked for anything else: by a hash, and directors that tell each other."""

    def test_director_killed(self) -> None:
        """All connections that the other director had been told of live on."""
        takeover = self.kill_master(least_known=1)
        self.assertEqual(takeover.broken & takeover.known, set())


class SynchronisationTests(LvsCase):
    """A connection goes to who has fewest for its weight: where that was, only a director that has been told knows."""

    sections = "[directors]\nscheduler = \"wlc\"\n"

    def test_director_killed(self) -> None:
        """All connections that the other director had been told of live on."""
        takeover = self.kill_master(least_known=1)
        self.assertEqual(takeover.broken & takeover.known, set())


class HashAloneTests(LvsCase):
    """By a hash, and directors that do not tell each other anything."""

    sections = "[directors]\nsync = false\n"

    def test_director_killed(self) -> None:
        """The other director gives nearly each connection to the registrar that has it, for its hash says the same.

        Not all: the table behind the hash depends a little on the order in which registrars came to a director.
        """
        takeover = self.kill_master(least_known=0)
        self.assertLess(len(takeover.broken), TCP_PHONES * MOST_ELSEWHERE)
