"""What phones of a simulation report."""

from twisted.trial.unittest import SynchronousTestCase

from rollcall.media.reports import RtcpReport
from tests.tools.simulate.worlds import WEST, a_call, a_world
from tools.simulate.control import EPOCH
from tools.simulate.demand import Habit
from tools.simulate.rtcp import Phones
from tools.simulate.running import Stage
from tools.simulate.world import Scenario, Way, World


class PhonesTests(SynchronousTestCase):
    """RTCP of a call of 90 s at a node."""

    def talk(self, habit: Habit = Habit.TRUE, world: World | None = None) -> list[tuple[float, RtcpReport]]:
        """Return what the balancer hears of a call, with the time."""
        heard: list[tuple[float, RtcpReport]] = []
        stage = Stage(world or a_world(), 1)
        phones, call = Phones(stage, lambda now, report: heard.append((now, report))), a_call(habit=habit)
        stage.later(0.0, lambda now: phones.placed(call, "west1", now))
        stage.later(90.0, lambda now: phones.ended(call))
        stage.run()
        return heard

    def test_interval(self) -> None:
        """Both phones report about every 5 s, and no more when the call is over."""
        heard = self.talk()
        self.assertEqual({report.source for _, report in heard}, {"10.0.0.1", "10.0.1.1"})
        self.assertIn(len(heard), range(30, 42))
        self.assertLess(max(now for now, _ in heard), 90.2)

    def test_loss_of_both_legs(self) -> None:
        """A block's differences tell what was lost on both legs together, as nodes relay it."""
        heard = self.talk(world=a_world(west1=Way(0.05, 0.1, 20.0, 2.0)))
        last = [report for _, report in heard if report.source == "10.0.0.1"][-1].blocks[0]
        first = next(report for _, report in heard if report.source == "10.0.0.1").blocks[0]
        share = (last.lost - first.lost) / (last.highest - first.highest)
        self.assertLess(abs(share - (1 - 0.95 * 0.9)), 0.04)

    def test_round_trips(self) -> None:
        """The way from the node to a phone and back follows from the sender report that a block answers."""
        sent: dict[tuple[int, int], float] = {}
        trips = []
        for _, report in self.talk():
            block, sender = report.blocks[0], report.sender
            if (passed := sent.get((block.ssrc, block.lsr))) is not None:
                trips.append(1000 * (report.at - passed - block.dlsr / 65536))
            if sender is not None:
                sent[report.ssrc, sender.ntp_middle] = report.at
        self.assertGreater(len(trips), 20)
        self.assertTrue(all(abs(trip - 40.0) < 0.1 for trip in trips), trips)

    def test_silent(self) -> None:
        """A silent phone reports nothing."""
        self.assertEqual(self.talk(Habit.SILENT), [])

    def test_liars(self) -> None:
        """One who says bad reports heavy loss on a perfect way; one who says good reports none on a bad one."""
        bad = self.talk(Habit.BAD)[-1][1].blocks[0]
        self.assertGreater(bad.lost / 4500, 0.3)
        good = self.talk(Habit.GOOD, a_world(west1=Way(0.2, 0.2, 20.0, 2.0)))[-1][1].blocks[0]
        self.assertEqual(good.lost, 0)

    def test_late(self) -> None:
        """What a node holds back comes when it is released, with the time of its reception."""
        world = a_world(Scenario(seconds=100.0))
        late = World(scenario=world.scenario, groups=(WEST,), nodes=world.nodes, edges=world.edges,
                     epochs=world.epochs, troubles=(), sicknesses=(), late=(("west1", 20.0, 50.0),))
        heard = self.talk(world=late)
        self.assertEqual([now for now, _ in heard if 20.0 <= now < 50.0], [])
        held = [report.at - EPOCH for now, report in heard if now == 50.0]
        self.assertGreater(len(held), 8)
        self.assertLess(min(held), 26.0)
