"""Tests of registrar.observing_redis: what waits for Redis, and the servers."""

from prometheus_client.parser import text_string_to_metric_families

from registrar.location.contract import Snapshot
from registrar.observing_redis import watch_redis
from rollcall.ops.metrics import Metrics
from tests.registrar.examples import A, B, a_binding
from tests.registrar.redis_case import SLOW_SECONDS, RedisCase


class WatchRedisTests(RedisCase):
    def setUp(self) -> None:
        super().setUp()
        self.metrics = Metrics(process=False)
        watch_redis(self.metrics, self.store, self.redis)

    def sample(self, name: str, **labels: str) -> float:
        """Return one sample of the page."""
        for family in text_string_to_metric_families(self.metrics.render().decode()):
            for sample in family.samples:
                if sample.name == name and sample.labels == labels:
                    return float(sample.value)
        raise LookupError(name, labels)

    def event(self, name: str) -> float:
        """Return how often something has happened."""
        return self.sample("rollcall_location_events_total", event=name)

    def test_the_story_of_a_slow_redis(self) -> None:
        """A write on its way, in the journal, and there after all: each is seen."""
        seen = self.knows(a_binding(A))
        self.saving(a_binding(B), seen=seen)
        self.assertEqual(self.sample("rollcall_location_waiting", what="writes"), 1)
        self.clock.pump([SLOW_SECONDS / 4] * 6)
        self.assertEqual((self.event("write_journaled"), self.event("journal_written")), (1, 1))
        self.assertEqual(self.sample("rollcall_location_waiting", what="owed"), 1)
        self.assertGreater(self.sample("rollcall_location_waiting", what="journal_bytes"), 0)
        self.redis.answer(1)
        self.assertEqual(self.sample("rollcall_location_waiting", what="owed"), 0)

    def test_outcomes(self) -> None:
        """Writes are counted by what they came to, and so are records that were read."""
        seen = self.knows(a_binding(A))
        self.saving(a_binding(B), seen=seen).addErrback(lambda _: None)
        self.redis.answer(None)
        self.saving(a_binding(B), seen=Snapshot())
        self.redis.answer(1)
        self.assertEqual((self.event("write_kept"), self.event("write_refused")), (1, 1))
        self.assertEqual((self.event("record_read"), self.event("write_given_up")), (1, 0))

    def test_servers(self) -> None:
        """Each server of Redis is seen, up or down."""
        self.assertEqual(self.sample("rollcall_redis_up", server="127.0.0.1:1"), 1)
        self.assertEqual(self.sample("rollcall_redis_commands_total", server="127.0.0.1:1"), 7)
        self.assertEqual(self.sample("rollcall_redis_failures_total", server="127.0.0.1:1"), 1)
        self.assertEqual(self.sample("rollcall_redis_reconnects_total", server="127.0.0.1:1"), 2)
        self.assertEqual(self.sample("rollcall_redis_left_alone", server="127.0.0.1:1"), 0)
        self.lose()
        self.assertEqual(self.sample("rollcall_redis_up", server="127.0.0.1:1"), 0)
