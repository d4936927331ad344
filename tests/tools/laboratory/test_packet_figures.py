"""What the packet bench makes of what it has seen."""

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from tools.laboratory.media_servers import CARRIERS
from tools.laboratory.packet_figures import figures_of, table
from tools.laboratory.packet_world import CallSeen, Run, Way, World, bad_way

WAY = Way("alpha", "one")


def a_call(at: float, host: str = "one", carrier: str = "alpha", r: float = 90.0, failed: str = "") -> CallSeen:
    """Return a call of 20 s."""
    return CallSeen(begun_at=at, ended_at=at + 20, carriers=("gamma", carrier), host=host, r=r, failed=failed)


def a_run(*calls: CallSeen, first_report_at: float | None = 52.0) -> Run:
    """Return a run whose way was bad from 50 to 100 s."""
    return Run(proxy="quality", seed=1, way=WAY, went_bad_at=50.0, healed_at=100.0, first_report_at=first_report_at,
               calls=calls)


class FiguresTests(SynchronousTestCase):
    def test_bad_calls(self) -> None:
        """Answered calls below 70 are bad; calls that failed are counted as such, and only so."""
        found = figures_of(a_run(a_call(1, r=69.9), a_call(2, r=70.0), a_call(3, r=0.0, failed="503")))
        self.assertEqual((found.calls, found.failed, found.bad), (3, 1, 1))
        self.assertAlmostEqual(found.mean_r, (69.9 + 70.0) / 2)

    def test_disturbed(self) -> None:
        """Bad calls that had nothing to do with the bad way are told apart."""
        found = figures_of(a_run(a_call(60, r=60.0), a_call(61, "two", r=60.0), a_call(62, carrier="beta", r=60.0)))
        self.assertEqual((found.bad, found.disturbed), (3, 2))

    def test_leaving(self) -> None:
        """A way is left with the last new call of its carrier to its node before a long pause."""
        way_calls = [a_call(at) for at in (10, 51, 55, 59)]
        others = [a_call(80, carrier="beta"), a_call(90, host="two")]
        found = figures_of(a_run(*way_calls, *others))
        self.assertEqual((found.reported_after, found.left_after, found.later), (2.0, 7.0, 0))
        found = figures_of(a_run(*way_calls, a_call(80), a_call(99)))
        self.assertEqual((found.left_after, found.later), (7.0, 2))

    def test_never_left(self) -> None:
        """A way that calls take again and again is not left, though once in a while none does."""
        found = figures_of(a_run(*(a_call(at) for at in range(52, 100, 10))))
        self.assertEqual((found.left_after, found.later), (None, 3))

    def test_never_reported(self) -> None:
        """Without a report nothing is said of what came after it."""
        found = figures_of(a_run(a_call(60), first_report_at=None))
        self.assertEqual((found.reported_after, found.left_after, found.later), (None, None, 0))

    def test_coming_back(self) -> None:
        """The way is taken again with the first call after it has healed; calls of others say nothing of that."""
        self.assertEqual(figures_of(a_run(a_call(101, carrier="beta"), a_call(130))).back_after, 30.0)
        self.assertIsNone(figures_of(a_run(a_call(99))).back_after)

    def test_others(self) -> None:
        """What part of the other carriers' calls is at the node is told for before and meanwhile."""
        before = [a_call(1, carrier="beta"), a_call(2, "two", "beta")]
        meanwhile = [a_call(60, carrier="beta"), *(a_call(61, "two", "beta") for _ in range(3)), a_call(62)]
        found = figures_of(a_run(*before, *meanwhile))
        self.assertEqual((found.others_before, found.others_meanwhile), (0.5, 0.25))

    def test_most(self) -> None:
        """The load is told at its peak, of one node and of all."""
        found = figures_of(a_run(a_call(0), a_call(10), a_call(19, "two"), a_call(25)))
        self.assertEqual((found.most_at_a_node, found.most_at_once), (2, 3))

    def test_table(self) -> None:
        """The table has a line for each proxy, with the sums over its seeds."""
        run = a_run(a_call(1, r=50.0), a_call(2))
        lines = table([run, evolve(run, seed=2), evolve(run, proxy="kamailio", calls=[a_call(1)])])
        self.assertEqual(len(lines), 4)
        self.assertIn("| Rollcall | 2 | 4 | 0 | 2 (50.0 %: 1, 1) | 0 |", lines[2])
        self.assertIn("| Kamailio, rtpengine hash | 1 | 1 | 0 | 0 (0.0 %: 0) | 0 |", lines[3])
        self.assertEqual({line.count("|") for line in lines}, {15})


class WorldTests(SynchronousTestCase):
    def test_bad_way(self) -> None:
        """Each seed has a way of its own, of which all carriers and nodes have their share, and keeps it."""
        hosts = [f"host{number}" for number in range(World().nodes)]
        ways = [bad_way(seed, hosts) for seed in range(300)]
        self.assertEqual(ways, [bad_way(seed, hosts) for seed in range(300)])
        self.assertEqual(({way.carrier for way in ways}, {way.host for way in ways}), (set(CARRIERS), set(hosts)))

    def test_room(self) -> None:
        """There are phones for all calls, and all nodes together have room for them."""
        world = World()
        at_once = world.calls_per_second * sum(world.talk_seconds) / 2
        self.assertGreater(at_once, 60)
        self.assertLess(2 * 1.25 * at_once, len(CARRIERS) * world.phones_of_a_carrier)
        self.assertLess(1.25 * at_once, (world.nodes - 1) * world.capacity)
