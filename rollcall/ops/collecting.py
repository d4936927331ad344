"""The garbage collector: made ready once for a process that runs for months, and watched (Python's gc module).

What a server is made of at its start, modules, classes and configuration, some sixty thousand objects, lives as long
as the process. The collector is told so once, and never walks over it again. What it has to look for are the few cycles
that exceptions and broken connections leave; but each look stops everybody else, the longer the more objects are new.
"""

import gc
from collections.abc import Callable
from time import perf_counter
from typing import Any

from twisted.application.service import Service

from rollcall.ops.longest import Longest
from rollcall.ops.metrics import Metrics

THRESHOLDS = (10_000, 3, 100)
"""When a collection begins: so many more objects than at the last one; so many of those; so many of these.

A million objects take 0.3 s: the first is 3 ms, the second, with what survived three of the first, below 10 ms. The
third walks over everything, connections too, but is due only after four million objects that came and did not go.
"""


class Collecting(Service):
    """Tunes the collector when it starts, which should be when everything else has, and measures its pauses."""

    def __init__(self, metrics: Metrics, clock: Callable[[], float] = perf_counter) -> None:
        """`clock` must not be set back."""
        self._clock = clock
        self._began_at = 0.0
        self._seconds = 0.0
        self._longest = Longest(clock)
        self.longest = self._longest.read
        self._thresholds = gc.get_threshold()
        metrics.gauge("rollcall_gc_pause_longest_seconds", "The longest garbage collection in the last minute or two.",
                      (), self.longest)
        metrics.total("rollcall_gc_pause_seconds_total", "Time that garbage collections took.", (),
                      lambda: self._seconds)

    def startService(self) -> None:
        """Leave what is there in peace, and begin to measure."""
        super().startService()
        self._thresholds = gc.get_threshold()
        settle()
        gc.callbacks.append(self._heard)

    def stopService(self) -> Any:
        """Leave the collector as it was; harmless when it was not started."""
        if self.running:
            gc.callbacks.remove(self._heard)
            gc.set_threshold(*self._thresholds)
            gc.unfreeze()
        return super().stopService()

    def _heard(self, phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            self._began_at = self._clock()
        else:
            seconds = self._clock() - self._began_at
            self._seconds += seconds
            self._longest.note(seconds)


def settle() -> None:
    """Drop what is garbage now, exempt all the rest from collections for good, and make these rarer."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
