"""Tests for rollcall.net.answers."""

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from rollcall.net.answers import Answers
from rollcall.net.wheel import TimerWheel


class AnswersTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.wheel = TimerWheel(self.clock)
        self.answers = Answers(self.wheel, seconds=32.0, most=1000)

    def test_kept_long_enough(self) -> None:
        """An answer is there for its time, whenever it came between two turns, and gone after twice that."""
        self.answers.put("early", b"1")
        self.clock.advance(20)
        self.answers.put("late", b"2")
        self.clock.advance(31.9)
        self.assertEqual(self.answers.get("late"), b"2")
        self.clock.advance(32.2)
        self.assertEqual((self.answers.get("early"), self.answers.get("late"), len(self.answers)), (None, None, 0))

    def test_nothing_runs_when_nothing_is_kept(self) -> None:
        """The last answer's end is the timer's end."""
        self.answers.put("one", b"1")
        self.clock.pump([16.0] * 5)
        self.assertEqual((len(self.answers), len(self.wheel), self.clock.getDelayedCalls()), (0, 0, []))

    def test_bounded(self) -> None:
        """A flood drops the oldest answers and keeps the latest."""
        for number in range(5000):
            self.answers.put(number, b"x")
        self.assertLessEqual(len(self.answers), 1000)
        self.assertEqual((self.answers.get(4999), self.answers.get(0)), (b"x", None))

    def test_bounded_in_bytes(self) -> None:
        """A flood of requests of 60 kB takes no more room than one of usual ones; the latest answers are kept."""
        for number in range(200):
            self.answers.put(number, bytes(60_000))
        self.assertLessEqual(len(self.answers) * 60_000, 1_200_000)
        self.assertEqual((len(self.answers.get(199) or b""), self.answers.get(0)), (60_000, None))
