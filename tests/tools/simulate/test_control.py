"""The balancer and the registrars of a simulation."""

from twisted.trial.unittest import SynchronousTestCase

from rollcall.media.selection import Wanted
from rollcall.media.snapshot import PathKey, Quality, Rule
from tests.tools.simulate.worlds import WEST, a_world
from tools.simulate.control import EPOCH, Conduct, Control
from tools.simulate.running import Stage
from tools.simulate.world import Scenario, World


class Believing:
    """Has heard that one way is bad."""

    def paths(self, now: float) -> dict[PathKey, Quality]:
        return {(WEST, "west1"): Quality(0.3, 20.0)}


class ControlTests(SynchronousTestCase):
    """How old figures are by the time they are used."""

    def setUp(self) -> None:
        self.stage = Stage(a_world(), 1)
        self.control = Control(self.stage)

    def known(self, registrar: int = 0) -> int:
        return self.control.registrars[registrar].snapshot.nodes["west1"].sessions

    def test_polled_published_followed(self) -> None:
        """A node's count is known to each registrar within 1.7 s, and not before it is polled."""
        seen: list[tuple[float, list[int]]] = []
        self.stage.later(9.9, lambda now: self.stage.sessions.update(west1=7))
        for moment in (9.95, 11.75):
            self.stage.later(moment, lambda now: seen.append((now, [self.known(each) for each in range(3)])))
        self.stage.run()
        self.assertEqual(seen, [(9.95, [0, 0, 0]), (11.75, [7, 7, 7])])

    def test_stale_polls(self) -> None:
        """While nodes are not polled the old count is published, with the time of its poll."""
        world = a_world()
        stale = World(scenario=world.scenario, groups=world.groups, nodes=world.nodes, edges=world.edges,
                      epochs=world.epochs, troubles=(), sicknesses=(), distances=world.distances, stale=((5.0, 90.0),))
        self.stage = Stage(stale, 1)
        self.control = Control(self.stage)
        self.stage.later(6.0, lambda now: self.stage.sessions.update(west1=7))
        self.stage.later(50.0, lambda now: self.assertEqual(self.known(), 0))
        self.stage.run()
        self.assertEqual(self.known(), 7)
        self.assertGreater(self.control.published.nodes["west1"].polled_at, EPOCH + 89.0)

    def test_clocks(self) -> None:
        """Registrars have clocks of their own, and count their placements by them until a poll holds them."""
        registrar, counts = self.control.registrars[2], list[int]()
        self.stage.later(10.3, lambda now: registrar.placed(now, "west1"))
        for moment in (10.4, 13.5):
            self.stage.later(moment, lambda now: counts.append(registrar.placements.count("west1")))
        self.stage.run()
        self.assertEqual(registrar.clock, 3000.0)
        self.assertEqual(counts, [1, 0])

    def test_placements_left_out(self) -> None:
        """Own placements can be left out."""
        registrar = Control(self.stage, Conduct(counts_own=False)).registrars[0]
        registrar.placed(1.0, "west1")
        self.assertEqual(registrar.placements.count("west1"), 0)

    def test_paths(self) -> None:
        """What is believed of ways reaches registrars, who choose by it."""
        control = Control(self.stage, Conduct(rule=Rule(margin_r=0.0)), Believing())
        self.stage.run()
        wanted = Wanted(sides=(WEST, WEST))
        self.assertEqual(control.registrars[0].choose(100.0, wanted, lambda: 0.5), "east1")
        self.assertEqual(self.control.registrars[0].choose(100.0, wanted, lambda: 0.5), "west1")

    def test_number_of_registrars(self) -> None:
        """There are as many registrars as the scenario says."""
        stage = Stage(a_world(Scenario(registrars=5)), 1)
        self.assertEqual(len(Control(stage).registrars), 5)
