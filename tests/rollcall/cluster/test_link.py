"""The link to one server, seen through a Redis that has one: its life, its failures, and what is told of it."""

from itertools import pairwise
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from rollcall.cluster.config import RedisConfig
from rollcall.cluster.link import PROBE_SECONDS
from rollcall.cluster.opening import Opening
from rollcall.cluster.redis import RedisRefused, RedisUnavailable, Script
from rollcall.cluster.single import SingleRedis
from tests.rollcall.cluster.memory_redis import MemoryNetwork, Told

NAME = "192.0.2.1:6379"
OPENED = ("connected", NAME, "life-6379", False)


class LinkCase(SynchronousTestCase):
    """One server, and a link that has not been started."""

    def setUp(self) -> None:
        self.network = MemoryNetwork()
        self.server = self.network.server(6379)
        self.told = Told()
        self.answers: list[Any] = []
        self.redis = self.made()

    def made(self, **settings: Any) -> SingleRedis:
        """Return a Redis with these settings, whose pauses are as long as they may be."""
        config = RedisConfig(addresses=(NAME,), **{"connect_seconds": 2.0, "timeout_seconds": 1.0, **settings})
        return SingleRedis(Opening(self.network, config, lambda: 1.0), self.told)

    def start(self) -> None:
        """Start it, and let it come as far as it can without time."""
        self.redis.start()
        self.network.turns()

    def submit(self, *words: bytes | int | str) -> None:
        """Ask something; the answer goes to `answers`."""
        self.redis.submit(b"key", words, self.answers.append)

    def stopped(self) -> None:
        """Check that after a stop nothing is left."""
        self.successResultOf(Deferred.fromCoroutine(self.redis.stop()))
        self.network.turns()
        self.assertEqual(self.network.getDelayedCalls(), [])
        self.assertEqual(self.server.connections, [])


class OpeningTests(LinkCase):
    """From the start to the first answer."""

    def test_opens(self) -> None:
        """Both connections are made and told once; what was asked before is answered then."""
        self.submit("FIRST")
        self.assertIn("not connected yet", str(self.redis.problem))
        self.start()
        self.assertEqual(self.told.news, [OPENED])
        self.assertIsNone(self.redis.problem)
        self.assertEqual(len(self.server.connections), 2)
        self.assertEqual(self.answers, [b"OK"])
        self.stopped()

    def test_says_who_we_are(self) -> None:
        """User, password and database come first, on both connections as needed."""
        self.redis = self.made(username="us", password="secret", database=3)
        self.server.answers = {b"AUTH": "OK", b"SELECT": "OK", b"CLIENT TRACKING": "OK"}
        self.start()
        auth = (b"AUTH", b"us", b"secret")
        tracking = (b"CLIENT", b"TRACKING", b"ON", b"REDIRECT", b"7")
        leases = (*tracking, b"BCAST", b"PREFIX", b"node:")
        self.assertEqual(self.server.asked, [auth, auth, (b"SELECT", b"3"), leases, (*tracking, b"NOLOOP")])
        self.stopped()

    def test_wrong_password(self) -> None:
        """What the server has against us is the problem."""
        self.redis = self.made(password="wrong")
        self.server.answers = {b"AUTH": Exception("WRONGPASS invalid username-password pair")}
        self.submit("FIRST")
        self.start()
        self.assertIn("WRONGPASS", str(self.redis.problem))
        self.assertIsInstance(self.answers[0], RedisUnavailable)
        self.assertEqual(self.server.connections, [])
        self.stopped()

    def test_refused(self) -> None:
        """What waits for the first attempt fails with it; what comes later fails at once, but never within the call."""
        self.server.is_refusing = True
        self.submit("FIRST")
        self.start()
        self.assertIsInstance(self.answers[0], RedisUnavailable)
        self.submit("SECOND")
        self.assertEqual(len(self.answers), 1)
        self.network.advance(0)
        self.assertIsInstance(self.answers[1], RedisUnavailable)
        self.stopped()

    def test_silent(self) -> None:
        """A server that says nothing is given up in time, with the connection that was made."""
        self.server.is_silent = True
        self.submit("FIRST")
        self.start()
        self.network.pass_by(2.2)
        self.assertIsInstance(self.answers[0], RedisUnavailable)
        self.assertIn("no answer in 1 s", str(self.answers[0]))
        self.stopped()

    def test_slow(self) -> None:
        """Everything together may take connect_seconds, even if each answer comes in time."""
        self.redis = self.made(connect_seconds=0.5)
        self.server.is_silent = True
        self.start()
        self.network.pass_by(0.6)
        self.assertIn("not ready in 0.5 s", str(self.redis.problem))
        self.stopped()

    def test_too_many(self) -> None:
        """What is more than may wait fails."""
        self.redis = self.made(max_waiting=2)
        self.start()
        for _ in range(3):
            self.submit("PING")
        self.network.turns()
        self.assertEqual([type(each) for each in self.answers].count(RedisUnavailable), 1)
        self.stopped()

    def test_pauses_grow(self) -> None:
        """Attempts come after pauses that grow to the longest, however often they fail."""
        self.redis = self.made(breaker_failures=100)
        self.server.is_refusing = True
        self.start()
        self.network.pass_by(9.0)
        at = self.network.attempts
        pauses = [round(later - earlier, 1) for earlier, later in pairwise(at)]
        self.assertEqual(pauses[:7], [0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0])
        self.server.is_refusing = False
        self.network.pass_by(2.1)
        self.assertEqual(self.told.news, [OPENED])
        self.stopped()

    def test_breaker(self) -> None:
        """After its failures in a row the server is left alone for the breaker's time."""
        self.redis = self.made(breaker_failures=2, breaker_seconds=5.0)
        self.server.is_refusing = True
        self.start()
        self.network.pass_by(4.9)
        self.assertEqual(len(self.network.attempts), 2)
        self.assertEqual(self.redis.servers[0].breaker, "open")
        self.server.is_refusing = False
        self.network.pass_by(0.5)
        self.assertEqual(self.redis.servers[0].breaker, "half-open")
        self.submit("GET", "key")
        self.network.turns()
        self.assertEqual(self.redis.servers[0].breaker, "closed")
        self.stopped()


class OpenTests(LinkCase):
    """While it is open, and how it ends."""

    def setUp(self) -> None:
        super().setUp()
        self.start()

    def tearDown(self) -> None:
        self.stopped()

    def test_either_end(self) -> None:
        """When either connection ends, so does the other; it opens again, and has lost nothing."""
        for kind in ("data", "subscriber"):
            self.told.news.clear()
            getattr(self.server, kind).end()
            self.network.turns()
            self.assertEqual([each[0] for each in self.told.news], ["disconnected"])
            self.assertEqual(self.server.connections, [])
            self.network.pass_by(0.5)
            self.assertEqual(self.told.news[1:], [OPENED])
        self.assertEqual(self.redis.servers[0].reconnects, 2)

    def test_other_life(self) -> None:
        """A server with another run_id may have lost something."""
        self.server.run_id = "life-2"
        self.server.data.end()
        self.network.pass_by(0.5)
        self.assertEqual(self.told.news[-1], ("connected", NAME, "life-2", True))

    def test_hangs(self) -> None:
        """A server that hangs is noticed although nothing is asked of it."""
        self.server.is_silent = True
        self.network.pass_by(PROBE_SECONDS + 1.1)
        self.assertEqual(self.told.news[1:], [("disconnected", NAME, "no answer in 1 s")])

    def test_all_is_well(self) -> None:
        """Without commands it stays open for as long as the server answers."""
        self.network.pass_by(20.0)
        self.assertEqual(self.told.news, [OPENED])
        self.assertEqual(self.redis.servers[0].failures, 0)

    def test_time_out(self) -> None:
        """When one command gets no answer, all that wait fail, after the watcher was told; it connects again."""
        self.server.answers[b"SLOW"] = "OK"
        self.server.is_silent = True
        self.submit("SLOW")
        self.submit("NEXT")
        self.network.pass_by(1.1)
        self.assertEqual([type(each) for each in self.answers], [RedisUnavailable, RedisUnavailable])
        self.assertEqual(self.told.news[-1][0], "disconnected")
        self.server.is_silent = False
        self.network.pass_by(0.5)
        self.assertEqual(self.told.news[-1], OPENED)

    def test_unknown_script(self) -> None:
        """A script that the server does not know is sent with its text, once."""
        script = Script(b"return 5")
        self.server.answers = {b"EVALSHA": Exception("NOSCRIPT No matching script."), b"EVAL return 5": 5}
        self.redis.run(script, b"key", (b"a", 1), self.answers.append)
        self.network.turns()
        self.assertEqual(self.answers, [5])
        self.assertEqual(self.server.asked[-1], (b"EVAL", b"return 5", b"1", b"key", b"a", b"1"))

    def test_errors(self) -> None:
        """What says how the server is means that it is unavailable; all other errors are refusals."""
        for text, kind in (("LOADING x", RedisUnavailable), ("OOM x", RedisUnavailable), ("ERR x", RedisRefused)):
            self.server.answers = {b"GET": Exception(text)}
            asked = self.redis.ask(b"key", "GET", b"key")
            self.network.turns()
            self.assertIn(text, self.failureResultOf(asked, kind).getErrorMessage())

    def test_news(self) -> None:
        """Leases and other keys are told apart; nothing at all means everything."""
        self.told.news.clear()
        for keys in ([b"loc:a", b"node:x", b"loc:b"], [b"node:y"], None):
            self.server.publish(b"__redis__:invalidate", keys)
        wanted = [("leases",), ("invalidated", [b"loc:a", b"loc:b"]), ("leases",), ("leases",), ("invalidated", None)]
        self.assertEqual(self.told.news, wanted)

    def test_scan(self) -> None:
        """Keys are given list by list, until the server's cursor is back at its beginning."""
        pages: dict[bytes, list[Any]] = {b"0": [b"17", [b"a", b"b"]], b"17": [b"5", []], b"5": [b"0", [b"c"]]}
        self.server.answers = {b"SCAN": lambda words: pages[words[1]]}

        async def scanned() -> list[list[bytes]]:
            return [keys async for keys in self.redis.scan(b"loc:*", 2)]

        found = Deferred.fromCoroutine(scanned())
        self.network.turns()
        self.assertEqual(self.successResultOf(found), [[b"a", b"b"], [b"c"]])
        self.assertEqual(self.server.asked[-1], (b"SCAN", b"5", b"MATCH", b"loc:*", b"COUNT", b"2"))

    def test_stop(self) -> None:
        """After the stop what waits has failed, and so does what is asked."""
        self.server.is_silent = True
        self.submit("SLOW")
        self.network.turns()
        self.stopped()
        self.submit("LATE")
        self.network.turns()
        self.assertEqual([str(each) for each in self.answers][1], f"{NAME}: we have stopped")
        self.assertIsInstance(self.answers[0], RedisUnavailable)
        self.network.pass_by(5.0)
        self.assertEqual(self.server.connections, [])
