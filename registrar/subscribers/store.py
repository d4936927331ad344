"""Subscribers as the registrar asks for them: from memory, then from Redis, then from a database (`Source`).

What is remembered counts for `cache_seconds`, unless somebody is heard to have changed it (registrar.subscribers.
hearing); afterwards, for `stale_seconds`, it helps out while no database can be asked.
"""

from binascii import hexlify
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from registrar.auth import StoreUnavailable, Subscriber
from registrar.subscribers.announcing import Names, concerned
from registrar.subscribers.cache import CacheConfig
from registrar.subscribers.contract import PAGE_SIZE, checked_domain, checked_username, is_subscriber_name
from registrar.subscribers.hearing import Hearing
from registrar.subscribers.level_one import MOMENT, MOMENT_AT, LevelOne, packed_of, read_at
from registrar.subscribers.lookups import Lookups
from registrar.subscribers.packed import MD5_BIT, MD5_SLICE, pack, unpack
from registrar.subscribers.shared import SharedCache
from registrar.subscribers.source import Source
from registrar.subscribers.waiting import at_most
from registrar.subscribers.windows import Windows
from rollcall.cluster.redis import RedisRefused, RedisUnavailable
from rollcall.sip.errors import ParseError
from rollcall.sip.uri import parse_sip_uri, unescape

_moment_of = MOMENT.unpack_from

WARM_UP_SECONDS = 2.0
"""So long the start waits at most until all users are in memory: 200,000 take a third of it."""

MARK_SECONDS = 0.5
"""So long the start waits at most until the database has said how far its changes go."""


class CachedSubscribers:
    """The SubscriberStore above a Source. Where Redis is used, it listens to what is announced there."""

    _log = Logger()

    def __init__(self, reactor: Any, source: Source, config: CacheConfig, *, shared: SharedCache | None = None,
                 domains: Callable[[], Iterable[str]] | None = None, fresh_seconds: float = 0.0,
                 warms_up: bool = False) -> None:
        """`reactor` provides IReactorTime. Where a username alone says who it is, `domains` returns those that are
        served: a change concerns all of them. For `fresh_seconds` after a change the primary is asked. `warms_up`: read
        all users at the start.
        """
        self._reactor = reactor
        self._source = source
        self._shared = shared
        self._domains = domains
        self._warms_up = warms_up
        self._is_running = self._has_ended = False
        self._level_one = LevelOne(config)
        self._windows = Windows(reactor, fresh_seconds, self._window_ended)
        self._lookups = Lookups(reactor, source, self._level_one, self._windows, shared, config)
        self._hearing = Hearing(reactor, source, config.changes_seen_within_seconds, self, shared)
        self._half_seconds = config.cache_seconds / 2
        self._recheck_seconds = config.recheck_seconds
        self._known = self._level_one.known
        # What was read before this moment is looked at more closely. It follows the clock, in small steps.
        self._aging_before = 0.0
        self._changes = 0
        self.peeked = 0
        """How often `peek` had an answer."""
        if shared is not None:
            shared.listener = self

    # --- its life

    async def start(self) -> None:
        """Make ready to answer; does not wait for a server that is away. Raises StoreUnavailable."""
        await self._source.start()
        self._is_running = True
        if self._warms_up:
            await at_most(self._reactor, WARM_UP_SECONDS, Deferred.fromCoroutine(self._warm_up()), None)
        else:
            # Before anybody is remembered, so that nothing has to be doubted once the answer comes.
            await at_most(self._reactor, MARK_SECONDS, self._hearing.ask_source(), None)

    async def stop(self) -> None:
        """Let go of everything; afterwards every method raises StoreUnavailable."""
        self._is_running, self._has_ended = False, True
        self._level_one.clear()
        self._windows.stop()
        await self._source.stop()

    async def _warm_up(self) -> None:
        """Remember all users that there are, or as many as there is room for."""
        try:
            self._hearing.begin((await self._source.changes(None)).mark)
            after = "", ""
            while room := self._level_one.known.room:
                changes, now = self._changes, self._reactor.seconds()
                page = await self._source.page(after, min(room, PAGE_SIZE))
                if not page or self._source.may_be_late:
                    return
                after = page[-1].username, page[-1].domain
                # What was read while something changed is not to keep.
                if changes == self._changes and self._is_running:
                    for each in page:
                        key = _key(each.username, each.domain)
                        # A replica may not know yet what was changed a short while ago.
                        if not self._windows.covers(key):
                            self._level_one.learn(key, pack(each), now)
        except StoreUnavailable as problem:
            if not self._has_ended:
                # A table or column by another name is found out now, and not by the phones.
                self._log.warn("users are not read into memory ahead of need: {why}", why=str(problem))
        except Exception:
            self._log.failure("while users were read into memory")

    # --- asking

    def peek(self, key: str, now: float) -> bytes | None:
        """Return H(A1) by MD5 of "username@domain" when `find` would not have to wait at `now`. See auth.Peek."""
        # Written out, because this is asked for each REGISTER.
        if now > self._hearing.quiet_until and self._hearing.is_behind(now):
            return None
        entry = self._known.young.get(key) or self._known.get(key)
        if entry is None:
            return None
        (moment,) = _moment_of(entry, MOMENT_AT)
        if moment < self._aging_before and not self._serves(key, entry, now):
            return None
        self.peeked += 1
        return hexlify(entry[MD5_SLICE]) if entry[0] & MD5_BIT else None

    async def find(self, username: str, domain: str) -> Subscriber | None:
        """Return the subscriber or None, mostly from memory and then without waiting. Raises StoreUnavailable."""
        domain = domain.lower()
        if not self._is_running:
            raise StoreUnavailable("the subscribers are closed")
        if not is_subscriber_name(username, domain):
            return None
        now = self._reactor.seconds()
        if now > self._hearing.quiet_until and self._hearing.is_behind(now):
            await self._hearing.caught_up()
            now = self._reactor.seconds()
        key, tally = _key(username, domain), self._lookups.tally
        entry = self._known.get(key)
        if entry is not None and self._serves(key, entry, now):
            tally["memory", "found"] += 1
            return unpack(username, domain, entry)
        if entry is None and self._level_one.is_nobody(key, now):
            tally["memory", "unknown"] += 1
            return None
        try:
            return await self._lookups.find(key, username, domain)
        except StoreUnavailable:
            stale = self._level_one.stale(key, self._reactor.seconds())
            if stale is None or not self._is_running:
                raise
        tally["stale", "found"] += 1
        return unpack(username, domain, stale)

    async def look_again(self, username: str, domain: str) -> Subscriber | None:
        """Return what the database says now, when that is not what `find` gave.

        None when it is, when `find` gave what was read at most `recheck_seconds` ago, or when no database can be asked.
        """
        domain, now = domain.lower(), self._reactor.seconds()
        if not self._is_running or not is_subscriber_name(username, domain):
            return None
        key = _key(username, domain)
        asked_at = self._level_one.asked_at(key)
        if asked_at is not None and now - asked_at <= self._recheck_seconds:
            return None
        known = self._known.get(key)
        try:
            subscriber = await self._lookups.again(key, username, domain)
        except StoreUnavailable:
            return None
        if (None if known is None else packed_of(known)) == (None if subscriber is None else pack(subscriber)):
            return None
        if not self._source.may_be_late:
            # Replicas may not know it yet, nor whoever asks one of them now.
            self._windows.open(key)
            self._lookups.outdate(key)
            if known is not None:
                # Nobody has told of this change, so the others do not know it either.
                await self._announce((username, domain))
        return subscriber

    async def exists(self, aor: str) -> bool:
        """Say whether an address-of-record ("sip:alice@example.org") is a subscriber's. Raises StoreUnavailable."""
        try:
            uri = parse_sip_uri(aor)
        except ParseError:
            return False
        return await self.find(unescape(uri.user or ""), uri.host) is not None

    async def list(self, page_size: int = PAGE_SIZE) -> AsyncIterator[Subscriber]:
        """Iterate over all subscribers by username and domain. Raises StoreUnavailable."""
        after = ("", "")
        while page := await self._source.page(after, page_size):
            for subscriber in page:
                yield subscriber
            after = (page[-1].username, page[-1].domain)

    async def count(self) -> int:
        """Return how many subscribers there are. Raises StoreUnavailable."""
        return await self._source.count()

    @property
    def cached(self) -> int:
        """How many subscribers are remembered in memory now."""
        return len(self._level_one.known)

    def totals(self) -> dict[tuple[str, str], int]:
        """Return how often who was found where, by level and outcome, for metrics."""
        totals = dict(self._lookups.tally)
        totals["memory", "found"] = totals.get(("memory", "found"), 0) + self.peeked
        return totals

    def _serves(self, key: str, entry: bytes, now: float) -> bool:
        """Say whether an entry counts; one that counts not much longer is read again meanwhile."""
        if not self._level_one.counts(entry, now):
            return False
        if now - read_at(entry) > self._half_seconds:
            self._lookups.refresh(key, now)
        return True

    # --- changing

    async def add(self, username: str, domain: str, password: str) -> None:
        """Add a subscriber. Raises SubscriberExists, InvalidSubscriber, StoreUnavailable."""
        await self._change(self._source.add, username, domain, password)

    async def set_password(self, username: str, domain: str, password: str) -> None:
        """Give a subscriber another password. Raises NoSuchSubscriber, InvalidSubscriber, StoreUnavailable."""
        await self._change(self._source.set_password, username, domain, password)

    async def remove(self, username: str, domain: str) -> None:
        """Remove a subscriber. Raises NoSuchSubscriber, InvalidSubscriber, StoreUnavailable."""
        await self._change(self._source.remove, username, domain)

    async def forget(self, username: str, domain: str) -> None:
        """Forget a subscriber, here and at all registrars: somebody has changed it in the database."""
        name = checked_username(username), checked_domain(domain)
        self.changed([name])
        await self._announce(name)

    async def _change(self, change: Callable[..., Awaitable[None]], username: str, domain: str, *password: str) -> None:
        name = checked_username(username), checked_domain(domain)
        if not self._is_running:
            raise StoreUnavailable("the subscribers are closed")
        is_changed = False
        try:
            await change(*name, *password)
            is_changed = True
        except StoreUnavailable:
            is_changed = True  # perhaps
            raise
        finally:
            self.changed([name])
            if is_changed:
                await self._announce(name)

    async def _announce(self, name: tuple[str, str]) -> None:
        """Tell all registrars."""
        if self._shared is None:
            return
        names = [name] if self._domains is None else concerned([name], self._domains())
        try:
            await self._shared.announce(names)
        except (RedisUnavailable, RedisRefused) as problem:
            self._hearing.owe(names)
            self._log.warn("others could not be told that {name} was changed, and may know the old password for as "
                           "long as [subscribers] cache_seconds: {why}", name=_key(*name), why=str(problem))

    # --- what was changed

    def changed(self, names: Sequence[tuple[str, str]]) -> None:
        """Forget these, because they were changed, and ask the primary for them."""
        if self._has_ended:
            return
        self._changes += 1
        everywhere = names if self._domains is None else concerned(names, self._domains())
        for name in everywhere:
            key = _key(*name)
            self._level_one.forget(key)
            self._windows.open(key)
            self._lookups.outdate(key)
        further = [name for name in everywhere if name not in names]
        if further and self._shared is not None:
            # Who has told of it may not know all domains that are served.
            burying = Deferred.fromCoroutine(self._shared.bury(further))
            burying.addErrback(lambda failure: self._log.failure("while burying what others know", failure))

    def everybody_changed(self) -> None:
        """Forget everybody, because anybody may have been changed."""
        if self._has_ended:
            return
        self._changes += 1
        self._level_one.clear()
        self._windows.open_all()
        self._lookups.outdate_all()

    def lost_track(self) -> None:
        """Ask again for everybody: what was changed lately is not known. What is remembered may still help out."""
        if self._has_ended:
            return
        self._windows.open_all()
        self.lost_place()

    def lost_place(self) -> None:
        """Ask again for everybody: what was changed before now cannot be told."""
        self._changes += 1
        self._doubt()

    def checked(self, now: float) -> None:
        """All changes up to now are known."""
        self._aging_before = max(self._level_one.not_before, now - self._half_seconds)

    def heard(self, names: Names) -> None:
        """Note whom Redis tells of."""
        self._hearing.heard(names)

    def came_back(self) -> None:
        """Look once for changes that could not be announced while Redis was away."""
        if self._is_running:
            self._hearing.came_back()

    def _window_ended(self, key: str | None) -> None:
        """Read once more, for the primary may have been away, and a replica may not have known the change."""
        if key is None:
            self._doubt()
        else:
            self._level_one.expire(key, self._reactor.seconds())
            self._lookups.outdate(key)

    def _doubt(self) -> None:
        self._aging_before = self._reactor.seconds()
        self._level_one.doubt(self._aging_before)
        self._lookups.outdate_all()


def _key(username: str, domain: str) -> str:
    return f"{username}@{domain}"
