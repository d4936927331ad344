"""Who wants to know when the bindings of an address-of-record have changed, by whomever and on whatever node.

The stores tell; that nobody listens, as for nearly every record, costs them one look into a dictionary. A refresh that
only prolongs a binding is no change here. Listeners are called in a later turn of the reactor, once for all that has
happened until then, and read the record anew.
"""

from collections.abc import Callable

from twisted.logger import Logger

Changed = Callable[[], None]


class Changes:
    """The listeners by record key."""

    _log = Logger()

    def __init__(self, later: Callable[[Callable[[], None]], object]) -> None:
        """`later(call)` calls in a later turn of the reactor."""
        self._later = later
        self._watched: dict[bytes, list[Changed]] = {}
        self._due: set[bytes] = set()

    def __len__(self) -> int:
        return len(self._watched)

    def is_watched(self, key: bytes) -> bool:
        """Say whether anybody waits for changes of this record."""
        return key in self._watched

    def watch(self, key: bytes, changed: Changed) -> Callable[[], None]:
        """Call `changed` after each change of a record; return what ends that, which may be called twice."""
        self._watched.setdefault(key, []).append(changed)

        def cancel() -> None:
            watching = self._watched.get(key, [])
            if changed in watching:
                watching.remove(changed)
                if not watching:
                    del self._watched[key]

        return cancel

    def tell(self, key: bytes) -> None:
        """Take note that a record has changed, or may have."""
        if key in self._watched:
            if not self._due:
                self._later(self._call)
            self._due.add(key)

    def tell_all(self) -> None:
        """Take note that any record may have changed."""
        for key in self._watched:
            self.tell(key)

    def _call(self) -> None:
        due, self._due = self._due, set()
        for key in due:
            for changed in list(self._watched.get(key, ())):
                try:
                    changed()
                except Exception:
                    self._log.failure("while somebody was told of a change")
