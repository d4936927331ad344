"""Which node group each tenant's calls use: as configured, and as operators have said since then.

What they say is kept in a hash in Redis, so that every balancer has it, also after a start; without Redis it lasts as
long as this process. The master publishes it with the next snapshot: running calls stay, new ones go to the new group.
"""

from collections.abc import Callable, Mapping
from typing import Annotated, Any

import msgspec
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from rollcall.cluster.polling import Polling
from rollcall.cluster.redis import Redis, RedisRefused, RedisUnavailable
from rollcall.media.snapshot import DEFAULT_GROUP
from rollcall.ops.allowed import NAME
from rollcall.ops.api import ApiError, Call, Routes

TENANTS = b"media:tenants"
"""The hash: tenant to node group."""

READ_SECONDS = 1.0
"""How often it is looked what operators have said to other balancers."""

MOST_TENANTS = 10_000
"""So many can have been said; all are in each whole snapshot."""

LONGEST_NAME = 255

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
        self._said: dict[str, str] = {}
        self._redis = redis
        self._changes = 0
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

    async def say(self, name: str, group: str | None) -> None:
        """Give a tenant another group; None: the configured one. Raises RedisUnavailable and RedisRefused."""
        if self._redis is not None:
            if group is None:
                await self._redis.ask(TENANTS, b"HDEL", TENANTS, name.encode())
            else:
                await self._redis.ask(TENANTS, b"HSET", TENANTS, name.encode(), group.encode())
        self._changes += 1
        said = {**self._said, name: group}
        self._take({each: its for each, its in said.items() if its is not None})

    async def read(self) -> None:
        """Read what was said. Raises RedisUnavailable and RedisRefused."""
        if self._redis is None:
            return
        changes = self._changes
        flat = await self._redis.ask(TENANTS, b"HGETALL", TENANTS)
        # What was said here meanwhile may be newer than this answer.
        if changes == self._changes:
            said = zip(flat[::2], flat[1::2], strict=True)
            self._take({name.decode(errors="replace"): group.decode(errors="replace") for name, group in said})

    def _take(self, said: dict[str, str]) -> None:
        self._said = said
        groups = {**self._configured, **said}
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
        if name not in self._said and len(self._said) >= MOST_TENANTS:
            raise ApiError(409, f"no more than {MOST_TENANTS} tenants can be given groups")
        return await self._answered(name, body.group)

    async def _delete(self, call: Call) -> object:
        name = call.parts["name"]
        if name not in self._said:
            raise ApiError(404, "nothing was said of this tenant; what is configured goes only with the configuration")
        return await self._answered(name, None)

    async def _answered(self, name: str, group: str | None) -> dict[str, Any]:
        try:
            await self.say(name, group)
        except (RedisUnavailable, RedisRefused) as problem:
            raise ApiError(503, f"Redis was not asked, or has not answered: {problem}") from None
        return {"tenant": name, "group": self.groups.get(name, DEFAULT_GROUP)}
