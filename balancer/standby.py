"""Who of several balancers is the master: whoever has the lease in Redis, with its fencing number.

The lease lapses by the clock of Redis, and for the master by his own, from the moment in which he asked for it: so he
knows that he has none before another can have it, however long he was stopped. The fence is greater with each master;
what an earlier one still sends is refused where it arrives (rollcall.cluster.snapshots).
"""

from collections.abc import Callable
from secrets import token_hex
from typing import Any

from attrs import field, frozen
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from rollcall.cluster.polling import Polling
from rollcall.cluster.redis import Redis, RedisRefused, RedisUnavailable, Script
from rollcall.ops.allowed import at_least

MASTER = b"media:master"
"""The lease: a hash of life (a number that no other start of a balancer has), name, fence and until."""

RENEWALS = 3
"""So often a lease is renewed while it lasts: one renewal may be lost."""

LATE_SECONDS = 0.02
"""So much later than a lease lapses the standby asks for it: clocks are not that exact."""


@frozen(kw_only=True)
class StandbyConfig:
    """[standby]: master and standby."""

    name: str = ""
    """What this balancer is called among the others; empty: the host's name and the port of [admin]."""
    lease_seconds: float = field(default=1.5, validator=at_least(0.3))
    """A master that has not renewed its lease for so long is none any more."""


TAKE = Script(b"""
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local held = redis.call('HMGET', KEYS[1], 'life', 'fence', 'until', 'name')
local fence, ends = tonumber(held[2] or '0') or 0, tonumber(held[3] or '0') or 0
local life, name, milliseconds, least = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
if held[1] ~= life then
  if ends > now then return {0, held[2], ends - now, held[4] or ''} end
  fence = math.max(fence + 1, now)
end
if fence < least then fence = math.max(least, now) end
redis.call('HSET', KEYS[1], 'life', life, 'name', name, 'fence', string.format('%.0f', fence),
  'until', string.format('%.0f', now + milliseconds))
return {1, string.format('%.0f', fence), milliseconds, name}
""")
"""KEYS: the lease. ARGV: our life, our name, milliseconds, the least fence. 1 and the fence when it is ours, or 0, the
fence of who has it, for how many milliseconds, and his name."""

GIVE_BACK = Script(b"""
if redis.call('HGET', KEYS[1], 'life') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'until', '0')
return 1
""")
"""KEYS: the lease. ARGV: our life. Lets the next one have it at once; the fence stays."""


class Mastership:
    """Asks for the lease from `start` to `stop`, and knows whether it is ours."""

    _log = Logger()

    def __init__(self, reactor: Any, redis: Redis, config: StandbyConfig, name: str, life: str | None = None) -> None:
        """`name` is what we are called; `life` differs from that of every other balancer and start."""
        self.fence = 0
        """That of our lease, or of the last that we had."""
        self.on_change: list[Callable[[], None]] = []
        """Called when we have become the master, with a new fence, or are none any more."""
        self.changes = 0
        """How often we have become the master."""
        self._reactor = reactor
        self._redis = redis
        self._name = name
        self._holder = ""
        self._life = life or token_hex(8)
        self._seconds = config.lease_seconds
        self._until = float("-inf")
        self._least = 0
        self._is_known = self._is_stopping = False
        self._lapse: IDelayedCall | None = None
        self._sooner: IDelayedCall | None = None
        self._polling = Polling(
            reactor, config.lease_seconds / RENEWALS, self.ask, "asking for the lease of the master")

    def start(self) -> None:
        """Ask for the lease, and renew it."""
        self._polling.start()

    async def stop(self) -> None:
        """Give it back, so that another is master at once."""
        self._is_stopping = True
        await self._polling.stop()
        for call in (self._lapse, self._sooner):
            if call is not None and call.active():
                call.cancel()
        self._end("it stops")
        try:
            await self._redis.evaluate(GIVE_BACK, MASTER, self._life)
        except (RedisUnavailable, RedisRefused) as problem:
            self._log.info("the lease could not be given back: {why}", why=str(problem))

    @property
    def is_master(self) -> bool:
        """Whether the lease is ours at this moment, whatever was held up."""
        return bool(self._reactor.seconds() < self._until)

    @property
    def master(self) -> str:
        """The name of who has the lease, as far as we know; empty when we do not."""
        return "" if self._holder == self._name and not self.is_master else self._holder

    @property
    def problem(self) -> str | None:
        """Why Redis could not be asked last."""
        return self._polling.problem

    def hurry(self) -> None:
        """Ask now: Redis is back."""
        self._polling.hurry()

    def overtaken(self, fence: int) -> None:
        """Hear that somebody has published with this fence: ours is worth nothing, and the next has to be greater."""
        self._least = max(self._least, fence + 1)
        self._end(f"a master with fence {fence} has published")
        self._polling.hurry()

    async def ask(self) -> None:
        """Take the lease, or renew it, unless another has it. Raises RedisUnavailable and RedisRefused."""
        asked_at = self._reactor.seconds()
        is_ours, fence, left, name = await self._redis.evaluate(
            TAKE, MASTER, self._life, self._name, round(self._seconds * 1000), self._least)
        before, self._holder = self._holder, name.decode(errors="replace")
        if is_ours == 1 and not self._is_stopping:
            self._have(int(fence), asked_at + self._seconds)
        elif is_ours == 0:
            self._end(f"{self._holder} has the lease")
            if self._holder != before:
                self._log.info("{master} is the master of the media nodes, {name} stands by", master=self._holder,
                               name=self._name)
            self._ask_after(left / 1000 + LATE_SECONDS)

    def _have(self, fence: int, until: float) -> None:
        was_master, old_fence = self._is_known, self.fence
        self.fence, self._until = fence, until
        if not self.is_master:
            return  # we were stopped between question and answer: the next answer tells
        self._watch()
        self._is_known = True
        if was_master and fence == old_fence:
            return
        self.changes += 1
        self._log.info("{name} is the master of the media nodes, fence {fence}", name=self._name, fence=fence)
        self._tell()

    def _watch(self) -> None:
        if self._lapse is not None and self._lapse.active():
            self._lapse.cancel()
        self._lapse = self._reactor.callLater(self._until - self._reactor.seconds(), self._lapsed)

    def _lapsed(self) -> None:
        if not self.is_master:
            self._end("the lease was not renewed")

    def _end(self, why: str) -> None:
        self._until = float("-inf")
        if self._is_known:
            self._is_known = False
            self._log.info("{name} is not the master of the media nodes any more: {why}", name=self._name, why=why)
            self._tell()

    def _ask_after(self, seconds: float) -> None:
        if self._sooner is not None and self._sooner.active():
            self._sooner.cancel()
        if seconds < self._seconds / RENEWALS and not self._is_stopping:
            self._sooner = self._reactor.callLater(seconds, self._polling.hurry)

    def _tell(self) -> None:
        for told in self.on_change:
            told()
