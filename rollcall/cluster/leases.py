"""Which nodes live: our own lease, kept in Redis, and what the leases of the others say.

A node whose lease has lapsed is dead for all others, and whatever hangs on its connections is not found; nobody has to
look for that in Redis, for here it is known. While Redis is away everybody is assumed to be as he was last, until
enough time has passed since its return for all to renew their leases. Who refuses connections is dead at once.
"""

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from rollcall.cluster.config import ClusterConfig
from rollcall.cluster.lives import Epoch, Lives
from rollcall.cluster.nodes import NODES, Lease, Node, decode_lease, lease_key
from rollcall.cluster.own_lease import OwnLease, drop, fence, wish_drain
from rollcall.cluster.redis import Redis, RedisRefused, RedisUnavailable

ASK_PAUSE_SECONDS = 0.1
"""How soon Redis is asked again by a node that starts."""

END_SECONDS = 0.01
"""How long after the end of a lease it is looked for: Redis counts whole milliseconds."""

LOOK_PAUSE_SECONDS = 0.05
LOOK_PAUSE_SECONDS_PER_NODE = 0.01
"""After a look at all leases the next one waits so long: news come with every lease that anybody renews."""


class Leases:
    """Knows which (node, epoch) lives. Listeners are called in the turn in which a change was seen."""

    _log = Logger()

    def __init__(self, reactor: Any, redis: Redis, config: ClusterConfig, me: Callable[[], Node],
                 wall: Callable[[], float], ended: Callable[[], None]) -> None:
        """`me` is what our lease says now, of one node and epoch; `ended` is called when our life was declared over."""
        self.on_change: list[Callable[[frozenset[Epoch]], None]] = []
        """Told which lives have just ended."""
        self.on_nodes: list[Callable[[], None]] = []
        """Called when `nodes()` says something new, and when we have become one of them."""
        self.on_wish: list[Callable[[bool], None]] = []
        """Told again and again whether somebody wants this node to be drained."""
        self._reactor = reactor
        self._redis = redis
        self._config = config
        self._name = me().node
        self._wall = wall
        self._lives = Lives(config, me, self._look_soon)
        self._own = OwnLease(reactor, redis, config, me, wall, ended)
        self._is_running = self._is_looking = self._looks_again = False
        self._looked_at = 0.0
        self._shown: tuple[Node, ...] = ()
        self._next_beat: IDelayedCall | None = None
        self._next_look: IDelayedCall | None = None
        self._next_end: IDelayedCall | None = None
        self.is_living = self._lives.is_living
        self.ended_at = self._lives.ended_at
        self.nodes = self._lives.nodes
        self.node = self._lives.node

    # --- life

    async def start(self) -> None:
        """Take the lease and see who else is there. Raises CannotJoin when this node lives already.

        While Redis is away it returns after a while without a lease, which is then taken as soon as it can be.
        """
        self._is_running = True
        patience = self._wall() + self._config.lease_seconds
        while self._is_running:
            try:
                await self._own.look_at_clock()
                await self._own.take()
                break
            except (RedisUnavailable, RedisRefused) as problem:
                if self._wall() >= patience:
                    self._log.warn("this node has no lease yet: {problem}", problem=str(problem))
                    break
            await deferLater(self._reactor, ASK_PAUSE_SECONDS)
        if self._is_running:
            await self._read_all()
            self._next_beat = self._reactor.callLater(self._config.renew_seconds, self._beat)

    async def stop(self) -> None:
        """Give the lease back: the others know at once that this life is over."""
        self._is_running = False
        for call in (self._next_beat, self._next_look, self._next_end):
            if call is not None and call.active():
                call.cancel()
        try:
            await self._own.give_back()
        except (RedisUnavailable, RedisRefused) as problem:
            self._log.warn("the lease was not given back, and lapses: {problem}", problem=str(problem))

    @property
    def problem(self) -> str | None:
        """Why other nodes may believe that this one is dead; None when they know better."""
        return self._own.problem

    @property
    def is_member(self) -> bool:
        """Whether this life has had its lease; until then another one of the same name may be going on."""
        return self._own.is_had

    # --- what happens

    def leases_changed(self) -> None:
        """Look at the leases soon, for one of them is another than before."""
        self._look_soon()

    def redis_connected(self) -> None:
        """Assume for a while that all live who lived: a server is back, and all have to renew their leases there.

        It is the same when a server was emptied.
        """
        self._lives.assume(self._wall())
        if self._is_running and self.is_member:
            self._start(self._renew())
        self._look_soon()

    def suspect(self, node: str, epoch: int, why: str = "") -> None:
        """Look at once whether a node lives to which a connection broke.

        One that has refused two does not, nor one that was replaced by a later life; that stands then in `why`.
        """
        now = self._wall()
        if ("refused" in why and self._lives.refused(node, epoch, now)) or (
                "replaced" in why and self._lives.replaced(node, epoch, now)):
            self._start(drop(self._redis, node, epoch))
            self._tell()
            self._look_soon()
        elif self.node(node) is not None:
            self._look_soon()

    def announce(self) -> None:
        """Have our lease say at once what it should say now."""
        if self._is_running:
            self._start(self._renew())
            self._tell()

    # --- what is wanted

    async def wish(self, name: str, drained: bool) -> bool:
        """Have a node drained, or no longer; False when it does not live. Raises RedisUnavailable and RedisRefused."""
        node = self.node(name)
        if node is None:
            return False
        await wish_drain(self._redis, node, drained)
        if name == self._name:
            await self._hear_wish()
        return True

    async def fence(self, node: str, epoch: int) -> bool:
        """See that a life that seems to be over cannot go on; False when it lives. Raises as `wish` does."""
        if self.is_living(node, epoch):
            return False
        return await fence(self._redis, node, epoch, self.ended_at(node, epoch) or self._wall())

    # --- details

    def _beat(self) -> None:
        self._next_beat = self._reactor.callLater(self._config.renew_seconds, self._beat)
        self._start(self._renew())
        self._start(self._hear_wish())
        self._look()

    async def _renew(self) -> None:
        was_member, was_in_doubt = self.is_member, self._is_in_doubt
        try:
            await self._own.renew()
        except (RedisUnavailable, RedisRefused) as problem:
            self._own.failed(str(problem))
        if was_in_doubt and not self._is_in_doubt:
            self._lives.assume(self._wall())
        if self.is_member and not was_member:
            self._call_all(lambda listener: listener(), self.on_nodes)

    @property
    def _is_in_doubt(self) -> bool:
        """Whether the others may be as unable to renew their leases as we are: Redis may read and not write."""
        return self.is_member and self._own.problem is not None

    async def _hear_wish(self) -> None:
        is_wished = await self._own.is_to_drain()
        if self._is_running:
            self._call_all(lambda listener: listener(is_wished), self.on_wish)

    def _look_soon(self) -> None:
        if not self._is_running or self._next_look is not None:
            return
        pause = LOOK_PAUSE_SECONDS + LOOK_PAUSE_SECONDS_PER_NODE * len(self._shown)
        wait = min(max(0.0, self._looked_at + pause - self._wall()), pause)
        self._next_look = self._reactor.callLater(wait, self._look)

    def _look(self) -> None:
        if self._next_look is not None and self._next_look.active():
            self._next_look.cancel()
        self._next_look = None
        if self._is_looking:
            self._looks_again = True
        else:
            self._start(self._read_all())

    async def _read_all(self) -> None:
        """Read every lease that there is or was a moment ago, then tell what is new."""
        self._is_looking, self._looked_at = True, self._wall()
        try:
            members = await self._members()
            heard_of = self._lives.heard_of
            names = sorted((members | self._lives.names) - {self._name})
            await self._read(names, heard_of)
            for name in members.intersection(names):
                if self.node(name) is None:
                    await self._redis.ask(NODES, b"SREM", NODES, name.encode())
        finally:
            self._is_looking = False
            if self._looks_again:
                self._looks_again = False
                self._look_soon()

    async def _members(self) -> set[str]:
        """Return the names of nodes that are or were; none when nobody answers."""
        try:
            members = set(filter(None, map(_name, await self._redis.ask(NODES, b"SMEMBERS", NODES))))
            if self._name not in members and self._own.is_had and self._is_running:
                await self._own.enrol()
            return members
        except (RedisUnavailable, RedisRefused):
            return set()

    async def _read(self, names: list[str], heard_of: tuple[Epoch, ...]) -> None:
        asked = [self._redis.ask(lease_key(name), b"GET", lease_key(name)) for name in names]
        lasting = [self._redis.ask(lease_key(name), b"PTTL", lease_key(name)) for name in names]
        answers = await DeferredList(asked, consumeErrors=True)
        self._look_at_end(await DeferredList(lasting, consumeErrors=True))
        now = self._wall()
        for name, (is_read, value) in zip(names, answers, strict=True):
            if is_read and (value is not None or not self._is_in_doubt):
                self._lives.learn(name, self._decoded(name, value), now)
                self._lives.judge([each for each in heard_of if each[0] == name], now)
            else:
                self._lives.unsure((name,))
        self._tell()

    def _look_at_end(self, lasting: list[tuple[bool, Any]]) -> None:
        """Look as soon as a lease has lapsed, if that comes before the next beat: nobody tells of its end."""
        if self._next_end is not None and self._next_end.active():
            self._next_end.cancel()
        first = min([left / 1000 for is_read, left in lasting if is_read and left > 0], default=0.0)
        if 0 < first < self._config.renew_seconds and self._is_running:
            self._next_end = self._reactor.callLater(first + END_SECONDS, self._look)

    def _decoded(self, name: str, value: bytes | None) -> Lease | None:
        if value is None:
            return None
        try:
            lease = decode_lease(value)
        except ValueError as problem:
            self._log.error("node {node}: {problem}", node=name, problem=str(problem), log_rationed=True)
            return None
        return lease if lease.node == name else None

    def _tell(self) -> None:
        news, self._lives.news = frozenset(self._lives.news), set()
        shown, before = self.nodes(), self._shown
        self._shown = shown
        if news:
            self._call_all(lambda listener: listener(news), self.on_change)
        if shown != before:
            self._call_all(lambda listener: listener(), self.on_nodes)

    def _call_all(self, call: Callable[[Any], object], listeners: Iterable[Any]) -> None:
        for listener in tuple(listeners):
            try:
                call(listener)
            except Exception:
                self._log.failure("while somebody was told of nodes")

    def _start(self, work: Awaitable[object]) -> None:
        async def doing() -> None:
            await work

        Deferred.fromCoroutine(doing()).addErrback(self._failed)

    def _failed(self, failure: Failure) -> None:
        if failure.check(RedisUnavailable, RedisRefused) is None:
            self._log.failure("while leases were looked after", failure=failure)
        else:
            self._log.debug("not asked about leases: {why}", why=failure.getErrorMessage())


def _name(member: bytes) -> str | None:
    """Return the name of a node; None for what is none, whoever has written it."""
    try:
        return member.decode()
    except UnicodeDecodeError:
        return None
