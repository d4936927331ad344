"""Nodes, loads and a Redis with their words, for tests."""

from typing import Any

from attrs import evolve
from twisted.internet.task import Clock

from balancer.nodes.config import NodeConfig, NodesConfig
from balancer.nodes.sharing import READ, SAY
from balancer.nodes.statistics import Load
from tests.rollcall.cluster.stream_redis import StreamRedis

M1 = NodeConfig(id="m1", address="192.0.2.1:22222", capacity=100, region="DE", capture_id=1)
M2 = NodeConfig(id="m2", address="[2001:db8::2]:22222", media_hosts=("198.51.100.0/24", "2001:db8:2::/48"))
FS = NodeConfig(id="fs", address="192.0.2.3:5060", kind="freeswitch", groups=("conference",))

LIMITS = NodesConfig(down_after=3, refused_after=2, return_seconds=10.0, drained_seconds=5.0, lease_seconds=15.0,
                     forget_seconds=60.0, max_announced=2, load_seconds=5.0)


def a_load(sessions: int = 0, packets: float = 0.0, uptime: float | None = 100.0, **further: Any) -> Load:
    """Return what an rtpengine says."""
    return evolve(Load(sessions=sessions, packets_per_second=packets, uptime_seconds=uptime, counted=(0.0, 0.0)),
                  **further)


class WordRedis(StreamRedis):
    """Redis in memory, with the scripts of what is said of nodes."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.scripts |= {SAY.sha: self._say, READ.sha: self._read}

    def _say(self, key: bytes, field: bytes, word: bytes, age_ms: bytes) -> int:
        words = self.hashes.setdefault(key, {})
        said = round(self._clock.seconds() * 1000) - int(age_ms)
        if field in words and int(words[field].partition(b" ")[0]) > said:
            return 0
        words[field] = b"%d %s" % (said, word)
        return 1

    def _read(self, key: bytes, keep_ms: bytes) -> list[bytes]:
        now = round(self._clock.seconds() * 1000)
        words = self.hashes.setdefault(key, {})
        for field, value in tuple(words.items()):
            said, _, word = value.partition(b" ")
            if now - int(said) > int(keep_ms) and word not in (b"true", b"false"):
                del words[field]
        return [b"%d" % now, *(each for pair in words.items() for each in pair)]
