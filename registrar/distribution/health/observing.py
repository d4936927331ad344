"""What operators see of a node's weight, and of who asks for it."""

from collections.abc import Callable

from registrar.distribution.health.agent import Agent
from rollcall.ops.metrics import Metrics


def watch_weight(metrics: Metrics, weight: Callable[[], int]) -> None:
    """Export the weight that directors, DNS and the lease have of this node."""
    metrics.gauge("rollcall_weight", "Share of new phones that this node wants of what it is to carry, 0 to 100.", (),
                  lambda: float(weight()))


def watch_agent(metrics: Metrics, agent: Agent) -> None:
    """Export how often the health agent was asked."""
    metrics.total("rollcall_agent_answers_total", "Answers of the health agent.", (), lambda: float(agent.asked))
    metrics.total("rollcall_agent_refused_total", "Connections that the health agent gave no answer: from elsewhere "
                  "than its networks, or too many at a time.", (), lambda: float(agent.refused))
