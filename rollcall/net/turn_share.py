"""A share of each turn of the reactor for work that may come in heaps, such as TLS handshakes.

To prove its identity costs a server half a millisecond and more. When a thousand phones come back in one turn, they
must not hold up all the others: what exceeds the share of a turn waits for the next ones, in the order it came.
"""

from collections import deque
from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger


class TurnShare:
    """Lets steps run until those of this turn have taken their share of it."""

    _log = Logger()

    def __init__(self, clock: IReactorTime, turn_seconds: float) -> None:
        self._clock = clock
        self._turn_seconds = turn_seconds
        self._spent = 0.0
        self._waiting: deque[Callable[[], object]] = deque()
        self._is_counting = False

    def __len__(self) -> int:
        """How many wait for a later turn."""
        return len(self._waiting)

    def has_room(self) -> bool:
        """Whether a step may run at once: by `run`."""
        return not self._waiting and self._spent < self._turn_seconds

    def run(self, step: Callable[[], object]) -> None:
        """Run a step, and count its time to this turn."""
        if not self._is_counting:
            self._is_counting = True
            self._clock.callLater(0, self._next_turn)
        began_at = self._clock.seconds()
        try:
            step()
        finally:
            # A clock that is set back gives nothing back.
            self._spent += max(self._clock.seconds() - began_at, 0.0)

    def defer(self, step: Callable[[], object]) -> None:
        """Run a step in one of the next turns, when those before it are done. What it raises is logged."""
        self._waiting.append(step)

    def _next_turn(self) -> None:
        self._is_counting = False
        self._spent = 0.0
        while self._waiting and self._spent < self._turn_seconds:
            try:
                self.run(self._waiting.popleft())
            except Exception:
                self._log.failure("a step that had waited for its turn failed")
