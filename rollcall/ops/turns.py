"""How long the reactor's turns take, and how many sockets have one: while a turn lasts, nobody else is answered.

A turn is all that is done between two looks at the sockets: what they brought, timers, calls from threads, garbage
collection. It is measured around the reactor's own epoll object, so that an idle process is not woken up for it. There,
too, the sockets of a turn are bounded: Twisted's reactor serves all that are ready, a thousand if need be, before it
looks at anything else. Those that are left come first in the next turn.
"""

from collections.abc import Callable
from math import inf
from select import epoll
from time import monotonic
from typing import Any

from twisted.application.service import Service
from twisted.logger import Logger

from rollcall.ops.longest import Longest
from rollcall.ops.metrics import Metrics

LONG_SECONDS = 0.05
"""Turns that take longer are counted: a phone's REGISTER should not wait that long for others."""

MAX_READY = 64
"""Sockets that are served in one turn, when nobody says otherwise: a TLS client's REGISTER takes about 0.2 ms."""


class Turns(Service):
    """Measures turns while it runs, on Twisted's epoll reactor; on another one it says that it cannot."""

    _log = Logger()

    def __init__(self, reactor: Any, metrics: Metrics, slow_seconds: float, max_ready: int = MAX_READY,
                 clock: Callable[[], float] = monotonic) -> None:
        """Turns longer than `slow_seconds` are logged; 0: none. `clock` must not be set back."""
        self._reactor = reactor
        self._slow_seconds = slow_seconds
        self._max_ready = max_ready
        self._clock = clock
        self._longest = Longest(clock)
        self._long_turns = 0
        self._long_seconds = 0.0
        self._watched: _WatchedPoller | None = None
        metrics.gauge("rollcall_turn_longest_seconds", "The longest turn of the reactor in the last minute or two.", (),
                      self.longest)
        metrics.total("rollcall_turns_long_total", "Turns of the reactor of more than 50 ms.", (),
                      lambda: self._long_turns)
        metrics.total("rollcall_turns_long_seconds_total", "Time that such turns took.", (),
                      lambda: self._long_seconds)

    def startService(self) -> None:
        """Begin to measure."""
        super().startService()
        poller = getattr(self._reactor, "_poller", None)
        if isinstance(poller, epoll):
            self._watched = self._reactor._poller = _WatchedPoller(poller, self._max_ready, self._clock, self._note)
        else:
            self._log.info("the turns of a {reactor} cannot be measured", reactor=type(self._reactor).__name__)

    def stopService(self) -> Any:
        """Leave the reactor as it was."""
        if self._watched is not None:
            self._reactor._poller = self._watched.inner
            self._watched = None
        return super().stopService()

    def longest(self) -> float:
        """Return the length of the longest turn in the last one to two minutes, or since this was last asked."""
        longest = self._longest.read()
        if self._watched is not None and not self._longest.current:
            self._watched.notable = 0.0
        return longest

    def _note(self, seconds: float) -> float:
        """Take a turn that is worth a look; return how long the next one must be for that."""
        self._longest.note(seconds)
        if seconds > LONG_SECONDS:
            self._long_turns += 1
            self._long_seconds += seconds
        if self._slow_seconds and seconds > self._slow_seconds:
            self._log.warn("nobody was answered for {seconds:.3f} s: so long took a turn of the reactor",
                           seconds=seconds, log_rationed=True)
        return min(self._longest.current, LONG_SECONDS)


class _WatchedPoller:
    """An epoll object that tells how long it was not asked for events, and gives few of them at a time."""

    __slots__ = ("_clock", "_max_ready", "_note", "_poll", "_woke_at", "inner", "modify", "notable", "register",
                 "unregister")

    def __init__(self, inner: epoll, max_ready: int, clock: Callable[[], float],
                 note: Callable[[float], float]) -> None:
        self.inner = inner
        self.register = inner.register
        self.modify = inner.modify
        self.unregister = inner.unregister
        self.notable = 0.0
        self._max_ready = max_ready
        self._poll = inner.poll
        self._clock = clock
        self._note = note
        self._woke_at = inf  # what is done before the first look is the start, and no turn

    def poll(self, timeout: float, most: int) -> list[tuple[int, int]]:
        """Return events of some sockets, at most `most`. This is called once a turn; the kernel sees that all come."""
        seconds = self._clock() - self._woke_at
        if seconds > self.notable:
            self.notable = self._note(seconds)
        try:
            return self._poll(timeout, most if most < self._max_ready else self._max_ready)
        finally:
            self._woke_at = self._clock()
