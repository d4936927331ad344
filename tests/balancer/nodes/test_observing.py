"""What Prometheus is told of nodes."""

from twisted.trial.unittest import SynchronousTestCase

from balancer.nodes.observing import watch_nodes
from balancer.nodes.registry import Nodes
from rollcall.ops.metrics import Metrics
from tests.balancer.nodes.examples import LIMITS, M1, M2, a_load


class ObservingTests(SynchronousTestCase):
    def test_page(self) -> None:
        """The page shows each node's state, calls, packets and answer, and how often what has become of them."""
        metrics = Metrics(process=False)
        nodes = Nodes([M1, M2], LIMITS)
        watch_nodes(nodes, metrics, lambda: 200.0)
        nodes.answered("m1", a_load(sessions=7, packets=350.0), 199.75, 200.0)
        for _ in range(3):
            nodes.missed("m2", "silence", False, 200.0)
        page = metrics.render().decode()
        for line in (
            'rollcall_balancer_node_state{node="m1",state="up"} 1.0',
            'rollcall_balancer_node_state{node="m2",state="down"} 1.0',
            'rollcall_balancer_node_sessions{node="m1"} 7.0',
            'rollcall_balancer_node_packets_per_second{node="m1"} 350.0',
            'rollcall_balancer_node_answer_seconds{node="m1"} 0.25',
            'rollcall_balancer_node_changes_total{change="up"} 1.0',
            'rollcall_balancer_node_changes_total{change="down"} 1.0',
        ):
            self.assertIn(line, page)
        self.assertNotIn('answer_seconds{node="m2"}', page)
