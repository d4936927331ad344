"""As much of Redis as leases need, in memory: for unit tests, which let time pass by a clock.

That the scripts do the same in a real Redis is shown by tests/cluster/test_leases.py.
"""

from collections.abc import Callable
from typing import Any

from msgspec import json
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock

from rollcall.cluster.nodes import COUNT_UP, DROP, FENCE, GIVE_BACK, RENEW, TAKE
from rollcall.cluster.redis import RedisRefused, RedisUnavailable, Script


class LeaseRedis:
    """Keys that expire, one set, and the scripts of leases. `is_away` lets nothing be answered."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.skew = 0.0
        self.is_away = False
        self.is_full = False
        """Scripts, all of which write, are refused."""
        self.lost: set[bytes] = set()
        """Keys whose server is away."""
        self.values: dict[bytes, tuple[bytes, float]] = {}
        self.members: set[bytes] = set()
        self.changed: list[Callable[[], None]] = []
        """Told when a lease was written or deleted."""

    def ask(self, key: bytes, *command: bytes | int | str) -> "Deferred[Any]":
        if self.is_away or key in self.lost:
            return fail(RedisUnavailable("no answer"))
        name, *arguments = command
        return succeed(getattr(self, "_" + str(name, "ascii").lower())(*arguments))  # type: ignore[arg-type]

    def evaluate(self, script: Script, key: bytes, *arguments: bytes | int) -> "Deferred[Any]":
        if self.is_away or key in self.lost:
            return fail(RedisUnavailable("no answer"))
        if self.is_full:
            return fail(RedisRefused("OOM command not allowed"))
        return succeed(SCRIPTS[script](self, key, *arguments))

    def get(self, key: bytes) -> bytes | None:
        """Return what a key holds now."""
        value, until = self.values.get(key, (b"", 0.0))
        return value if self.clock.seconds() < until else None

    def put(self, key: bytes, value: bytes, milliseconds: int) -> None:
        """Have a key hold this for so long."""
        self.values[key] = value, self.clock.seconds() + milliseconds / 1000
        self._tell(key)

    # --- commands

    def _time(self) -> list[bytes]:
        seconds = self.clock.seconds() + self.skew
        return [b"%d" % int(seconds), b"%d" % int(seconds % 1 * 1e6)]

    def _get(self, key: bytes) -> bytes | None:
        return self.get(key)

    def _pttl(self, key: bytes) -> int:
        return -2 if self.get(key) is None else round((self.values[key][1] - self.clock.seconds()) * 1000)

    def _set(self, key: bytes, value: int) -> bytes:
        self.values[key] = b"%d" % value, float("inf")
        return b"OK"

    def _del(self, key: bytes) -> int:
        found = self.get(key) is not None
        self.values.pop(key, None)
        self._tell(key)
        return int(found)

    def _sadd(self, key: bytes, member: bytes) -> int:
        self.members.add(member)
        return 1

    def _srem(self, key: bytes, member: bytes) -> int:
        self.members.discard(member)
        return 1

    def _smembers(self, key: bytes) -> list[bytes]:
        return sorted(self.members)

    # --- scripts

    def read(self, key: bytes) -> tuple[int, bool] | None:
        """Return the epoch of a lease, and whether it has ended."""
        value = self.get(key)
        if value is None:
            return None
        lease = json.decode(value)
        return lease["epoch"], "ended_at" in lease

    def take(self, key: bytes, mine: int, value: bytes, milliseconds: int) -> Any:
        epoch, ended = self.read(key) or (0, True)
        if epoch > mine or (ended and epoch == mine) or (epoch < mine and not ended):
            return self.get(key)
        self.put(key, value, milliseconds)
        return 1

    def renew(self, key: bytes, mine: int, value: bytes, milliseconds: int) -> Any:
        old = self.read(key)
        if old is not None and (old[0] > mine or old == (mine, True)):
            return self.get(key)
        self.put(key, value, milliseconds)
        return int(old is not None)

    def give_back(self, key: bytes, mine: int, value: bytes, milliseconds: int) -> int:
        if (self.read(key) or (0, True))[0] > mine:
            return 0
        self.put(key, value, milliseconds)
        return 1

    def fence(self, key: bytes, mine: int, value: bytes, milliseconds: int) -> int:
        epoch, ended = self.read(key) or (0, True)
        if epoch >= mine:
            return int(epoch > mine or ended)
        self.put(key, value, milliseconds)
        return 1

    def drop(self, key: bytes, mine: int) -> int:
        return self._del(key) if self.read(key) == (mine, False) else 0

    def count_up(self, key: bytes, mine: int, seconds: int) -> int:
        greatest = max(int(self.get(key) or 0), mine)
        self.values[key] = b"%d" % greatest, self.clock.seconds() + seconds
        return greatest

    def _tell(self, key: bytes) -> None:
        if key.startswith(b"node:"):
            for told in self.changed:
                self.clock.callLater(0, told)


SCRIPTS: dict[Script, Callable[..., Any]] = {
    TAKE: LeaseRedis.take,
    RENEW: LeaseRedis.renew,
    GIVE_BACK: LeaseRedis.give_back,
    FENCE: LeaseRedis.fence,
    DROP: LeaseRedis.drop,
    COUNT_UP: LeaseRedis.count_up,
}
