"""Subscribers remembered in memory, so that a refresh of a registration asks no database."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Generic, TypeVar

import attrs
from attrs import field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from registrar.auth import Find, StoreUnavailable, Subscriber
from registrar.subscribers.contract import PAGE_SIZE
from registrar.subscribers.packed import pack, packed_md5, unpack
from rollcall.ops.allowed import above, at_least

T = TypeVar("T")

Page = Callable[[tuple[str, str], int], Awaitable[Sequence[Subscriber]]]
"""Returns at most so many subscribers, those that follow a username and domain in their order; [] at the end."""


@attrs.frozen(kw_only=True)
class CacheConfig:
    """How much is remembered, and for how long."""

    max_cached: int = field(default=200_000, validator=at_least(2))
    """Users remembered in memory, about 210 bytes each."""
    cache_seconds: float = field(default=14_400.0, validator=above(0))
    """How long a user is remembered at most. It should be above the expiry of registrations."""
    negative_cache_seconds: float = field(default=60.0, validator=above(0))
    """How long it is remembered at most that there is no such user."""
    max_cached_negative: int = field(default=20_000, validator=at_least(2))
    """Names remembered that are no users; a scanner that tries more drives out nobody's entry but its own."""
    stale_seconds: float = field(default=86_400.0, validator=at_least(0))
    """How long a user is remembered at most while no database can be asked; see cache_seconds."""
    recheck_seconds: float = field(default=10.0, validator=above(0))
    """A wrong password is only refused by what was read at most so long ago; else the database is asked again first."""
    max_refreshing: int = field(default=16, validator=at_least(0))
    """Busy users read again at a time before cache_seconds are over; 0: they are not."""
    changes_seen_within_seconds: float = field(default=1.0, validator=above(0))
    """How long a change made by another process may go unseen, where the store can tell that there was one."""
    max_waiting: int = field(default=1000, validator=at_least(1))
    """Users looked up at a time; beyond that requests are answered 503."""


class Recent(Generic[T]):
    """What was learnt lately: at most `seconds` ago, and at most `max_items`.

    It is kept in two generations and forgotten one generation at a time, so that nothing is paid for each item.
    """

    def __init__(self, max_items: int, seconds: float) -> None:
        self._half = max(1, max_items // 2)
        self._half_seconds = seconds / 2
        self._young: dict[str, T] = {}
        self._old: dict[str, T] = {}
        self._since = 0.0

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    @property
    def room(self) -> int:
        """How many more can be put before others are forgotten."""
        return 2 * self._half - len(self)

    def get(self, key: str, now: float) -> T | None:
        """Return what is known of `key`."""
        if now - self._since > self._half_seconds:
            self._turn(now)
        known = self._young.get(key)
        return self._old.get(key) if known is None else known

    def put(self, key: str, value: T, now: float) -> None:
        """Remember `value`."""
        self._old.pop(key, None)
        if now - self._since > self._half_seconds or (len(self._young) >= self._half and key not in self._young):
            self._turn(now)
        self._young[key] = value

    def forget(self, key: str) -> None:
        """Forget what is known of `key`."""
        self._young.pop(key, None)
        self._old.pop(key, None)

    def clear(self) -> None:
        """Forget everything."""
        self._young, self._old = {}, {}

    def _turn(self, now: float) -> None:
        too_old = now - self._since > 2 * self._half_seconds
        self._old = {} if too_old else self._young
        self._young, self._since = {}, now


class SubscriberCache:
    """Asks `source` once for each user, and remembers the answer as long as it is true.

    `version`, when given, tells a number that changes whenever anybody changes the subscribers. It is asked again when
    the last answer is half of `changes_seen_within_seconds` old and somebody is looked up; only when nobody was for
    longer than that does a look-up wait for it. When it cannot be told, what is remembered still counts.
    """

    _log = Logger()

    def __init__(
        self,
        source: Find,
        clock: IReactorTime,
        config: CacheConfig,
        version: Callable[[], Awaitable[int]] | None = None,
    ) -> None:
        self._source = source
        self._clock = clock
        self._version = version
        self._max_waiting = config.max_waiting
        self._fresh_seconds = config.changes_seen_within_seconds
        self._half_fresh_seconds = config.changes_seen_within_seconds / 2
        self._known: Recent[bytes] = Recent(config.max_cached, config.cache_seconds)
        self._unknown: Recent[bool] = Recent(config.max_cached_negative, config.negative_cache_seconds)
        self._asked: dict[str, list[Deferred[Subscriber | None]]] = {}
        self._changes = 0
        self._last_version: int | None = None
        # Nothing is remembered yet, so nothing can be out of date.
        self._true_at = clock.seconds()
        self._checking: list[Deferred[None]] | None = None

    def __len__(self) -> int:
        return len(self._known)

    def peek(self, key: str, now: float) -> bytes | None:
        """Return H(A1) by MD5 of "username@domain" when `find` would not have to wait at `now`. See auth.Peek."""
        age = now - self._true_at
        if age > self._half_fresh_seconds and self._version is not None:
            if self._checking is None:
                self._start_check(self._version, now)
            if self._checking is not None and age > self._fresh_seconds:
                return None
        packed = self._known.get(key, now)
        return None if packed is None else packed_md5(packed)

    async def find(self, username: str, domain: str) -> Subscriber | None:
        """Return the subscriber or None; without waiting when that is remembered. Raises StoreUnavailable."""
        now = self._clock.seconds()
        if self._version is not None and now - self._true_at > self._half_fresh_seconds:
            if self._checking is None:
                self._start_check(self._version, now)
            if self._checking is not None and now - self._true_at > self._fresh_seconds:
                await _waiter(self._checking)
                now = self._clock.seconds()
        key = f"{username}@{domain}"
        packed = self._known.get(key, now)
        if packed is not None:
            return unpack(username, domain, packed)
        if self._unknown.get(key, now):
            return None
        return await self._ask(key, username, domain)

    async def fill(self, page: Page) -> None:
        """Remember all users that there are, or as many as there is room for. Raises StoreUnavailable."""
        if self._version is not None:
            began = self._clock.seconds()
            self._last_version, self._true_at = await self._version(), began
        after = "", ""
        while room := self._known.room:
            changes = self._changes
            subscribers = await page(after, min(room, PAGE_SIZE))
            if not subscribers:
                return
            after = subscribers[-1].username, subscribers[-1].domain
            # As in _learn: what was read while something changed is not to keep.
            if changes == self._changes:
                now = self._clock.seconds()
                for each in subscribers:
                    self._known.put(f"{each.username}@{each.domain}", pack(each), now)

    def forget(self, username: str, domain: str) -> None:
        """Forget one user, because it was changed."""
        self._changes += 1
        key = f"{username}@{domain}"
        self._known.forget(key)
        self._unknown.forget(key)

    def clear(self) -> None:
        """Forget everything, because anything may have changed."""
        self._changes += 1
        self._known.clear()
        self._unknown.clear()

    def _ask(self, key: str, username: str, domain: str) -> "Deferred[Subscriber | None]":
        """Ask the source, unless somebody has and waits for the answer already."""
        asked = self._asked.get(key)
        if asked is not None:
            return _waiter(asked)
        if len(self._asked) >= self._max_waiting:
            raise StoreUnavailable(f"{len(self._asked)} users are being looked up already")
        self._asked[key] = []
        waiting = _waiter(self._asked[key])
        asking: Deferred[Subscriber | None] = Deferred.fromCoroutine(_call(self._source, username, domain))
        asking.addCallback(self._learn, key, self._changes)
        asking.addBoth(lambda outcome: _tell(self._asked.pop(key), outcome))
        return waiting

    def _learn(self, subscriber: Subscriber | None, key: str, changes: int) -> Subscriber | None:
        # What was read while something changed may be from before that: good enough for an answer, not to keep.
        if changes == self._changes:
            now = self._clock.seconds()
            if subscriber is None:
                self._unknown.put(key, True, now)
            else:
                self._known.put(key, pack(subscriber), now)
        return subscriber

    def _start_check(self, version: Callable[[], Awaitable[int]], now: float) -> None:
        self._checking = []
        checking = Deferred.fromCoroutine(self._check(version, now))
        checking.addErrback(lambda failure: self._log.failure("while looking for changes", failure))

    async def _check(self, version: Callable[[], Awaitable[int]], began: float) -> None:
        try:
            current = await version()
            if current != self._last_version:
                self.clear()
                self._last_version = current
        except StoreUnavailable as error:
            self._log.warn("changes of subscribers go unseen: {why}", why=str(error), log_rationed=True)
        finally:
            waiting, self._checking = self._checking or [], None
            self._true_at = began
            _tell(waiting, None)


async def _call(function: Callable[..., Awaitable[T]], *arguments: str) -> T:
    return await function(*arguments)


def _waiter(waiting: "list[Deferred[T]]") -> "Deferred[T]":
    """Return what `_tell` will tell. Whoever stops waiting disturbs no others."""
    deferred: Deferred[T] = Deferred()
    waiting.append(deferred)
    return deferred


def _tell(waiting: "list[Deferred[Any]]", outcome: Any) -> None:
    for deferred in waiting:
        if isinstance(outcome, Failure):
            deferred.errback(outcome)
        else:
            deferred.callback(outcome)
