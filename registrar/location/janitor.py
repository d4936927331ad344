"""Removes from Redis what hung on connections of nodes that have ended long ago.

Nobody finds such bindings any more, for everybody knows that their node has ended; so there is no hurry, and one node
at a time does it. It walks through all records when some life has been over for `janitor_seconds`, and once after its
own start, for it may be the first that looks. Before a binding is removed its node's life is declared over for good: a
process that was held up cannot come back to phones that are not registered any more.
"""

from collections.abc import Callable, Iterable
from typing import Any, Protocol

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from registrar.location.keeping import KEEP, PREFIX
from registrar.location.redis import EMPTY_SECONDS
from registrar.location.shared_form import owners_of, snapshot_of, value_of, version_of_value
from rollcall.cluster.config import ClusterConfig
from rollcall.cluster.redis import Redis, RedisRefused, RedisUnavailable, Script

Epoch = tuple[str, int]

LOCK = b"janitor"
PASSED = b"janitor:passed"

LOCK_MS = 30_000
"""How long another node waits after the death of one that was cleaning up."""

PAGE = 250
"""Records that are read at a time; at the default pace 20 times a second."""

LOOK_SECONDS = 5.0
"""How often it is seen whether there is anything to remove."""

TRIES = 3
"""How often a record is tried that somebody else changes meanwhile; the next walk comes by again."""

HOLD = Script(b"""
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if ARGV[2] == '0' then return redis.call('DEL', KEYS[1]) end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
""")
"""KEYS: the lock. ARGV: who has it, milliseconds. Keeps it for so long, or lets it go for 0. 1 when it is his."""


class Lives(Protocol):
    """Who knows which nodes live."""

    def is_living(self, node: str, epoch: int) -> bool:
        """Say whether a life of a node goes on."""

    def ended_at(self, node: str, epoch: int) -> float | None:
        """Return when it ended, in seconds since the epoch."""

    async def fence(self, node: str, epoch: int) -> bool:
        """Declare it over for good; False when it lives."""


class Janitor:
    """The janitor of one node; those of all nodes take turns."""

    _log = Logger()

    def __init__(self, reactor: Any, redis: Redis, lives: Lives, config: ClusterConfig, me: Epoch,
                 wall: Callable[[], float], written: Callable[[bytes], object]) -> None:
        """`written` is told the key of each record that was changed here: our own writes are told us by nobody else."""
        self.removed = 0
        """Bindings removed since the start, for metrics."""
        self._reactor = reactor
        self._redis = redis
        self._lives = lives
        self._config = config
        self._name = f"{me[0]}:{me[1]}".encode()
        self._wall = wall
        self._written = written
        self._due: dict[Epoch, float] = {}
        self._fenced: dict[Epoch, bool] = {}
        self._is_walking = False
        self._next_look: IDelayedCall | None = None

    def start(self) -> None:
        """Look from now on; nodes that ended before our time are looked for after `janitor_seconds`, too."""
        self._due["", 0] = self._wall() + self._config.janitor_seconds
        self._look_later()

    def stop(self) -> None:
        """Leave what is left to others."""
        if self._next_look is not None and self._next_look.active():
            self._next_look.cancel()
        self._next_look = None

    def ended(self, lives: Iterable[Epoch]) -> None:
        """Take note that these have ended, see Leases.on_change."""
        for life in lives:
            self._due[life] = (self._lives.ended_at(*life) or self._wall()) + self._config.janitor_seconds

    # --- when

    def _look_later(self) -> None:
        self._next_look = self._reactor.callLater(min(LOOK_SECONDS, self._config.janitor_seconds), self._look)

    def _look(self) -> None:
        self._look_later()
        now = self._wall()
        due = [at for at in self._due.values() if at <= now]
        if due and not self._is_walking:
            self._is_walking = True
            walking = Deferred.fromCoroutine(self._take_turn(max(due)))
            walking.addErrback(self._failed)
            walking.addCallback(self._walked)

    def _walked(self, result: object) -> None:
        self._is_walking = False

    def _failed(self, failure: Failure) -> None:
        if failure.check(RedisUnavailable, RedisRefused) is None:
            self._log.failure("while cleaning up after nodes that have ended", failure=failure)
        else:
            self._log.info("not cleaned up after nodes that have ended: {why}", why=failure.getErrorMessage())

    async def _take_turn(self, due: float) -> None:
        """Walk through all records, unless another has done so since `due` or does so now."""
        if self._moment(await self._redis.ask(PASSED, b"GET", PASSED)) >= due:
            self._forget(due)
            return
        if await self._redis.ask(LOCK, b"SET", LOCK, self._name, b"NX", b"PX", LOCK_MS) is None:
            return
        began = self._wall()
        try:
            if await self._walk():
                await self._redis.ask(PASSED, b"SET", PASSED, f"{began:.3f}".encode())
                self._forget(began)
        finally:
            await self._redis.evaluate(HOLD, LOCK, self._name, 0)

    def _moment(self, passed: bytes | None) -> float:
        """Return when all records were walked through last; what no clock that agrees with ours said is no moment."""
        try:
            moment = float(passed or 0)
        except ValueError:
            return 0.0
        return moment if moment <= self._wall() + self._config.max_clock_skew_seconds else 0.0

    def _forget(self, until: float) -> None:
        self._due = {life: at for life, at in self._due.items() if at > until}

    # --- what

    async def _walk(self) -> bool:
        """Remove what is to be removed; return False when somebody else goes on, or nobody."""
        before, self._fenced = self.removed, {}
        async for keys in self._redis.scan(PREFIX + b"*", PAGE):
            for first in range(0, len(keys), PAGE):
                page, began = keys[first:first + PAGE], self._wall()
                await self._clean_page(page)
                if self._next_look is None or not await self._redis.evaluate(HOLD, LOCK, self._name, LOCK_MS):
                    return False
                rest = len(page) / self._config.janitor_keys_per_second - (self._wall() - began)
                await deferLater(self._reactor, max(0.0, rest))
        self._log.info("{count} bindings of nodes that have ended are removed", count=self.removed - before)
        return True

    async def _clean_page(self, keys: list[bytes]) -> None:
        values = await DeferredList([self._redis.ask(key, b"GET", key) for key in keys], consumeErrors=True)
        for key, (is_read, value) in zip(keys, values, strict=True):
            if not is_read:
                value.raiseException()
            if value is not None and await self._over(value):
                await self._clean(key, value)

    async def _over(self, value: bytes) -> set[Epoch]:
        """Return which lives that a value names are over, and are so for good."""
        return {owner for owner in owners_of(value) if await self._is_over(owner)}

    async def _is_over(self, owner: Epoch) -> bool:
        known = self._fenced.get(owner)
        if known is None:
            is_late = not self._lives.is_living(*owner)
            if is_late:
                ended_at = self._lives.ended_at(*owner)
                is_late = ended_at is None or ended_at + self._config.janitor_seconds <= self._wall()
            known = self._fenced[owner] = is_late and await self._lives.fence(*owner)
        return known

    async def _clean(self, key: bytes, value: bytes) -> None:
        """Write a record without the bindings of lives that are over."""
        for _ in range(TRIES):
            old = snapshot_of(value)
            over = await self._over(value)
            if old is None or not over:
                return
            gone = [each for each in old.bindings
                    if each.connection_bound and (each.source.node, each.source.epoch) in over]
            new = old.without_flow(tuple(each for each in old.bindings if each not in gone), self._lost_at(over))
            ends_at = max([each.expires_at for each in new.bindings], default=self._wall() + EMPTY_SECONDS)
            answer: Any = await self._redis.evaluate(KEEP, key, value_of(new), version_of_value(value),
                                                     int(ends_at * 1000), max(1, len(old.bindings)))
            if answer == 1:
                self.removed += len(gone)
                self._written(key)
            if answer == 1 or answer is None:
                return
            value = answer

    def _lost_at(self, over: Iterable[Epoch]) -> float:
        return max(self._lives.ended_at(*owner) or 0.0 for owner in over)
