"""Versioned wholes and the changes between them in a stream of Redis: one master publishes, anybody follows.

An entry's id is "<fence>-<number>": the fence is that of the master's lease, the numbers are his own. Redis takes no id
that is not above all others, so a master whose lease has gone to another is refused, whenever he wakes up. Fields:
kind, "whole" or "change"; before, the id of the entry that a change follows upon; whole, the id of the whole that a
follower can begin with; data. A change is taken only right behind the entry that it follows upon, so what lies behind a
whole is always complete. A whole that says what the entry before it made, too, names that as well: whoever has it need
not read the whole. Followers ask now and then; nobody waits for them.
"""

from enum import Enum
from itertools import takewhile
from typing import Protocol

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from rollcall.cluster.polling import Polling
from rollcall.cluster.redis import Redis, Script
from rollcall.cluster.streams import BEGINNING, Entry, EntryId, Tail, id_of, text_of

MOST_CHANGES = 100
"""After so many changes there is a whole: the stream never has more than twice as many entries, and two wholes."""

POLL_SECONDS = 0.2
"""How often followers ask."""

FRESH_SECONDS = 3.0
"""What is older than that is said to be old: no master seems to live."""

APPEND = Script(b"""
local id, kind, before, whole, data, oldest = unpack(ARGV)
local top = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
top = top and top[1] or ''
if before ~= '' and top ~= before then return top end
local added = redis.pcall('XADD', KEYS[1], 'MINID', '=', oldest, id,
  'kind', kind, 'before', before, 'whole', whole, 'data', data)
if type(added) == 'table' and added.err then
  if string.find(added.err, 'equal or smaller', 1, true) then return top end
  return added
end
return 1
""")
"""KEYS: the stream. ARGV: id, kind, before (the id that has to be the newest one, or empty), whole, data, and the
oldest id to be kept. 1, or the newest id that is there, empty when there is none: then nothing was written."""


class Outcome(Enum):
    """What became of something that was to be published."""

    TAKEN = "taken"
    GAP = "a whole is needed"
    """The stream does not end with what we published last, or has enough changes."""
    FENCED = "refused"
    """A later master has published."""


class Publisher:
    """Publishes as one master during one lease. Nothing may be published before the answer to what was before."""

    def __init__(self, redis: Redis, key: bytes, fence: int) -> None:
        self.version = ""
        """The id of what was taken last."""
        self.overtaken_by = 0
        """The fence of the master who has refused us, or ours if he cannot be told."""
        self._redis = redis
        self._key = key
        self._fence = fence
        self._number = -1
        self._changes = 0
        self._whole = b""

    async def whole(self, data: bytes) -> Outcome:
        """Publish all. Raises RedisUnavailable, after which it is unknown whether it was taken, and RedisRefused."""
        return await self._append_whole(data, b"")

    async def again(self, data: bytes) -> Outcome:
        """Publish all of what was taken last, for those who come later. Raises as `whole` does."""
        return await self._append_whole(data, self.version.encode()) if self.version else Outcome.GAP

    async def change(self, data: bytes) -> Outcome:
        """Publish the difference from what was taken last. Raises as `whole` does; the next one begins there again."""
        if not self._whole or self._changes >= MOST_CHANGES:
            return Outcome.GAP
        self._changes += 1
        before = self.version.encode()
        return await self._append(self._next_id(), b"change", before, self._whole, data, text_of(BEGINNING))

    def _next_id(self) -> bytes:
        self._number += 1
        return text_of((self._fence, self._number))

    async def _append_whole(self, data: bytes, before: bytes) -> Outcome:
        id = self._next_id()
        # Who reads what lies between the whole before and this one can go on with it.
        outcome = await self._append(id, b"whole", before, id, data, self._whole or text_of(BEGINNING))
        if outcome is Outcome.TAKEN:
            self._whole, self._changes = id, 0
        return outcome

    async def _append(self, id: bytes, kind: bytes, before: bytes, whole: bytes, data: bytes,
                      oldest: bytes) -> Outcome:
        top = await self._redis.evaluate(APPEND, self._key, id, kind, before, whole, data, oldest)
        if top == 1:
            self.version = id.decode()
            return Outcome.TAKEN
        fence, _ = id_of(top)
        if before and fence <= self._fence:
            return Outcome.GAP
        self.overtaken_by = max(fence, self._fence)
        return Outcome.FENCED


class Told(Protocol):
    """Who is told what was published. Raises ValueError for what is not understood; then it stays as it was."""

    def whole(self, data: bytes) -> None:
        """This is all."""

    def change(self, data: bytes) -> None:
        """This is different from what was told before."""

    def followed(self) -> None:
        """All that was there has been told."""


class Follower:
    """Tells what was published, in order and without gaps; after a gap, from the newest whole on.

    It asks for itself between `start` and `stop`. While Redis is away, or no master lives, what was told last stays.
    """

    _log = Logger()

    def __init__(self, reactor: IReactorTime, redis: Redis, key: bytes, told: Told,
                 poll_seconds: float = POLL_SECONDS) -> None:
        self.heard_at: float | None = None
        """When something was told last, by the reactor's clock."""
        self.gaps = 0
        """How often it was begun with a whole because something was missing, or not understood."""
        self._reactor = reactor
        self._told = told
        self._tail = Tail(redis, key)
        self._at: EntryId | None = None
        self._is_lost = self._has_news = False
        self._polling = Polling(reactor, poll_seconds, self.poll, "following what is published")

    def start(self) -> None:
        """Begin to ask."""
        self._polling.start()

    async def stop(self) -> None:
        """Ask no more."""
        await self._polling.stop()

    def hurry(self) -> None:
        """Ask now: something was published, or Redis is back."""
        self._polling.hurry()

    @property
    def version(self) -> str:
        """The id of what was told last; empty: nothing was."""
        return "" if self._at is None else text_of(self._at).decode()

    @property
    def problem(self) -> str | None:
        """Why nothing was heard; None when Redis has answered."""
        return self._polling.problem

    def age(self, now: float) -> float | None:
        """Return for how many seconds nothing was told; None: nothing ever was."""
        return None if self.heard_at is None else max(0.0, now - self.heard_at)

    @property
    def is_fresh(self) -> bool:
        """Whether a master seems to live, and what was told is from him."""
        age = self.age(self._reactor.seconds())
        return age is not None and age <= FRESH_SECONDS

    async def poll(self) -> None:
        """Ask once. Raises RedisUnavailable and RedisRefused."""
        if self._at is not None:
            entries = await self._tail.read()
            if self._tail.is_another():
                self._at = None
            elif self._took(entries):
                return
        await self._catch_up()

    async def _catch_up(self) -> None:
        newest = await self._tail.newest()
        whole = BEGINNING if newest is None else id_of(newest.fields.get(b"whole", b""))
        # What is older than what we have is not gone back to: it comes from a server that has lost the rest.
        if whole == BEGINNING or (self._at is not None and whole <= self._at):
            return
        entries = await self._tail.since(whole)
        if entries and entries[0].id == whole:
            self._took(entries)

    def _took(self, entries: list[Entry]) -> bool:
        """Tell of entries, if they do not follow upon what we have, from the last whole among them on.

        Returns False while something is missing.
        """
        if entries and not self._follows(entries[0]):
            wholes = [place for place, entry in enumerate(entries) if entry.fields.get(b"kind") == b"whole"]
            entries = entries[wholes[-1] if wholes else 0:]
        self._has_news = False
        told = sum(1 for _ in takewhile(self._was_told, entries))
        if told:
            self._is_lost, self.heard_at = False, self._reactor.seconds()
        if self._has_news:
            self._told.followed()
        if told < len(entries):
            self.gaps += not self._is_lost
            self._is_lost = True
        return not self._is_lost

    def _was_told(self, entry: Entry) -> bool:
        fields, follows = entry.fields, self._follows(entry)
        try:
            is_whole = fields[b"kind"] == b"whole"
            if is_whole and not follows:
                self._told.whole(fields[b"data"])
            elif follows and not is_whole:
                self._told.change(fields[b"data"])
            elif not is_whole:
                return False
        except (ValueError, KeyError) as problem:
            self._log.warn("what was published as {id} is not understood: {why}", id=text_of(entry.id).decode(),
                           why=str(problem), log_rationed=True)
            return False
        # A whole that follows upon what we have is what we have.
        self._has_news |= not (is_whole and follows)
        self._at = entry.id
        return True

    def _follows(self, entry: Entry) -> bool:
        return self._at is not None and id_of(entry.fields.get(b"before", b"")) == self._at
