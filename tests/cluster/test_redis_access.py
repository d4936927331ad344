"""Redis access with one real server: what leaves together, what is told, and what happens when it hangs or is gone."""

import time
from typing import Any

from twisted.internet.defer import Deferred

from rollcall.cluster.redis import RedisRefused, RedisUnavailable, Script
from tests.cluster.access_case import KEPT_MS, WRITE, AccessCase, reactor, spread
from tools.laboratory.redis_process import RedisProcess
from tools.laboratory.redis_servers import RedisUser

KEY = b"loc:alice@example.com"


class SingleCase(AccessCase):
    """One server."""

    @property
    def server(self) -> RedisProcess:
        """The one."""
        return self.servers.servers[0]

    def statistic(self, name: str) -> int:
        """Return a count of INFO."""
        lines = self.server.ask("INFO").decode().splitlines()
        return int(next(line.partition(":")[2] for line in lines if line.startswith(f"{name}:")))


class AskingTests(SingleCase):
    """Commands and scripts."""

    async def test_one_write(self) -> None:
        """What is asked in one turn leaves in few pieces, and the answers come in the order asked."""
        await self.opened()
        before = self.statistic("total_reads_processed")
        answers: list[int] = []
        echo = Script(b"return tonumber(ARGV[1])")
        for number in range(1000):
            self.redis.run(echo, KEY, (number,), answers.append)
        self.assertEqual(answers, [])
        await self.until(lambda: len(answers) == 1000, "answers")
        self.assertEqual(answers, list(range(1000)))
        self.assertLess(self.statistic("total_reads_processed") - before, 200)

    async def test_unknown_script(self) -> None:
        """A script that the server does not have, or has forgotten, is sent with its text."""
        self.assertEqual(await self.write(KEY, b"1"), 1)
        self.server.ask("SCRIPT", "FLUSH")
        self.assertEqual(await self.write(KEY, b"2"), 1)
        self.assertEqual(await self.redis.ask(KEY, "GET", KEY), b"2")

    async def test_errors(self) -> None:
        """An error goes to who asked, with the server's text; others are not concerned."""
        refused = self.redis.ask(KEY, "LPUSH", KEY)
        answered = self.redis.ask(KEY, "ECHO", "still here")
        error = await self.assertFailure(refused, RedisRefused)
        self.assertIn("wrong number of arguments", str(error))
        self.assertEqual(await answered, b"still here")

    async def test_answer_that_raises(self) -> None:
        """Who takes an answer badly is logged, and the next one gets its own."""
        await self.opened()

        def raising(answer: Any) -> None:
            raise ZeroDivisionError("on purpose")

        self.redis.submit(KEY, ("ECHO", "1"), raising)
        self.assertEqual(await self.redis.ask(KEY, "ECHO", "2"), b"2")
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    async def test_out_of_memory(self) -> None:
        """A server that takes no writes is unavailable: the command may be asked again later."""
        await self.opened()
        self.server.ask("CONFIG", "SET", "maxmemory", 1)
        try:
            await self.assertFailure(self.write(KEY, b"1"), RedisUnavailable)
        finally:
            self.server.ask("CONFIG", "SET", "maxmemory", 0)
        self.assertEqual(await self.write(KEY, b"2"), 1)

    async def test_too_many(self) -> None:
        """What is more than may wait fails, in a later turn, and all else is answered."""
        redis = self.made(max_waiting=10)
        await self.opened(redis)
        answers: list[Any] = []
        for number in range(12):
            redis.submit(KEY, ("ECHO", number), answers.append)
        self.assertEqual(answers, [])
        await self.until(lambda: len(answers) == 12, "answers")
        self.assertEqual(sum(isinstance(answer, RedisUnavailable) for answer in answers), 2)
        self.assertEqual(await redis.ask(KEY, "ECHO", "again"), b"again")

    async def test_scan(self) -> None:
        """All keys that match are found, and no other."""
        for number in range(2500):
            self.redis.submit(b"x", ("SET", f"scan:{number}", "1"), lambda answer: None)
        await self.redis.ask(KEY, "SET", "other", "1")
        found = [key async for keys in self.redis.scan(b"scan:*", 100) for key in keys]
        self.assertEqual(set(found), {b"scan:%d" % number for number in range(2500)})

    async def test_stop(self) -> None:
        """After the stop nothing waits, and what is asked fails."""
        await self.opened()
        waiting = self.redis.ask(KEY, "BLPOP", "nothing", 0)
        await spread(0.05)
        await self.redis.stop()
        await self.assertFailure(waiting, RedisUnavailable)
        await self.assertFailure(self.redis.ask(KEY, "PING"), RedisUnavailable)
        self.assertIn("stopped", str(self.redis.problem))


class InvalidationTests(SingleCase):
    """What the watcher hears of changes."""

    async def test_own_writes(self) -> None:
        """What we write by a script is not told; a change of it by others is, once."""
        await self.opened()
        await self.write(KEY, b"1")
        await self.write(KEY, b"2")
        await spread(0.1)
        self.assertEqual(self.heard.keys, [])
        self.server.ask("SET", KEY, "3")
        await self.until(lambda: self.heard.keys, "invalidation")
        self.server.ask("SET", KEY, "4")
        await spread(0.1)
        self.assertEqual(self.heard.keys, [KEY])

    async def test_read(self) -> None:
        """What we have read is told when it changes; so is what we have found missing, when it comes."""
        await self.opened()
        self.server.ask("SET", "loc:read", "1")
        await self.redis.ask(b"loc:read", "GET", b"loc:read")
        await self.redis.ask(b"loc:missing", "GET", b"loc:missing")
        self.server.ask("DEL", "loc:read")
        self.server.ask("SET", "loc:missing", "1")
        self.server.ask("SET", "loc:unread", "1")
        await self.until(lambda: len(self.heard.keys) == 2, "invalidations")
        self.assertEqual(self.heard.keys, [b"loc:read", b"loc:missing"])

    async def test_expiry(self) -> None:
        """A key that has lapsed is told."""
        await self.opened()
        await self.redis.evaluate(WRITE, b"loc:short", b"1", 50)
        await self.until(lambda: self.heard.keys == [b"loc:short"], "invalidation")

    async def test_other_client(self) -> None:
        """A write by another client like us is told."""
        other = self.made()
        await self.opened()
        await self.opened(other)
        await self.redis.ask(KEY, "GET", KEY)
        self.heard.keys.clear()
        await other.evaluate(WRITE, KEY, b"1", KEPT_MS)
        await self.until(lambda: self.heard.keys == [KEY], "invalidation")

    async def test_all(self) -> None:
        """When the database is emptied, any key may have changed."""
        await self.opened()
        await self.write(KEY, b"1")
        self.server.ask("FLUSHALL")
        await self.until(lambda: None in self.heard.keys, "invalidation of all")
        self.assertGreater(self.heard.leases, 0)

    async def test_leases(self) -> None:
        """A lease that comes or goes is told, read or not; it is no key of a record."""
        await self.opened()
        before = self.heard.leases
        self.server.ask("SET", "node:a", "1", "PX", 50)
        await self.until(lambda: self.heard.leases >= before + 2, "news of leases")
        self.assertEqual(self.heard.keys, [])


class TroubleTests(SingleCase):
    """Servers that hang, and that go."""

    async def test_paused(self) -> None:
        """With CLIENT PAUSE what waits fails in time, what follows fails at once, and afterwards all is well."""
        await self.opened()
        self.server.ask("CLIENT", "PAUSE", 2000)
        started = reactor.seconds()
        await self.assertFailure(self.write(KEY, b"1"), RedisUnavailable)
        self.assertLess(reactor.seconds() - started, 1.2)
        started = reactor.seconds()
        await self.assertFailure(self.write(KEY, b"1"), RedisUnavailable)
        self.assertLess(reactor.seconds() - started, 0.1)
        await self.opened()
        self.assertEqual(await self.write(KEY, b"2"), 1)
        self.assertEqual(self.heard.losses, [])

    async def test_stopped_process(self) -> None:
        """A process that hangs is noticed without a command; its breaker opens, and closes after an answer."""
        await self.opened()
        self.servers.pause(self.server.pid)
        started = reactor.seconds()
        try:
            await self.until(lambda: self.redis.problem, "problem")
            noticed = reactor.seconds() - started
            await self.until(lambda: self.redis.servers[0].breaker == "open", "open breaker", 10)
        finally:
            self.servers.resume(self.server.pid)
        self.figure(f"a hanging Redis was noticed after {noticed:.2f} s without a command (time-out 0.5 s)")
        await self.opened()
        self.assertEqual(await self.write(KEY, b"2"), 1)
        self.assertEqual(self.redis.servers[0].breaker, "closed")
        self.assertGreaterEqual(self.redis.servers[0].failures, 3)
        self.assertEqual(self.heard.losses, [])

    async def test_writes_paused(self) -> None:
        """A server that only takes no writes is not taken for one that works."""
        await self.opened()
        self.server.ask("CLIENT", "PAUSE", 1500, "WRITE")
        await self.assertFailure(self.write(KEY, b"1"), RedisUnavailable)
        await spread(0.4)
        self.assertIsNotNone(self.redis.problem)
        await self.opened()
        self.assertEqual(await self.write(KEY, b"2"), 1)

    async def test_restart(self) -> None:
        """A server that comes back in another life may have lost something, which the watcher is told."""
        await self.opened()
        await self.write(KEY, b"1")
        self.servers.restart(0)
        await self.until(lambda: len(self.heard.links) == 3, "new connection")
        name = self.server.address
        wanted = [("connected", name, False), ("disconnected", name), ("connected", name, True)]
        self.assertEqual(self.heard.links, wanted)
        self.assertEqual(await self.write(KEY, b"2"), 1)

    async def test_broken_connection(self) -> None:
        """Either connection that breaks ends both; the same life of the server has lost nothing."""
        await self.opened()
        for kind in ("normal", "pubsub"):
            self.server.ask("CLIENT", "KILL", "TYPE", kind)
            await self.until(lambda: self.heard.links[-1][0] == "disconnected", "end")
            await self.opened()
        self.assertEqual(self.heard.losses, [])
        self.assertEqual(self.redis.servers[0].reconnects, 2)

    async def test_absent_at_the_start(self) -> None:
        """What is asked before the first attempt has failed fails with it; the link opens when the server comes."""
        self.server.kill()
        redis = self.made()
        await self.assertFailure(redis.ask(KEY, "PING"), RedisUnavailable)
        self.servers.restart(0)
        await self.opened(redis)
        self.assertEqual(await redis.ask(KEY, "PING"), b"PONG")


class SecuredTests(SingleCase):
    """TLS and an ACL user that may do no more than we need."""

    tls = True
    users = (
        RedisUser(name="admin", password="secret"),
        RedisUser(
            name="rollcall",
            password="another",
            rules="~* resetchannels &__redis__:invalidate -@all +@read +@write +@scripting +@connection "
            "+info +role +subscribe",
        ),
    )

    def setUp(self) -> None:
        super().setUp()
        self.redis = self.made(username="rollcall", password="another")

    async def test_all_works(self) -> None:
        """Writes, reads and invalidations work."""
        await self.opened()
        self.assertEqual(await self.write(KEY, b"1"), 1)
        self.assertEqual(await self.redis.ask(KEY, "GET", KEY), b"1")
        self.server.ask("SET", KEY, "2")
        await self.until(lambda: KEY in self.heard.keys, "invalidation")

    async def test_our_certificate(self) -> None:
        """A server that wants to see a certificate gets ours."""
        await self.opened()
        self.server.ask("CONFIG", "SET", "tls-auth-clients", "yes")
        without = self.made()
        await self.assertFailure(without.ask(KEY, "PING"), RedisUnavailable)
        folder = self.servers.folder
        shown = {"tls_certificate_file": folder / "redis.pem", "tls_key_file": folder / "redis.key"}
        redis = self.made(**shown)
        self.assertEqual(await redis.ask(KEY, "CONFIG", "SET", "tls-auth-clients", "optional"), b"OK")

    async def test_wrong_password(self) -> None:
        """A wrong password is told as the problem."""
        redis = self.made(username="rollcall", password="wrong")
        await self.assertFailure(redis.ask(KEY, "PING"), RedisUnavailable)
        self.assertIn("WRONGPASS", str(redis.problem))

    async def test_wrong_authority(self) -> None:
        """A server whose certificate nobody vouches for, or for another name, gets no password of ours."""
        for changed in ({"tls_authority_file": None}, {"tls_server_name": "redis.example.com"}):
            redis = self.made(**changed)
            await self.assertFailure(redis.ask(KEY, "PING"), RedisUnavailable)
            self.assertIn("certificate" if "tls_authority_file" in changed else "verif", str(redis.problem).lower())


class CostTests(SingleCase):
    """What a command costs us."""

    async def test_cpu(self) -> None:
        """A script in batches of 64 costs few microseconds of our CPU, answer included."""
        await self.opened()
        await self.write(KEY, b"1")
        keys = [b"loc:user%d@example.com" % number for number in range(64)]
        arguments = (b"x" * 180, KEPT_MS)
        cheapest = min([await self._batches(keys, arguments) for _ in range(5)])
        self.figure(f"run() in batches of 64: {cheapest:.2f} us of our CPU each, with answer and reactor")
        self.assertLess(cheapest, 15.0)

    async def _batches(self, keys: list[bytes], arguments: tuple[bytes, int], rounds: int = 100) -> float:
        started = time.process_time()
        for _ in range(rounds):
            done: Deferred[None] = Deferred()
            waiting = len(keys)

            def answered(answer: Any, done: Deferred[None] = done) -> None:
                nonlocal waiting
                waiting -= 1
                if not waiting:
                    done.callback(None)

            for key in keys:
                self.redis.run(WRITE, key, arguments, answered)
            await done
        return (time.process_time() - started) / rounds / len(keys) * 1e6
