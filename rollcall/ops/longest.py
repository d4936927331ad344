"""The longest of what took time lately: several may ask, and none takes the answer from another."""

from collections.abc import Callable

PERIOD_SECONDS = 60.0
"""What was longest is remembered that long at least, and until it was asked for."""


class Longest:
    """The longest time noted in this period or the one before; a period ends when somebody asks after a minute."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """`clock` gives seconds."""
        self._clock = clock
        self.current = 0.0
        """The longest time of this period."""
        self._before = 0.0
        self._asked_at = clock()

    def note(self, seconds: float) -> None:
        """Take a time into account."""
        self.current = max(self.current, seconds)

    def read(self) -> float:
        """Return the longest time of the last one to two minutes, or since this was last asked."""
        longest = max(self.current, self._before)
        now = self._clock()
        if now - self._asked_at >= PERIOD_SECONDS:
            self._asked_at = now
            self._before, self.current = self.current, 0.0
        return longest
