"""What operators see of the nodes of a cluster: who lives, whether this one has its lease, and how it is drained."""

from collections.abc import Callable
from typing import Protocol

from registrar.draining import Draining
from rollcall.cluster.nodes import Node
from rollcall.ops.metrics import Metrics


class Nodes(Protocol):
    """Who knows the nodes."""

    @property
    def problem(self) -> str | None:
        """Why others may believe that this node is dead."""

    def nodes(self) -> tuple[Node, ...]:
        """Return all nodes that live."""


def watch_draining(metrics: Metrics, draining: Draining) -> None:
    """Export whether this node is drained, and how many connections that has closed."""
    metrics.gauge("rollcall_draining", "1 while this node is drained.", (), lambda: float(draining.is_draining))
    metrics.total("rollcall_drained_flows_total", "Connections closed because this node is drained.", (),
                  lambda: float(draining.closed))


def watch_nodes(metrics: Metrics, leases: Nodes, removed: Callable[[], int]) -> None:
    """Export the nodes as this one knows them; `removed` counts what it has cleaned up after others."""
    metrics.gauge("rollcall_cluster_nodes", "Nodes that live, by whether they are drained; this one counts.",
                  ("state",), lambda: _states(leases.nodes()))
    metrics.gauge("rollcall_cluster_has_lease", "1 while this node's lease is renewed, 0 when others may believe that "
                  "it is dead.", (), lambda: float(leases.problem is None))
    metrics.total("rollcall_cluster_removed_total", "Bindings removed here that ended with their node.", (),
                  lambda: float(removed()))


def _states(nodes: tuple[Node, ...]) -> dict[tuple[str, ...], float]:
    draining = sum(node.draining for node in nodes)
    return {("serving",): float(len(nodes) - draining), ("draining",): float(draining)}
