"""The end of a worker: nothing new, idle connections some at a time, and patience with what has begun."""

from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from registrar.workers.draining import CLOSED_AT_ONCE, Draining
from rollcall.net.wheel import TimerWheel


class DrainingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.idle = 0
        self.unfinished = 0
        self.said: list[str] = []
        self.draining = Draining(TimerWheel(self.clock), self, lambda: self.said.append("pass on"),
                                 lambda: self.unfinished, 5.0, lambda: self.said.append("end"))

    def stop_accepting(self) -> None:
        """Note it."""
        self.said.append("accept no more")

    def close_idle(self, most: int, reason: str) -> int:
        """Close what may be closed."""
        self.idle = max(0, self.idle - most)
        return self.idle

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        for _ in range(round(seconds / 0.05)):
            self.clock.advance(0.05)

    def test_at_rest(self) -> None:
        """A worker that has nothing to finish ends at once, after it has stopped taking anything new."""
        self.draining.begin()
        self.assertEqual(self.said, ["accept no more", "pass on", "end"])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_patience(self) -> None:
        """What has begun is finished first; asked twice, a worker does not begin to end anew."""
        self.unfinished = 1
        self.draining.begin()
        self.wait(3.0)
        self.draining.begin()
        self.assertEqual(self.said, ["accept no more", "pass on"])
        self.unfinished = 0
        self.wait(0.2)
        self.assertEqual(self.said[2:], ["end"])

    def test_impatience(self) -> None:
        """When its time is over it ends, and the log says what is left."""
        self.unfinished = 2
        with capturedLogs() as events:
            self.draining.begin()
            self.wait(4.5)
            self.assertEqual(len(self.said), 2)
            self.wait(1.0)
        self.assertEqual(self.said[2:], ["end"])
        self.assertEqual(events[-1]["count"], 2)

    def test_crowd(self) -> None:
        """Idle connections are closed some at a time, for all their phones come to the others."""
        self.idle = 3 * CLOSED_AT_ONCE
        self.draining.begin()
        self.assertEqual(self.idle, 2 * CLOSED_AT_ONCE)
        self.wait(0.5)
        self.assertEqual((self.idle, self.said[2:]), (0, ["end"]))
