"""The metrics of weight, agent and rebalancing."""

from twisted.trial.unittest import SynchronousTestCase

from registrar.distribution.health.agent import Agent
from registrar.distribution.health.config import HealthConfig
from registrar.distribution.health.observing import watch_agent, watch_weight
from registrar.distribution.health.standing import State
from registrar.distribution.observing import watch_rebalancing
from registrar.distribution.rebalancing import Stage
from rollcall.ops.metrics import Metrics
from tests.registrar.distribution import test_rebalancing


class ObservingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.metrics = Metrics(process=False)

    def lines(self) -> list[str]:
        """Return the page of metrics."""
        return self.metrics.render().decode().splitlines()

    def test_health(self) -> None:
        """The weight is what all are told, and whoever asks is counted."""
        agent = Agent(None, HealthConfig(), lambda: 70, State)
        agent.asked, agent.refused = 3, 1
        watch_weight(self.metrics, lambda: 70)
        watch_agent(self.metrics, agent)
        for line in ("rollcall_weight 70.0", "rollcall_agent_answers_total 3.0", "rollcall_agent_refused_total 1.0"):
            self.assertIn(line, self.lines())

    def test_rebalancing(self) -> None:
        """What was closed, what came back, what is left to do, and that it was given up."""
        case = test_rebalancing.RebalancingTests("test_share")
        case.setUp()
        self.addCleanup(case.rebalancing.stop)
        watch_rebalancing(self.metrics, case.rebalancing)
        case.connect(300)
        case.begin()
        case.wait(3)
        closed, left = case.rebalancing.closed, case.rebalancing.surplus
        self.assertGreater(min(closed, left), 0)
        case.rebalancing.stage, case.rebalancing.returned = Stage.STOPPED, 4
        for line in (f"rollcall_rebalance_surplus {left}.0", f"rollcall_rebalance_closed_total {closed}.0",
                     "rollcall_rebalance_stopped 1.0", "rollcall_rebalance_returned_total 4.0"):
            self.assertIn(line, self.lines())
