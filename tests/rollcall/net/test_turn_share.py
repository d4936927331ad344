"""A share of each turn: what runs at once, what waits, and that all of it runs in the end."""

from collections.abc import Callable

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from rollcall.net.turn_share import TurnShare


class TurnShareTests(SynchronousTestCase):
    """Ten milliseconds of each turn are for steps of four."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.share = TurnShare(self.clock, 0.010)
        self.done: list[str] = []

    def step(self, name: str, seconds: float = 0.004) -> Callable[[], None]:
        """Return a step that takes its time."""

        def run() -> None:
            self.clock.rightNow += seconds
            self.done.append(name)

        return run

    def come(self, names: str, seconds: float = 0.004) -> None:
        """Let steps come, one after the other."""
        for name in names:
            step = self.step(name, seconds)
            if self.share.has_room():
                self.share.run(step)
            else:
                self.share.defer(step)

    def turn(self) -> None:
        """Begin the next turn of the reactor, with what was due for it and nothing that came up in it."""
        due, self.clock.calls[:] = list(self.clock.calls), []
        for call in due:
            call.func(*call.args, **call.kw)

    def test_few(self) -> None:
        """As long as a turn has room, steps run at once."""
        self.come("ab")
        self.assertEqual((self.done, len(self.share)), (["a", "b"], 0))

    def test_many(self) -> None:
        """What comes when the share of a turn is spent runs in the next ones, in the order it came."""
        self.come("abcdefgh")
        self.assertEqual("".join(self.done), "abc")
        self.turn()
        self.assertEqual("".join(self.done), "abcdef")
        self.come("ij")  # behind those that wait
        self.turn()
        self.assertEqual("".join(self.done), "abcdefghi")
        self.turn()
        self.assertEqual("".join(self.done), "abcdefghij")

    def test_no_turn_is_much_longer(self) -> None:
        """However many wait, a turn takes the share and what is left of one step."""
        self.come("abcdefghijklmnopqrstuvwxyz")
        while self.share:
            began_at = self.clock.rightNow
            self.turn()
            self.assertLess(self.clock.rightNow - began_at, 0.0141)

    def test_a_new_turn(self) -> None:
        """A turn later there is room again, and nothing is left with the reactor when nothing is to be done."""
        self.come("abcd")
        self.turn()
        self.turn()
        self.assertEqual(self.clock.calls, [])
        self.assertTrue(self.share.has_room())

    def test_a_step_longer_than_the_share(self) -> None:
        """One step at least runs in each turn."""
        self.come("abc", 0.5)
        self.assertEqual(self.done, ["a"])
        self.turn()
        self.assertEqual(self.done, ["a", "b"])

    def test_a_step_that_breaks(self) -> None:
        """A step that raises after it waited is logged, and keeps nobody from his turn."""
        self.come("abc")
        self.share.defer(lambda: self.fail("broken"))
        self.come("d")
        self.turn()
        self.assertEqual(self.done[-1], "d")
        self.assertEqual(len(self.flushLoggedErrors(self.failureException)), 1)

    def test_a_step_that_breaks_at_once(self) -> None:
        """One that raises in its own turn raises to whom it is for, and its time counts."""
        def breaks() -> None:
            self.clock.rightNow += 1
            raise ValueError

        self.assertRaises(ValueError, self.share.run, breaks)
        self.assertFalse(self.share.has_room())

    def test_a_clock_that_is_set_back(self) -> None:
        """A step during which the clock is set back gives no other one more room."""
        self.come("a")
        self.share.run(self.step("b", -3600))
        self.come("cde")
        self.assertEqual(self.done, ["a", "b", "c", "d"])
