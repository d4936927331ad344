"""What balancers tell each other of nodes, with a Redis in memory that may be away."""

from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase, TestCase

from balancer.nodes.sharing import KEY, MOST_WORDS
from rollcall.cluster.redis import RedisRefused, RedisUnavailable
from tests.balancer.nodes.examples import WordRedis
from tests.balancer.nodes.sharing_contract import KEEP_SECONDS, Balancer, SharingContract

NOW = 1_800_000_000.0


class SharingCase(SynchronousTestCase):
    """Two balancers with one Redis in memory."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(NOW)
        self.redis = WordRedis(self.clock)
        self.one = Balancer(self.clock, self.redis)
        self.other = Balancer(self.clock, self.redis)

    def pass_time(self, seconds: float = 0.6) -> None:
        for _ in range(round(seconds / 0.1)):
            self.clock.advance(0.1)


class InMemoryTests(SharingContract, TestCase):
    """The contract in memory."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(NOW)
        self.redis = WordRedis(self.clock)
        self.one = Balancer(self.clock, self.redis)
        self.other = Balancer(self.clock, self.redis)

    def later(self, seconds: float = 0.6) -> "Deferred[Any]":
        for _ in range(round(seconds / 0.1)):
            self.clock.advance(0.1)
        return succeed(None)

    async def lose_all(self) -> None:
        self.redis.clear()


class SharingTests(SharingCase):
    def test_alone(self) -> None:
        """Without Redis a balancer hears itself, and nothing is left with the reactor."""
        clock = Clock()
        alone = Balancer(clock, None)
        alone.sharing.say("drain:m1", True)
        self.assertEqual(alone.take(), {"drain:m1": b"true"})
        self.assertEqual(clock.getDelayedCalls(), [])

    def test_while_redis_is_away(self) -> None:
        """What is said while Redis is away counts here at once, and is told when it is back, with its real age."""
        self.redis.problem = "it is away"
        self.pass_time()
        self.one.sharing.say("drain:m1", True)
        said_at = self.clock.seconds()
        self.pass_time(10)
        self.assertEqual(self.one.sharing.problem, "it is away")
        self.assertEqual(self.other.take(), {})
        self.redis.problem = None
        self.pass_time(1.2)
        self.assertEqual((self.one.sharing.problem, self.other.take()), ("", {"drain:m1": b"true"}))
        self.assertAlmostEqual(self.other.moments["drain:m1"], said_at, places=2)

    def test_an_old_word_does_not_undo_a_later_one(self) -> None:
        """What was said to a balancer that could not tell it counts less than what was said elsewhere after it."""
        self.one.sharing.stopService()
        self.one.sharing.say("drain:m1", True)
        self.pass_time(5)
        self.other.sharing.say("drain:m1", False)
        self.one.sharing.startService()
        self.pass_time(1.2)
        self.assertEqual(self.one.take()["drain:m1"], b"false")
        self.assertEqual(self.other.take(), {"drain:m1": b"false"})

    def test_old_words_are_dropped(self) -> None:
        """Words are kept for an hour or so; whether a node drains is kept until somebody says that nothing is said."""
        for field, value in (("load:m1", {"sessions": 1}), ("drain:m1", True), ("drain:m2", None)):
            self.one.sharing.say(field, value)
        self.pass_time(KEEP_SECONDS + 1)
        self.assertEqual(list(self.redis.hashes[KEY]), [b"drain:m1"])

    def test_an_answer_that_is_lost(self) -> None:
        """A word of which nobody knows whether it was written is written again."""
        self.redis.loses_answers = True
        self.one.sharing.say("drain:m1", True)
        self.redis.clear()
        self.redis.loses_answers = False
        self.pass_time(1.2)
        self.assertEqual(self.other.take(), {"drain:m1": b"true"})

    def test_a_redis_that_refuses(self) -> None:
        """A Redis that does not let us is a problem like one that is away; it is not asked in vain for ever."""

        def refuse(*words: bytes) -> None:
            raise RedisRefused("NOPERM this user has no permissions")

        self.redis.scripts = dict.fromkeys(self.redis.scripts, refuse)
        self.pass_time()
        self.assertIn("NOPERM", self.one.sharing.problem)

    def test_a_bound(self) -> None:
        """So many words are kept at most."""
        self.redis.problem = "it is away"
        for number in range(MOST_WORDS + 10):
            self.one.sharing.say(f"drain:m{number}", True)
        self.redis.problem = None
        self.pass_time(1.2)
        self.assertEqual(len(self.redis.hashes[KEY]), MOST_WORDS)

    def test_stopping(self) -> None:
        """After the end nothing is asked and nothing is left with the reactor."""
        self.one.sharing.stopService()
        self.other.sharing.stopService()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_stopping_while_it_reads(self) -> None:
        """An answer that comes after the end is not waited for."""
        waiting: list[Deferred[Any]] = []

        def wait(*words: Any) -> "Deferred[Any]":
            waiting.append(Deferred())
            return waiting[-1]

        self.patch(self.redis, "evaluate", wait)
        self.pass_time()
        self.one.sharing.stopService()
        waiting[0].errback(RedisUnavailable("stopped"))
        self.other.sharing.stopService()
        self.assertEqual(self.clock.getDelayedCalls(), [])
