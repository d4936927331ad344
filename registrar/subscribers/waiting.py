"""Several who wait for one answer, and who wait for a while only."""

from typing import Any, Generic, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

T = TypeVar("T")

SECOND_LOOK_SECONDS = 0.02
"""An answer that is only late because we were is there within this."""


def waiter(waiting: "list[Deferred[T]]") -> "Deferred[T]":
    """Return what `tell` will tell. Whoever stops waiting disturbs no others."""
    deferred: Deferred[T] = Deferred()
    waiting.append(deferred)
    return deferred


def tell(waiting: "list[Deferred[Any]]", outcome: Any) -> None:
    """Give all of them the answer, or the failure."""
    for deferred in waiting:
        if isinstance(outcome, Failure):
            deferred.errback(outcome)
        else:
            deferred.callback(outcome)


class AtMost(Generic[T]):
    """Waits for an answer for a while."""

    def __init__(self, reactor: IReactorTime, seconds: float, otherwise: T) -> None:
        self.waiting: Deferred[T] = Deferred()
        self._reactor = reactor
        self._otherwise = otherwise
        self._limit = reactor.callLater(seconds, self._look_twice)

    def take(self, outcome: Any) -> None:
        """Take the answer, or the failure."""
        if not self.waiting.called:
            self._limit.cancel()
            self.waiting.callback(outcome)

    def _look_twice(self) -> None:
        # The reactor runs what is due before it reads: after a long turn the question may just have been sent, and the
        # answer be there unread.
        self._limit = self._reactor.callLater(SECOND_LOOK_SECONDS, self._read_first)

    def _read_first(self) -> None:
        self._limit = self._reactor.callLater(0, self._give_up)

    def _give_up(self) -> None:
        """Wait no longer."""
        if not self.waiting.called:
            self.waiting.callback(self._otherwise)


def at_most(reactor: IReactorTime, seconds: float, answer: "Deferred[T]", otherwise: T) -> "Deferred[T]":
    """Return the answer, or `otherwise` when it takes longer. The answer itself goes on; a late failure is dropped."""
    if answer.called and not answer.paused and not isinstance(answer.result, Deferred):
        return answer
    limited = AtMost(reactor, seconds, otherwise)
    answer.addBoth(limited.take)
    return limited.waiting
