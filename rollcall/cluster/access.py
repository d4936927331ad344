"""Chooses how Redis is asked."""

from typing import Any

from rollcall.cluster.config import RedisConfig
from rollcall.cluster.opening import Opening
from rollcall.cluster.redis import Redis, Watcher
from rollcall.cluster.redis_cluster import ClusterRedis
from rollcall.cluster.sentinel import SentinelRedis
from rollcall.cluster.single import SingleRedis


def make_redis(reactor: Any, config: RedisConfig, watcher: Watcher) -> Redis:
    """Return Redis as configured; nothing connects until its `start`.

    `reactor` provides IReactorTCP and IReactorTime. Raises ValueError when a certificate or key is unusable.
    """
    opening = Opening(reactor, config)
    if config.mode == "sentinel":
        return SentinelRedis(opening, watcher)
    if config.mode == "cluster":
        return ClusterRedis(opening, watcher)
    return SingleRedis(opening, watcher)
