"""How many connections are accepted in a second, so that whoever was accepted is also served.

To accept costs something, and TLS much more. What is not accepted waits in the kernel's backlog, which has answered its
SYN already, and beyond that the phone's kernel sends the SYN again; both cost us nothing. Accepted and then left to
wait, it would time out in our hands instead.
"""

BURST_SECONDS = 0.1
"""What was not used in so long may be used later."""

LEAST_PAUSE_SECONDS = 0.005
"""Who has to wait looks again after so long at the soonest: a few are then accepted together."""


class AcceptBudget:
    """What may still be accepted by all listeners of a process. Moments are in seconds since any epoch."""

    def __init__(self, units_per_second: float) -> None:
        """0: as many as come."""
        self._rate = units_per_second
        self._most = units_per_second * BURST_SECONDS
        self._left = self._most
        self._filled_at: float | None = None

    def room(self, cost: float, now: float) -> int | None:
        """Return how many connections of this cost may be accepted; None for any number."""
        if not self._rate:
            return None
        if self._filled_at is not None and now > self._filled_at:
            self._left = min(self._left + (now - self._filled_at) * self._rate, self._most)
        self._filled_at = now
        # One that costs more than is left is paid for afterwards: else cheap ones would leave nothing for dear ones.
        return max(int(self._left / cost), int(self._left > 0))

    def spend(self, cost: float) -> None:
        """Take the cost of what was accepted."""
        self._left -= cost

    def pause_seconds(self, cost: float) -> float:
        """Return how long to wait until one of this cost may be accepted."""
        return max((min(cost, self._most) - self._left) / self._rate if self._rate else 0.0, LEAST_PAUSE_SECONDS)
