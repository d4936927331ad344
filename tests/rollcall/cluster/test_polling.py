"""Doing something with Redis again and again."""

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from rollcall.cluster.polling import Polling
from rollcall.cluster.redis import RedisUnavailable


class PollingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.began: list[float] = []
        self.waiting: Deferred[None] | None = None
        self.wrong: Exception | None = None
        self.polling = Polling(self.clock, 1.0, self.once, "the test")

    async def once(self) -> None:
        """Note when; fail, or wait, as the test says."""
        self.began.append(self.clock.seconds())
        if self.wrong is not None:
            raise self.wrong
        if self.waiting is not None:
            await self.waiting

    def test_again_and_again(self) -> None:
        """It is done at once, and then as often as said."""
        self.polling.start()
        self.clock.pump([0.5] * 5)
        self.assertEqual(self.began, [0.0, 1.0, 2.0])

    def test_one_at_a_time(self) -> None:
        """None begins before the one before is done; the pause counts from where that began."""
        self.waiting = Deferred()
        self.polling.start()
        self.clock.advance(3.7)
        self.assertEqual(self.began, [0.0])
        waiting, self.waiting = self.waiting, None
        waiting.callback(None)
        self.clock.advance(0)
        self.assertEqual(self.began, [0.0, 3.7])

    def test_hurry(self) -> None:
        """Who hurries it has it now; while one goes on, once more right after, however often it was said."""
        self.polling.start()
        self.clock.advance(0.3)
        self.waiting = Deferred()
        self.polling.hurry()
        self.assertEqual(self.began, [0.0, 0.3])
        self.polling.hurry()
        self.polling.hurry()
        waiting, self.waiting = self.waiting, None
        waiting.callback(None)
        self.clock.advance(0)
        self.assertEqual(self.began, [0.0, 0.3, 0.3])
        self.clock.advance(1.0)
        self.assertEqual(self.began, [0.0, 0.3, 0.3, 1.3])

    def test_failures(self) -> None:
        """What Redis does not answer is remembered until it does; it is tried on all the same."""
        self.wrong = RedisUnavailable("away")
        self.polling.start()
        self.assertEqual(self.polling.problem, "away")
        self.wrong = None
        self.clock.advance(1.0)
        self.assertIsNone(self.polling.problem)

    def test_a_mistake(self) -> None:
        """A mistake of ours is logged with its place, and ends nothing."""
        self.wrong = ZeroDivisionError("ours")
        self.polling.start()
        self.clock.advance(1.0)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 2)
        self.assertEqual(len(self.began), 2)

    def test_stop(self) -> None:
        """Whoever stops it waits for what has begun; afterwards nothing is done, whoever hurries it."""
        self.waiting = Deferred()
        self.polling.start()
        stopping = Deferred.fromCoroutine(self.polling.stop())
        self.assertNoResult(stopping)
        self.waiting.callback(None)
        self.successResultOf(stopping)
        self.polling.hurry()
        self.assertEqual((self.began, self.clock.getDelayedCalls()), ([0.0], []))
        self.successResultOf(Deferred.fromCoroutine(self.polling.stop()))
