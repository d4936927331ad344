"""What metrics tell of the directory."""

from registrar.directory.directory import Directory
from rollcall.ops.metrics import Metrics


def watch_directory(metrics: Metrics, directory: Directory) -> None:
    """Export how calls were looked up in the directory."""
    metrics.total("rollcall_directory_lookups_total", "Addresses that were called, by where they were looked up.",
                  ("source",), lambda: {(source,): float(number) for source, number in directory.lookups.items()})
    metrics.gauge("rollcall_directory_cached", "Addresses of which is remembered what they are.", (),
                  lambda: len(directory))
    metrics.gauge("rollcall_directory_domains", "Domains of the table.", (), lambda: len(directory.domains))
