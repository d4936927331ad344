"""The circuit breaker, by a clock of plain numbers."""

from twisted.trial.unittest import SynchronousTestCase

from rollcall.cluster.breaker import Breaker, BreakerState


class BreakerTests(SynchronousTestCase):
    """Two failures in a row open it for five seconds."""

    def setUp(self) -> None:
        self.breaker = Breaker(2, 5.0)

    def test_few_failures(self) -> None:
        """One failure does not open it, nor do two with a success between them."""
        self.breaker.failed(0.0)
        self.assertEqual(self.breaker.state(0.0), BreakerState.CLOSED)
        self.breaker.succeeded()
        self.breaker.failed(1.0)
        self.assertEqual(self.breaker.state(1.0), BreakerState.CLOSED)
        self.assertEqual(self.breaker.wait(1.0), 0.0)

    def test_opens(self) -> None:
        """The second failure in a row opens it for its time."""
        self.breaker.failed(0.0)
        self.breaker.failed(1.0)
        self.assertEqual(self.breaker.state(1.0), BreakerState.OPEN)
        self.assertEqual(self.breaker.wait(2.0), 4.0)
        self.assertEqual(self.breaker.state(6.0), BreakerState.HALF_OPEN)
        self.assertEqual(self.breaker.wait(6.0), 0.0)

    def test_half_open(self) -> None:
        """Half open, one failure opens it again, and one success closes it."""
        for now in (0.0, 1.0, 7.0):
            self.breaker.failed(now)
        self.assertEqual(self.breaker.state(8.0), BreakerState.OPEN)
        self.breaker.succeeded()
        self.assertEqual(self.breaker.state(8.0), BreakerState.CLOSED)
