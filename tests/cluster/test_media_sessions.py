"""Calls through media nodes in a real Redis: the scripts, what other registrars hear, and what its restart does."""

import signal
from collections.abc import Sequence
from random import Random
from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred, gatherResults

from registrar.media.adopting import Adopting
from registrar.media.kept import END, PUT, call_key, read, value_of
from registrar.media.session import Session
from registrar.media.sessions import Sessions
from rollcall.cluster.access import make_redis
from rollcall.cluster.config import RedisConfig
from rollcall.cluster.redis import Redis
from tests.cluster.access_case import AccessCase, reactor, spread
from tests.registrar.media.examples import a_session


class Registrar:
    """The calls of one registrar, with a connection to Redis of its own. It is the Watcher of that."""

    redis: Redis
    sessions: Sessions

    def connected(self, server: str, run_id: str, may_have_lost: bool) -> None:
        """Pass it on, as Clustering does."""
        self.sessions.connected()

    def disconnected(self, server: str, why: str) -> None:
        """Nobody has to hear that."""

    def invalidated(self, keys: Sequence[bytes] | None) -> None:
        """Pass it on, as Clustering does."""
        self.sessions.changed(keys)

    def leases_changed(self) -> None:
        """There are none."""


class MediaSessionsTests(AccessCase):
    """Two registrars and one server."""

    def setUp(self) -> None:
        super().setUp()
        self.servers.servers[0].ask("FLUSHALL")
        self.first, self.second = self.registrar("n1:1"), self.registrar("n2:1")

    def registrar(self, name: str) -> Registrar:
        """Return a registrar that is about to be connected."""
        made = Registrar()
        config = RedisConfig(timeout_seconds=0.5, breaker_seconds=0.2, **self.servers.settings)
        made.redis = make_redis(reactor, config, made)
        made.sessions = Sessions(made.redis, name, reactor.seconds)
        made.redis.start()
        self.addCleanup(made.redis.stop)
        return made

    async def both_open(self) -> None:
        """Return once both are connected."""
        for each in (self.first, self.second):
            await self.opened(each.redis)

    def a_call(self, name: str, **changed: Any) -> Session:
        """Return a call that lasts for a minute."""
        return a_session(call_id=name, id=f"id-{name}", expires_at=reactor.seconds() + 60, **changed)

    async def begun(self, name: str, **changed: Any) -> Session:
        """Return a call that the first registrar has begun and Redis has."""
        session = self.a_call(name, **changed)
        self.first.sessions.begin(session)
        await self.until(lambda: self.servers.servers[0].ask("EXISTS", call_key(name)) == 1, "call in Redis")
        return session

    def kept(self) -> int:
        """Return how many calls and ends of calls Redis has."""
        return len(self.servers.servers[0].ask("KEYS", "call:*"))

    async def test_end_elsewhere(self) -> None:
        """A BYE at another registrar ends the call at its owner, by what Redis tells; nobody has to ask."""
        await self.both_open()
        await self.begun("elsewhere")
        found = await self.second.sessions.find("elsewhere")
        assert found is not None
        began = reactor.seconds()
        self.assertTrue(await self.second.sessions.end(found))
        await self.until(lambda: not len(self.first.sessions), "end")
        self.figure(f"the owner knows of a BYE elsewhere after {(reactor.seconds() - began) * 1000:.1f} ms")

    async def test_compare_and_delete(self) -> None:
        """The end of another call of the same Call-ID leaves a call alone, and so does its beginning."""
        await self.both_open()
        session = await self.begun("mine")
        strange = evolve(session, id="strange", owner="n2:1")
        self.second.sessions.begin(strange)
        self.assertFalse(await self.second.sessions.end(strange))
        kept = read(await self.first.redis.ask(call_key("mine"), "GET", call_key("mine")))
        self.assertEqual(kept and kept.id, session.id)
        self.assertEqual(len(self.first.sessions), 1)

    async def test_lifetime(self) -> None:
        """A call that nobody ends lapses a minute after its time, and what is left of one after ten."""
        await self.both_open()
        session = await self.begun("lapse")
        key = call_key("lapse")
        left: Any = await self.first.redis.ask(key, "TTL", key)
        self.assertTrue(100 <= left <= 120, left)
        await self.first.sessions.end(session)
        left = await self.first.redis.ask(key, "TTL", key)
        self.assertTrue(590 <= left <= 600, left)

    async def test_scripts(self) -> None:
        """A stamp that is not the one there replaces nothing; garbage is left alone."""
        await self.both_open()
        session = self.a_call("script", version=3, changed_by="x")
        key, redis = call_key("script"), self.first.redis
        self.assertEqual(await redis.evaluate(PUT, key, session.id, "", value_of(session), 60), 1)
        self.assertEqual(await redis.evaluate(PUT, key, session.id, "2@x", b"new", 60), value_of(session))
        self.assertEqual(await redis.evaluate(PUT, key, session.id, "3@x", b"new", 60), 1)
        self.assertEqual(await redis.evaluate(END, key, session.id, 60), 0)
        self.assertEqual(await redis.evaluate(PUT, key, session.id, "", value_of(session), 60), b"new")

    async def test_changes_of_both(self) -> None:
        """Of fifty changes of one call by two registrars at the same time none is lost."""
        await self.both_open()
        await self.begun("busy")
        random = Random(7)

        async def change(registrar: Registrar) -> None:
            for _ in range(25):
                changed = await registrar.sessions.change("busy", lambda found: evolve(found, moves=found.moves + 1))
                while changed is None:
                    changed = await registrar.sessions.change(
                        "busy", lambda found: evolve(found, moves=found.moves + 1))
                await spread(random.random() * 0.004)

        await gatherResults([Deferred.fromCoroutine(change(each)) for each in (self.first, self.second)])
        found = read(self.servers.servers[0].ask("GET", call_key("busy")))
        self.assertEqual(isinstance(found, Session) and found.moves, 50)

    async def test_redis_restarts_empty(self) -> None:
        """After a restart without data Redis gets all calls from their owners, but for those that ended meanwhile."""
        await self.both_open()
        sessions = [await self.begun(f"call-{number}") for number in range(300)]
        self.servers.servers[0].kill()
        await self.until(lambda: self.first.redis.problem, "loss")
        for session in sessions[:100]:
            await self.first.sessions.end(session)
        self.first.sessions.begin(self.a_call("new"))
        self.assertEqual(len(self.first.sessions), 201)
        self.servers.servers[0].start()
        await self.both_open()
        began = reactor.seconds()
        await self.until(lambda: not self.first.sessions.unwritten and self.kept() == 301, "calls")
        self.figure(f"201 calls and 100 ends were written {reactor.seconds() - began:.2f} s after Redis was back")
        self.assertIsNone(await self.second.sessions.find("call-0"))
        self.assertIsNotNone(await self.second.sessions.find("call-299"))
        self.assertIsNotNone(await self.second.sessions.find("new"))

    async def test_ended_while_cut_off(self) -> None:
        """A BYE that passes a registrar without Redis ends the call when Redis is back."""
        await self.both_open()
        await self.begun("owed")
        server = self.servers.servers[0]
        server.signal(signal.SIGSTOP)
        try:
            self.assertIsNone(await self.second.sessions.find("owed"))
            self.second.sessions.owe_end("owed", frozenset({"a", "b"}))
        finally:
            server.signal(signal.SIGCONT)
        await self.until(lambda: not len(self.first.sessions), "end")

    async def test_owner_dies(self) -> None:
        """Calls of a registrar that has ended get one new owner, though two look for them."""
        await self.both_open()
        await self.begun("orphan")
        await self.begun("kept", owner="n1:1")
        third = self.registrar("n3:1")
        await self.opened(third.redis)
        await self.first.redis.stop()
        living = {("n2", 1), ("n3", 1)}
        adopting = [Adopting(reactor, each.redis, each.sessions, lambda node, epoch: (node, epoch) in living)
                    for each in (self.second, third)]
        for each in adopting:
            each.start()
            self.addCleanup(each.stop)
            each.ended([("n1", 1)])
        await self.until(lambda: sum(each.taken_over for each in adopting) >= 2, "new owner")
        await spread(0.2)
        owned = [session.call_id for each in (self.second, third) for session in each.sessions.own]
        self.assertEqual(sorted(owned), ["kept", "orphan"])
