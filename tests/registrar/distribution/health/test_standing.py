"""How a node and its machine stand: its own knowledge, its siblings' leases, and who is told at once."""

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from registrar.distribution.health.standing import LOOK_SECONDS, STARTING, Standing, State, mean_weight
from registrar.distribution.health.weight import Weight
from rollcall.cluster.nodes import Node
from rollcall.net.wheel import TimerWheel


def a_worker(node: str, weight: int, draining: bool = False, of: str = "sip", capacity: int = 100) -> Node:
    return Node(node=node, epoch=1, host="192.0.2.1", port=5070, started_at=0.0, draining=draining, of=of,
                capacity=capacity, weight=weight)


class StandingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.connections = 0
        self.draining = False
        self.not_ready: str | None = None
        self.nodes: tuple[Node, ...] = ()
        self.told: list[int] = []
        self.standing = self.a_standing()
        self.standing.not_ready = lambda: self.not_ready

    def a_standing(self) -> Standing:
        standing = Standing(TimerWheel(self.clock), Weight(100), lambda: self.connections, lambda: self.draining,
                            lambda: self.nodes, "sip-1", "sip")
        standing.on_change.append(lambda: self.told.append(standing.weight()))
        return standing

    def test_starting(self) -> None:
        """Nobody is to come to a node of which nobody has said that it is ready; what it was once is remembered."""
        standing = self.a_standing()
        self.assertEqual((standing.weight(), standing.state()), (0, State(not_ready=STARTING, has_served=False)))
        standing.not_ready = lambda: None
        self.assertEqual(standing.state(), State())
        standing.not_ready = lambda: "Redis is away"
        self.assertEqual(standing.state(), State(not_ready="Redis is away"))

    def test_states(self) -> None:
        """Drained and not ready are told apart, and both weigh nothing."""
        self.assertEqual((self.standing.weight(), self.standing.state()), (100, State()))
        self.draining = True
        self.assertEqual((self.standing.weight(), self.standing.state()), (0, State(draining=True)))
        self.draining, self.not_ready = False, "Redis and the journal are lost"
        self.assertEqual((self.standing.weight(), self.standing.state()),
                         (0, State(not_ready="Redis and the journal are lost")))

    def test_told_at_once(self) -> None:
        """That the weight has come to 0 or left it is told within a moment, other changes are not."""
        self.standing.start()
        self.assertEqual(self.told, [100])
        for connections in (50, 100, 99, 100, 40):
            self.connections = connections
            self.clock.advance(LOOK_SECONDS)
        self.assertEqual(self.told, [100, 0, 60])
        self.standing.stop()
        self.connections = 100
        self.clock.advance(1)
        self.assertEqual((len(self.told), self.clock.getDelayedCalls()), (3, []))

    def test_gives_away(self) -> None:
        """A node that has others take over some of its phones wants few new ones, but does not want none."""
        self.standing.gives_away = lambda: True
        self.assertEqual((self.standing.weight(), self.standing.state()), (25, State()))
        said = []
        for self.connections in (50, 99, 100):
            said.append(self.standing.weight())
        self.assertEqual(said, [12, 1, 0])

    def test_listener_fails(self) -> None:
        """One who breaks when he is told does not keep others from hearing it."""
        self.standing.on_change.insert(0, lambda: 1 / 0)
        self.standing.start()
        self.assertEqual((self.told, len(self.flushLoggedErrors(ZeroDivisionError))), ([100], 1))

    def test_machine(self) -> None:
        """A worker answers for all of its machine, by what each is to carry, its own part as it knows it itself."""
        self.nodes = (a_worker("sip-1", 0), a_worker("sip-2", 40, capacity=300), a_worker("other", 0, of=""),
                      a_worker("far-1", 0, of="far"))
        self.assertEqual(self.standing.machine_weight(), 55)
        self.draining = True
        self.assertEqual((self.standing.machine_weight(), self.standing.machine_state()), (30, State()))

    def test_machine_wants_nobody(self) -> None:
        """A machine is drained when all of its workers are; one that cannot serve does not hide that others do."""
        self.nodes = (a_worker("sip-1", 0), a_worker("sip-2", 0, draining=True))
        self.assertEqual(self.standing.machine_state(), State())
        self.not_ready = "starting"
        self.assertEqual((self.standing.machine_weight(), self.standing.machine_state()), (0, State(draining=True)))
        self.nodes = (a_worker("sip-2", 20),)
        self.assertEqual((self.standing.machine_weight(), self.standing.machine_state()), (10, State()))
        self.nodes = ()
        self.assertEqual(self.standing.machine_state(), State(not_ready="starting"))

    def test_begun_while_redis_is_away(self) -> None:
        """A worker that begins while nothing is known of its siblings does not call a machine down that has phones."""
        self.not_ready = "Redis is away"
        standing = self.a_standing()
        standing.not_ready = lambda: self.not_ready
        self.assertEqual(standing.machine_state(), State(not_ready="Redis is away"))
        self.nodes = (a_worker("sip-1", 0),)
        self.assertEqual(standing.machine_state(), State(not_ready="Redis is away", has_served=False))
        alone = Standing(TimerWheel(self.clock), Weight(100), lambda: 0, lambda: False)
        self.assertEqual(alone.machine_state(), State(not_ready=STARTING, has_served=False))

    def test_mean(self) -> None:
        """The weight of several is 0 only when each one's is, whatever rounding makes of it."""
        self.assertEqual([mean_weight(parts) for parts in (
            [], [(0, 10), (0, 10)], [(5, 1), (0, 1000)], [(100, 5), (0, 5)], [(100, 0), (50, 0)])], [0, 0, 1, 50, 75])
