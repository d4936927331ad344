"""What several servers say of the same thing."""

from collections.abc import Sequence

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from rollcall.cluster.newest import newest
from rollcall.cluster.redis import RedisUnavailable


@frozen
class Said:
    """An answer."""

    epoch: int


class NewestTests(SynchronousTestCase):
    """Three are asked."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.asked: Sequence[Deferred[Said]] = [Deferred() for _ in range(3)]
        self.result = Deferred.fromCoroutine(newest([self.one(each) for each in self.asked], 1.0, self.clock))

    async def one(self, said: "Deferred[Said]") -> Said:
        """Return what is said."""
        return await said

    def test_most(self) -> None:
        """Two answers of three are enough; the newer one counts, whichever came first."""
        self.asked[2].callback(Said(7))
        self.assertNoResult(self.result)
        self.asked[0].callback(Said(6))
        self.assertEqual(self.successResultOf(self.result), Said(7))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_one_is_left(self) -> None:
        """A single answer counts once the others have failed, or take too long."""
        self.asked[0].errback(RedisUnavailable("gone"))
        self.asked[1].callback(Said(6))
        self.assertNoResult(self.result)
        self.clock.advance(1.0)
        self.assertEqual(self.successResultOf(self.result), Said(6))

    def test_none(self) -> None:
        """When all have failed, each reason is told once."""
        for each in self.asked:
            each.errback(RedisUnavailable("gone"))
        self.assertEqual(self.failureResultOf(self.result, RedisUnavailable).getErrorMessage(), "gone")

    def test_given_up(self) -> None:
        """Who gives up leaves nothing behind."""
        self.result.addErrback(lambda failure: None)
        self.result.cancel()
        self.successResultOf(self.result)
        self.assertEqual(self.clock.getDelayedCalls(), [])
