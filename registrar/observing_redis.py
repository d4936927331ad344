"""What operators see of the bindings in Redis: the servers, the writes on their way, and what waits for Redis."""

from collections.abc import Callable

from registrar.location.redis import RedisLocation
from rollcall.cluster.redis import Redis, ServerState
from rollcall.ops.metrics import Metrics


def watch_redis(metrics: Metrics, location: RedisLocation, redis: Redis) -> None:
    """Export what there is now, read at each scrape."""
    metrics.total("rollcall_location_events_total",
                  "What became of writes to Redis, and of records that were read there; see docs/cluster.md.",
                  ("event",), lambda: _labelled(location.totals()))
    metrics.gauge("rollcall_location_waiting",
                  "Writes on their way, records being read, in doubt, or owed to Redis, and what the journal holds.",
                  ("what",), lambda: _labelled(location.levels()))
    metrics.gauge("rollcall_redis_up", "1 for a server of Redis that can be asked, 0 for one that cannot.", ("server",),
                  lambda: _of_each(redis, lambda server: server.is_open))
    metrics.gauge("rollcall_redis_left_alone", "1 for a server that is not asked because it has failed so often.",
                  ("server",), lambda: _of_each(redis, lambda server: server.breaker != "closed"))
    metrics.gauge("rollcall_redis_waiting", "Commands without an answer yet.", ("server",),
                  lambda: _of_each(redis, lambda server: server.waiting))
    metrics.total("rollcall_redis_commands_total", "Commands that were sent.", ("server",),
                  lambda: _of_each(redis, lambda server: server.commands))
    metrics.total("rollcall_redis_failures_total",
                  "Attempts to connect that failed, connections that broke, answers that were not in time.",
                  ("server",), lambda: _of_each(redis, lambda server: server.failures))
    metrics.total("rollcall_redis_reconnects_total", "Connections after the first one.", ("server",),
                  lambda: _of_each(redis, lambda server: server.reconnects))


def _of_each(redis: Redis, read: Callable[[ServerState], float]) -> dict[tuple[str, ...], float]:
    return {(server.name,): float(read(server)) for server in redis.servers}


def _labelled(counts: dict[str, int]) -> dict[tuple[str, ...], float]:
    return {(name,): float(count) for name, count in counts.items()}
