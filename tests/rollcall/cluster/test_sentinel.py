"""Who the master is, as Sentinels say, and when another one is asked."""

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from rollcall.cluster.config import RedisConfig
from rollcall.cluster.link import PROBE_SECONDS
from rollcall.cluster.opening import Opening
from rollcall.cluster.redis import RedisUnavailable
from rollcall.cluster.sentinel import SentinelRedis
from tests.rollcall.cluster.memory_redis import MemoryNetwork, MemoryServer, Told

FIRST, SECOND = "192.0.2.1:6379", "192.0.2.1:6380"
SENTINELS = (26379, 26380, 26381)


class SentinelCase(SynchronousTestCase):
    """Two servers, the first of which is the master, and three Sentinels that say so."""

    def setUp(self) -> None:
        self.network = MemoryNetwork()
        self.first, self.second = self.network.server(6379), self.network.server(6380)
        self.second.role = b"slave"
        self.sentinels = [self.network.server(port) for port in SENTINELS]
        for sentinel in self.sentinels:
            self.names(sentinel, 6379, 1)
        self.told = Told()
        addresses = tuple(f"192.0.2.1:{port}" for port in SENTINELS)
        config = RedisConfig(
            mode="sentinel", addresses=addresses, username="us", password="secret",
            sentinel_username="watcher", sentinel_password="other",
        )
        self.redis = SentinelRedis(Opening(self.network, config, lambda: 1.0), self.told)

    def tearDown(self) -> None:
        self.successResultOf(Deferred.fromCoroutine(self.redis.stop()))
        self.network.turns()
        self.assertEqual(self.network.getDelayedCalls(), [])
        for server in self.network.servers.values():
            self.assertEqual(server.connections, [])

    def names(self, sentinel: MemoryServer, port: int, epoch: int) -> None:
        """Let a Sentinel name a master."""
        fields = [b"name", b"rollcall", b"ip", b"192.0.2.1", b"port", b"%d" % port, b"config-epoch", b"%d" % epoch]
        sentinel.answers[b"SENTINEL MASTER"] = fields

    def start(self) -> None:
        """Start, and let it come as far as it can without time."""
        self.redis.start()
        self.network.turns()

    def switch(self) -> None:
        """Let the second server be the master."""
        self.first.role, self.second.role = b"slave", b"master"
        for sentinel in self.sentinels:
            self.names(sentinel, 6380, 2)

    def listened(self) -> MemoryServer:
        """Return the Sentinel that is listened to."""
        return next(each for each in self.sentinels if any(link.is_subscriber for link in each.connections))


class FindingTests(SentinelCase):
    """Who is believed."""

    def test_all_agree(self) -> None:
        """The master that they name is asked, each of both kinds as the user that it knows."""
        self.first.answers = {b"AUTH": "OK"}
        self.sentinels[0].answers[b"AUTH"] = "OK"
        self.start()
        self.assertEqual(self.told.news, [("connected", FIRST, "life-6379", False)])
        self.assertEqual(set(self.first.asked), {(b"AUTH", b"us", b"secret")})
        self.assertIn((b"AUTH", b"watcher", b"other"), self.sentinels[0].asked)

    def test_newest(self) -> None:
        """A Sentinel that was cut off still names the old master, which is not believed."""
        self.switch()
        self.names(self.sentinels[0], 6379, 1)
        self.start()
        self.assertEqual(self.told.news, [("connected", SECOND, "life-6380", False)])

    def test_replica(self) -> None:
        """Who is named but is no master is not asked; soon they are asked again."""
        self.first.role = b"slave"
        self.start()
        self.assertIn("no master but slave", str(self.redis.problem))
        self.switch()
        self.network.pass_by(0.3)
        self.assertEqual(self.told.news, [("connected", SECOND, "life-6380", False)])

    def test_some_are_away(self) -> None:
        """One that refuses and one that says nothing do not prevent the third from being believed."""
        self.sentinels[0].is_refusing = True
        self.sentinels[1].is_silent = True
        self.start()
        self.assertIsNotNone(self.redis.problem)
        self.network.pass_by(1.5)
        self.assertEqual(self.told.news, [("connected", FIRST, "life-6379", False)])

    def test_all_are_away(self) -> None:
        """Without a Sentinel what waits fails."""
        for sentinel in self.sentinels:
            sentinel.is_refusing = True
        asked = self.redis.ask(b"key", "GET", b"key")
        self.start()
        self.failureResultOf(asked, RedisUnavailable)

    def test_unknown_name(self) -> None:
        """A name that they do not know is the problem."""
        for sentinel in self.sentinels:
            sentinel.answers[b"SENTINEL MASTER"] = Exception("ERR No such master with that name")
        self.start()
        self.assertIn("No such master", str(self.redis.problem))

    def test_nonsense(self) -> None:
        """A description that lacks the address is the problem, and breaks nothing."""
        for sentinel in self.sentinels:
            sentinel.answers[b"SENTINEL MASTER"] = [b"name", b"rollcall"]
        self.start()
        self.assertIn("in a way that we do not know", str(self.redis.problem))


class SwitchTests(SentinelCase):
    """Another master."""

    def setUp(self) -> None:
        super().setUp()
        self.start()
        self.wanted: list[Any] = [("connected", FIRST, "life-6379", False)]
        self.assertEqual(self.told.news, self.wanted)

    def changed(self) -> list[str]:
        """Return what was told since, by its first word and whether something may be lost."""
        return [f"{news[0]} {news[1]} {news[-1]}" for news in self.told.news[1:]]

    def test_told(self) -> None:
        """When a Sentinel tells of another master it is asked at once, and may lack what was written last."""
        self.switch()
        self.listened().publish(b"+switch-master", b"rollcall 192.0.2.1 6379 192.0.2.1 6380")
        self.network.turns()
        wanted = [f"disconnected {FIRST} the Sentinels name another master", f"connected {SECOND} True"]
        self.assertEqual(self.changed(), wanted)

    def test_other_name(self) -> None:
        """What is told of another master's name is not ours; what is known already changes nothing."""
        self.listened().publish(b"+switch-master", b"others 192.0.2.1 6379 192.0.2.1 6380")
        self.listened().publish(b"+switch-master", b"rollcall 192.0.2.1 6380 192.0.2.1 6379")
        self.network.turns()
        self.assertEqual(self.changed(), [])

    def test_nobody_told(self) -> None:
        """Who was away itself when the master was replaced learns of it when it listens to a Sentinel again."""
        gone = self.listened()
        gone.is_refusing = True
        for each in list(gone.connections):
            each.end()
        self.switch()
        self.network.pass_by(PROBE_SECONDS + 0.5)
        self.assertEqual(self.changed(), [])
        gone.is_refusing = False
        self.network.pass_by(4.5)
        self.assertEqual(self.changed()[-1], f"connected {SECOND} True")

    def test_all_tell(self) -> None:
        """Every Sentinel is listened to; the second one that tells the same changes nothing."""
        self.switch()
        for sentinel in self.sentinels:
            sentinel.publish(b"+switch-master", b"rollcall 192.0.2.1 6379 192.0.2.1 6380")
            self.network.turns()
        self.assertEqual(len(self.changed()), 2)

    def test_read_only(self) -> None:
        """A master that takes no writes any more is left, and the Sentinels are asked."""
        self.switch()
        self.first.answers[b"SET"] = Exception("READONLY You can't write against a read only replica.")
        asked = self.redis.ask(b"key", "SET", b"key", b"1")
        self.network.turns()
        self.failureResultOf(asked, RedisUnavailable)
        self.network.pass_by(0.2)
        self.assertEqual(self.changed()[-1], f"connected {SECOND} True")
