"""How many requests are taken, from one source and in all: the first look at each, before it costs more than itself.

Time is cut into windows, and each begins with empty counts: a source may so use two windows' worth around their border,
which is what it costs to remember one number per source. A worker counts what itself receives.
"""

import sys
from typing import Literal

from attrs import field, frozen

from rollcall.ops.allowed import above, at_least

IPV6_BYTES = 16

NETWORK_BYTES = 8
"""Whoever has one IPv6 address has its whole /64 (RFC 6177 §2), and would never be at its limit."""

SHARED_COUNTS = 1024
"""So many counts are shared by the sources that come when `max_sources` are known."""

Limit = Literal["requests_per_source", "requests"]
"""What was reached, as the configuration calls it."""


@frozen(kw_only=True)
class AdmissionConfig:
    """[admission]: how many requests are looked at in a window of time."""

    requests_per_source: int = field(default=3000, validator=at_least(1))
    """From one IPv4 address or IPv6 /64. Thousands of phones may share one behind a NAT, and come back together."""
    requests: int = field(default=0, validator=at_least(0))
    """In all; 0: as many as come."""
    window_seconds: float = field(default=1.0, validator=above(0))
    max_sources: int = field(default=100_000, validator=at_least(1))
    """Sources counted one by one in a window; those beyond share counts with others, so that invented addresses cost
    no more memory."""


class Budget:
    """What may still come in this window."""

    def __init__(self, config: AdmissionConfig) -> None:
        self.refused: dict[Limit, int] = {"requests_per_source": 0, "requests": 0}
        self.reached: Limit = "requests"
        """The limit that the latest refused request met."""
        self._seconds = config.window_seconds
        self._per_source = config.requests_per_source
        self._in_all = config.requests or sys.maxsize
        self._max_sources = config.max_sources
        self._window = -1.0
        self._left = self._in_all
        self._counts: dict[bytes, int] = {}

    @property
    def sources(self) -> int:
        """How many sources, or shares of them, have a count now."""
        return len(self._counts)

    def admits(self, source: bytes, now: float) -> bool:
        """Count a request of `source`, a host as inet_pton gives it, unless it is one too many.

        What is refused uses up nothing: a flood from one source leaves the others what is theirs.
        """
        window = now // self._seconds
        if window != self._window:
            self._begin(window)
        if len(source) == IPV6_BYTES:
            source = source[:NETWORK_BYTES]
        counts = self._counts
        count = counts.get(source, 0)
        if not count and len(counts) >= self._max_sources:
            source = _shared(source)
            count = counts.get(source, 0)
        if count >= self._per_source:
            return self._refuse("requests_per_source")
        if not self._left:
            return self._refuse("requests")
        self._left -= 1
        counts[source] = count + 1
        return True

    def _begin(self, window: float) -> None:
        self._window = window
        self._left = self._in_all
        self._counts = {}

    def _refuse(self, limit: Limit) -> bool:
        self.refused[limit] += 1
        self.reached = limit
        return False


class Admission:
    """Two budgets of the same size, one for what begins something and one for what belongs to a call.

    So phones that flood us with registrations, or with calls, never take from others behind the same address the
    requests that end, hold or transfer a call of theirs; and whoever only says that his requests belong to a call is
    limited too.
    """

    def __init__(self, config: AdmissionConfig) -> None:
        self.config = config
        self.beginning = Budget(config)
        self.in_calls = Budget(config)
        self.admits = self.beginning.admits

    def refused(self) -> dict[tuple[str, str], float]:
        """Return how many requests were refused, by kind and by the limit that they met."""
        return {
            (kind, limit): count
            for kind, budget in (("beginning", self.beginning), ("in_call", self.in_calls))
            for limit, count in budget.refused.items()
        }

    def sources(self) -> int:
        """Return how many sources have a count in the latest window."""
        return self.beginning.sources + self.in_calls.sources


def _shared(source: bytes) -> bytes:
    # Of one byte more than an IPv4 address, so that no source is called the same. Python's hash is seeded anew in each
    # process: nobody can choose whose count he shares.
    return (hash(source) % SHARED_COUNTS).to_bytes(5)
