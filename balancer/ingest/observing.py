"""What comes in, in numbers."""

from balancer.ingest.intake import Intake
from balancer.ingest.listening import HepConnections
from rollcall.ops.metrics import Metrics


def watch_ingest(metrics: Metrics, intake: Intake, connections: HepConnections) -> None:
    """Export what becomes of what comes in."""
    metrics.total(
        "rollcall_ingest_packets_total", "What came with reports, by way and by what became of it.", ("way", "outcome"),
        lambda: {key: float(count) for key, count in intake.outcomes.items()})
    metrics.total(
        "rollcall_ingest_reports_total", "Reports that media nodes have sent.", ("node",),
        lambda: {(node,): float(count) for node, count in intake.by_node.items()})
    metrics.gauge("rollcall_ingest_connections", "Connections that bring HEP.", (), lambda: len(connections))
