"""Writers to test with, one of which waits until it is told to go on, and files that go with the test."""

from collections.abc import Callable
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, execute
from twisted.trial.unittest import SynchronousTestCase

from registrar.location.rows import Rows
from registrar.records import Binding

T = TypeVar("T")

MOST_ROWS = 100_000


def a_file(case: SynchronousTestCase) -> str:
    """Return the path of a file that is not there yet, in a directory that goes with the test."""
    directory = TemporaryDirectory()
    case.addCleanup(directory.cleanup)
    return f"{directory.name}/bindings.sqlite"


class AtOnce:
    """A writer whose calls are done before they return."""

    def start(self) -> None:
        """Nothing to start."""

    def stop(self) -> None:
        """Nothing to stop."""

    def run(self, function: Callable[..., T], *args: Any) -> Deferred[T]:
        """Call `function` now."""
        return execute(function, *args)

    def later(self, function: Callable[[], object]) -> None:
        """Call `function` now."""
        function()


class Held(AtOnce):
    """A writer that does nothing until it is told to."""

    def __init__(self) -> None:
        self.calls: list[tuple[Callable[..., Any], tuple[Any, ...], Deferred[Any]]] = []
        self.turns: list[Callable[[], object]] = []

    def run(self, function: Callable[..., T], *args: Any) -> Deferred[T]:
        """Keep the call for later."""
        done: Deferred[T] = Deferred()
        self.calls.append((function, args, done))
        return done

    def later(self, function: Callable[[], object]) -> None:
        """Keep the call for `turn`."""
        self.turns.append(function)

    def turn(self) -> None:
        """Do what was kept for a later turn of the reactor."""
        turns, self.turns = self.turns, []
        for function in turns:
            function()

    def finish_all(self) -> None:
        """Do what waits, and what is called for thereupon."""
        while self.calls:
            self.finish()

    def finish(self, problem: Exception | None = None) -> object:
        """Do the only call that waits, or let it fail, and return its first argument."""
        ((function, args, done),) = self.calls
        self.calls.clear()
        if problem is None:
            done.callback(function(*args))
        else:
            done.errback(problem)
        return args[0] if args else None


def everything(rows: Rows, now: float) -> dict[str, tuple[Binding, ...]]:
    """Return the live bindings that a process started now would find."""
    return {aor: bindings for aor, bindings in rows.read_after("", MOST_ROWS, now) if bindings}
