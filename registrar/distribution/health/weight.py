"""Which share of the new phones a node should have: one number from 0 to 100, which all who spread phones use.

DNS, LVS, HAProxy and nftables' maps get the same number. It is the free share of what the node is to carry, in coarse
steps, and it moves to another step only when the load has clearly left the one before: a number that flaps has every
director write its tables anew.
"""

from math import ceil

FULL = 100
STEP = 5


class Weight:
    """The weight of one node over time: it remembers what it said last."""

    def __init__(self, capacity: int, step: int = STEP) -> None:
        """`capacity` counts connections, 1 or more; the weight is a multiple of `step`, or 100."""
        self.capacity = capacity
        self._step = step
        self._said: int | None = None

    def of(self, connections: int, not_ready: bool, draining: bool) -> int:
        """Return the weight now: 0 for a node that is to get nobody new, which is also one that is full."""
        free = FULL * (self.capacity - connections) / self.capacity
        self._said = self._step_for(free)
        return 0 if not_ready or draining else self._said

    def _step_for(self, free: float) -> int:
        # Rounded up, so that it is not 0 while there is room.
        exact = min(FULL, max(0, ceil(free / self._step) * self._step))
        said = self._said
        if said is None or free <= 0 or free >= FULL:
            return exact
        # A step stands for what lies above the one below it; half a step further on either side it stays.
        is_near = said - 1.5 * self._step < free <= said + 0.5 * self._step
        return said if is_near else exact
