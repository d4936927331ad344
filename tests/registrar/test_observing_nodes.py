"""The metrics of nodes and of draining."""

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from registrar.draining import Draining
from registrar.observing_nodes import watch_draining, watch_nodes
from rollcall.cluster.config import ClusterConfig
from rollcall.cluster.nodes import Node
from rollcall.net.wheel import TimerWheel
from rollcall.ops.metrics import Metrics
from tests.flows import MemoryFlow, a_flow


class MetricsTests(SynchronousTestCase):
    problem: str | None = None

    def setUp(self) -> None:
        self.metrics = Metrics(process=False)
        self.living = [Node(node=name, epoch=1, host="192.0.2.1", port=5070, draining=name == "b") for name in "abc"]
        self.connections: list[MemoryFlow] = []

    def nodes(self) -> tuple[Node, ...]:
        """Return who lives."""
        return tuple(self.living)

    def stop_accepting(self) -> None:
        """Nobody comes anyway."""

    def accept_again(self) -> None:
        """Nobody comes anyway."""

    def flows(self) -> list[MemoryFlow]:
        """Return all connections."""
        return self.connections

    def page(self) -> list[str]:
        """Return the lines of the page."""
        return self.metrics.render().decode().splitlines()

    def test_nodes(self) -> None:
        """Who lives and who is drained is counted, and whether this node has its lease."""
        watch_nodes(self.metrics, self, lambda: 7)
        for line in ('rollcall_cluster_nodes{state="serving"} 2.0', 'rollcall_cluster_nodes{state="draining"} 1.0',
                     "rollcall_cluster_has_lease 1.0", "rollcall_cluster_removed_total 7.0"):
            self.assertIn(line, self.page())
        self.problem = "no answer"
        self.assertIn("rollcall_cluster_has_lease 0.0", self.page())

    def test_draining(self) -> None:
        """Whether this node is drained is told, and the connections that were closed for that."""
        clock = Clock()
        draining = Draining(TimerWheel(clock), self, set, ClusterConfig(drain_grace_seconds=0))
        watch_draining(self.metrics, draining)
        self.assertIn("rollcall_draining 0.0", self.page())
        self.connections = [a_flow("TCP") for _ in range(3)]
        draining.wish(True)
        clock.pump([0.1] * 5)
        for line in ("rollcall_draining 1.0", "rollcall_drained_flows_total 3.0"):
            self.assertIn(line, self.page())
