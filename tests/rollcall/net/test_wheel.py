"""The timer wheel on a clock that a test moves."""

from random import Random

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from rollcall.net.wheel import SWEEP_AT, Timer, TimerWheel


class TimerWheelTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1000.25)
        self.wheel = TimerWheel(self.clock, tick_seconds=0.05)
        self.calls: list[object] = []

    def test_call(self) -> None:
        """A call comes once its time has passed, with its arguments, and not again."""
        timer = self.wheel.call_later(60, self.calls.append, "due")
        self.clock.advance(59.99)
        self.assertEqual(self.calls, [])
        self.assertTrue(timer.active)
        self.clock.advance(0.01)
        self.assertEqual(self.calls, ["due"])
        self.assertFalse(timer.active)
        self.clock.advance(1000)
        self.assertEqual(self.calls, ["due"])

    def test_late_by_a_tick_at_most(self) -> None:
        """A moment within a tick is served at the tick's end."""
        self.wheel.call_later(0.06, self.calls.append, "due")
        self.clock.advance(0.06)
        self.assertEqual(self.calls, [])
        self.clock.advance(0.0401)
        self.assertEqual(self.calls, ["due"])

    def test_cancel(self) -> None:
        """A cancelled call does not come; to cancel it again does nothing."""
        timer = self.wheel.call_later(1, self.calls.append, "due")
        other = self.wheel.call_later(1, self.calls.append, "other")
        timer.cancel()
        timer.cancel()
        self.assertFalse(timer.active)
        self.assertEqual(len(self.wheel), 1)
        self.clock.advance(2)
        self.assertEqual(self.calls, ["other"])
        other.cancel()
        self.assertEqual(len(self.wheel), 0)

    def test_order(self) -> None:
        """Calls come in the order of their ticks, within one in the order they were added."""
        for seconds, name in ((3, "c"), (1, "a1"), (2, "b"), (1, "a2")):
            self.wheel.call_later(seconds, self.calls.append, name)
        self.clock.advance(10)
        self.assertEqual(self.calls, ["a1", "a2", "b", "c"])

    def test_only_the_next_bucket_wakes_us(self) -> None:
        """Whatever is pending, the reactor has one delayed call, that of the first bucket."""
        for seconds in (50, 5, 500):
            self.wheel.call_later(seconds, self.calls.append, seconds)
            self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        (delayed,) = self.clock.getDelayedCalls()
        self.assertApproximates(delayed.getTime() - self.clock.seconds(), 5, 0.051)
        self.clock.advance(6)
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)

    def test_nothing_pending_leaves_nothing(self) -> None:
        """When the last call ran or was cancelled the reactor has nothing of ours."""
        self.wheel.call_later(1, self.calls.append, 1).cancel()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.wheel.call_later(1, self.calls.append, 1)
        self.clock.advance(2)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.wheel.call_later(1, self.calls.append, 1)
        self.wheel.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_nothing_of_old_wakes_us(self) -> None:
        """After all was cancelled only what is new wakes the reactor."""
        self.wheel.call_later(1, self.calls.append, 1).cancel()
        self.wheel.call_later(100, self.calls.append, 1)
        (delayed,) = self.clock.getDelayedCalls()
        self.assertApproximates(delayed.getTime() - self.clock.seconds(), 100, 0.051)

    def test_failing_call(self) -> None:
        """A call that raises is logged and stops no other."""
        self.wheel.call_later(1, self.calls.index, "nothing")
        self.wheel.call_later(1, self.calls.append, "other")
        self.clock.advance(2)
        self.assertEqual(self.calls, ["other"])
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_calls_that_add_calls(self) -> None:
        """A call that adds one for at once lets the reactor turn in between."""

        def again() -> None:
            self.calls.append("wheel")
            if len(self.calls) < 4:
                self.clock.callLater(0, self.calls.append, "reactor")
                self.wheel.call_later(0, again)

        self.wheel.call_later(0, again)
        self.clock.advance(0.05)
        self.assertEqual(self.calls, ["wheel", "reactor", "wheel", "reactor", "wheel"])

    def test_exact_moments(self) -> None:
        """A clock that is moved by just the time of a call is not a rounding error too early for it."""
        for steps in range(1, 200):
            clock = Clock()
            wheel = TimerWheel(clock)
            wheel.call_later(steps * 0.05, self.calls.append, steps)
            clock.advance(steps * 0.05)
        self.assertEqual(self.calls, list(range(1, 200)))

    def test_past_moments(self) -> None:
        """A negative time means the next turn of the reactor."""
        self.wheel.call_later(-5, self.calls.append, "due")
        self.assertEqual(self.calls, [])
        self.clock.advance(0.05)
        self.assertEqual(self.calls, ["due"])

    def test_calls_that_cancel_their_neighbours(self) -> None:
        """A call may cancel others that are due at the same moment, however many."""
        timers: list[Timer] = []

        def cancel_all() -> None:
            for timer in timers:
                timer.cancel()

        self.wheel.call_later(1, cancel_all)
        timers += [self.wheel.call_later(1, self.calls.append, n) for n in range(3 * SWEEP_AT)]
        self.wheel.call_later(1, self.calls.append, "last")
        self.clock.advance(2)
        self.assertEqual(self.calls, ["last"])
        self.assertEqual(len(self.wheel), 0)

    def test_stop(self) -> None:
        """A stopped wheel calls nothing, not even what is due at the moment it is stopped."""
        self.wheel.call_later(1, self.wheel.stop)
        self.wheel.call_later(1, self.calls.append, "same moment")
        self.wheel.call_later(1.01, self.calls.append, "next bucket")
        self.clock.advance(5)
        self.assertEqual(self.calls, [])
        self.assertEqual(len(self.wheel), 0)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_usable_after_stop(self) -> None:
        """A wheel that was stopped can be used again."""
        self.wheel.call_later(1, self.calls.append, "old")
        self.wheel.stop()
        self.wheel.call_later(2, self.calls.append, "new")
        self.clock.advance(2.1)
        self.assertEqual(self.calls, ["new"])

    def test_cancelled_calls_hold_nothing(self) -> None:
        """Calls that are added and cancelled again and again, as refreshed bindings do, leave no heap behind."""
        self.wheel.call_later(3600, self.calls.append, "stays")
        for _ in range(1000):
            self.wheel.call_later(3600, self.calls.append, "goes").cancel()
        held = sum(len(bucket) for bucket in self.wheel._buckets.values())
        self.assertLessEqual(held, 2 * SWEEP_AT + 2)
        self.assertEqual(len(self.wheel), 1)

    def test_now(self) -> None:
        """The wheel tells its clock's time."""
        self.assertEqual(self.wheel.now(), self.clock.seconds())

    @given(st.lists(st.floats(0, 100), min_size=1, max_size=50), st.integers(0, 2**32))
    def test_any_times(self, delays: list[float], seed: int) -> None:
        """Each call comes once, never early, at most a tick late, however the clock moves."""
        clock, random = Clock(), Random(seed)
        wheel = TimerWheel(clock, tick_seconds=0.5)
        came: list[tuple[float, float]] = []
        for delay in delays:
            wheel.call_later(delay, lambda delay=delay: came.append((delay, clock.seconds())))
        while len(wheel):
            clock.advance(random.choice((0.01, 0.1, 0.25)))
        self.assertEqual(sorted(delay for delay, _ in came), sorted(delays))
        for delay, at in came:
            self.assertGreaterEqual(at, delay - 1e-4)
            self.assertLessEqual(at, delay + 0.5 + 0.25 + 1e-4)
