"""Starts coroutines that mostly have nothing to wait for, without the price of a Deferred for each."""

from collections.abc import Callable, Coroutine
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

Failed = Callable[[Failure], object]


def start(coroutine: Coroutine["Deferred[Any]", Any, object], failed: Failed) -> None:
    """Run `coroutine` until it ends, each time it awaits a Deferred until that fires; `failed` hears what it raised.

    What `Deferred.fromCoroutine` would do for several times the price when nothing has to be waited for.
    """
    _step(coroutine, failed, lambda: coroutine.send(None))


def _step(coroutine: Coroutine["Deferred[Any]", Any, object], failed: Failed,
          go_on: Callable[[], "Deferred[Any]"]) -> None:
    try:
        waiting = go_on()
    except StopIteration:
        return
    except Exception:
        failed(Failure())
        return
    waiting.addBoth(_resume, coroutine, failed)


def _resume(result: object, coroutine: Coroutine["Deferred[Any]", Any, object], failed: Failed) -> None:
    if isinstance(result, Failure):
        failure = result
        _step(coroutine, failed, lambda: failure.throwExceptionIntoGenerator(coroutine))
    else:
        # The awaited Deferred hands its result over by itself.
        _step(coroutine, failed, lambda: coroutine.send(None))
