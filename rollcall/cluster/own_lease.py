"""The lease by which others know that this node lives: taken at the start, renewed, and given back at the end."""

from collections.abc import Callable
from typing import Any

from twisted.internet.task import deferLater
from twisted.logger import Logger

from rollcall.cluster.config import ClusterConfig
from rollcall.cluster.nodes import (
    COUNT_UP,
    DROP,
    FENCE,
    GIVE_BACK,
    NODES,
    RENEW,
    TAKE,
    Ended,
    Node,
    decode_lease,
    drain_key,
    encode_lease,
    epoch_key,
    lease_key,
)
from rollcall.cluster.redis import Redis

TOMBSTONE_MS = 7 * 86400 * 1000
"""How long a life that is over cannot go on. No process that was stopped for longer has a connection left."""

EPOCH_SECONDS = 30 * 86400
"""How long the greatest epoch of a node is remembered: longer than any binding lasts."""

TAKE_PAUSE_SECONDS = 0.1
"""How soon a lease is asked for again that an earlier life of ours may still have."""


class CannotJoin(Exception):
    """This process cannot be the node that it is configured to be; says why."""

    def __init__(self, why: str, greatest_epoch: int = 0) -> None:
        """`greatest_epoch` is that of a life of this node, if the next one has to have a greater one than ours."""
        super().__init__(why)
        self.greatest_epoch = greatest_epoch


class OwnLease:
    """Our lease. All that asks Redis raises RedisUnavailable and RedisRefused."""

    _log = Logger()

    def __init__(self, reactor: Any, redis: Redis, config: ClusterConfig, me: Callable[[], Node],
                 wall: Callable[[], float], ended: Callable[[], None]) -> None:
        self.problem: str | None = "it has no lease yet"
        """Why others may believe that we are dead; None when they know better."""
        self.is_over = False
        """This life was declared over."""
        self.is_had = False
        """The lease was ours at least once."""
        self._reactor = reactor
        self._redis = redis
        self._config = config
        self._me = me
        self._wall = wall
        self._ended = ended
        self._name, self._epoch = me().node, me().epoch
        self._key = lease_key(self._name)
        self._is_renewing = self._gives_back = False
        self._waits_since: float | None = None

    async def look_at_clock(self) -> None:
        """Warn when this clock and that of Redis differ: bindings then lapse at other times than phones believe."""
        seconds, micros = await self._redis.ask(NODES, b"TIME")
        skew = self._wall() - int(seconds) - int(micros) / 1e6
        if abs(skew) > self._config.max_clock_skew_seconds:
            self._log.warn("this clock is {skew} s ahead of that of Redis: bindings lapse sooner or later than phones "
                           "were told", skew=round(skew, 1))

    async def take(self) -> None:
        """Take it, if need be when an earlier life that has died has lost it. Raises CannotJoin."""
        # Written is it only with the lease: who is not let in must not stand in the way of the life that goes on.
        remembered = await self._redis.ask(epoch_key(self._name), b"GET", epoch_key(self._name)) or b""
        greatest = int(remembered) if remembered.isdigit() else 0
        if greatest > self._epoch:
            raise CannotJoin(f"node {self._name} has had epoch {greatest}, but this process has {self._epoch}: has the "
                             "clock gone back? The next start has a greater one", greatest)
        patience = self._wall() + self._config.lease_seconds + self._config.renew_seconds
        while not self._gives_back:
            answer = await self._redis.evaluate(TAKE, self._key, self._epoch, encode_lease(self._me()), self._px)
            if answer == 1:
                await self._count_up()
                await self.enrol()
                self._renewed()
                return
            if self._wall() >= patience:
                raise CannotJoin(f"there is a node {self._name} already{_place(answer)}: no two nodes share a name")
            await deferLater(self._reactor, TAKE_PAUSE_SECONDS)

    async def renew(self) -> None:
        """Have others know for some seconds more that we live, and what we say of ourselves."""
        if self._is_renewing or self._gives_back or self.is_over:
            return
        self._is_renewing = True
        try:
            # Who has never had it may not take it from a life that goes on, its own earlier one or another's.
            script = RENEW if self.is_had else TAKE
            answer = await self._redis.evaluate(script, self._key, self._epoch, encode_lease(self._me()), self._px)
            if answer == 0 or (answer == 1 and not self.is_had):
                answer = await self._renewed_late()
            if answer == 1:
                self._renewed()
            elif self.is_had or self._has_waited():
                self._declared_over(answer)
        finally:
            self._is_renewing = False

    def failed(self, why: str) -> None:
        """Take note that it could not be renewed."""
        if self.problem is None:
            self.problem = why
            self._log.warn("the lease was not renewed: {why}", why=why)

    async def enrol(self) -> None:
        """Have others know where to look for it."""
        await self._redis.ask(NODES, b"SADD", NODES, self._name.encode())

    async def give_back(self) -> None:
        """Have others know at once that this life is over."""
        self._gives_back = True
        if not self.is_had or self.is_over:
            return
        tombstone = encode_lease(Ended(node=self._name, epoch=self._epoch, ended_at=self._wall()))
        await self._redis.evaluate(GIVE_BACK, self._key, self._epoch, tombstone, TOMBSTONE_MS)
        await self._redis.ask(NODES, b"SREM", NODES, self._name.encode())
        await self._redis.ask(drain_key(self._name), b"DEL", drain_key(self._name))

    async def is_to_drain(self) -> bool:
        """Return whether somebody wants this life of ours to be drained."""
        wished = await self._redis.ask(drain_key(self._name), b"GET", drain_key(self._name))
        return bool(wished == b"%d" % self._epoch)

    # --- details

    async def _renewed_late(self) -> Any:
        """It had lapsed, or never was ours. Return 1, or the later life that has had it, and is over as well."""
        greatest = await self._count_up()
        if greatest > self._epoch:
            await drop(self._redis, self._name, self._epoch)
            return b"epoch %d" % greatest
        await self.enrol()
        return 1

    async def _count_up(self) -> int:
        return int(await self._redis.evaluate(COUNT_UP, epoch_key(self._name), self._epoch, EPOCH_SECONDS))

    def _has_waited(self) -> bool:
        """Say whether the lease of another life is in our way for longer than one that is over can be."""
        now = self._wall()
        if self._waits_since is None:
            self._waits_since = now
        return now >= self._waits_since + self._config.lease_seconds + self._config.renew_seconds

    def _renewed(self) -> None:
        if self.problem is not None:
            self._log.info("node {node} has its lease, epoch {epoch}", node=self._name, epoch=self._epoch)
        self.is_had, self.problem = True, None

    def _declared_over(self, answer: bytes) -> None:
        self.is_over, self.problem = True, "this life was declared over, or another has begun"
        self._log.critical("node {node}, epoch {epoch}: {problem}: {lease}", node=self._name, epoch=self._epoch,
                           problem=self.problem, lease=_text(answer))
        self._ended()

    @property
    def _px(self) -> int:
        return round(self._config.lease_seconds * 1000)


async def drop(redis: Redis, node: str, epoch: int) -> None:
    """Delete the lease of a life that seems to be over; one that lives nevertheless has it again with its renewal."""
    await redis.evaluate(DROP, lease_key(node), epoch)


async def fence(redis: Redis, node: str, epoch: int, ended_at: float) -> bool:
    """Declare a life over, for good; False when it lives after all."""
    tombstone = encode_lease(Ended(node=node, epoch=epoch, ended_at=ended_at))
    return bool(await redis.evaluate(FENCE, lease_key(node), epoch, tombstone, TOMBSTONE_MS))


async def wish_drain(redis: Redis, node: Node, drained: bool) -> None:
    """Have it known that this life of a node shall be drained, or no longer."""
    key = drain_key(node.node)
    if drained:
        await redis.ask(key, b"SET", key, node.epoch)
    else:
        await redis.ask(key, b"DEL", key)


def _text(answer: bytes) -> str:
    return answer.decode(errors="replace")


def _place(lease: bytes) -> str:
    try:
        found = decode_lease(lease)
    except ValueError:
        return f", whose lease is not understood ({_text(lease)})"
    return f", reached at {found.host}:{found.port}" if isinstance(found, Node) else ""
