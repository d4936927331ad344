"""What the tests of Redis access share: servers for a class, a client in this process, and what its watcher heard."""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

from twisted.internet import reactor as global_reactor
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from rollcall.cluster.access import make_redis
from rollcall.cluster.config import RedisConfig
from rollcall.cluster.redis import Redis, Script
from tools.laboratory.redis_servers import Kind, RedisServers, RedisUser

reactor: Any = global_reactor

# Writes as our scripts do: the read at the end keeps the key tracked.
WRITE = Script(b"redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])\nredis.call('EXISTS', KEYS[1])\nreturn 1")
KEPT_MS = 60_000
POLL_SECONDS = 0.01


class Heard:
    """A watcher that remembers what it was told, in order."""

    def __init__(self) -> None:
        self.links: list[tuple[Any, ...]] = []
        self.keys: list[bytes | None] = []
        self.leases = 0

    def connected(self, server: str, run_id: str, may_have_lost: bool) -> None:
        """Remember which server, and whether it may have lost something."""
        self.links.append(("connected", server, may_have_lost))

    def disconnected(self, server: str, why: str) -> None:
        """Remember which server."""
        self.links.append(("disconnected", server))

    def invalidated(self, keys: Sequence[bytes] | None) -> None:
        """Remember the keys."""
        self.keys.extend([None] if keys is None else keys)

    def leases_changed(self) -> None:
        """Count."""
        self.leases += 1

    @property
    def losses(self) -> list[str]:
        """Servers that may have lost something when they were connected."""
        return [told[1] for told in self.links if told[0] == "connected" and told[2]]


class AccessCase(TestCase):
    """Starts the servers before the first test, and ends the client of each test."""

    kind: ClassVar[Kind] = "single"
    tls: ClassVar[bool] = False
    users: ClassVar[tuple[RedisUser, ...]] = ()
    servers: ClassVar[RedisServers]
    record: Callable[[str, object], None] = staticmethod(lambda name, value: None)
    """Where figures go; see conftest.py."""
    _folder: ClassVar["tempfile.TemporaryDirectory[str]"]

    @classmethod
    def setUpClass(cls) -> None:
        cls._folder = tempfile.TemporaryDirectory()
        cls.servers = RedisServers(Path(cls._folder.name), cls.kind, cls.tls, cls.users)
        cls.servers.start()

    @classmethod
    def tearDownClass(cls) -> None:
        cls.servers.stop()
        cls._folder.cleanup()

    def setUp(self) -> None:
        self.heard = Heard()
        self.redis = self.made()

    def made(self, **changed: Any) -> Redis:
        """Return a client that has been started, with settings that are not those of the servers if wanted."""
        settings = {"timeout_seconds": 0.5, "breaker_seconds": 0.3, **self.servers.settings, **changed}
        for name in ("tls_authority_file",):
            settings[name] = Path(settings[name]) if settings.get(name) else None
        redis = make_redis(reactor, RedisConfig(**settings), self.heard)
        redis.start()
        self.addCleanup(redis.stop)
        return redis

    def figure(self, text: str) -> None:
        """Let the summary of the run show what was measured."""
        self.record("figure", text)

    async def until(self, look: Callable[[], object], what: str, seconds: float = 8) -> None:
        """Return once `look` finds something; fails when time is over."""
        deadline = reactor.seconds() + seconds
        while not look():
            if reactor.seconds() > deadline:
                self.fail(f"no {what} in {seconds} s; heard {self.heard.links}")
            await spread(POLL_SECONDS)

    async def opened(self, redis: Redis | None = None) -> None:
        """Return once all that is known can be asked."""
        asked = redis or self.redis
        await self.until(lambda: asked.servers and all(each.is_open for each in asked.servers), "open links")

    def write(self, key: bytes, value: bytes) -> Any:
        """Return a Deferred with the answer to a write by script."""
        return self.redis.evaluate(WRITE, key, value, KEPT_MS)


def spread(seconds: float) -> Any:
    """Return a Deferred that fires after so long."""
    return deferLater(reactor, seconds)
