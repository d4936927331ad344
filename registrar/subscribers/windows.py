"""Who was changed a short while ago: so long a replica may not know it yet, and the primary is asked."""

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

MOST = 10_000
"""Names that are told apart; when more are changed within one window, it is as if everybody had been."""

EVERYBODY = ""


class Windows:
    """A window of `seconds` for each name that was changed."""

    def __init__(self, reactor: IReactorTime, seconds: float, ended: Callable[[str | None], None]) -> None:
        """`ended` is told whose window is over; None: everybody's."""
        self._reactor = reactor
        self._seconds = seconds
        self._ended = ended
        # In the order in which they end.
        self._ends: dict[str, float] = {}
        self._timer: IDelayedCall | None = None

    def __len__(self) -> int:
        return len(self._ends)

    def covers(self, name: str) -> bool:
        """Say whether this name was changed a short while ago."""
        return bool(self._ends) and (name in self._ends or EVERYBODY in self._ends)

    def open(self, name: str) -> None:
        """Begin the window of a name, again if there is one."""
        if not self._seconds:
            return
        if len(self._ends) >= MOST:
            self._ends.clear()
            name = EVERYBODY
        self._ends.pop(name, None)
        self._ends[name] = self._reactor.seconds() + self._seconds
        if self._timer is None:
            self._timer = self._reactor.callLater(self._seconds, self._end)

    def open_all(self) -> None:
        """Begin a window for everybody."""
        self.open(EVERYBODY)

    def stop(self) -> None:
        """Watch the clock no more."""
        self._ends.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _end(self) -> None:
        self._timer = None
        now = self._reactor.seconds()
        while self._ends:
            name, ends_at = next(iter(self._ends.items()))
            if ends_at > now:
                self._timer = self._reactor.callLater(ends_at - now, self._end)
                return
            del self._ends[name]
            self._ended(name or None)
