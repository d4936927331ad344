"""Waits are judged as CoDel does: bursts pass, a standing queue does not, and what can be done is learnt by doing."""

from twisted.trial.unittest import SynchronousTestCase

from registrar.avalanche.load import LEAST_RATE, Load

PERIOD = 0.1


class LoadTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Make a load with a target of 0.3 s that is watched from time 1,000."""
        self.answered = 0
        self.now = 1000.0
        self.changes: list[bool] = []
        self.load = Load(0.3, 200.0, lambda: self.answered)
        self.load.on_change.append(self.changes.append)
        self.load.look(self.now)

    def pass_period(self, wait: float | None = None, answers: int = 0, took: float | None = None) -> None:
        """Let a period pass in which those who waited longest waited so long, and answers took so long."""
        self.answered += answers
        if wait is not None:
            self.load.waited(wait, self.now)
        if took is not None:
            self.load.answer_took(took, self.now)
        self.now += PERIOD + 0.001
        self.load.look(self.now)

    def test_at_first(self) -> None:
        """Before anything was measured the rate is what was configured, and nobody is turned away."""
        self.assertEqual((self.load.rate, self.load.is_late, self.load.is_shedding), (200.0, False, False))

    def test_burst(self) -> None:
        """A burst that is worked off within the period is no queue, however long some of it waited."""
        for _ in range(20):
            self.load.waited(2.0, self.now)
            self.pass_period(0.0)
        self.assertEqual(self.changes, [])

    def test_pause(self) -> None:
        """A single late period, as after a pause of the process, turns nobody away."""
        self.pass_period(0.5)
        self.pass_period(0.0)
        self.pass_period(0.5)
        self.assertFalse(self.load.is_late)

    def test_standing_queue(self) -> None:
        """Two late periods in succession are a queue; what was done meanwhile is what can be done."""
        self.pass_period(0.4, 100)
        self.assertFalse(self.load.is_late)
        self.pass_period(0.4, 100)
        self.assertTrue(self.load.is_late)
        self.assertEqual(self.changes, [True])
        self.assertLess(abs(self.load.rate - 100 / PERIOD), 20)

    def test_slow_answers(self) -> None:
        """Where answers wait for a store they are late though nobody waits to be read."""
        for _ in range(2):
            self.pass_period(0.0, 20, took=0.7)
        self.assertTrue(self.load.is_late)
        self.assertAlmostEqual(self.load.latency, 0.7)

    def test_slow_by_itself(self) -> None:
        """A store that takes as long when it has half as much to do is slow by itself: that counts no more."""
        for _ in range(5):
            self.pass_period(0.0, 20, took=0.5)
        self.assertTrue(self.load.is_late)
        for _ in range(10):
            self.pass_period(0.0, 8, took=0.5)
        self.assertFalse(self.load.is_late)
        self.assertAlmostEqual(self.load.by_itself, 0.5)
        for _ in range(3):
            self.pass_period(0.0, 8, took=0.9)
        self.assertTrue(self.load.is_late)

    def test_store_with_a_queue(self) -> None:
        """A store that works at its full pace and is late nevertheless has a queue."""
        for _ in range(100):
            self.pass_period(0.0, 20, took=0.5)
        self.assertTrue(self.load.is_late)

    def test_slow_store_with_little_to_do(self) -> None:
        """Nobody is turned away because the store is slow while there is next to nothing to do."""
        for _ in range(20):
            self.pass_period(0.0, 1, took=0.5)
        self.assertEqual(self.changes, [])

    def test_store_is_well_again(self) -> None:
        """What a store took while it was ill is forgotten with the first answer that comes sooner."""
        for _ in range(20):
            self.pass_period(0.0, 1, took=0.5)
        self.pass_period(0.0, 1, took=0.01)
        self.assertAlmostEqual(self.load.by_itself, 0.01)
        for _ in range(3):
            self.pass_period(0.0, 20, took=0.5)
        self.assertTrue(self.load.is_late)

    def test_much_too_slow(self) -> None:
        """A store that takes longer than phones wait is not waited for, however little is done."""
        for _ in range(3):
            self.pass_period(0.0, 1, took=2.5)
        self.assertTrue(self.load.is_late)

    def test_rate_goes_down(self) -> None:
        """While the target is missed less is believed to be possible, but never nothing."""
        rates = []
        for _ in range(300):
            self.pass_period(0.4, 1)
            rates.append(self.load.rate)
        self.assertEqual(rates[2:], sorted(rates[2:], reverse=True))
        self.assertEqual(rates[-1], LEAST_RATE)

    def test_what_was_done(self) -> None:
        """What is done while the target is missed is not believed to be too much."""
        for _ in range(100):
            self.pass_period(0.4, 100)
        self.assertGreater(self.load.rate, 900)

    def test_slow_start(self) -> None:
        """While the target holds and the rate is used it goes up; unused it stays."""
        for _ in range(10):
            self.pass_period(0.0, round(self.load.rate * PERIOD))
        self.assertGreater(self.load.rate, 400)
        learnt = self.load.rate
        for _ in range(10):
            self.pass_period(0.0, 1)
        self.assertEqual(self.load.rate, learnt)

    def test_much_at_once(self) -> None:
        """What was done in time can be done."""
        self.pass_period(0.0, 300)
        self.assertLess(abs(self.load.rate - 300 / PERIOD), 50)

    def test_old_counts(self) -> None:
        """What was answered in the hours since somebody looked says nothing of how fast it can be done."""
        self.answered += 1_000_000
        self.now += 3600
        self.load.look(self.now)
        self.assertEqual(self.load.rate, 200.0)

    def test_end(self) -> None:
        """It is over after a second in time with nobody left to come again."""
        left = [1]
        self.load.outstanding = lambda: left[0]
        for _ in range(2):
            self.pass_period(0.4, 50)
        for _ in range(20):
            self.pass_period(0.0, 50)
        self.assertEqual((self.changes, self.load.is_late), ([True], False))
        left.clear()
        left.append(0)
        self.pass_period(0.0)
        self.assertEqual(self.changes, [True, False])

    def test_clock_set_back(self) -> None:
        """A clock that is set back ends the period too."""
        self.now -= 3600
        self.pass_period(0.4)
        self.assertAlmostEqual(self.load.latency, 0.4)

    def test_waits_after_that(self) -> None:
        """Who waits after the clock was set back is heard of though nobody looks by himself."""
        self.now -= 3600
        for _ in range(4):
            self.load.waited(0.4, self.now)
            self.now += PERIOD + 0.001
        self.assertTrue(self.load.is_late)

    def test_asked_before_that(self) -> None:
        """Who had asked before the clock was set back, and is answered after it, makes nobody late."""
        self.now -= 3600
        self.pass_period(took=-3600.0)
        self.pass_period(took=-3599.0)
        for _ in range(5):
            self.pass_period(0.0, 50, took=0.01)
        self.assertEqual(self.changes, [])
