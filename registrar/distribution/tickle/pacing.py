"""How many connections may be woken now."""

from collections.abc import Callable

BURST_SECONDS = 0.1
"""What was not used is kept for so long: a process that was busy does not make good for it with a flood."""


class Pace:
    """Counts at a rate that may change all the time. Pure; `now` is in seconds."""

    def __init__(self, rate: Callable[[], float]) -> None:
        """`rate` is in connections a second."""
        self._rate = rate
        self._allowed = 0.0
        self._at: float | None = None

    @property
    def per_second(self) -> float:
        """The rate now."""
        return max(0.0, self._rate())

    def lot(self, now: float, most: int) -> int:
        """Return how many may be taken now, and count them; never more than `most`."""
        rate, since = self.per_second, now - self._at if self._at is not None else 0.0
        self._at = now
        self._allowed = min(self._allowed + since * rate, max(1.0, rate * BURST_SECONDS))
        taken = min(most, int(self._allowed))
        self._allowed -= taken
        return taken
