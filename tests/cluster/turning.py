"""Waiting in a test for what a reactor of the test's own brings about."""

from collections.abc import Coroutine
from time import monotonic
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.epollreactor import EPollReactor
from twisted.python.failure import Failure

T = TypeVar("T")

PATIENCE_SECONDS = 20.0


def turn_until_done(reactor: EPollReactor, coroutine: Coroutine[Any, Any, T]) -> T:
    """Return what the coroutine returns, or raise what it raises, once it is there."""
    results: list[Any] = []
    Deferred.fromCoroutine(coroutine).addBoth(results.append)
    ends_at = monotonic() + PATIENCE_SECONDS
    while not results:
        if monotonic() > ends_at:
            raise AssertionError("waited in vain")
        reactor.iterate(0.01)
    if isinstance(results[0], Failure):
        results[0].raiseException()
    result: T = results[0]
    return result
