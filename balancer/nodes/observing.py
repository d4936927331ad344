"""What Prometheus is told of media nodes."""

from collections.abc import Callable

from balancer.nodes.registry import Happening, Nodes
from rollcall.media.snapshot import NodeState
from rollcall.ops.metrics import Metrics

Values = dict[tuple[str, ...], float]


def watch_nodes(nodes: Nodes, metrics: Metrics, now: Callable[[], float]) -> None:
    """Show every node in `metrics`, and count what becomes of them."""
    changes = metrics.counter(
        "rollcall_balancer_node_changes_total",
        'What has become of media nodes: a new state, "restarted", "joined" or "gone"', ["change"])

    def changed(happening: Happening) -> None:
        changes.cell(happening.state.value if happening.kind == "state" else happening.kind).add()

    def states() -> Values:
        return {(name, node.state.value): 1.0 for name, node in nodes.nodes(now()).items()}

    def sessions() -> Values:
        return {(name,): float(node.sessions) for name, node in nodes.nodes(now()).items()}

    def packets() -> Values:
        return {(node.config.id,): node.load.packets_per_second or 0.0 for node in nodes.all() if node.load}

    def answers() -> Values:
        return {(node.config.id,): node.answer_ms / 1000 for node in nodes.all()
                if node.health.state is not NodeState.DOWN}

    nodes.on_change.append(changed)
    metrics.gauge("rollcall_balancer_node_state", "1 for the state that a media node is in", ["node", "state"], states)
    metrics.gauge("rollcall_balancer_node_sessions", "Calls of a media node, as it says or as registrars count",
                  ["node"], sessions)
    metrics.gauge("rollcall_balancer_node_packets_per_second", "Packets that a media node relays", ["node"], packets)
    metrics.gauge("rollcall_balancer_node_answer_seconds", "How long a media node took for its last answer",
                  ["node"], answers)
