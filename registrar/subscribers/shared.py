"""Subscribers that all registrars remember together in Redis, encrypted, and what they tell each other there.

Who finds nothing at a user's key gets a lease for it: what he reads in the database he may put there only while his
lease lies there. A change replaces lease and value by a tombstone, so nobody puts back what was read before it, however
long he was stopped meanwhile. Who finds the lease of somebody else waits for what that one reads.
"""

import os
from collections.abc import Sequence
from typing import Any, Protocol

from attrs import frozen
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from registrar.subscribers.announcing import EVERYBODY, LOG, TOMBSTONE, Names, announce, bury, place_of
from registrar.subscribers.level_one import entry_of
from registrar.subscribers.sealing import FORM, Epoch, NotSealed, Sealing
from registrar.subscribers.waiting import at_most, tell, waiter
from rollcall.cluster.redis import Redis, RedisRefused, RedisUnavailable, Script

LEASE = b"\x02"
LEASE_SECONDS = 2.0
"""How long a node may take to read a user in the database, and others wait for it: as long as MySQL may take."""

ANSWER_SECONDS = 0.2
"""An answer of Redis that takes longer is not waited for: the database is asked instead."""

REST_SECONDS = 1.0
"""So long nothing is looked up in Redis after that."""

MOST_HEARD = 1000
"""Changes that are read at a time. Who has missed more doubts all that he remembers."""

_TOKEN_BYTES = 12

FIND = Script(b"""
local held = redis.call('GET', KEYS[1])
if held then return held end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return false
""")

KEEP = Script(b"""
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if ARGV[2] == '' then
  redis.call('DEL', KEYS[1])
else
  redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
end
return 1
""")


class Listener(Protocol):
    """Who remembers subscribers, and is told what others have changed."""

    def heard(self, names: Names) -> None:
        """Somebody has told of these; what to do because of it is said next."""

    def changed(self, names: Sequence[tuple[str, str]]) -> None:
        """These were changed."""

    def everybody_changed(self) -> None:
        """Anybody may have been changed, and somebody has said so."""

    def lost_track(self) -> None:
        """What was changed is not known any more."""

    def came_back(self) -> None:
        """Redis can be asked again; what could not be told there is not known."""


@frozen
class Found:
    """What Redis knows of a user."""

    entry: bytes | None = None
    """Hashes and when they were read, see registrar.subscribers.level_one.entry_of."""
    token: bytes = b""
    """What lies there, to be replaced by what the database says; empty: it may not be replaced."""
    is_changed: bool = False
    """Somebody has just been told to have changed this user."""


NOTHING = Found()


class SharedCache:
    """What lies in Redis. Nothing here is needed: where Redis is slow or away, it is as if nothing were there."""

    _log = Logger()

    def __init__(self, reactor: IReactorTime, redis: Redis, key: bytes, keep_seconds: float,
                 fresh_seconds: float) -> None:
        """`key` encrypts; `keep_seconds` is how long a user lies there; `fresh_seconds` see announcing."""
        self.listener: Listener
        self.unreadable = 0
        """Values that were sealed with another key."""
        self._reactor = reactor
        self._redis = redis
        self._sealing = Sealing(key)
        self._keep_ms = max(1, int(keep_seconds * 1000))
        self._fresh_seconds = fresh_seconds
        # How our own leases begin; a user is looked up here by one at a time.
        self._ours = LEASE + os.urandom(_TOKEN_BYTES)
        self._slow_until = 0.0
        self._epoch: Epoch = (0, 0)
        self._last: bytes | None = None
        self._is_lost = False
        self._reading: list[Deferred[bool]] | None = None
        self._next: list[Deferred[bool]] = []
        # Users whose lease somebody else has.
        self._watched: dict[bytes, Deferred[None]] = {}

    # --- what is remembered

    async def find(self, username: str, domain: str) -> Found:
        """Return what is remembered of a user. Never fails, and waits for Redis only shortly."""
        place = place_of(username, domain)
        told = self._watched[place] = Deferred()
        try:
            value = await self._get(place)
            if isinstance(value, bytes) and value.startswith(LEASE) and not value.startswith(self._ours):
                await at_most(self._reactor, LEASE_SECONDS, told, None)
                value = await self._get(place)
        finally:
            if self._watched.get(place) is told:
                del self._watched[place]
        return value if isinstance(value, Found) else self._found(place, value)

    def keep(self, username: str, domain: str, token: bytes, packed: bytes | None, read_at: float) -> None:
        """Put what the database said where `find` has seen `token`; None: nobody is there."""
        if token:
            place = place_of(username, domain)
            sealed = b"" if packed is None else self._sealing.seal(place, self._epoch, read_at, packed)
            self._redis.run(KEEP, place, (token, sealed, self._keep_ms), _ignore)

    async def _get(self, place: bytes) -> bytes | Found:
        """Return what lies at a place; a Found when that is nothing, or cannot be told."""
        if not self._redis.can_ask(place) or self._reactor.seconds() < self._slow_until:
            return NOTHING
        token = self._ours + os.urandom(_TOKEN_BYTES)
        asking = self._redis.evaluate(FIND, place, token, int(LEASE_SECONDS * 1000))
        asking.addErrback(lambda failure: self._not_told(failure, NOTHING))
        value = await at_most(self._reactor, ANSWER_SECONDS, asking, self)
        if value is self:
            self._slow_until = self._reactor.seconds() + REST_SECONDS
            self._log.warn("Redis takes long to say what it knows of users: the database is asked",
                           log_rationed=True)
            return NOTHING
        found: bytes | Found = Found(token=token) if value is None else value
        return found

    def _found(self, place: bytes, value: bytes) -> Found:
        if value.startswith(TOMBSTONE):
            return Found(is_changed=True)
        if value.startswith(LEASE):
            return Found(token=value) if value.startswith(self._ours) else NOTHING
        try:
            epoch, moment, packed = self._sealing.open(place, value)
        except NotSealed as problem:
            self.unreadable += 1
            self._log.warn("hashes in Redis cannot be used: {why}", why=str(problem), form=value[:len(FORM)].hex(),
                           log_rationed=True)
            return Found(token=value)
        if epoch != self._epoch:
            return Found(token=value)
        return Found(entry_of(packed, min(moment, self._reactor.seconds())), value)

    # --- what is told

    async def announce(self, names: Names | None) -> None:
        """Tell all registrars who was changed; see announcing.announce, which says what it raises."""
        await announce(self._redis, names, self._fresh_seconds)
        self._begin_reading()

    async def bury(self, names: Names) -> None:
        """Let nobody use what lies in Redis of these users; when that cannot be told now, it is logged."""
        try:
            await bury(self._redis, names, self._fresh_seconds)
        except (RedisUnavailable, RedisRefused) as problem:
            self._log.warn("what Redis knows of users may be old: {why}", why=str(problem), log_rationed=True)

    # --- what is heard

    @property
    def can_hear(self) -> bool:
        """Whether Redis can be asked who was changed."""
        return self._redis.can_ask(LOG)

    def caught_up(self) -> "Deferred[bool]":
        """Return True once the listener knows of all that was announced before now, False when that cannot be told."""
        if not self.can_hear:
            return succeed(False)
        # What is being read already may have been answered before now.
        waiting = waiter(self._next)
        self._begin_reading()
        return waiting

    def connected(self) -> None:
        """Hear that a server can be asked from now on."""
        self._slow_until = 0.0
        self._begin_reading(again=True)
        self.listener.came_back()

    def changed(self, keys: Sequence[bytes] | None) -> None:
        """Hear that somebody else has changed these keys; None: any key."""
        for place in self._watched.keys() if keys is None else keys:
            if place in self._watched and not self._watched[place].called:
                self._watched[place].callback(None)
        self._is_lost |= keys is None
        if keys is None or LOG in keys:
            self._begin_reading(again=True)

    def _begin_reading(self, again: bool = False) -> None:
        if self._reading is None:
            self._reading, self._next = self._next, []
            reading = Deferred.fromCoroutine(self._read())
            reading.addErrback(lambda failure: self._not_told(failure, False))
            reading.addCallback(self._has_read)
        elif again:
            waiter(self._next)

    def _has_read(self, is_told: bool) -> None:
        waiting, self._reading = self._reading or [], None
        tell(waiting, is_told)
        if self._next and self._reading is None:
            self._begin_reading()

    async def _read(self) -> bool:
        """Read the log from where we are, and tell the listener."""
        last = self._last
        if last is None:
            await self._find_place()
            await self._hear_latest()
            return True
        entries = await self._redis.ask(LOG, b"XRANGE", LOG, last, b"+", b"COUNT", MOST_HEARD + 1)
        if last == NO_ENTRY:
            is_whole = len(entries) <= MOST_HEARD
        else:
            is_whole = bool(entries) and entries[0][0] == last and len(entries) <= MOST_HEARD
            entries = entries[1:]
        if not is_whole or self._is_lost:
            self._log.warn("the log of changes in Redis does not go back to where it was read last: what is remembered "
                           "of users is asked for again")
            await self._find_place()
            self._is_lost = False
            self.listener.lost_track()
        elif entries:
            self._stand_at(entries[-1])
            self._tell_listener(entries)
        return True

    async def _find_place(self) -> None:
        """Begin at the end of the log."""
        newest = await self._redis.ask(LOG, b"XREVRANGE", LOG, b"+", b"-", b"COUNT", 1)
        if newest:
            self._stand_at(newest[0])
        else:
            self._last, self._epoch = NO_ENTRY, (0, 0)

    async def _hear_latest(self) -> None:
        """Hear of changes that replicas may not know yet, for this node was not there when they were told."""
        if self._last != NO_ENTRY:
            seconds, _ = await self._redis.ask(LOG, b"TIME")
            since = b"%d-0" % int((int(seconds) - self._fresh_seconds) * 1000)
            entries = await self._redis.ask(LOG, b"XRANGE", LOG, since, b"+", b"COUNT", MOST_HEARD)
            if entries:
                self._tell_listener(entries)

    def _stand_at(self, entry: list[Any]) -> None:
        name, (_, username, _, _, _, epoch) = entry
        self._last = name
        self._epoch = _epoch_of(epoch if username else name)

    def _tell_listener(self, entries: list[list[Any]]) -> None:
        names = [(fields[1].decode(), fields[3].decode()) for _, fields in entries]
        self.listener.heard(names)
        if EVERYBODY in names:
            self.listener.everybody_changed()
        else:
            self.listener.changed(list(dict.fromkeys(names)))

    def _not_told(self, failure: Failure, otherwise: Any) -> Any:
        if not failure.check(RedisUnavailable, RedisRefused):
            self._log.failure("while Redis was asked about users", failure)
        elif failure.check(RedisRefused):
            self._log.warn("Redis refuses what is asked of users: {why}", why=failure.getErrorMessage(),
                           log_rationed=True)
        return otherwise


NO_ENTRY = b"0-0"


def _epoch_of(name: bytes) -> Epoch:
    high, _, low = name.partition(b"-")
    return int(high), int(low)


def _ignore(answer: object) -> None:
    """What could not be put into Redis is read again by whoever needs it."""


