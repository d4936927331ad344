"""The calls of a world."""

from collections import Counter

from twisted.trial.unittest import SynchronousTestCase

from tools.simulate.demand import Demand, Habit
from tools.simulate.world import Scenario, build

WORLD = build(Scenario(), 1)


class DemandTests(SynchronousTestCase):
    """Who calls whom, and when."""

    def setUp(self) -> None:
        self.calls = Demand(WORLD, 1).calls()

    def test_seeds(self) -> None:
        """A seed always gives the same calls."""
        self.assertEqual(self.calls, Demand(WORLD, 1).calls())

    def test_order(self) -> None:
        """They come in order, and each has an id of its own."""
        self.assertEqual([call.at for call in self.calls], sorted(call.at for call in self.calls))
        self.assertEqual(len({call.id for call in self.calls}), len(self.calls))

    def test_load(self) -> None:
        """In quiet times as many are going on as the scenario says."""
        quiet = Demand(build(Scenario(flash_crowds=0), 1), 1).calls()
        moments = range(30, 240, 10)
        load = sum(call.at <= moment < call.at + call.seconds for moment in moments for call in quiet)
        self.assertLess(abs(load / len(moments) / WORLD.capacity - 0.70), 0.07)

    def test_flash_crowds(self) -> None:
        """Some come all at once from one access group."""
        scenario = Scenario(flash_crowds=1, flash_share=0.5)
        calls = Demand(build(scenario, 1), 1).calls()
        without = Demand(build(Scenario(flash_crowds=0), 1), 1).calls()
        self.assertEqual(len(calls) - len(without), round(0.5 * build(scenario, 1).capacity))
        groups = Counter(call.caller.group for call in calls) - Counter(call.caller.group for call in without)
        self.assertEqual(len(groups), 1)

    def test_scored(self) -> None:
        """Calls of the time in which the world warms up are not scored."""
        self.assertEqual([call.is_scored for call in self.calls], [call.at >= 60.0 for call in self.calls])

    def test_habits(self) -> None:
        """Some phones are silent and a few lie, who call more often than others."""
        habits = Counter(call.caller.habit for call in self.calls)
        self.assertLess(abs(habits[Habit.SILENT] / len(self.calls) - 0.35), 0.05)
        lying = sum(habits[habit] for habit in (Habit.BAD, Habit.GOOD, Habit.NONSENSE)) / len(self.calls)
        self.assertGreater(lying, 0.01)
        self.assertLess(lying, 0.08)

    def test_groups_of_addresses(self) -> None:
        """Each phone's address is known with its access group."""
        groups = Demand(WORLD, 1).group_of()
        self.assertEqual({groups[call.callee.address] == call.callee.group for call in self.calls}, {True})
