"""How it is known that what is remembered of subscribers is still true."""

from typing import Any, Protocol

from attrs import evolve
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from registrar.auth import StoreUnavailable
from registrar.subscribers.announcing import EVERYBODY, Names
from registrar.subscribers.shared import MOST_HEARD, SharedCache
from registrar.subscribers.source import Changed, Source
from registrar.subscribers.waiting import at_most, tell, waiter
from rollcall.cluster.redis import RedisRefused, RedisUnavailable

MOST_OWED = 100
"""So many names at most are told to all by each registrar that has found them after Redis came back. When there are
more Redis was away for everybody, and everybody finds them; only what lies in Redis is seen to then."""


class Told(Protocol):
    """Who is told what was changed."""

    def changed(self, names: Any) -> None:
        """These were changed."""

    def everybody_changed(self) -> None:
        """Anybody may have been changed."""

    def checked(self, now: float) -> None:
        """All that was changed before now is known, as far as it can be."""

    def lost_place(self) -> None:
        """What was changed until now cannot be told; from now on it can."""


class Hearing:
    """Looks for changes: in Redis, or in the database while Redis is away or there is none.

    While somebody is looked up it does so when the last look is half of `seconds` old. Only when nobody was for longer
    than that, or the answer takes as long, does a look-up wait for it. When it cannot be told, what is remembered still
    counts.
    """

    _log = Logger()

    def __init__(self, reactor: IReactorTime, source: Source, seconds: float, told: Told,
                 shared: SharedCache | None) -> None:
        self.quiet_until = reactor.seconds() + seconds / 2
        """Until then nobody has to look for changes."""
        self.mark: int | None = None
        """How far the changes in the database are known."""
        self._reactor = reactor
        self._source = source
        self._seconds = seconds
        self._told = told
        self._shared = shared
        # What was changed before is known.
        self._true_at = reactor.seconds()
        self._is_owed = False
        self._told_mark: int | None = None
        """How far they have been told to everybody above Redis, as far as we know."""
        # What Redis has told of since then.
        self._heard: set[tuple[str, str]] = set()
        # What we have changed and could not tell.
        self._owed: set[tuple[str, str]] = set()
        self._checking: list[Deferred[None]] | None = None
        self._asking: list[Deferred[None]] | None = None

    def begin(self, mark: int) -> None:
        """Note the mark of now; nothing is remembered yet."""
        self.mark = self._told_mark = mark
        self._true_at = self._reactor.seconds()
        self.quiet_until = self._true_at + self._seconds / 2

    def is_behind(self, now: float) -> bool:
        """Begin to look, and say whether that has to be waited for."""
        if self._checking is None:
            self._checking = []
            checking = Deferred.fromCoroutine(self._check())
            checking.addErrback(lambda failure: self._log.failure("while looking for changes", failure))
            checking.addCallback(self._checked, now)
        return self._checking is not None and now - self._true_at > self._seconds

    async def caught_up(self) -> None:
        """Wait for the look that has begun."""
        if self._checking is not None:
            await waiter(self._checking)

    def heard(self, names: Names) -> None:
        """Redis has told of changes that lie beyond our marks."""
        if len(self._heard) < MOST_HEARD:
            self._heard.update(names)

    def came_back(self) -> None:
        """Redis can be asked again: what could not be told there is told, and looked for in the database once."""
        owed, self._owed = self._owed, set()
        if owed:
            self._begin_telling(owed, None)
        self._is_owed = True
        self.ask_source()

    def owe(self, names: Names) -> None:
        """Tell of these when Redis is back: the database may have no table of changes that others could look at."""
        if len(self._owed) < MOST_HEARD:
            self._owed.update(names)

    def ask_source(self, follows: bool = False) -> "Deferred[None]":
        """Ask the database who was changed, unless it is being asked; never fails. `follows`: Redis has told it."""
        if self._asking is None:
            self._asking = []
            asking = Deferred.fromCoroutine(self._ask(follows))
            asking.addErrback(lambda failure: self._log.failure("while asking who was changed", failure))
            asking.addCallback(self._asked)
        return waiter(self._asking) if self._asking is not None else succeed(None)

    async def _check(self) -> None:
        patience, shared = self._seconds / 2, self._shared
        if shared is None or not await at_most(self._reactor, patience, shared.caught_up(), False):
            await at_most(self._reactor, patience, self.ask_source(), None)
        elif self.mark is None or self._is_owed or self._heard:
            # The marks follow what is heard, so that little is told again once Redis has been away.
            self.ask_source(follows=True)

    def _checked(self, outcome: object, began: float) -> None:
        waiting, self._checking = self._checking or [], None
        self._true_at = began
        self.quiet_until = began + self._seconds / 2
        self._told.checked(self._reactor.seconds())
        tell(waiting, None)

    async def _ask(self, follows: bool) -> None:
        is_owed, self._is_owed = self._is_owed, False
        heard: set[tuple[str, str]] = set()
        if follows and not is_owed:
            heard, self._heard = self._heard, heard
        since = self._told_mark if is_owed else self.mark
        try:
            changed = await self._source.changes(since)
            if is_owed or follows or self._told_mark is None:
                self._told_mark = changed.mark
            self._hear(evolve(changed, names=_untold(changed.names, heard)), since, is_owed)
        except StoreUnavailable as error:
            self._is_owed |= is_owed
            self._heard |= heard
            self._log.warn("changes of subscribers go unseen: {why}", why=str(error), log_rationed=True)

    def _asked(self, outcome: object) -> None:
        waiting, self._asking = self._asking or [], None
        tell(waiting, None)

    def _hear(self, changed: Changed, since: int | None, is_owed: bool) -> None:
        self.mark = changed.mark
        if since is None:
            self._told.lost_place()
        elif changed.names is None:
            self._told.everybody_changed()
        elif changed.names:
            self._told.changed(changed.names)
        if is_owed and since is not None and changed.names != ():
            self._begin_telling(changed.names, since)

    def _begin_telling(self, names: Names | None, since: int | None) -> None:
        telling = Deferred.fromCoroutine(self._tell_others(names, since))
        telling.addErrback(lambda failure: self._log.failure("while telling who was changed", failure))

    async def _tell_others(self, names: Names | None, since: int | None) -> None:
        """Tell who was changed while we could not hear it: others may have been able to, but were told as little."""
        if self._shared is None:
            return
        try:
            if names is None or len(names) <= MOST_OWED:
                await self._shared.announce(names)
            else:
                await self._shared.bury(names)
        except (RedisUnavailable, RedisRefused) as problem:
            self._log.warn("who was changed while Redis was away is not told yet: {why}", why=str(problem),
                           log_rationed=True)
            if since is not None:
                self._told_mark = since  # found once more when Redis is back
            else:
                self.owe(names or ())


def _untold(names: Names | None, heard: set[tuple[str, str]]) -> tuple[tuple[str, str], ...] | None:
    """Return which of the changed users Redis has not told of."""
    if EVERYBODY in heard:
        return ()
    return None if names is None else tuple(name for name in names if name not in heard)
