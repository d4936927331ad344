"""What operators see of connections that move to nodes with more room."""

from registrar.distribution.rebalancing import Rebalancing, Stage
from rollcall.ops.metrics import Metrics


def watch_rebalancing(metrics: Metrics, rebalancing: Rebalancing) -> None:
    """Export how many connections this node has too many, and what became of those that it closed."""
    metrics.gauge("rollcall_rebalance_surplus", "Connections beyond this node's share that are to move now.", (),
                  lambda: float(rebalancing.surplus))
    metrics.gauge("rollcall_rebalance_stopped", "1 when phones that were closed did not go to other nodes, so that no "
                  "more are closed until a node comes or goes.", (),
                  lambda: float(rebalancing.stage is Stage.STOPPED))
    metrics.total("rollcall_rebalance_closed_total", "Connections closed so that their phones move.", (),
                  lambda: float(rebalancing.closed))
    metrics.total("rollcall_rebalance_returned_total", "Phones of these that came back to this node.", (),
                  lambda: float(rebalancing.returned))
