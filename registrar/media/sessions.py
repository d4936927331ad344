"""All calls through media nodes: those that this registrar counts, copies of others', and what Redis knows of them.

A call is written by whoever sees it change and ended by whoever sees it end; the registrar where it came in owns it:
counts it, sees to its end, and leads it through another media node when its own dies. Redis tells the owner of what
others do. While Redis is away all goes on with what is known here, and is written when Redis is back.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from registrar.media.kept import (
    END,
    ENDED_SECONDS,
    PREFIX,
    PUT,
    Ended,
    call_id_of,
    call_key,
    read,
    seconds_left,
    stamp_of,
    value_of,
)
from registrar.media.session import Session
from rollcall.cluster.redis import Redis, RedisRefused, RedisUnavailable
from rollcall.ops.coroutines import start

TRIES = 5
"""How often a change is tried that somebody else gets in the way of."""

PAGE = 100
"""How many calls are looked at together when Redis is back: others have questions, too."""

MOST_UNANSWERED = 1000
"""So many questions that Redis did not answer are remembered, for calls that end before it does."""

SET_UP_SECONDS = 180.0
"""So long a call may take to be answered whose registrar has ended: its phones ring no longer than that."""

Changed = Callable[[Session | None, Session | None], None]
"""Gets a call of ours before and after a change: None before it has begun, and after its end.

After it has been taken over by another registrar, which thinks that we have ended, it has another owner.
"""


class Sessions:
    """The calls that one registrar knows. It is a listener of Clustering."""

    _log = Logger()

    def __init__(self, redis: Redis | None, owner: str, now: Callable[[], float], max_copies: int = 10_000,
                 max_owed: int = 10_000) -> None:
        """`owner` is what this life of the registrar is called; `now` is in seconds since the epoch.

        At most `max_copies` calls of others are remembered, and `max_owed` that have ended while Redis was away.
        """
        self.owner = owner
        self.on_change: list[Changed] = []
        self.forgotten_ends = 0
        """Calls that ended while Redis was away, too many to remember. They lapse; for metrics."""
        self._redis = redis
        self._now = now
        self._max_copies = max_copies
        self._max_owed = max_owed
        self._own: dict[str, Session] = {}
        self._copies: dict[str, Session] = {}
        self._stale: set[str] = set()
        self._unwritten: set[str] = set()
        self._written: dict[str, bool] = {}  # those of ours that Redis has had for certain, or may have had
        # By Call-ID and id; "" when that is not known, but only the tags of who has hung up.
        self._owed: dict[tuple[str, str], frozenset[str]] = {}
        self._ending: set[str] = set()  # ids that Redis is being told of
        self._unanswered: dict[str, None] = {}
        self._looking: dict[str, list[Deferred[None]]] = {}

    # --- what is known

    def __len__(self) -> int:
        """How many calls are ours."""
        return len(self._own)

    @property
    def own(self) -> Iterable[Session]:
        """All calls that are ours, as they are now."""
        return tuple(self._own.values())

    @property
    def unwritten(self) -> int:
        """How many changes, ends too, Redis does not know yet."""
        return len(self._unwritten) + len(self._owed)

    def known(self, call_id: str) -> Session | None:
        """Return what is known here of a call, without asking anybody."""
        return self._own.get(call_id) or self._copies.get(call_id)

    def is_own(self, session: Session) -> bool:
        """Say whether this is one of our calls, at whatever stage it is now."""
        mine = self._own.get(session.call_id)
        return mine is not None and mine.id == session.id

    async def find(self, call_id: str) -> Session | None:
        """Return the call of this Call-ID, from Redis unless it is known here; None when nobody knows it."""
        if call_id in self._stale or self.known(call_id) is None:
            await self._look(call_id)
        return self.known(call_id)

    # --- what becomes of it

    def begin(self, session: Session) -> bool:
        """Count a call that goes through a media node from now on; False when another of its Call-ID is known."""
        known = self.known(session.call_id)
        if known is not None and known.id != session.id:
            return False
        self._unanswered.pop(session.call_id, None)
        new = evolve(session, version=session.version + 1, changed_by=self.owner)
        self._keep(new)
        start(self._write(new, ""), self._broke)
        return True

    async def change(self, call_id: str, update: Callable[[Session], Session]) -> Session | None:
        """Return the call after `update`, which may be called again when somebody else has changed it meanwhile.

        What is known here is changed at once, before anything is waited for. None: there is no such call any more.
        """
        for _ in range(TRIES):
            session = self.known(call_id) or await self.find(call_id)
            if session is None:
                return None
            new = update(session)
            if new == session:
                return session
            new = evolve(new, version=session.version + 1, changed_by=self.owner)
            self._keep(new)
            if await self._write(new, stamp_of(session)):
                # A copy may be forgotten meanwhile, because somebody else has changed it once more.
                return self.known(call_id) or new
        self._log.warn("a call is changed by others again and again: {id}", id=call_id, log_rationed=True)
        return None

    async def end(self, session: Session) -> bool:
        """Forget a call, here and in Redis; False when another of its Call-ID is there.

        The media node knows that other one by the same name: only after True it is told to delete the call.
        """
        self._drop(session)
        return await self._end(session.call_id, session.id)

    def owe_end(self, call_id: str, tags: frozenset[str]) -> None:
        """Remember that a call between these two has ended which is not known here only because Redis is away."""
        if call_id in self._unanswered:
            self._owe(call_id, "", tags)

    async def take_over(self, call_id: str, is_over: Callable[[str], bool]) -> bool:
        """Make a call ours if its owner's life is over; say whether it is ours now."""
        latest = self._now() + SET_UP_SECONDS

        def mine(found: Session) -> Session:
            if not is_over(found.owner):
                return found
            # Nobody is left who would hear of it that nobody takes this call.
            until = found.expires_at if found.is_answered else min(found.expires_at, latest)
            return evolve(found, owner=self.owner, expires_at=until)

        session = await self.change(call_id, mine)
        return session is not None and session.owner == self.owner

    # --- what Redis says

    def connected(self) -> None:
        """See registrar.clustering.Listener."""
        self._copies = {call_id: copy for call_id, copy in self._copies.items() if call_id in self._unwritten}
        self._stale = {*self._own, *self._copies, *(self._stale & self._looking.keys())}
        self._unanswered.clear()
        start(self._catch_up(), self._broke)

    def changed(self, keys: Sequence[bytes] | None) -> None:
        """See registrar.clustering.Listener."""
        if keys is None:
            self.connected()
            return
        for key in keys:
            if not key.startswith(PREFIX):
                continue
            call_id = call_id_of(key)
            if call_id not in self._unwritten and self._copies.pop(call_id, None) is not None:
                self._forget_marks(call_id)
            if call_id in self._own or call_id in self._looking or call_id in self._unwritten:
                self._stale.add(call_id)
                start(self._look(call_id), self._broke)

    async def _catch_up(self) -> None:
        """Settle with Redis all that we have, and what we owe it."""
        for call_id, identity in list(self._owed):
            await self._pay(call_id, identity)
        waiting = [*self._own, *self._copies]
        for first in range(0, len(waiting), PAGE):
            looking = [Deferred.fromCoroutine(self._look(call_id)) for call_id in waiting[first:first + PAGE]]
            for each in looking:
                await each

    async def _pay(self, call_id: str, identity: str) -> None:
        tags = self._owed.pop((call_id, identity), frozenset())
        if identity:
            await self._end(call_id, identity)
            return
        await self._look(call_id)
        known = self.known(call_id)
        if known is not None:
            if tags == {known.caller.tag, known.callee.tag}:
                await self.end(known)
        elif call_id in self._unanswered:
            self._owe(call_id, "", tags)

    # --- asking and writing

    async def _look(self, call_id: str) -> None:
        """Learn what Redis knows of a call; never raises. Whoever asks meanwhile waits for the same answer."""
        waiting = self._looking.get(call_id)
        if waiting is not None:
            answer: Deferred[None] = Deferred()
            waiting.append(answer)
            await answer
            return
        if self._redis is None:
            return
        self._looking[call_id] = []
        try:
            for _ in range(TRIES):
                self._stale.discard(call_id)
                await self._settle(call_id, await self._redis.ask(call_key(call_id), b"GET", call_key(call_id)))
                if call_id not in self._stale:
                    break
        except (RedisUnavailable, RedisRefused) as problem:
            self._log.info("what Redis knows of a call is not known: {why}", why=str(problem), log_rationed=True)
            if self.known(call_id) is not None:
                self._stale.add(call_id)
            elif len(self._unanswered) < MOST_UNANSWERED:
                self._unanswered[call_id] = None
        finally:
            for each in self._looking.pop(call_id):
                each.callback(None)

    async def _settle(self, call_id: str, value: bytes | None) -> None:
        """Take what Redis says of a call, or tell it what we know better."""
        mine, theirs = self._own.get(call_id), read(value)
        if mine is None and call_id in self._unwritten:
            mine = self._copies.get(call_id)
        if mine is None:
            # The answer may be older than the end that we tell Redis of.
            if isinstance(theirs, Session) and not self._is_ending(theirs):
                self._keep(theirs)
        elif isinstance(theirs, Session) and theirs.id == mine.id:
            if self.is_own(mine):
                self._written[call_id] = True
            if theirs.version >= mine.version:
                self._unwritten.discard(call_id)
                self._keep(theirs)
            else:
                await self._write(mine, stamp_of(theirs))
        elif (isinstance(theirs, Ended) and theirs.id == mine.id) or self._is_followed(call_id, theirs):
            self._drop(mine)
        elif not isinstance(theirs, Session):
            await self._write(mine, "")

    async def _write(self, session: Session, before: str) -> bool:
        """Write a call in the place of what it was `before`; False when it has become another meanwhile."""
        if self._redis is None:
            return True
        call_id = session.call_id
        try:
            answer: Any = await self._redis.evaluate(PUT, call_key(call_id), session.id, before, value_of(session),
                                                     seconds_left(session, self._now()))
        except (RedisUnavailable, RedisRefused) as problem:
            self._log.info("a call is not written yet: {why}", why=str(problem), log_rationed=True)
            if self.known(call_id) is not None:
                self._unwritten.add(call_id)
            if self.is_own(session):
                self._written.setdefault(call_id, False)
            return True
        if answer == 1:
            self._unwritten.discard(call_id)
            if self.is_own(session):
                self._written[call_id] = True
            return True
        theirs = read(answer)
        if isinstance(theirs, Session) and theirs.id == session.id:
            known = self.known(call_id)
            is_older = known is not None and known is not session and known.version > theirs.version
            if not is_older and not self._is_ending(theirs):
                self._keep(theirs)
        elif self._is_followed(call_id, theirs) or (isinstance(theirs, Ended) and theirs.id == session.id):
            self._drop(session)
        else:
            # Ours stays ours, and is found at this node only.
            self._log.info("a call has the Call-ID of another one", log_rationed=True)
            return True
        return False

    def _is_followed(self, call_id: str, theirs: Session | Ended | None) -> bool:
        """Say whether another call, which is there or was, has come in the place of ours: then ours is over.

        Redis may never have had ours, for all we know; then only one that is there counts, not what is left of one.
        """
        is_certain = self._written.get(call_id)
        if isinstance(theirs, Session):
            return is_certain is not None
        return isinstance(theirs, Ended) and bool(is_certain)

    def _is_ending(self, session: Session) -> bool:
        return (session.id in self._ending or (session.call_id, session.id) in self._owed
                or (session.call_id, "") in self._owed)

    async def _end(self, call_id: str, identity: str) -> bool:
        if self._redis is None:
            return True
        self._ending.add(identity)
        try:
            answer: object = await self._redis.evaluate(END, call_key(call_id), identity, ENDED_SECONDS)
            return answer == 1
        except (RedisUnavailable, RedisRefused):
            self._owe(call_id, identity)
            return True
        finally:
            self._ending.discard(identity)

    def _owe(self, call_id: str, identity: str, tags: frozenset[str] = frozenset()) -> None:
        if len(self._owed) < self._max_owed:
            self._owed[call_id, identity] = tags
        else:
            self.forgotten_ends += 1

    # --- details

    def _keep(self, session: Session) -> None:
        call_id = session.call_id
        before = self._own.get(call_id)
        if session.owner == self.owner:
            self._copies.pop(call_id, None)
            if before is not None and before.id != session.id:
                self._drop(before)
                before = None
            self._own[call_id] = session
            self._tell(before, session)
            return
        if before is not None:
            del self._own[call_id]
            self._written.pop(call_id, None)
            self._tell(before, session)
        self._copies.pop(call_id, None)
        self._copies[call_id] = session
        if len(self._copies) > self._max_copies:
            oldest = next(iter(self._copies))
            del self._copies[oldest]
            self._forget_marks(oldest)

    def _drop(self, session: Session) -> None:
        call_id = session.call_id
        copy, mine = self._copies.get(call_id), self._own.get(call_id)
        if copy is not None and copy.id == session.id:
            del self._copies[call_id]
            self._forget_marks(call_id)
        if mine is not None and mine.id == session.id:
            del self._own[call_id]
            self._forget_marks(call_id)
            self._tell(mine, None)

    def _forget_marks(self, call_id: str) -> None:
        self._written.pop(call_id, None)
        self._unwritten.discard(call_id)
        self._stale.discard(call_id)

    def _tell(self, before: Session | None, after: Session | None) -> None:
        for listener in self.on_change:
            try:
                listener(before, after)
            except Exception:
                self._log.failure("while somebody was told of a call")

    def _broke(self, failure: Failure) -> None:
        self._log.failure("while a call was kept", failure=failure)


