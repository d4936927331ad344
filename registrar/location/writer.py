"""The thread that blocking writes happen in, so that the reactor never waits for a disk."""

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

T = TypeVar("T")


class Writer(Protocol):
    """Runs blocking calls one after the other, elsewhere."""

    def start(self) -> None:
        """Make ready."""

    def stop(self) -> None:
        """Let go of the thread; nothing runs in it any more."""

    def run(self, function: Callable[..., T], *args: Any) -> Deferred[T]:
        """Return what `function(*args)` returns or raises, once it was run."""

    def later(self, function: Callable[[], object]) -> None:
        """Call `function` here, not elsewhere, when others have had their turn."""


class WriterThread:
    """Runs blocking calls in one thread of its own."""

    def __init__(self, reactor: IReactorFromThreads, name: str) -> None:
        self._reactor = reactor
        self._pool = ThreadPool(minthreads=1, maxthreads=1, name=name)

    def start(self) -> None:
        """Start the thread."""
        self._pool.start()

    def stop(self) -> None:
        """End the thread."""
        self._pool.stop()

    def run(self, function: Callable[..., T], *args: Any) -> Deferred[T]:
        """Call `function` in the thread."""
        return deferToThreadPool(self._reactor, self._pool, function, *args)

    def later(self, function: Callable[[], object]) -> None:
        """Call `function` in the reactor's next turn."""
        self._reactor.callFromThread(function)
