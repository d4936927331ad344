"""Registrars that remember the same subscribers: each has its memory, all have one database and one Redis."""

from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from registrar.auth import StoreUnavailable, Subscriber
from registrar.subscribers.cache import CacheConfig
from registrar.subscribers.contract import NoSuchSubscriber, subscriber_with
from registrar.subscribers.shared import SharedCache
from registrar.subscribers.source import Changed
from registrar.subscribers.store import CachedSubscribers
from tests.registrar.subscriber_redis import SubscriberRedis, SubscriberServer

DOMAIN = "example.org"
KEY = bytes(32)
FRESH_SECONDS = 9.0
START = 1_000_000.0


class Database:
    """A primary, and a replica that may be behind."""

    def __init__(self) -> None:
        self.primary: dict[str, str] = {}
        self.replica: dict[str, str] = {}
        self.problem: str | None = None
        self.changed: list[tuple[str, str]] = []
        """What the table of changes says."""
        self.knows_who = True

    def write(self, username: str, password: str | None, replicates: bool = True, tells: bool = True) -> None:
        """Change a user; None removes it."""
        for table in (self.primary, self.replica) if replicates else (self.primary,):
            table.pop(username, None)
            if password is not None:
                table[username] = password
        if tells:
            self.changed.append((username, DOMAIN))

    def catch_up(self) -> None:
        """Let the replica have everything."""
        self.replica = dict(self.primary)


class NodeSource:
    """The Source of one registrar. While `held` is a list, answers are what they were when asked, and come later."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.may_be_late = False
        """Whether the primary is away: what must be fresh is asked of the replica, too."""
        self.asked: list[tuple[str, bool]] = []
        self.changes_asked = 0
        self.held: list[Deferred[None]] | None = None
        self.holds_changes = True

    async def start(self) -> None:
        """There is nothing to wait for."""

    async def stop(self) -> None:
        """There is nothing to let go of."""

    async def find(self, username: str, domain: str, fresh: bool) -> Subscriber | None:
        self.asked.append((username, fresh))
        problem = self.database.problem
        table = self.database.primary if fresh and not self.may_be_late else self.database.replica
        password = table.get(username)
        await self._hold()
        if problem is not None:
            raise StoreUnavailable(problem)
        return None if password is None else subscriber_with(username, domain, password)

    async def page(self, after: tuple[str, str], size: int) -> Sequence[Subscriber]:
        raise NotImplementedError

    async def count(self) -> int:
        raise NotImplementedError

    async def add(self, username: str, domain: str, password: str) -> None:
        await self._write(username, password)

    async def set_password(self, username: str, domain: str, password: str) -> None:
        if self.database.problem is None and username not in self.database.primary:
            raise NoSuchSubscriber(username)
        await self._write(username, password)

    async def remove(self, username: str, domain: str) -> None:
        await self._write(username, None)

    async def changes(self, since: int | None) -> Changed:
        self.changes_asked += 1
        if self.holds_changes:
            await self._hold()
        if self.database.problem is not None:
            raise StoreUnavailable(self.database.problem)
        changed = self.database.changed
        names = () if since is None else tuple(changed[since:])
        return Changed(len(changed), names if self.database.knows_who or not names else None)

    async def _write(self, username: str, password: str | None) -> None:
        if self.database.problem is not None:
            raise StoreUnavailable(self.database.problem)
        self.database.write(username, password, replicates=False)

    async def _hold(self) -> None:
        if self.held is not None:
            waiting: Deferred[None] = Deferred()
            self.held.append(waiting)
            await waiting

    def release(self) -> None:
        """Let all answers come."""
        held, self.held = self.held or [], None
        for waiting in held:
            waiting.callback(None)


class Node:
    """One registrar."""

    def __init__(self, case: "NodesCase", has_redis: bool = True, key: bytes = KEY, domains: Any = None,
                 **settings: Any) -> None:
        config = CacheConfig(**settings)
        self.case = case
        self.source = NodeSource(case.database)
        self.redis = SubscriberRedis(case.server)
        shared = None
        if has_redis:
            redis: Any = self.redis
            keep_seconds = max(config.cache_seconds, config.stale_seconds)
            shared = self.redis.shared = SharedCache(case.clock, redis, key, keep_seconds, FRESH_SECONDS)
        else:
            self.redis.is_away = True
        self.store = CachedSubscribers(case.clock, self.source, config, shared=shared, domains=domains,
                                       fresh_seconds=FRESH_SECONDS)
        case.successResultOf(Deferred.fromCoroutine(self.store.start()))
        if shared is not None:
            shared.connected()
            self.redis.asked.clear()
        self.source.changes_asked = 0

    def finding(self, username: str = "alice") -> "Deferred[Subscriber | None]":
        """Begin to look somebody up."""
        return Deferred.fromCoroutine(self.store.find(username, DOMAIN))

    def look_again(self, username: str = "alice") -> "Deferred[Subscriber | None]":
        """Begin to ask what the database says now."""
        return Deferred.fromCoroutine(self.store.look_again(username, DOMAIN))

    def password(self, *candidates: str, username: str = "alice") -> str | None:
        """Return which of these passwords counts now, "none" when another one does, None when there is no such user."""
        return self.case.which(self.case.successResultOf(self.finding(username)), *candidates)


class NodesCase(SynchronousTestCase):
    """One database in which alice's password is "old", and one Redis."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(START)
        self.server = SubscriberServer(self.clock)
        self.database = Database()
        self.database.write("alice", "old", tells=False)

    def which(self, subscriber: Subscriber | None, *candidates: str) -> str | None:
        """Return which of these passwords a subscriber has."""
        if subscriber is None:
            return None
        return next((each for each in candidates or ("old", "new")
                     if dict(subscriber_with(subscriber.username, DOMAIN, each).ha1) == dict(subscriber.ha1)), "none")

    def announce(self, node: Node, *usernames: str) -> None:
        """Tell everybody of a change, as a command does; without names, that it may be anybody."""
        names = [(username, DOMAIN) for username in usernames] or None
        self.successResultOf(Deferred.fromCoroutine(node.redis.shared.announce(names)))

    def pass_time(self, seconds: float) -> None:
        """Let time pass in small steps."""
        for _ in range(round(seconds / 0.25)):
            self.clock.advance(0.25)
