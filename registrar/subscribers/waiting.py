"""Several who wait for one answer, and who wait for a while only."""

from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

T = TypeVar("T")


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


def at_most(reactor: IReactorTime, seconds: float, answer: "Deferred[T]", otherwise: T) -> "Deferred[T]":
    """Return the answer, or `otherwise` when it takes longer. The answer itself goes on; a late failure is dropped."""
    if answer.called and not answer.paused and not isinstance(answer.result, Deferred):
        return answer
    waiting: Deferred[T] = Deferred()

    def give(outcome: Any) -> None:
        if not waiting.called:
            limit.cancel()
            waiting.callback(outcome)

    limit = reactor.callLater(seconds, waiting.callback, otherwise)
    answer.addBoth(give)
    return waiting
