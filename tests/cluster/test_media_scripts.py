"""The scripts of the balancers in real Redis: what unit tests take them for is what they do."""

from random import Random
from typing import Any

from twisted.internet.task import Clock

from balancer.standby import GIVE_BACK, TAKE
from balancer.tenants import SAY
from rollcall.cluster.snapshots import APPEND
from rollcall.cluster.streams import text_of
from rollcall.media.telling import TELL
from tests.cluster.access_case import AccessCase, spread
from tests.rollcall.cluster.stream_redis import StreamRedis

WALKS, STEPS = 20, 60
LEASE_MS = 300


class ScriptTests(AccessCase):
    """One server."""

    async def test_append(self) -> None:
        """In random walks Redis answers each attempt to publish, and keeps, what the Redis of the unit tests does."""
        for walk in range(WALKS):
            key, chance, other = b"stream:%d" % walk, Random(walk), StreamRedis(Clock())
            for _ in range(STEPS):
                words = self.an_attempt(chance, other, key)
                answers = [await redis.evaluate(APPEND, key, *words) for redis in (self.redis, other)]
                self.assertEqual(answers[0], answers[1], words)
                kept = [await redis.ask(key, "XRANGE", key, "0", "+", "COUNT", 1000) for redis in (self.redis, other)]
                self.assertEqual(kept[0], kept[1], words)

    def an_attempt(self, chance: Random, other: StreamRedis, key: bytes) -> tuple[bytes, ...]:
        """Return what somebody could try: mostly what fits, now and then not."""
        top = other.tops.get(key, (1, 0))
        id = chance.choice(((top[0], top[1] + 1), (top[0] + 1, 0), top, (1, chance.randrange(9))))
        before = chance.choice((text_of(top), text_of(top), b"", b"1-1"))
        oldest = chance.choice((b"0-0", b"0-0", b"0-0", text_of(top)))
        return text_of(id), chance.choice((b"whole", b"change")), before, b"1-0", b"{}", oldest

    async def test_append_elsewhere(self) -> None:
        """What is no stream is refused, and stays what it is."""
        await self.redis.ask(b"text", "SET", b"text", b"x")
        failing = self.redis.evaluate(APPEND, b"text", b"1-0", b"whole", b"", b"1-0", b"{}", b"0-0")
        refusal = await self.assertFailure(failing, Exception)
        self.assertIn("WRONGTYPE", str(refusal))

    async def take(self, life: str, least: int = 0) -> list[Any]:
        """Ask for the lease."""
        answer: list[Any] = await self.redis.evaluate(TAKE, self.key, life, f"name of {life}", LEASE_MS, least)
        return answer

    async def test_lease(self) -> None:
        """One life has the lease until it lapses or is given back; fences only grow, and are the time of Redis."""
        self.key = b"lease"
        seconds, _ = await self.redis.ask(self.key, "TIME")
        is_ours, first, left, name = await self.take("a")
        self.assertEqual((is_ours, left, name), (1, LEASE_MS, b"name of a"))
        self.assertLess(abs(int(first) - int(seconds) * 1000), 2000)
        self.assertEqual((await self.take("a"))[:2], [1, first])
        refused, fence, left, name = await self.take("b")
        self.assertEqual((refused, fence, name), (0, first, b"name of a"))
        self.assertTrue(0 < left <= LEASE_MS)
        self.assertEqual(await self.redis.evaluate(GIVE_BACK, self.key, "b"), 0)
        self.assertEqual(await self.redis.evaluate(GIVE_BACK, self.key, "a"), 1)
        is_ours, second, *_ = await self.take("b")
        self.assertEqual(is_ours, 1)
        self.assertGreater(int(second), int(first))
        await spread(LEASE_MS / 1000 + 0.05)
        self.assertEqual((await self.take("b"))[:2], [1, second])
        await spread(LEASE_MS / 1000 + 0.05)
        is_ours, third, *_ = await self.take("a")
        self.assertGreater(int(third), int(second))

    async def test_least_fence(self) -> None:
        """Who has seen a greater fence gets one that is not below what he says."""
        self.key = b"fence"
        _, fence, *_ = await self.take("a")
        _, greater, *_ = await self.take("a", int(fence) + 1_000_000)
        self.assertEqual(int(greater), int(fence) + 1_000_000)
        await self.redis.evaluate(GIVE_BACK, self.key, "a")
        _, next_one, *_ = await self.take("b")
        self.assertEqual(int(next_one), int(greater) + 1)

    async def test_tenants(self) -> None:
        """A later word replaces an earlier one, also within a millisecond; one that was lost comes back, no older."""
        key = b"tenants"
        words = [await self.redis.evaluate(SAY, key, "x", group, 0) for group in ("a", "b", "")]
        moments = [int(word.partition(b" ")[0]) for word in words]
        self.assertEqual(moments, sorted(set(moments)))
        self.assertEqual(words[2], b"%d " % moments[2])
        self.assertEqual(await self.redis.evaluate(SAY, key, "x", "a", moments[0]), words[2])
        await self.redis.ask(key, "DEL", key)
        self.assertEqual(await self.redis.evaluate(SAY, key, "x", "b", moments[1]), words[1])
        self.assertEqual(await self.redis.ask(key, "HGETALL", key), [b"x", words[1]])

    async def test_tell(self) -> None:
        """Reports are kept for so long, and no longer than the stream needs to drop whole pieces of it."""
        key = b"reports"
        for number in range(300):
            await self.redis.evaluate(TELL, key, 1, b"me", b"x" * 5000 + b"%d" % number)
        self.assertEqual(await self.redis.ask(key, "XLEN", key), 300)
        await spread(2.1)
        await self.redis.evaluate(TELL, key, 1, b"me", b"last")
        self.assertLess(await self.redis.ask(key, "XLEN", key), 10)
        newest = await self.redis.ask(key, "XREVRANGE", key, "+", "-", "COUNT", 1)
        self.assertEqual(newest[0][1], [b"from", b"me", b"reports", b"last"])
