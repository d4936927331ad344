"""Calls whose owner has ended are taken over by a registrar that lives, whichever is first.

Else nobody would count them, see to their end, or lead them through another media node when theirs dies too, as it does
when both were on one machine.
"""

from collections.abc import Callable, Iterable

from twisted.internet.defer import DeferredList
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from registrar.media.kept import PREFIX, call_id_of, read
from registrar.media.session import Session
from registrar.media.sessions import Sessions
from rollcall.cluster.redis import Redis, RedisRefused, RedisUnavailable
from rollcall.ops.coroutines import start

Epoch = tuple[str, int]

PAGE = 250
"""Calls that are read at a time."""

PAGES_PER_SECOND = 20

FIRST_SECONDS = 10.0
"""After our own start: an owner may have ended before we could hear of it."""

AGAIN_SECONDS = 5.0
"""When Redis was away."""


class Adopting:
    """Walks through all calls when some registrar's life has ended."""

    _log = Logger()

    def __init__(self, reactor: IReactorTime, redis: Redis, sessions: Sessions,
                 is_living: Callable[[str, int], bool]) -> None:
        """`is_living` says whether a life of a node goes on, see rollcall.cluster.leases."""
        self.taken_over = 0
        """Calls that have become ours, for metrics."""
        self._reactor = reactor
        self._redis = redis
        self._sessions = sessions
        self._is_living = is_living
        self._is_running = self._is_walking = self._is_wanted = False
        self._later: IDelayedCall | None = None

    def start(self) -> None:
        """Look from now on."""
        self._is_running = True
        self._later = self._reactor.callLater(FIRST_SECONDS, self._want)

    def stop(self) -> None:
        """Take over no more."""
        self._is_running = False
        if self._later is not None and self._later.active():
            self._later.cancel()

    def ended(self, lives: Iterable[Epoch]) -> None:
        """See Leases.on_change."""
        self._want()

    def _want(self) -> None:
        self._is_wanted = True
        if self._is_running and not self._is_walking:
            self._is_walking = True
            start(self._walk(), self._broke)

    async def _walk(self) -> None:
        try:
            while self._is_wanted and self._is_running:
                self._is_wanted = False
                before = self.taken_over
                async for keys in self._redis.scan(PREFIX + b"*", PAGE):
                    for first in range(0, len(keys), PAGE):
                        await self._look_through(keys[first:first + PAGE])
                        await deferLater(self._reactor, 1 / PAGES_PER_SECOND)
                        if not self._is_running:
                            return
                if self.taken_over > before:
                    self._log.info("{count} calls of registrars that have ended are ours now",
                                   count=self.taken_over - before)
        finally:
            self._is_walking = False

    async def _look_through(self, keys: list[bytes]) -> None:
        values = await DeferredList([self._redis.ask(key, b"GET", key) for key in keys], consumeErrors=True)
        for key, (is_read, value) in zip(keys, values, strict=True):
            if not is_read:
                value.raiseException()
            found = read(value)
            if (isinstance(found, Session) and self._is_over(found.owner)
                    and await self._sessions.take_over(call_id_of(key), self._is_over)):
                self.taken_over += 1

    def _is_over(self, owner: str) -> bool:
        node, _, epoch = owner.rpartition(":")
        return owner != self._sessions.owner and epoch.isdigit() and not self._is_living(node, int(epoch))

    def _broke(self, failure: Failure) -> None:
        if failure.check(RedisUnavailable, RedisRefused) is None:
            self._log.failure("while calls were taken over", failure=failure)
            return
        self._log.info("calls are not taken over yet: {why}", why=failure.getErrorMessage(), log_rationed=True)
        if self._is_running and not (self._later is not None and self._later.active()):
            self._later = self._reactor.callLater(AGAIN_SECONDS, self._want)
