"""Whether phones come as a herd, and how far their next refreshes are to be spread then.

Who was bound together comes again together, one registration's time later. A shorter time for some costs them a few
refreshes more, and makes of the next round's peak a plain: of N phones that are granted T seconds less a random part up
to j, N / (j T) come in a second.
"""

SECONDS = 10.0
"""So long after the last of a herd times are still spread: its stragglers belong to it."""

FULL_SHARE = 0.25
"""New bindings are a herd, spread as wide as may be, when they take this part of what can be done."""

STEPS = 4
"""The width changes in so many steps, for what is remembered of it is to be forgotten at each."""


class Herd:
    """Counts first bindings. Moments are in seconds since any epoch."""

    def __init__(self, usual: float, widest: float) -> None:
        """The jitters are parts of a granted time: the `usual` one, and the `widest` in a herd."""
        self.jitter = usual
        """The one that counts now."""
        self._usual = usual
        # Where times are to be exact they stay so.
        self._widest = max(usual, widest) if usual else usual
        self._count = 0
        self._second = 0
        self._seen_at = 0.0

    @property
    def is_here(self) -> bool:
        """Whether there is one."""
        return self.jitter != self._usual

    def bound(self, now: float, rate: float, count: int = 1) -> bool:
        """Count first bindings, where `rate` can be done in a second; return whether the jitter is another now."""
        second = int(now)
        if second != self._second:
            self._second, self._count = second, 0
        self._count += count
        step = min(int(self._count / (rate * FULL_SHARE) * STEPS), STEPS)
        if step:
            self._seen_at = now
        jitter = self._usual + (self._widest - self._usual) * step / STEPS
        if jitter <= self.jitter:
            return False
        self.jitter = jitter
        return True

    def look(self, now: float) -> bool:
        """Return whether the herd has passed, and the jitter is the usual one again."""
        if not self.is_here or now - self._seen_at < SECONDS:
            return False
        self.jitter = self._usual
        return True
