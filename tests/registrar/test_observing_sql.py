"""Tests of registrar.observing_sql: each server of MySQL, and what is asked of it."""

from prometheus_client.parser import text_string_to_metric_families
from twisted.trial.unittest import SynchronousTestCase

from registrar.observing_sql import watch_sql
from rollcall.ops.metrics import Metrics
from rollcall.sql.looking import Look
from tests.rollcall.sql.scripted import FIRST, PRIMARY, ScriptedServers

REPLICA = {"server": FIRST, "role": "replica"}


class WatchSqlTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.servers = ScriptedServers(replicas=(FIRST,), connections=1).well()
        self.metrics = Metrics(process=False)
        watch_sql(self.metrics, self.servers.sql)

    def sample(self, name: str, **labels: str) -> float | None:
        """Return one sample of the page."""
        for family in text_string_to_metric_families(self.metrics.render().decode()):
            for sample in family.samples:
                if sample.name == name and sample.labels == labels:
                    return float(sample.value)
        return None

    def test_queries(self) -> None:
        """Queries are counted by server and kind, and those under way are seen."""
        for _ in range(3):
            self.servers.sql.read(lambda connection: None)
        self.assertEqual(self.sample("rollcall_sql_queries_total", kind="read", **REPLICA), 3)
        self.assertEqual(self.sample("rollcall_sql_failures_total", kind="read", **REPLICA), 0)
        self.assertEqual(self.sample("rollcall_sql_outstanding", **REPLICA), 3)
        self.assertEqual(self.sample("rollcall_sql_waiting", **REPLICA), 2)

    def test_servers(self) -> None:
        """A replica that falls behind, or is away, is seen, and who takes writes."""
        self.servers.clock.advance(1)
        self.servers.look(FIRST, Look(is_read_only=True, follows=True, lag_seconds=30.0))
        self.assertEqual([self.sample(f"rollcall_sql_{name}", **REPLICA) for name in
                          ("up", "fit", "lag_seconds", "writable", "writer")], [1, 0, 30, 0, 0])
        self.servers.down(FIRST)
        self.assertEqual([self.sample(f"rollcall_sql_{name}", **REPLICA) for name in ("up", "fit", "lag_seconds")],
                         [0, 0, None])
        primary = {"server": PRIMARY, "role": "primary"}
        self.assertEqual([self.sample(f"rollcall_sql_{name}", **primary) for name in ("writable", "writer")], [1, 1])
