"""What operators see of MySQL: each server, how far replicas are behind, and what is asked of them."""

from collections.abc import Callable, Mapping

from rollcall.ops.metrics import Metrics
from rollcall.sql.contract import Kind, ServerState, Sql

Labelled = dict[tuple[str, ...], float]


def watch_sql(metrics: Metrics, sql: Sql) -> None:
    """Export what there is now, read at each scrape."""

    def each(read: Callable[[ServerState], float | None]) -> Labelled:
        found = ((server, read(server)) for server in sql.states)
        return {(server.name, server.role): float(value) for server, value in found if value is not None}

    def by_kind(read: Callable[[ServerState], Mapping[Kind, int]]) -> Labelled:
        return {(server.name, server.role, kind): float(count)
                for server in sql.states for kind, count in read(server).items()}

    labels, kinds = ("server", "role"), ("server", "role", "kind")
    metrics.total("rollcall_sql_queries_total", "Reads, writes and checks that a server of MySQL was asked.", kinds,
                  lambda: by_kind(lambda server: server.queries))
    metrics.total("rollcall_sql_failures_total",
                  "Those of them without an answer: no connection, one that was lost, or time was over.", kinds,
                  lambda: by_kind(lambda server: server.failures))
    metrics.gauge("rollcall_sql_outstanding", "Reads and writes that have no answer yet.", labels,
                  lambda: each(lambda server: server.outstanding))
    metrics.gauge("rollcall_sql_waiting", "Those of them that wait for a connection.", labels,
                  lambda: each(lambda server: server.waiting))
    metrics.gauge("rollcall_sql_lag_seconds", "How far a replica is behind, where that is known.", labels,
                  lambda: each(lambda server: server.lag_seconds))
    metrics.gauge("rollcall_sql_up", "1 for a server that answers, 0 for one that is left out.", labels,
                  lambda: each(lambda server: server.is_up))
    metrics.gauge("rollcall_sql_fit", "1 for a server that answers and is not too far behind.", labels,
                  lambda: each(lambda server: server.is_fit))
    metrics.gauge("rollcall_sql_writable", "1 for a server that could take writes, see rollcall_sql_writer.", labels,
                  lambda: each(lambda server: server.is_writable))
    metrics.gauge("rollcall_sql_writer", "1 for the server that writes go to; no server has 1 when nobody takes them.",
                  labels, lambda: each(lambda server: server.name == sql.writer))
