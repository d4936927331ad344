"""Does something with Redis again and again, one after the other, whether it can be asked or not."""

from collections.abc import Callable, Coroutine
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from rollcall.cluster.redis import RedisRefused, RedisUnavailable

Once = Callable[[], Coroutine[Any, Any, None]]


class Polling:
    """From `start` to `stop`."""

    _log = Logger()

    def __init__(self, reactor: IReactorTime, seconds: float, once: Once, what: str) -> None:
        """`once` is run every `seconds`, or later when it takes longer; `what` it does is for the log."""
        self.problem: str | None = None
        """Why it failed last; None when it did not."""
        self._reactor = reactor
        self._seconds = seconds
        self._once = once
        self._what = what
        self._is_running = self._is_again = False
        self._next: IDelayedCall | None = None
        self._running: Deferred[None] | None = None

    def start(self) -> None:
        """Do it for the first time, and go on."""
        self._is_running = True
        self.hurry()

    async def stop(self) -> None:
        """Begin no further one; returns when the one that has begun is done."""
        self._is_running = False
        if self._next is not None and self._next.active():
            self._next.cancel()
        if self._running is not None:
            ended: Deferred[None] = Deferred()
            self._running.addBoth(lambda _: ended.callback(None))
            await ended

    def hurry(self) -> None:
        """Do it now; if it has begun already, once more right after."""
        if not self._is_running:
            return
        if self._running is not None:
            self._is_again = True
            return
        if self._next is not None and self._next.active():
            self._next.cancel()
        self._begin()

    def _begin(self) -> None:
        began = self._reactor.seconds()
        self._running = running = Deferred.fromCoroutine(self._once())
        running.addCallbacks(self._done, self._failed)
        running.addErrback(lambda failure: self._log.failure("while a poll ended", failure))
        running.addCallback(self._ended, began)

    def _done(self, _: object) -> None:
        if self.problem is not None:
            self._log.info("{what} works again", what=self._what)
        self.problem = None

    def _failed(self, failure: Failure) -> None:
        if not failure.check(RedisUnavailable, RedisRefused):
            self._log.failure("{what} failed", failure, what=self._what)
        elif self.problem is None:
            self._log.warn("{what} does not work: {why}", what=self._what, why=failure.getErrorMessage(),
                           log_rationed=True)
        self.problem = failure.getErrorMessage()

    def _ended(self, _: object, began: float) -> None:
        self._running = None
        is_again, self._is_again = self._is_again, False
        if self._is_running:
            passed = max(0.0, self._reactor.seconds() - began)
            left = 0.0 if is_again else max(0.0, self._seconds - passed)
            self._next = self._reactor.callLater(left, self._begin)
