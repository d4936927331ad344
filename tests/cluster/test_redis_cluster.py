"""Redis access with a real Redis Cluster: keys that move between masters, and masters that die."""

from typing import Any

from rollcall.cluster.redis import RedisUnavailable, Script
from rollcall.cluster.slots import slot_of
from tests.cluster.access_case import KEPT_MS, WRITE, AccessCase, reactor, spread
from tools.laboratory.redis_process import RedisProcess

KEYS = [b"loc:user%d@example.com" % number for number in range(200)]
KEY = KEYS[0]
SLOT = slot_of(KEY)
COUNTED = b"{" + KEY + b"}:count"
COUNT = Script(b"local n = redis.call('INCR', KEYS[1])\nredis.call('EXISTS', KEYS[1])\nreturn n")


class RedisClusterTests(AccessCase):
    """Three masters, each with a replica; a test may leave other masters than it has found."""

    kind = "cluster"

    def owner(self) -> RedisProcess:
        """Return the master of KEY."""
        return self.servers.master_of(SLOT)

    def other(self) -> RedisProcess:
        """Return another master."""
        return next(
            each
            for each in self.servers.servers
            if each.running and each is not self.owner() and each.ask("ROLE")[0] == b"master"
        )

    async def opened_with_map(self) -> None:
        """Return once all three links are open."""
        await self.until(lambda: len(self.redis.servers) == 3, "map")
        await self.opened()

    async def write_all(self, value: bytes) -> list[Any]:
        """Return the answers to writes of all keys, asked in one turn."""
        answers: list[Any] = []
        for key in KEYS:
            self.redis.run(WRITE, key, (value, KEPT_MS), answers.append)
        await self.until(lambda: len(answers) == len(KEYS), "answers")
        return answers

    async def test_all_masters(self) -> None:
        """Each key goes to its master; a scan gives those of all; what others change is told, wherever it is."""
        self.assertEqual(await self.write_all(b"1"), [1] * len(KEYS))
        self.assertEqual(len(self.redis.servers), 3)
        self.assertTrue(all(state.commands > 10 for state in self.redis.servers))
        found = {key async for keys in self.redis.scan(b"loc:*") for key in keys}
        self.assertEqual(found, set(KEYS))
        for key in KEYS[:20]:
            self.servers.master_of(slot_of(key)).ask("SET", key, "2")
        await self.until(lambda: len(self.heard.keys) == 20, "invalidations")
        self.assertEqual(sorted(map(bytes, self.heard.keys)), sorted(KEYS[:20]))  # type: ignore[arg-type]

    async def test_resharding(self) -> None:
        """A slot moves to another master meanwhile: each command is executed once, whatever it was answered first."""
        await self.opened_with_map()
        source, target = self.owner(), self.other()
        asked = 0
        counted: list[Any] = []

        def ask(times: int) -> None:
            nonlocal asked
            for _ in range(times):
                asked += 1
                self.redis.run(COUNT, COUNTED, (), counted.append)

        ask(10)
        await self.until(lambda: len(counted) == asked, "answers")
        target.ask("CLUSTER", "SETSLOT", SLOT, "IMPORTING", source.ask("CLUSTER", "MYID"))
        source.ask("CLUSTER", "SETSLOT", SLOT, "MIGRATING", target.ask("CLUSTER", "MYID"))
        ask(10)
        await self.until(lambda: len(counted) == asked, "answers")
        while keys := source.ask("CLUSTER", "GETKEYSINSLOT", SLOT, 100):
            source.ask("MIGRATE", "127.0.0.1", target.port, "", 0, 2000, "KEYS", *keys)
        target.ask("SCRIPT", "FLUSH")
        ask(10)  # answered ASK, and there NOSCRIPT
        await self.until(lambda: len(counted) == asked, "answers")
        for server in (target, source):
            server.ask("CLUSTER", "SETSLOT", SLOT, "NODE", target.ask("CLUSTER", "MYID"))
        ask(10)  # answered MOVED
        await self.until(lambda: len(counted) == asked, "answers")
        self.assertEqual(sorted(counted), list(range(1, asked + 1)))
        self.assertEqual(self.heard.losses, [])
        await self.until(lambda: self.owner() is target, "map")

    async def test_death(self) -> None:
        """Keys of others are served all the time; those of the dead one by its replica, which may lack some."""
        await self.write_all(b"1")
        old = self.owner()
        spared = next(key for key in KEYS if self.servers.master_of(slot_of(key)) is not old)
        self.servers.kill(old.pid)
        started = reactor.seconds()
        while True:
            self.assertEqual(await self.redis.evaluate(WRITE, spared, b"2", KEPT_MS), 1)
            self.assertIsNone(self.redis.problem)
            try:
                await self.write(KEY, b"2")
                break
            except RedisUnavailable:
                await spread(0.02)
                self.assertLess(reactor.seconds() - started, 10)
        seconds = reactor.seconds() - started
        self.figure(f"its keys were written again {seconds:.2f} s after a master's death (node time-out 1 s)")
        self.assertEqual(self.heard.losses, [self.owner().address])
        self.assertTrue(self.redis.can_ask(KEY))
        self.servers.restart(self.servers.servers.index(old))
        await self.until(lambda: old.ask("ROLE")[0] == b"slave", "old master as a replica", 15)
        self.assertEqual(await self.write_all(b"3"), [1] * len(KEYS))
        self.assertEqual(len(self.heard.losses), 1)

    async def test_seeds_are_away(self) -> None:
        """One node that is known is enough to find all; without any, what waits fails."""
        redis = self.made(addresses=("127.0.0.1:1", self.owner().address))
        self.assertEqual(await redis.ask(KEY, "PING"), b"PONG")
        redis = self.made(addresses=("127.0.0.1:1",))
        await self.assertFailure(redis.ask(KEY, "PING"), RedisUnavailable)
        self.assertIn("refused", str(redis.problem))
