"""A circuit breaker: who has failed several times in a row is left alone for a while, and then tried once."""

from enum import Enum

from attrs import define, field


class BreakerState(Enum):
    """What the breaker lets through."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


@define
class Breaker:
    """Counts the failures of one server. `now` is in seconds of a clock that never goes back."""

    limit: int
    """So many failures in a row open it."""
    seconds: float
    """How long it stays open then."""
    failures: int = field(init=False, default=0)
    _open_until: float = field(init=False, default=0.0)

    def failed(self, now: float) -> None:
        """Count a failure; the one that reaches the limit, and each after it, opens the breaker."""
        self.failures += 1
        if self.failures >= self.limit:
            self._open_until = now + self.seconds

    def succeeded(self) -> None:
        """Close it: the server does what it is asked."""
        self.failures = 0

    def state(self, now: float) -> BreakerState:
        """Return what it lets through at this moment."""
        if self.failures < self.limit:
            return BreakerState.CLOSED
        return BreakerState.OPEN if now < self._open_until else BreakerState.HALF_OPEN

    def wait(self, now: float) -> float:
        """Return the seconds until the server may be tried again; 0.0 for at once."""
        return max(self._open_until - now, 0.0) if self.failures >= self.limit else 0.0
