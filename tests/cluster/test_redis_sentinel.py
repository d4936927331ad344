"""Redis access with a master and Sentinels: whoever is the master is asked, and soon after another one is."""

from rollcall.cluster.redis import RedisUnavailable
from tests.cluster.access_case import AccessCase, reactor, spread
from tools.laboratory.redis_process import RedisProcess
from tools.laboratory.redis_servers import RedisUser

KEY = b"loc:alice@example.com"


class SentinelCase(AccessCase):
    """A master, two replicas, three Sentinels; each test begins with all of them."""

    kind = "sentinel"

    @classmethod
    def setUpClass(cls) -> None:
        """Every test starts servers of its own, since it ends some."""

    @classmethod
    def tearDownClass(cls) -> None:
        """See setUpClass."""

    def setUp(self) -> None:
        super().setUpClass()
        self.addCleanup(super().tearDownClass)
        super().setUp()

    async def written_again(self, value: bytes) -> float:
        """Return the seconds until a write is acknowledged."""
        started: float = reactor.seconds()
        while True:
            try:
                await self.write(KEY, value)
            except RedisUnavailable:
                await spread(0.02)
                self.assertLess(reactor.seconds() - started, 10)
            else:
                seconds: float = reactor.seconds() - started
                return seconds

    def replaced(self, old: RedisProcess) -> None:
        """Check that another master has been connected, and that it is said to lack what was written last."""
        new = self.servers.master()
        self.assertIsNot(new, old)
        self.assertEqual(self.heard.links[0], ("connected", old.address, False))
        self.assertEqual(self.heard.links[-1], ("connected", new.address, True))
        self.assertEqual(self.heard.losses, [new.address])

    async def stays_with(self, new: RedisProcess) -> None:
        """Check that this master is asked on, and has what was written last."""
        await spread(1.0)
        self.assertEqual(await self.redis.ask(KEY, "GET", KEY), b"2")
        self.assertEqual(self.redis.servers[0].name, new.address)
        self.assertEqual(len(self.heard.losses), 1, self.heard.links)


class FailoverTests(SentinelCase):
    """The master hangs, or is replaced on purpose. That it dies is in test_redis_failover.py."""

    async def test_hanging(self) -> None:
        """A master that hangs is left for the new one, and not asked when it goes on."""
        await self.opened()
        old = self.servers.master()
        self.servers.pause(old.pid)
        seconds = await self.written_again(b"2")
        self.figure(f"writes were acknowledged again {seconds:.2f} s after the master hung (time-out 0.5 s)")
        self.replaced(old)
        self.servers.resume(old.pid)
        await self.stays_with(self.servers.master())

    async def test_planned(self) -> None:
        """When the Sentinels are told to change the master, the connections follow at once."""
        await self.opened()
        old = self.servers.master()
        self.servers.sentinels[0].ask("SENTINEL", "FAILOVER", "rollcall")
        await self.until(lambda: self.servers.master() is not old, "other master")
        started = reactor.seconds()
        await self.until(lambda: self.heard.losses == [self.servers.master().address], "other connections")
        self.assertLess(reactor.seconds() - started, 2)
        self.assertEqual(await self.write(KEY, b"1"), 1)
        self.replaced(old)


class SentinelsTests(SentinelCase):
    """The Sentinels have troubles of their own, and users, and TLS."""

    tls = True
    users = (RedisUser(name="lab", password="secret"),)

    async def test_away(self) -> None:
        """With one Sentinel gone and one that hangs, the third is believed; without any, the known master serves on."""
        await self.opened()
        self.servers.kill(self.servers.sentinels[0].pid)
        self.servers.pause(self.servers.sentinels[1].pid)
        redis = self.made()
        await self.opened(redis)
        self.assertEqual(redis.servers[0].name, self.servers.servers[0].address)
        self.assertEqual(await redis.ask(KEY, "PING"), b"PONG")
        for sentinel in self.servers.sentinels[1:]:
            self.servers.kill(sentinel.pid)
        late = self.made()
        await self.assertFailure(late.ask(KEY, "PING"), RedisUnavailable)
        self.assertIsNotNone(late.problem)
        self.assertEqual(await self.write(KEY, b"1"), 1)
