"""Which records to look at when: their keys by the slot of time in which something of theirs lapses.

A slot's keys stand in tuples of CHUNK. The garbage collector looks into a tuple of bytes once and never again; over a
list of a million keys it would walk at each full collection, which takes it 20 ms.
"""

import gc
from collections.abc import Sequence

CHUNK = 1000
"""Keys that are taken at once: to look through so many records is about a millisecond."""

CHUNKS_SHOWN_AT_ONCE = 50
"""New chunks after which the collector is shown them, which takes it a millisecond: it would see more the later it
comes."""


class Calendar:
    """Keys by slot; a key may stand in several."""

    def __init__(self) -> None:
        self._open: dict[int, list[bytes]] = {}
        self._full: dict[int, list[tuple[bytes, ...]]] = {}
        self._not_shown = 0

    def __bool__(self) -> bool:
        """Whether there is any slot."""
        return bool(self._open)

    @property
    def first(self) -> int:
        """The first slot that there is."""
        return min(self._open)

    def enter(self, slot: int, key: bytes) -> bool:
        """Add a key to a slot; True when that is a new one."""
        keys = self._open.get(slot)
        if keys is None:
            self._open[slot] = [key]
            return True
        keys.append(key)
        if len(keys) == CHUNK:
            self._full.setdefault(slot, []).append(tuple(keys))
            keys.clear()
            self._show()
        return False

    def take(self, slot: int) -> Sequence[bytes]:
        """Remove some of a slot's keys, at most CHUNK, and return them; with the last ones the slot goes."""
        full = self._full.get(slot)
        if full is None:
            return self._open.pop(slot)
        keys = full.pop()
        if not full:
            del self._full[slot]
            if not self._open[slot]:
                del self._open[slot]
        return keys

    def _show(self) -> None:
        self._not_shown += 1
        if self._not_shown == CHUNKS_SHOWN_AT_ONCE:
            self._not_shown = 0
            gc.collect(0)
