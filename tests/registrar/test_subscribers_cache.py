"""Tests of the subscribers remembered in memory."""

from collections.abc import Coroutine
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from registrar.auth import StoreUnavailable, Subscriber
from registrar.subscribers.cache import CacheConfig, Recent, SubscriberCache
from registrar.subscribers.contract import subscriber_with

DOMAIN = "example.org"


class RecentTests(SynchronousTestCase):
    def test_forgets_in_time(self) -> None:
        """What was put is known for half of the time at least, and for all of it at most."""
        for begin in range(0, 100, 7):
            recent: Recent[str] = Recent(100, 100)
            recent.get("any", begin)
            recent.put("a", "1", begin + 10)
            self.assertEqual(recent.get("a", begin + 60), "1")
            self.assertIsNone(recent.get("a", begin + 111))

    def test_forgets_in_time_though_asked_often(self) -> None:
        """Asking does not keep it alive."""
        recent: Recent[str] = Recent(100, 100)
        recent.put("a", "1", 10)
        known = [now for now in range(10, 300) if recent.get("a", now)]
        self.assertEqual(known, list(range(10, known[-1] + 1)))
        self.assertLessEqual(known[-1], 110)

    def test_bounded(self) -> None:
        """It never holds more than was allowed, and what came last is there."""
        recent: Recent[int] = Recent(10, 100)
        for number in range(100):
            recent.put(str(number), number, 1)
            self.assertLessEqual(len(recent), 10)
            self.assertEqual(recent.get(str(number), 1), number)

    def test_newest_counts(self) -> None:
        """What is put again replaces what was there, in whichever generation."""
        recent: Recent[int] = Recent(4, 100)
        for value in range(20):
            recent.put("a", value, value * 10)
            recent.put(str(value), value, value * 10)
            self.assertEqual(recent.get("a", value * 10), value)
        recent.forget("a")
        self.assertIsNone(recent.get("a", 190))

    def test_clear(self) -> None:
        """Nothing is left of either generation."""
        recent: Recent[int] = Recent(4, 100)
        for value in range(4):
            recent.put(str(value), value, 1)
        recent.clear()
        self.assertEqual(len(recent), 0)


class Source:
    """Somebody to ask, who answers when told to and keeps a transcript."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.answers: list[Deferred[Subscriber | None]] = []
        self.versions_asked = 0
        self.versions: list[Deferred[int]] = []

    def find(self, username: str, domain: str) -> "Deferred[Subscriber | None]":
        self.asked.append(f"{username}@{domain}")
        self.answers.append(Deferred())
        return self.answers[-1]

    def version(self) -> "Deferred[int]":
        self.versions_asked += 1
        self.versions.append(Deferred())
        return self.versions[-1]


class SubscriberCacheTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.source = Source()
        self.alice = subscriber_with("alice", DOMAIN, "secret")
        self.cache = self.with_config()

    def with_config(self, watching: bool = False, **settings: Any) -> SubscriberCache:
        version = self.source.version if watching else None
        return SubscriberCache(self.source.find, self.clock, CacheConfig(**settings), version)

    def find(self, username: str = "alice") -> "Deferred[Subscriber | None]":
        return self.start(self.cache.find(username, DOMAIN))

    def start(self, coroutine: "Coroutine[Any, Any, Any]") -> "Deferred[Any]":
        return Deferred.fromCoroutine(coroutine)

    def learn(self, subscriber: Subscriber | None = None, username: str = "alice") -> None:
        """Let `username` be looked up and found to be this."""
        asked = len(self.source.asked)
        finding = self.find(username)
        self.assertEqual(len(self.source.asked), asked + 1)
        self.source.answers[-1].callback(subscriber)
        self.successResultOf(finding)

    # --- remembering

    def test_asks_once(self) -> None:
        """Who was found is remembered, all hashes included."""
        self.learn(self.alice)
        for _ in range(3):
            found = self.successResultOf(self.find())
            assert found is not None
            self.assertEqual((found.username, found.domain), ("alice", DOMAIN))
            self.assertEqual((dict(found.ha1), dict(found.ha1b)), (self.alice.ha1, self.alice.ha1b))
        self.assertEqual(self.source.asked, ["alice@example.org"])
        self.assertEqual(len(self.cache), 1)

    def test_remembers_nobody(self) -> None:
        """That there is nobody is remembered, for less long."""
        self.cache = self.with_config(cache_seconds=1000, negative_cache_seconds=10)
        self.learn(None, "mallory")
        self.learn(self.alice, "alice")
        self.assertIsNone(self.successResultOf(self.find("mallory")))
        self.clock.advance(11)
        self.assertIsNotNone(self.successResultOf(self.find("alice")))
        self.find("mallory")
        self.assertEqual(self.source.asked, ["mallory@example.org", "alice@example.org", "mallory@example.org"])

    def test_scanner_drives_out_nobody(self) -> None:
        """However many names a scanner tries, those who exist stay remembered."""
        self.cache = self.with_config(max_cached=2, max_cached_negative=4)
        self.learn(self.alice)
        for number in range(100):
            self.learn(None, f"guess{number}")
        self.assertIsNotNone(self.successResultOf(self.find()))

    def test_failure_is_not_remembered(self) -> None:
        """When the source fails everybody who waits is told, and the next one asks again."""
        findings = [self.find(), self.find()]
        self.source.answers[0].errback(StoreUnavailable("busy"))
        for finding in findings:
            self.failureResultOf(finding, StoreUnavailable)
        self.learn(self.alice)

    def test_changed_here(self) -> None:
        """Who was changed by this process is asked about again, others are not."""
        self.learn(self.alice)
        self.learn(None, "bob")
        self.cache.forget("bob", DOMAIN)
        self.learn(subscriber_with("bob", DOMAIN, "secret"), "bob")
        self.assertIsNotNone(self.successResultOf(self.find("alice")))

    # --- asking

    def test_asked_together(self) -> None:
        """Those who look for the same user at the same time ask once, and all get the answer."""
        findings = [self.find() for _ in range(5)]
        other = self.find("bob")
        self.assertEqual(self.source.asked, ["alice@example.org", "bob@example.org"])
        self.source.answers[0].callback(self.alice)
        self.assertEqual([self.successResultOf(finding) for finding in findings], [self.alice] * 5)
        self.assertNoResult(other)

    def test_one_gives_up(self) -> None:
        """Who stops waiting takes the answer from nobody else."""
        first, second = self.find(), self.find()
        first.addErrback(lambda _: None)
        first.cancel()
        self.source.answers[0].callback(self.alice)
        self.assertEqual(self.successResultOf(second), self.alice)
        self.assertIsNotNone(self.successResultOf(self.find()))

    def test_too_many_wait(self) -> None:
        """When the source is slow, no more than `max_waiting` users are asked for; the rest is told at once."""
        self.cache = self.with_config(max_waiting=2)
        self.find("a"), self.find("b")
        self.failureResultOf(self.find("c"), StoreUnavailable)
        again = self.find("a")
        self.source.answers[0].callback(None)
        self.assertIsNone(self.successResultOf(again))
        self.assertNoResult(self.find("c"))

    def test_changed_while_asked(self) -> None:
        """An answer that was under way while something changed is given, and not remembered."""
        finding = self.find()
        self.cache.forget("alice", DOMAIN)
        self.source.answers[0].callback(self.alice)
        self.assertEqual(self.successResultOf(finding), self.alice)
        self.assertNoResult(self.find())

    # --- changes by others

    def test_change_by_others(self) -> None:
        """Once the version has changed everything is asked again."""
        self.cache = self.with_config(watching=True, changes_seen_within_seconds=1.0)
        self.learn(self.alice)
        self.clock.advance(0.6)
        self.successResultOf(self.find())  # answered from memory, while the first look at the version is under way
        self.source.versions[0].callback(7)
        self.learn(self.alice)
        self.clock.advance(0.6)
        self.successResultOf(self.find())
        self.source.versions[1].callback(7)
        self.successResultOf(self.find())
        self.clock.advance(0.6)
        self.successResultOf(self.find())
        self.source.versions[2].callback(8)
        self.assertNoResult(self.find())
        self.assertEqual(self.source.versions_asked, 3)

    def test_looks_seldom(self) -> None:
        """However many are looked up, the version is asked for twice in `changes_seen_within_seconds`."""
        self.cache = self.with_config(watching=True, changes_seen_within_seconds=1.0)
        self.learn(self.alice)
        for _ in range(100):
            self.clock.advance(0.1)
            self.find()
            for version in self.source.versions:
                if not version.called:
                    version.callback(7)
            if not self.source.answers[-1].called:
                self.source.answers[-1].callback(self.alice)
        self.assertIn(self.source.versions_asked, range(14, 21))

    def test_waits_when_long_unseen(self) -> None:
        """When nobody was looked up for long, the first one waits for the version; nobody gets what may be outdated."""
        self.cache = self.with_config(watching=True, changes_seen_within_seconds=1.0)
        self.learn(self.alice)
        self.clock.advance(60)
        findings = [self.find(), self.find()]
        for finding in findings:
            self.assertNoResult(finding)
        self.assertEqual(self.source.versions_asked, 1)
        self.source.versions[0].callback(7)
        self.assertEqual(self.source.asked, ["alice@example.org"] * 2)
        self.source.answers[1].callback(None)
        self.assertEqual([self.successResultOf(finding) for finding in findings], [None, None])

    def test_slow_look(self) -> None:
        """A look at the version that takes long makes later ones wait, for what it saw is old."""
        self.cache = self.with_config(watching=True, changes_seen_within_seconds=1.0)
        self.learn(self.alice)
        self.clock.advance(0.6)
        self.successResultOf(self.find())
        self.clock.advance(0.6)
        waiting = self.find()
        self.assertNoResult(waiting)
        self.assertEqual(self.source.versions_asked, 1)

    def test_version_cannot_be_told(self) -> None:
        """When the store cannot be reached, those remembered are still found, and it is asked again later."""
        self.cache = self.with_config(watching=True, changes_seen_within_seconds=1.0)
        self.learn(self.alice)
        self.clock.advance(60)
        finding = self.find()
        self.source.versions[0].errback(StoreUnavailable("locked"))
        self.assertIsNotNone(self.successResultOf(finding))
        self.clock.advance(0.4)
        self.assertIsNotNone(self.successResultOf(self.find()))
        self.assertEqual(self.source.versions_asked, 1)
        self.clock.advance(0.2)
        self.find()
        self.assertEqual(self.source.versions_asked, 2)
