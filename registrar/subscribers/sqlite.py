"""Subscribers in an SQLite file, asked in threads."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import attrs
from attrs import field
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

from registrar.auth import StoreUnavailable, Subscriber
from registrar.subscribers.cache import CacheConfig
from registrar.subscribers.source import Changed
from registrar.subscribers.table import DEFAULT_BUSY_SECONDS, SubscriberTable
from rollcall.net.turn_share import TurnShare
from rollcall.ops.allowed import at_least, between

TURN_SECONDS = 0.01
"""So much of a turn of the reactor at most goes to requests whose users have just been looked up."""

P = ParamSpec("P")
T = TypeVar("T")


@attrs.frozen(kw_only=True)
class SqliteConfig(CacheConfig):
    """How the file is used."""

    threads: int = field(default=2, validator=between(1, 64))
    """Queries that run at a time."""
    busy_seconds: float = field(default=DEFAULT_BUSY_SECONDS, validator=at_least(0))
    """How long a query waits for another process that writes."""
    warm_up: bool = True
    """Read all users into memory at the start, as far as there is room: phones that return then have not to wait."""


class SqliteSource:
    """A Source in one file. The reactor's thread never waits for it.

    The file must be its own: any other commit to it would make who asks for changes forget everything.
    """

    may_be_late = False

    def __init__(
        self,
        reactor: Any,
        path: Path,
        config: SqliteConfig | None = None,
        pool: ThreadPool | None = None,
        observe: Callable[[str, float], None] = lambda operation, seconds: None,
    ) -> None:
        """`reactor` provides IReactorTime and IReactorFromThreads; `observe` is told how long each query took."""
        config = SqliteConfig() if config is None else config
        self._reactor = reactor
        self._table = SubscriberTable(path, config.busy_seconds)
        self._pool = ThreadPool(0, config.threads, "subscribers") if pool is None else pool
        self._observe = observe
        self._share = TurnShare(reactor, TURN_SECONDS)
        self._is_running = False

    async def start(self) -> None:
        """Open the file, and make it where it is missing. Raises StoreUnavailable."""
        self._pool.start()
        self._is_running = True
        try:
            await self._in_thread(self._table.open)
        except StoreUnavailable:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Finish the queries that run, and close the file."""
        if self._is_running:
            self._is_running = False
            self._pool.stop()
            self._table.close()

    async def find(self, username: str, domain: str, fresh: bool) -> Subscriber | None:
        """Return the subscriber or None; there is nowhere that a change arrives late."""
        return await self._in_thread(self._table.find, username, domain)

    async def page(self, after: tuple[str, str], size: int) -> Sequence[Subscriber]:
        """Return the first `size` subscribers that come after this username and domain; none at the end."""
        return await self._in_thread(self._table.page, after, size)

    async def count(self) -> int:
        """Return how many subscribers there are."""
        return await self._in_thread(self._table.count)

    async def add(self, username: str, domain: str, password: str) -> None:
        """Add a subscriber."""
        await self._in_thread(self._table.add, username, domain, password)

    async def set_password(self, username: str, domain: str, password: str) -> None:
        """Give a subscriber another password."""
        await self._in_thread(self._table.set_password, username, domain, password)

    async def remove(self, username: str, domain: str) -> None:
        """Remove a subscriber."""
        await self._in_thread(self._table.remove, username, domain)

    async def changes(self, since: int | None) -> Changed:
        """Say whether anybody was changed since a mark; it cannot be told who."""
        mark = await self._in_thread(self._table.version)
        return Changed(mark, () if since in (None, mark) else None)

    def _in_thread(self, query: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> "Deferred[T]":
        if not self._is_running:
            raise StoreUnavailable("the subscribers are closed")
        asked_at = self._reactor.seconds()
        waiting: Deferred[T] = Deferred()
        answer = deferToThreadPool(self._reactor, self._pool, query, *args, **kwargs)
        answer.addBoth(self._answered, waiting, query.__name__, asked_at)
        return waiting

    def _answered(self, result: T | Failure, waiting: "Deferred[T]", operation: str, asked_at: float) -> None:
        """Let who waits go on, now or in one of the next turns: with each of many answers goes a whole request."""
        self._observe(operation, self._reactor.seconds() - asked_at)
        step = partial(waiting.callback, result)  # a Failure fails it
        if self._share.has_room():
            self._share.run(step)
        else:
            self._share.defer(step)
