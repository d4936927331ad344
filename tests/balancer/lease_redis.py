"""Redis in memory with the scripts of the master's lease, as the real ones are tried in tests/cluster."""

from typing import Any

from twisted.internet.task import Clock

from balancer.standby import GIVE_BACK, TAKE
from tests.rollcall.cluster.stream_redis import StreamRedis


class LeaseRedis(StreamRedis):
    """The lease's time is that of the test's clock, and a little more where the test says so."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.ahead_ms = 0
        """So much the clock of Redis is ahead."""
        self.scripts[TAKE.sha] = self._take
        self.scripts[GIVE_BACK.sha] = self._give_back

    def _now(self) -> int:
        return round(self._clock.seconds() * 1000) + self.ahead_ms

    def _take(self, key: bytes, life: bytes, name: bytes, milliseconds: bytes, least: bytes) -> Any:
        held = self.hashes.setdefault(key, {})
        fence, ends, now = int(held.get(b"fence", 0)), int(held.get(b"until", 0)), self._now()
        if held.get(b"life") != life:
            if ends > now:
                return [0, held[b"fence"], ends - now, held[b"name"]]
            fence = max(fence + 1, now)
        if fence < int(least):
            fence = max(int(least), now)
        held.update({b"life": life, b"name": name, b"fence": b"%d" % fence})
        held[b"until"] = b"%d" % (now + int(milliseconds))
        return [1, b"%d" % fence, int(milliseconds), name]

    def _give_back(self, key: bytes, life: bytes) -> int:
        held = self.hashes.get(key, {})
        if held.get(b"life") != life:
            return 0
        held[b"until"] = b"0"
        return 1
