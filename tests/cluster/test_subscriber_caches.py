"""What registrars remember of subscribers, above a real Redis: encrypted, told once, and never older than a change."""

from collections.abc import Sequence
from typing import Any

from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.threads import deferToThread

from registrar.auth import Subscriber
from registrar.subscribers.announcing import LOG, MAX_ENTRIES, TELL, TOMBSTONE, announce_now, place_of
from registrar.subscribers.cache import CacheConfig
from registrar.subscribers.contract import subscriber_with
from registrar.subscribers.shared import SharedCache
from registrar.subscribers.store import CachedSubscribers
from rollcall.cluster.access import make_redis
from rollcall.cluster.config import RedisConfig
from tests.cluster.access_case import AccessCase, spread
from tests.registrar.subscriber_nodes import DOMAIN, KEY, Database, NodeSource

reactor: Any = global_reactor

FRESH_SECONDS = 1.0
SOON_SECONDS = 1.0
"""Within this a change counts everywhere."""
USERS = 200
PARALLEL = 20


class CacheNode:
    """A registrar as far as subscribers are concerned: the watcher of its own Redis client."""

    def __init__(self, database: Database, settings: dict[str, Any], **cache: Any) -> None:
        self.source = NodeSource(database)
        config = CacheConfig(**cache)
        self.redis = make_redis(reactor, RedisConfig(**{"timeout_seconds": 0.5, "breaker_seconds": 0.3, **settings}),
                                self)
        self.shared = SharedCache(reactor, self.redis, KEY, config.stale_seconds, FRESH_SECONDS)
        self.store = CachedSubscribers(reactor, self.source, config, shared=self.shared, fresh_seconds=FRESH_SECONDS)

    def connected(self, server: str, run_id: str, may_have_lost: bool) -> None:
        """Hand on."""
        self.shared.connected()

    def disconnected(self, server: str, why: str) -> None:
        """Nothing is to be done."""

    def invalidated(self, keys: Sequence[bytes] | None) -> None:
        """Hand on."""
        self.shared.changed(keys)

    def leases_changed(self) -> None:
        """There are none."""

    async def stop(self) -> None:
        """End it."""
        await self.store.stop()
        await self.redis.stop()

    async def password(self, *candidates: str, username: str = "alice") -> str | None:
        """Return which of these passwords counts now, None when none does."""
        subscriber = await self.store.find(username, DOMAIN)
        return next((each for each in candidates or ("old", "new") if is_of(subscriber, each)), None)


def is_of(subscriber: Subscriber | None, password: str) -> bool:
    """Say whether this is the subscriber's password."""
    return subscriber is not None and dict(subscriber.ha1) == dict(
        subscriber_with(subscriber.username, subscriber.domain, password).ha1)


class SubscriberCachesTests(AccessCase):
    """Three nodes, one database in which alice's password is "old"."""

    async def nodes(self, count: int = 3, **cache: Any) -> list[CacheNode]:
        """Return nodes that can ask Redis, which is empty."""
        await self.opened()
        self.flush()
        self.database = Database()
        self.database.write("alice", "old", tells=False)
        return [await self.a_node(**cache) for _ in range(count)]

    def flush(self) -> None:
        """Empty all masters."""
        for server in self.servers.servers:
            if server.ask("ROLE")[0] == b"master":
                server.ask("FLUSHALL")

    async def a_node(self, **cache: Any) -> CacheNode:
        """Return a further node."""
        node = CacheNode(self.database, self.servers.settings, **cache)
        self.addCleanup(lambda: Deferred.fromCoroutine(node.stop()))
        await node.store.start()
        node.redis.start()
        await self.opened(node.redis)
        await node.shared.caught_up()
        return node

    async def knows(self, nodes: Sequence[CacheNode], password: str) -> float:
        """Return how long it takes until this password counts at all nodes."""
        began = reactor.seconds()
        for node in nodes:
            while await node.password(password) is None:
                self.assertLess(reactor.seconds() - began, SOON_SECONDS)
                await spread(0.001)
        return float(reactor.seconds() - began)

    async def value(self, username: str = "alice") -> bytes | None:
        """Return what lies in Redis."""
        place = place_of(username, DOMAIN)
        found: bytes | None = await self.redis.ask(place, "GET", place)
        return found

    async def test_life(self) -> None:
        """One reads for all; another password counts at all within milliseconds, whoever has changed it."""
        nodes = await self.nodes()
        for node in nodes:
            self.assertEqual(await node.password(), "old")
        self.assertEqual([len(node.source.asked) for node in nodes], [1, 0, 0])
        took = []
        for number in range(12):
            password = f"p{number}"
            await nodes[number % 3].store.set_password("alice", DOMAIN, password)
            took.append(await self.knows(nodes, password))
        self.assertEqual(await self.value(), TOMBSTONE)
        self.figure(f"another password counts at 3 nodes after at most {max(took) * 1000:.1f} ms")
        self.database.catch_up()
        await spread(FRESH_SECONDS + 0.3)
        for node in nodes:
            self.assertEqual(await node.password("p11"), "p11")
        self.assertNotIn(await self.value(), (None, TOMBSTONE))

    async def test_cold(self) -> None:
        """However many ask for the same users at the same time, at whichever nodes, each is read once."""
        nodes = await self.nodes()
        for number in range(USERS):
            self.database.write(f"u{number}", "x", tells=False)
        asking = []
        for number in range(USERS):
            asking += [Deferred.fromCoroutine(node.store.find(f"u{number}", DOMAIN))
                       for _ in range(PARALLEL) for node in nodes]
            await spread(0)  # so that no turn of the reactor is longer than those of a registrar
        found = await DeferredList(asking, fireOnOneErrback=True)
        self.assertTrue(all(is_of(subscriber, "x") for _, subscriber in found[:USERS * 3]))
        self.assertEqual(sum(len(node.source.asked) for node in nodes), USERS)

    async def test_by_a_command(self) -> None:
        """A command without a reactor lets all nodes hear of a change, and says why when it cannot."""
        nodes = await self.nodes()
        for node in nodes:
            await node.password()
        for names in ([("alice", DOMAIN)], None):
            password = "one" if names else "anybody"
            self.database.write("alice", password, tells=False)
            config = RedisConfig(**self.servers.settings)
            self.assertIsNone(await deferToThread(announce_now, config, names, FRESH_SECONDS))
            await self.knows(nodes, password)
        problem = await deferToThread(announce_now, RedisConfig(addresses=("127.0.0.1:1",)), None, FRESH_SECONDS)
        self.assertIn("127.0.0.1:1", problem or "")

    async def test_late_node(self) -> None:
        """A node that had read before a change and was stopped until the tombstone had gone puts back nothing."""
        quick, late = await self.nodes(2)
        late.source.held = []
        late.shared.changed = lambda keys: None  # type: ignore[method-assign]
        reading = Deferred.fromCoroutine(late.store.find("alice", DOMAIN))
        await self.until(lambda: late.source.asked, "question")
        await quick.store.set_password("alice", DOMAIN, "new")
        self.database.catch_up()
        await spread(FRESH_SECONDS + 0.3)
        self.assertIsNone(await self.value())
        late.source.release()
        await reading
        await spread(0.1)
        self.assertIsNone(await self.value())
        self.assertEqual(await quick.password(), "new")

    async def test_log(self) -> None:
        """The log stays short, its entries name the last one that concerned everybody, and reading it goes on."""
        (node,) = await self.nodes(1)
        await node.password()
        many = [b"u", DOMAIN.encode()] * 500
        for _ in range(MAX_ENTRIES // 500 + 2):
            await self.redis.evaluate(TELL, LOG, MAX_ENTRIES, *many)
        self.assertLess(await self.redis.ask(LOG, "XLEN", LOG), MAX_ENTRIES * 1.1)
        self.database.write("alice", "new", tells=False)
        await node.shared.announce(None)
        await self.knows([node], "new")
        newest = await self.redis.ask(LOG, "XREVRANGE", LOG, "+", "-", "COUNT", 1)
        await node.shared.announce([("bob", DOMAIN)])
        after = await self.redis.ask(LOG, "XREVRANGE", LOG, "+", "-", "COUNT", 1)
        self.assertEqual(after[0][1][5], newest[0][0])
        self.database.write("alice", "newer", tells=False)
        await self.redis.evaluate(TELL, LOG, MAX_ENTRIES, "alice", DOMAIN)
        await self.knows([node], "newer")

    async def test_flushed(self) -> None:
        """When Redis was emptied everybody is asked for again, once."""
        nodes = await self.nodes()
        for node in nodes:
            await node.password()
        self.database.write("alice", "new", tells=False)
        self.flush()
        await self.knows(nodes, "new")


class OneServerTests(SubscriberCachesTests):
    """What can happen to the one server."""

    async def test_stopped_server(self) -> None:
        """A server that says nothing holds up nobody for long, and what the database says of changes counts."""
        nodes = await self.nodes(2)
        await nodes[0].password()
        (server,) = self.servers.servers
        self.servers.pause(server.pid)
        try:
            began = reactor.seconds()
            self.assertEqual(await nodes[1].password(), "old")
            self.assertLess(reactor.seconds() - began, 1.0)
            self.database.write("alice", "new")
            await spread(SOON_SECONDS)
            for node in nodes:
                self.database.catch_up()
                await self.knows([node], "new")
        finally:
            self.servers.resume(server.pid)

    async def test_restarted_server(self) -> None:
        """A server that dies takes nothing along; changes that nobody could announce are found once it is back."""
        nodes = await self.nodes(2)
        for node in nodes:
            await node.password()
        (server,) = self.servers.servers
        server.kill()
        self.assertEqual(await nodes[1].password(), "old")
        self.database.write("alice", "new")
        server.start()
        for node in nodes:
            await self.opened(node.redis)
        await spread(0.6)
        for node in nodes:
            await self.knows([node], "new")


class InRedisClusterTests(SubscriberCachesTests):
    """The same in a Redis Cluster, whose servers have some of the keys each."""

    kind = "cluster"


del SubscriberCachesTests
