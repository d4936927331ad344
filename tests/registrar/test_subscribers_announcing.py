"""Tests of how it is announced who was changed."""

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from registrar.subscribers.announcing import (
    LOG,
    MAX_ENTRIES,
    TELL,
    TOMBSTONE,
    announce,
    concerned,
    fresh_seconds,
    place_of,
)
from rollcall.cluster.redis import RedisUnavailable
from rollcall.sql.config import MysqlConfig
from tests.registrar.scripted_redis import ScriptedRedis

ALICE, BOB = ("alice", "example.org"), ("bob", "example.org")


class AnnouncingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.redis = ScriptedRedis()

    def announcing(self, *names: tuple[str, str]) -> "Deferred[None]":
        """Begin to announce these, or everybody."""
        return Deferred.fromCoroutine(announce(self.redis, names or None, 9.0))

    def test_tombstones_first(self) -> None:
        """The log says nothing before tombstones lie where all of them were remembered."""
        telling = self.announcing(ALICE, BOB)
        self.assertEqual([(asked.key, asked.words) for asked in self.redis.asked], [
            (place_of(*name), (b"SET", place_of(*name), TOMBSTONE, b"PX", 9000)) for name in (ALICE, BOB)])
        self.redis.answer(b"OK")
        self.assertEqual(len(self.redis.asked), 1)
        self.redis.answer(b"OK")
        told = self.redis.answer([])
        self.assertEqual((told.key, told.script, told.words), (
            LOG, TELL, (MAX_ENTRIES, b"alice", b"example.org", b"bob", b"example.org")))
        self.successResultOf(telling)

    def test_no_tombstone(self) -> None:
        """When a tombstone cannot be put nothing is announced, and it is said: later the old hash would be found."""
        telling = self.announcing(ALICE, BOB)
        self.redis.answer(RedisUnavailable("gone"))
        self.redis.answer(b"OK")
        self.assertEqual(self.redis.asked, [])
        self.failureResultOf(telling, RedisUnavailable)

    def test_everybody(self) -> None:
        """That it may be anybody is one entry without a name."""
        self.announcing()
        self.assertEqual(self.redis.answer([]).words, (MAX_ENTRIES, b"", b""))

    def test_nobody(self) -> None:
        """Who has changed nobody says nothing."""
        self.successResultOf(Deferred.fromCoroutine(announce(self.redis, [], 9.0)))
        self.assertEqual(self.redis.asked, [])

    def test_concerned(self) -> None:
        """A username that stands for itself is concerned in each domain, once."""
        self.assertEqual(concerned([ALICE, ("alice", "example.net")], ["example.net"]), [
            ALICE, ("alice", "example.net")])

    def test_fresh_seconds(self) -> None:
        """A replica may be as late as is allowed, and it takes two checks and an answer until that is noticed."""
        self.assertEqual(fresh_seconds(MysqlConfig(max_lag_seconds=5, check_seconds=1, timeout_seconds=2)), 9)
