"""The end of a worker that shall lose nothing: it takes nothing new, finishes what it has begun, and only then ends."""

from collections.abc import Callable
from typing import Protocol

from twisted.logger import Logger

from rollcall.net.wheel import TimerWheel

LOOK_SECONDS = 0.1
CLOSED_AT_ONCE = 500
"""Connections closed at each look: their phones come back to the other workers one after the other, not all at once."""


class Drained(Protocol):
    """What is asked to come to rest."""

    def stop_accepting(self) -> None:
        """Take no new connections."""

    def close_idle(self, most: int, reason: str) -> int:
        """Close up to `most` connections that nobody waits on; return how many of these are left."""


class Draining:
    """Brings one worker to its end."""

    _log = Logger()

    def __init__(self, wheel: TimerWheel, transports: Drained, pass_on: Callable[[], None],
                 unfinished: Callable[[], int], seconds: float, end: Callable[[], None]) -> None:
        """`pass_on` lets siblings have new datagrams; `end` is called when all is done, or after `seconds`."""
        self._wheel = wheel
        self._transports = transports
        self._pass_on = pass_on
        self._unfinished = unfinished
        self._seconds = seconds
        self._end = end
        self._looks_left = 0

    def begin(self) -> None:
        """Take nothing new from now on; harmless when it has begun before."""
        if self._looks_left:
            return
        self._looks_left = max(1, round(self._seconds / LOOK_SECONDS))
        self._log.info("draining: {count} requests are to be finished", count=self._unfinished())
        self._transports.stop_accepting()
        self._pass_on()
        self._look()

    def _look(self) -> None:
        idle = self._transports.close_idle(CLOSED_AT_ONCE, "its worker is about to end")
        unfinished = self._unfinished()
        self._looks_left -= 1
        if (idle or unfinished) and self._looks_left > 0:
            self._wheel.call_later(LOOK_SECONDS, self._look)
            return
        if unfinished:
            self._log.warn("drained no further: {count} requests are not finished", count=unfinished)
        self._end()
