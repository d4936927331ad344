"""Which node group each tenant's calls use: as configured, and as operators have said since then.

What they say is kept in a hash in Redis, so that every balancer has it, also after a start; without Redis it lasts as
long as this process. The master publishes it with the next snapshot: running calls stay, new ones go to the new group.

A value is the moment at which it was said, in milliseconds by the clock of Redis, and the group; an empty one takes
back what was said before. What Redis has lost is put back by whoever knows it.
"""

from collections.abc import Callable, Mapping
from typing import Annotated, Any

import msgspec
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from rollcall.cluster.polling import Polling
from rollcall.cluster.redis import Redis, RedisRefused, RedisUnavailable, Script
from rollcall.media.snapshot import DEFAULT_GROUP
from rollcall.ops.allowed import NAME
from rollcall.ops.api import ApiError, Call, Routes

TENANTS = b"media:tenants"
"""The hash: tenant to node group."""

READ_SECONDS = 1.0
"""How often it is looked what operators have said to other balancers."""

MOST_TENANTS = 10_000
"""So many can have been said, and taken back; those that count are in each whole snapshot."""

LONGEST_NAME = 255

SAY = Script(b"""
local time = redis.call('TIME')
local old = redis.call('HGET', KEYS[1], ARGV[1])
local last = old and tonumber(string.match(old, '^%d+')) or 0
local said = tonumber(ARGV[3])
if said == 0 then
  said = math.max(tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000), last + 1)
elseif last >= said then
  return old
end
local value = string.format('%.0f', said) .. ' ' .. ARGV[2]
redis.call('HSET', KEYS[1], ARGV[1], value)
return value
""")
"""KEYS: the hash. ARGV: a tenant, its group, and 0, or when this was said if Redis has lost it. What counts then."""

Word = tuple[int, str]
"""When it was said, and the group; empty: what was said before counts no more."""

Group = Annotated[str, msgspec.Meta(pattern=f"^{NAME.pattern}$")]


class GroupBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of PUT /v1/tenants/{name}."""

    group: Group


class Tenants:
    """Knows them; with Redis from `start` to `stop` also what is said elsewhere."""

    _log = Logger()

    def __init__(self, reactor: IReactorTime, configured: Mapping[str, str], redis: Redis | None) -> None:
        """Without `redis` what is said lasts as long as this process."""
        self.groups: Mapping[str, str] = dict(configured)
        """Node group by AOR, "internal:<domain>" or domain."""
        self.on_change: list[Callable[[], None]] = []
        """Called when a tenant has another group than before."""
        self._configured = dict(configured)
        self._words: dict[str, Word] = {}
        self._redis = redis
        self._polling = Polling(reactor, READ_SECONDS, self.read, "reading tenants")

    def start(self) -> None:
        """Read what has been said, and go on."""
        if self._redis is not None:
            self._polling.start()

    async def stop(self) -> None:
        """Read no more."""
        await self._polling.stop()

    def mount(self, routes: Routes) -> None:
        """Answer below /v1/tenants."""
        routes.get("/v1/tenants", self._list)
        routes.add("PUT", "/v1/tenants/{name}", self._put)
        routes.delete("/v1/tenants/{name}", self._delete)

    async def say(self, name: str, group: str) -> None:
        """Give a tenant another group; empty: the configured one. Raises RedisUnavailable and RedisRefused."""
        if self._redis is None:
            moment, _ = self._words.get(name, (0, ""))
            self._take({name: (moment + 1, group)})
        else:
            self._take({name: _word(await self._redis.evaluate(SAY, TENANTS, name, group, 0))})

    async def read(self) -> None:
        """Read what was said, and put back what is not there any more. Raises RedisUnavailable and RedisRefused."""
        if self._redis is None:
            return
        flat = await self._redis.ask(TENANTS, b"HGETALL", TENANTS)
        there = {name.decode(errors="replace"): _word(value) for name, value in zip(flat[::2], flat[1::2], strict=True)}
        self._take(there)
        for name, (moment, group) in tuple(self._words.items()):
            if there.get(name, (0, ""))[0] < moment:
                await self._redis.evaluate(SAY, TENANTS, name, group, moment)

    def _take(self, words: Mapping[str, Word]) -> None:
        for name, word in words.items():
            if word[0] > self._words.get(name, (0, ""))[0]:
                self._words[name] = word
        groups = {**self._configured, **{name: group for name, (_, group) in self._words.items() if group}}
        if groups == self.groups:
            return
        for name in sorted(groups.keys() | self.groups.keys()):
            old, new = self.groups.get(name, DEFAULT_GROUP), groups.get(name, DEFAULT_GROUP)
            if old != new:
                self._log.info("new calls of {tenant} go to {new}, no longer to {old}", tenant=name, new=new, old=old)
        self.groups = groups
        for told in self.on_change:
            told()

    # --- HTTP

    def _list(self, call: Call) -> object:
        return {"tenants": self.groups, "configured": self._configured, "default": DEFAULT_GROUP}

    async def _put(self, call: Call) -> object:
        name, body = call.parts["name"], call.body(GroupBody)
        if not (0 < len(name) <= LONGEST_NAME and name.isprintable()):
            raise ApiError(400, f"a tenant is an AOR, internal:DOMAIN or a domain, {LONGEST_NAME} characters at most")
        if name not in self._words and len(self._words) >= MOST_TENANTS:
            raise ApiError(409, f"no more than {MOST_TENANTS} tenants can be given groups")
        return await self._answered(name, body.group)

    async def _delete(self, call: Call) -> object:
        name = call.parts["name"]
        if not self._words.get(name, (0, ""))[1]:
            raise ApiError(404, "nothing was said of this tenant; what is configured goes only with the configuration")
        return await self._answered(name, "")

    async def _answered(self, name: str, group: str) -> dict[str, Any]:
        try:
            await self.say(name, group)
        except (RedisUnavailable, RedisRefused) as problem:
            raise ApiError(503, f"Redis was not asked, or has not answered: {problem}") from None
        return {"tenant": name, "group": self.groups.get(name, DEFAULT_GROUP)}


def _word(value: bytes) -> Word:
    moment, _, group = value.partition(b" ")
    return int(moment) if moment.isdigit() else 0, group.decode(errors="replace")
