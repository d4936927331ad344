"""How many connections may be woken now."""

from collections import deque
from collections.abc import Callable

ARREARS_SECONDS = 0.5
"""What a busy process has missed it makes good for, up to so many seconds' worth."""


class Pace:
    """Counts at a rate that may change all the time; no second sees more than it. Pure; `now` is in seconds."""

    def __init__(self, rate: Callable[[], float]) -> None:
        """`rate` is in connections a second."""
        self._rate = rate
        self._allowed = 0.0
        self._at: float | None = None
        self._recent: deque[tuple[float, int]] = deque()

    @property
    def per_second(self) -> float:
        """The rate now."""
        return max(0.0, self._rate())

    def lot(self, now: float, most: int) -> int:
        """Return how many may be taken now, and count them; never more than `most`."""
        rate, since = self.per_second, now - self._at if self._at is not None else 0.0
        self._at = now
        self._allowed = min(self._allowed + since * rate, max(1.0, rate * ARREARS_SECONDS))
        while self._recent and self._recent[0][0] <= now - 1.0:
            self._recent.popleft()
        room = max(1, int(rate)) - sum(count for _, count in self._recent)
        taken = max(0, min(most, int(self._allowed), room))
        if taken:
            self._allowed -= taken
            self._recent.append((now, taken))
        return taken
