"""Redis Cluster: whom a key is asked of, and what follows when the answer is to ask somebody else."""

from collections.abc import Iterator
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from rollcall.cluster.config import RedisConfig
from rollcall.cluster.opening import Opening
from rollcall.cluster.redis import RedisRefused, RedisUnavailable, Script
from rollcall.cluster.redis_cluster import REFRESH_SECONDS, ClusterRedis
from rollcall.cluster.slots import slot_of
from tests.rollcall.cluster.memory_redis import MemoryNetwork, MemoryServer, Reply, Told

FIRST, SECOND, THIRD = (f"192.0.2.1:{port}" for port in (7001, 7002, 7003))
LOW, HIGH = b"loc:a", b"loc:b"  # slots in the lower and in the upper half
SCRIPT = Script(b"return 1")


class ClusterCase(SynchronousTestCase):
    """Two masters with half of the slots each, and a third node that may become one."""

    def setUp(self) -> None:
        self.assertLess(slot_of(LOW), 8192)
        self.assertGreaterEqual(slot_of(HIGH), 8192)
        self.network = MemoryNetwork()
        self.first, self.second, self.third = (self.network.server(port) for port in (7001, 7002, 7003))
        self.third.role = b"slave"
        self.map(1, (0, 8191, 7001), (8192, 16383, 7002))
        self.told = Told()
        self.redis = self.made()
        self.answers: list[Any] = []

    def tearDown(self) -> None:
        self.successResultOf(Deferred.fromCoroutine(self.redis.stop()))
        self.network.turns()
        self.assertEqual(self.network.getDelayedCalls(), [])
        for server in self.network.servers.values():
            self.assertEqual(server.connections, [])

    def made(self, *addresses: str, **settings: Any) -> ClusterRedis:
        """Return a Redis that knows the first node, not started."""
        config = RedisConfig(mode="cluster", addresses=addresses or (FIRST,), **settings)
        return ClusterRedis(Opening(self.network, config, lambda: 1.0), self.told)

    def map(self, epoch: int, *ranges: tuple[int, int, int], servers: tuple[MemoryServer, ...] = ()) -> None:
        """Let servers (all of them) say who serves what."""
        for server in servers or (self.first, self.second, self.third):
            slots = [[first, last, [b"192.0.2.1", port, b"id"]] for first, last, port in ranges]
            server.answers[b"CLUSTER SLOTS"] = slots
            server.answers[b"CLUSTER INFO"] = b"cluster_state:ok\r\ncluster_current_epoch:%d\r\n" % epoch

    def start(self) -> None:
        """Start, and let it come as far as it can without time."""
        self.redis.start()
        self.network.turns(60)

    def get(self, key: bytes) -> None:
        """Ask something; the answer goes to `answers`."""
        self.redis.submit(key, ("GET", key), self.answers.append)

    def say(self, server: MemoryServer, answer: Any) -> None:
        """Let a server answer each GET so."""
        server.answers[b"GET"] = answer

    @property
    def losses(self) -> list[str]:
        """Servers that may have lost something when they were connected."""
        return [news[1] for news in self.told.news if news[0] == "connected" and news[3]]


class MapTests(ClusterCase):
    """Who serves what."""

    def test_owners(self) -> None:
        """A link to each master is opened, and each key asked of its own; what was asked before waits for that."""
        self.say(self.first, 1)
        self.say(self.second, 2)
        self.get(LOW)
        self.get(HIGH)
        self.start()
        self.assertEqual(sorted(self.answers), [1, 2])
        self.assertEqual(sorted(state.name for state in self.redis.servers), [FIRST, SECOND])
        self.assertEqual(self.losses, [])
        self.assertEqual(self.third.connections, [])

    def test_nobody_answers(self) -> None:
        """Without any node what waits fails, and so does what comes later; when one comes all is well."""
        self.first.is_refusing = True
        self.get(LOW)
        self.start()
        self.assertIsInstance(self.answers[0], RedisUnavailable)
        self.get(LOW)
        self.assertEqual(len(self.answers), 1)
        self.network.turns()
        self.assertIn("nobody serves slot", str(self.answers[1]))
        self.first.is_refusing = False
        self.network.pass_by(1.0)
        self.assertIsNone(self.redis.problem)
        self.assertTrue(self.redis.can_ask(LOW))

    def test_newest(self) -> None:
        """A node that was cut off from the others does not decide who serves what."""
        self.redis = self.made(FIRST, SECOND, THIRD)
        self.map(9, (0, 8191, 7003), (8192, 16383, 7002), servers=(self.second, self.third))
        self.third.role = b"master"
        self.start()
        self.assertEqual(sorted(state.name for state in self.redis.servers), [SECOND, THIRD])

    def test_uncovered(self) -> None:
        """A key that nobody serves fails, others do not."""
        self.map(1, (8192, 16383, 7002))
        self.say(self.second, 2)
        self.start()
        self.get(LOW)
        self.get(HIGH)
        self.network.turns()
        self.assertEqual(sorted(map(str, self.answers))[0], "2")
        self.assertIn("nobody serves slot", sorted(map(str, self.answers))[1])
        self.assertFalse(self.redis.can_ask(LOW))


class RedirectionTests(ClusterCase):
    """Answers that say whom to ask."""

    def setUp(self) -> None:
        super().setUp()
        self.start()

    def test_moved(self) -> None:
        """MOVED is followed and remembered for its slot; the map is looked at soon."""
        self.say(self.first, Exception(f"MOVED {slot_of(LOW)} {SECOND}"))
        self.say(self.second, 2)
        self.map(2, (0, 16383, 7002))
        for _ in range(2):
            self.get(LOW)
            self.network.turns()
        self.assertEqual(self.answers, [2, 2])
        self.assertEqual(sum(words[0] == b"GET" for words in self.first.asked), 1)
        self.network.pass_by(0.3)
        self.assertEqual([state.name for state in self.redis.servers], [SECOND])
        self.assertIn(("disconnected", FIRST), [news[:2] for news in self.told.news])

    def test_moved_to_an_unknown_node(self) -> None:
        """A node that is not known yet is connected, and asked then."""
        self.third.role = b"master"
        self.say(self.first, Exception(f"MOVED {slot_of(LOW)} {THIRD}"))
        self.say(self.third, 3)
        self.map(2, (0, 99, 7001), (100, 8191, 7003), (8192, 16383, 7002))
        self.get(LOW)
        self.network.turns(60)
        self.assertEqual(self.answers, [3])
        self.assertEqual(self.losses, [])

    def test_ask(self) -> None:
        """ASK is followed with ASKING before the command, and not remembered."""
        self.say(self.first, Exception(f"ASK {slot_of(LOW)} {SECOND}"))
        self.say(self.second, 2)
        for _ in range(2):
            self.get(LOW)
            self.network.turns()
        self.assertEqual(self.answers, [2, 2])
        self.assertEqual(self.second.asked[-2:], [(b"ASKING",), (b"GET", LOW)])
        self.assertEqual(sum(words[0] == b"GET" for words in self.first.asked), 2)

    def test_script_is_unknown_there(self) -> None:
        """A script that the other node does not know is sent with its text, by the same way round."""
        self.first.answers |= dict.fromkeys((b"EVALSHA", b"EVAL"), Exception(f"ASK {slot_of(LOW)} {SECOND}"))
        self.first.answers[b"EVAL return 1"] = Exception(f"ASK {slot_of(LOW)} {SECOND}")
        self.second.answers[b"EVALSHA"] = Exception("NOSCRIPT No matching script.")
        texts: Iterator[Reply] = iter([Exception(f"MOVED {slot_of(LOW)} {FIRST}"), 7])
        self.second.answers[b"EVAL return 1"] = lambda words: next(texts)
        self.redis.run(SCRIPT, LOW, (), self.answers.append)
        self.network.turns()
        self.assertEqual(self.answers, [7])
        self.first.answers.pop(b"EVAL return 1")

    def test_try_again(self) -> None:
        """TRYAGAIN is obeyed after a moment."""
        texts: Iterator[Reply] = iter([Exception("TRYAGAIN Multiple keys request during rehashing of slot"), 5])
        self.first.answers[b"GET"] = lambda words: next(texts)
        self.get(LOW)
        self.network.turns()
        self.assertEqual(self.answers, [])
        self.network.pass_by(0.1)
        self.assertEqual(self.answers, [5])

    def test_round_and_round(self) -> None:
        """Two nodes that name each other are not asked for ever."""
        self.say(self.first, Exception(f"MOVED {slot_of(LOW)} {SECOND}"))
        self.say(self.second, Exception(f"MOVED {slot_of(LOW)} {FIRST}"))
        self.get(LOW)
        self.network.turns()
        self.assertIsInstance(self.answers[0], RedisUnavailable)
        self.assertIn("after 5 redirections", str(self.answers[0]))

    def test_nonsense(self) -> None:
        """A redirection that names nobody is no answer; another error is one."""
        self.say(self.first, Exception("MOVED somewhere"))
        self.get(LOW)
        self.network.turns()
        self.assertIsInstance(self.answers[0], RedisUnavailable)
        self.say(self.first, Exception("WRONGTYPE Operation against a key"))
        self.get(LOW)
        self.network.turns()
        self.assertIsInstance(self.answers[1], RedisRefused)


class FailoverTests(ClusterCase):
    """Masters that go."""

    def setUp(self) -> None:
        super().setUp()
        self.start()

    def kill(self, server: MemoryServer) -> None:
        """End a server."""
        server.is_refusing = True
        for each in list(server.connections):
            each.end()
        self.network.turns()

    def test_replica_takes_over(self) -> None:
        """The keys of a dead master fail, others do not; then its replica is asked, which may lack some."""
        self.kill(self.first)
        self.say(self.second, 2)
        self.get(LOW)
        self.get(HIGH)
        self.network.turns()
        self.assertEqual({type(answer) for answer in self.answers}, {int, RedisUnavailable})
        self.assertIsNone(self.redis.problem)
        self.third.role = b"master"
        self.map(2, (0, 8191, 7003), (8192, 16383, 7002))
        self.network.pass_by(1.0)
        self.assertEqual(self.losses, [THIRD])
        self.assertTrue(self.redis.can_ask(LOW))

    def test_told_by_a_command(self) -> None:
        """A master that others have replaced, unknown to it, may have acknowledged what the new one lacks."""
        self.third.role = b"master"
        self.map(2, (0, 8191, 7003), (8192, 16383, 7002))
        self.say(self.first, Exception(f"MOVED {slot_of(LOW)} {THIRD}"))
        self.get(LOW)
        self.network.turns(60)
        self.assertEqual(self.losses, [THIRD])

    def test_slots_of_a_dead_master_are_given_away(self) -> None:
        """A master that has been open before and gets a dead one's slots lacks their keys."""
        self.kill(self.first)
        self.map(2, (0, 16383, 7002))
        self.network.pass_by(1.0)
        self.assertEqual(self.losses, [SECOND])

    def test_comes_back(self) -> None:
        """A master that comes back in another life may have lost something."""
        self.kill(self.first)
        self.first.run_id = "life-2"
        self.first.is_refusing = False
        self.network.pass_by(1.0)
        self.assertEqual(self.losses, [FIRST])

    def test_looks_by_itself(self) -> None:
        """A new master is found although nothing is asked and nothing has failed."""
        self.third.role = b"master"
        self.map(2, (0, 8191, 7001), (8192, 12000, 7002), (12001, 16383, 7003))
        self.network.pass_by(REFRESH_SECONDS + 0.5)
        self.assertEqual(sorted(state.name for state in self.redis.servers), [FIRST, SECOND, THIRD])
        self.assertEqual(self.losses, [])
