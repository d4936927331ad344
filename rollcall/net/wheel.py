"""One timer wheel for all that is due some time: expiries, transaction timers, time limits of connections.

A reactor's own delayed calls cost a search when they move and an object of 500 bytes each. Here timers that fall
due within the same tick share a bucket; adding and cancelling touch one list, and the reactor knows of one delayed
call only, that of the next bucket. Nothing runs while nothing is due.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from math import ceil
from typing import Any

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

# A bucket is swept when more than this many of its timers, and more than half of them, were cancelled.
SWEEP_AT = 16

# Clocks count in floats: a moment this close before a tick (in ticks, in seconds) belongs to it.
ROUNDING = 1e-6


class Timer:
    """A call that is due some time. It is forgotten once it ran or was cancelled."""

    __slots__ = ("_args", "_bucket", "_function")

    def __init__(self, bucket: _Bucket, function: Callable[..., object], args: tuple[Any, ...]) -> None:
        self._bucket: _Bucket | None = bucket
        self._function: Callable[..., object] | None = function
        self._args = args

    @property
    def active(self) -> bool:
        """Whether the call is still to come."""
        return self._bucket is not None

    def cancel(self) -> None:
        """Drop the call; harmless when it ran or was cancelled before."""
        bucket = self._bucket
        if bucket is None:
            return
        self._release()
        bucket.wheel._cancelled(bucket)

    def _release(self) -> tuple[Callable[..., object] | None, tuple[Any, ...]]:
        call = self._function, self._args
        self._bucket = self._function = None
        self._args = ()
        return call


class _Bucket(list[Timer]):
    """The timers of one tick, in the order they were added; cancelled ones stay until they are swept."""

    __slots__ = ("cancelled", "wheel")

    def __init__(self, wheel: TimerWheel) -> None:
        super().__init__()
        self.wheel = wheel
        self.cancelled = 0


class TimerWheel:
    """Calls functions later. A call is at most one tick late and never early."""

    _log = Logger()

    def __init__(self, clock: IReactorTime, tick_seconds: float = 0.05) -> None:
        self._clock = clock
        self._tick_seconds = tick_seconds
        self._origin = clock.seconds()
        self._buckets: dict[int, _Bucket] = {}
        self._due: list[int] = []
        self._running: list[Timer] = []
        self._active = 0
        self._wake: IDelayedCall | None = None
        self._wake_tick = 0

    def __len__(self) -> int:
        """How many calls are still to come."""
        return self._active

    def now(self) -> float:
        """The clock's time in seconds."""
        return self._clock.seconds()

    def call_later(self, seconds: float, function: Callable[..., object], *args: Any) -> Timer:
        """Call `function(*args)` once `seconds` have passed; a past moment means the next turn of the reactor."""
        elapsed = self._clock.seconds() - self._origin
        tick = ceil((elapsed + max(seconds, 0.0)) / self._tick_seconds - ROUNDING)
        bucket = self._buckets.get(tick)
        if bucket is None:
            bucket = self._buckets[tick] = _Bucket(self)
            heappush(self._due, tick)
            self._arm()
        timer = Timer(bucket, function, args)
        bucket.append(timer)
        self._active += 1
        return timer

    def stop(self) -> None:
        """Cancel every call."""
        for bucket in (self._running, *self._buckets.values()):
            for timer in bucket:
                timer._release()
        self._active = 0
        self._rest()

    def _arm(self) -> None:
        """See that the reactor wakes us for the first bucket."""
        tick = self._due[0]
        if self._wake is not None:
            if self._wake_tick <= tick:
                return
            self._wake.cancel()
        delay = self._origin + tick * self._tick_seconds - self._clock.seconds() - ROUNDING
        self._wake_tick = tick
        self._wake = self._clock.callLater(max(delay, 0.0), self._run_due)

    def _run_due(self) -> None:
        self._wake = None
        elapsed = self._clock.seconds() - self._origin
        current = max(self._wake_tick, int(elapsed / self._tick_seconds + ROUNDING))
        ticks = []
        while self._due and self._due[0] <= current:
            ticks.append(heappop(self._due))
        for tick in ticks:
            self._running = self._buckets.pop(tick, [])
            self._run(tuple(self._running))
        self._running = []
        if not self._active:
            self._rest()
        elif self._due and self._wake is None:
            self._arm()

    def _run(self, timers: tuple[Timer, ...]) -> None:
        for timer in timers:
            function, args = timer._release()
            if function is None:
                continue
            self._active -= 1
            try:
                function(*args)
            except Exception:
                self._log.failure("a timer's call failed: {function!r}", function=function)

    def _cancelled(self, bucket: _Bucket) -> None:
        self._active -= 1
        if not self._active:
            self._rest()
            return
        bucket.cancelled += 1
        if bucket.cancelled > SWEEP_AT and bucket.cancelled * 2 > len(bucket):
            bucket[:] = [timer for timer in bucket if timer.active]
            bucket.cancelled = 0

    def _rest(self) -> None:
        """Nothing is to come: leave nothing with the reactor."""
        self._buckets.clear()
        self._due.clear()
        if self._wake is not None:
            self._wake.cancel()
            self._wake = None
