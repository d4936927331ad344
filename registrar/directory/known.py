"""What was read lately, in memory: true for a while, and better than nothing for longer when nobody can be asked."""

from typing import Generic, TypeVar

T = TypeVar("T")


class Known(Generic[T]):
    """At most so many values by their keys; the one that was read longest ago is forgotten first."""

    def __init__(self, max_items: int, seconds: float) -> None:
        self._max_items = max_items
        self._seconds = seconds
        self._items: dict[str, tuple[float, T]] = {}

    def __len__(self) -> int:
        return len(self._items)

    def fresh(self, key: str, now: float) -> T | None:
        """Return what was read less than so many seconds ago."""
        found = self._items.get(key)
        return None if found is None or now - found[0] >= self._seconds else found[1]

    def stale(self, key: str) -> T | None:
        """Return what was read last, however long ago."""
        found = self._items.get(key)
        return None if found is None else found[1]

    def put(self, key: str, value: T, now: float) -> None:
        """Remember what was just read."""
        self._items.pop(key, None)
        if len(self._items) >= self._max_items:
            del self._items[next(iter(self._items))]
        self._items[key] = now, value
