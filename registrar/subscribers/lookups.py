"""Subscribers that are being looked up: in Redis, then in the database, once for all who wait for the same one."""

from collections import Counter
from enum import Enum

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from registrar.auth import StoreUnavailable, Subscriber
from registrar.subscribers.cache import CacheConfig
from registrar.subscribers.level_one import LevelOne
from registrar.subscribers.packed import pack, unpack
from registrar.subscribers.shared import NOTHING, Found, SharedCache
from registrar.subscribers.source import Source
from registrar.subscribers.waiting import tell, waiter
from registrar.subscribers.windows import Windows

MAX_READS = 3
"""So often a user is read who is changed each time while it is read; then the answer counts, and is not remembered."""

REFRESH_REST_SECONDS = 1.0
"""After a busy user could not be read again, nobody is for so long."""


class Kind(Enum):
    """Why somebody is looked up."""

    FIND = "find"
    REFRESH = "refresh"
    """Ahead of need: what others have read lately is good enough, what is as old as ours is not."""
    AGAIN = "again"
    """Only what the database says now is good enough."""


@define(eq=False)
class Lookup:
    """One user who is being looked up."""

    key: str
    username: str
    domain: str
    kind: Kind
    outdated: bool = False
    """Somebody has changed this user since the last question."""
    waiting: list["Deferred[Subscriber | None]"] = field(factory=list)


class Lookups:
    """All that are under way."""

    _log = Logger()

    def __init__(self, clock: IReactorTime, source: Source, level_one: LevelOne, windows: Windows,
                 shared: SharedCache | None, config: CacheConfig) -> None:
        self.tally: Counter[tuple[str, str]] = Counter()
        """How often what was found where: level and outcome."""
        self._clock = clock
        self._source = source
        self._level_one = level_one
        self._windows = windows
        self._shared = shared
        self._max_waiting = config.max_waiting
        self._max_refreshing = config.max_refreshing
        self._asked: dict[str, Lookup] = {}
        self._asked_again: dict[str, Lookup] = {}
        self._refreshing = 0
        self._refresh_from = 0.0

    def find(self, key: str, username: str, domain: str) -> "Deferred[Subscriber | None]":
        """Return who this is. Raises StoreUnavailable, and fails with it."""
        return self._join(self._asked, Lookup(key, username, domain, Kind.FIND))

    def again(self, key: str, username: str, domain: str) -> "Deferred[Subscriber | None]":
        """Return what the database says now. Raises StoreUnavailable, and fails with it."""
        return self._join(self._asked_again, Lookup(key, username, domain, Kind.AGAIN))

    def refresh(self, key: str, now: float) -> None:
        """Read a busy user again while what is known still counts, unless that has to wait."""
        if self._refreshing >= self._max_refreshing or key in self._asked or now < self._refresh_from:
            return
        username, _, domain = key.rpartition("@")
        try:
            refreshing = self._join(self._asked, Lookup(key, username, domain, Kind.REFRESH))
        except StoreUnavailable:
            return
        self._refreshing += 1
        refreshing.addErrback(self._not_refreshed)
        refreshing.addCallback(self._refreshed)

    def outdate(self, key: str) -> None:
        """Let nobody be told what was read of this user before now."""
        for asked in (self._asked, self._asked_again):
            if key in asked:
                asked[key].outdated = True

    def outdate_all(self) -> None:
        """Let nobody be told what was read before now."""
        for lookup in (*self._asked.values(), *self._asked_again.values()):
            lookup.outdated = True

    def _join(self, asked: dict[str, Lookup], lookup: Lookup) -> "Deferred[Subscriber | None]":
        under_way = asked.get(lookup.key)
        if under_way is not None:
            return waiter(under_way.waiting)
        if len(self._asked) + len(self._asked_again) >= self._max_waiting:
            raise StoreUnavailable(f"{self._max_waiting} users are being looked up already")
        asked[lookup.key] = lookup
        waiting = waiter(lookup.waiting)
        looking = Deferred.fromCoroutine(self._look_up(lookup))
        looking.addBoth(lambda outcome: tell(asked.pop(lookup.key).waiting, outcome))
        return waiting

    async def _look_up(self, lookup: Lookup) -> Subscriber | None:
        for _ in range(MAX_READS):
            found = NOTHING
            lookup.outdated = False
            if lookup.kind is not Kind.AGAIN:
                found = await self._find_shared(lookup)
                if found.entry is not None and not lookup.outdated and self._is_enough(lookup, found.entry):
                    return self._take_shared(lookup, found.entry)
            subscriber = await self._read(lookup, found)
            if not lookup.outdated:
                break
        self._count("database", subscriber)
        return subscriber

    async def _find_shared(self, lookup: Lookup) -> Found:
        # Who was changed a short while ago is asked of the primary, whatever others may have read elsewhere.
        if self._shared is None or self._windows.covers(lookup.key):
            return NOTHING
        found = await self._shared.find(lookup.username, lookup.domain)
        if found.is_changed:
            self._level_one.forget(lookup.key)
            self._windows.open(lookup.key)
        return found

    def _is_enough(self, lookup: Lookup, entry: bytes) -> bool:
        now = self._clock.seconds()
        if self._level_one.counts(entry, now):
            return lookup.kind is Kind.FIND or not self._level_one.is_aging(entry, now)
        # Too old for an answer, but better than none.
        self._level_one.offer(lookup.key, entry)
        return False

    def _take_shared(self, lookup: Lookup, entry: bytes) -> Subscriber:
        self._level_one.offer(lookup.key, entry)
        subscriber = unpack(lookup.username, lookup.domain, entry)
        self._count("redis", subscriber)
        return subscriber

    async def _read(self, lookup: Lookup, found: Found) -> Subscriber | None:
        """Ask the database, and remember what it says unless that was changed meanwhile."""
        lookup.outdated = False
        is_fresh = found.is_changed or self._windows.covers(lookup.key)
        began = self._clock.seconds()
        try:
            subscriber = await self._source.find(lookup.username, lookup.domain, is_fresh or lookup.kind is Kind.AGAIN)
            is_late = self._source.may_be_late
            if is_late:
                self._check_late(lookup, subscriber)
        except StoreUnavailable:
            self._let_go(lookup, found, began)
            self.tally["database", "unavailable"] += 1
            raise
        if lookup.outdated:
            # It is read once more, and would wait for itself.
            self._let_go(lookup, found, began)
        elif is_late:
            self._learn_shortly(lookup, found, subscriber, began)
        else:
            packed = None if subscriber is None else pack(subscriber)
            self._level_one.learn(lookup.key, packed, began)
            if is_fresh:
                self._let_go(lookup, found, began)
            elif self._shared is not None:
                self._shared.keep(lookup.username, lookup.domain, found.token, packed, began)
        return subscriber

    def _let_go(self, lookup: Lookup, found: Found, began: float) -> None:
        """Let nobody wait any longer for what we read; what somebody else has read stays in Redis."""
        if self._shared is not None and found.entry is None:
            self._shared.keep(lookup.username, lookup.domain, found.token, None, began)

    def _check_late(self, lookup: Lookup, subscriber: Subscriber | None) -> None:
        """Raise StoreUnavailable when what a replica says that is behind is of no use.

        Whom it does not know may just be new to it, and who is known here may be known better.
        """
        is_known = lookup.kind is not Kind.AGAIN and self._level_one.stale(lookup.key, self._clock.seconds())
        if subscriber is None or is_known:
            raise StoreUnavailable(f"only a replica that is behind could be asked for {lookup.key}")

    def _learn_shortly(self, lookup: Lookup, found: Found, subscriber: Subscriber | None, began: float) -> None:
        """Remember what a replica said that is behind, but not for longer than a change may go unseen otherwise.

        What is known already may be newer, and so it stays when that is only doubted.
        """
        if lookup.kind is not Kind.AGAIN:
            self._windows.open(lookup.key)
            self._level_one.learn(lookup.key, None if subscriber is None else pack(subscriber), began)
        self._let_go(lookup, found, began)

    def _count(self, level: str, subscriber: Subscriber | None) -> None:
        self.tally[level, "unknown" if subscriber is None else "found"] += 1

    def _not_refreshed(self, failure: Failure) -> None:
        self._refresh_from = self._clock.seconds() + REFRESH_REST_SECONDS
        if not failure.check(StoreUnavailable):
            self._log.failure("while a user was read again", failure)

    def _refreshed(self, outcome: object) -> None:
        self._refreshing -= 1
