"""A stream of Redis as somebody reads it who asks now and then and never waits there: what is new since the last time.

Ids of entries only grow. A stream whose newest entry is older than what was read of it has lost entries, as after the
change to another server, or is another one. It counts as another one once it grows and is still older.
"""

from collections.abc import Sequence
from typing import Any

from attrs import frozen

from rollcall.cluster.redis import Redis

EntryId = tuple[int, int]
"""Both numbers of "1700000000000-7"."""

BEGINNING: EntryId = (0, 0)
"""No entry has this id."""

MOST_READ = 200
"""So many entries are read at a time, unless they are large."""

LOOK_AFTER = 5
"""After so many times of nothing new it is looked whether the stream is older than what was read of it."""


@frozen
class Entry:
    """One entry."""

    id: EntryId
    fields: dict[bytes, bytes]


class Tail:
    """Where somebody stands in a stream. What asks Redis raises RedisUnavailable and RedisRefused."""

    def __init__(self, redis: Redis, key: bytes, most: int = MOST_READ) -> None:
        """It begins before the oldest entry; `most` are read at a time."""
        self.most = most
        self.position: EntryId = BEGINNING
        self._redis = redis
        self._key = key
        self._quiet = 0
        self._older: EntryId | None = None
        self._is_another = False

    async def read(self) -> list[Entry]:
        """Return what came after our position, `most` at most, and go on behind it."""
        answer = await self._redis.ask(self._key, b"XREAD", b"COUNT", self.most, b"STREAMS", self._key,
                                       text_of(self.position))
        if answer:
            return self._passed(answer[0][1])
        self._quiet += 1
        if self._quiet >= LOOK_AFTER:
            self._quiet = 0
            await self._look_back()
        return []

    async def newest(self) -> Entry | None:
        """Return the newest entry; the position stays."""
        found = _entries(await self._redis.ask(self._key, b"XREVRANGE", self._key, b"+", b"-", b"COUNT", 1))
        return found[0] if found else None

    async def since(self, first: EntryId) -> list[Entry]:
        """Return the entry `first` and what came after it, `most` at most, and go on behind it."""
        answer = await self._redis.ask(self._key, b"XRANGE", self._key, text_of(first), b"+", b"COUNT", self.most)
        return self._passed(answer)

    def is_another(self) -> bool:
        """Say, once, whether the stream turned out to be another one; the position is in the new one then."""
        found, self._is_another = self._is_another, False
        return found

    def _passed(self, answer: Sequence[Any]) -> list[Entry]:
        found = _entries(answer)
        if found:
            self.position, self._quiet, self._older = found[-1].id, 0, None
        return found

    async def _look_back(self) -> None:
        newest = await self.newest()
        top = BEGINNING if newest is None else newest.id
        if top >= self.position:
            self._older = None
        elif self._older is None or top <= self._older:
            self._older = top
        else:
            self.position, self._older, self._is_another = self._older, None, True


def text_of(id: EntryId) -> bytes:
    """Return an id as Redis writes it."""
    return b"%d-%d" % id


def id_of(text: bytes) -> EntryId:
    """Return an id that Redis has written, or BEGINNING for what is none."""
    first, _, second = text.partition(b"-")
    return (int(first), int(second)) if first.isdigit() and second.isdigit() else BEGINNING


def _entries(answer: Sequence[Any]) -> list[Entry]:
    return [Entry(id_of(id), dict(zip(fields[::2], fields[1::2], strict=True))) for id, fields in answer]
