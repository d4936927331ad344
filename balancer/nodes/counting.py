"""How many calls registrars say they have on nodes: for those that do not tell their load themselves."""

from rollcall.media.reports import Counts

# So many registrars are remembered at most, workers included; of more than that somebody makes them up.
MOST_REGISTRARS = 4096


class RegistrarCounts:
    """What each registrar has told last."""

    def __init__(self, believed_seconds: float) -> None:
        """What is older than `believed_seconds` does not count: the registrar is gone."""
        self._believed_seconds = believed_seconds
        self._told: dict[str, tuple[float, dict[str, int]]] = {}

    def heard(self, counts: Counts, now: float) -> None:
        """A registrar has told its calls."""
        self._told.pop(counts.registrar, None)
        self._forget(now)
        if len(self._told) < MOST_REGISTRARS:
            self._told[counts.registrar] = now, counts.calls

    def counted(self, node_id: str, now: float) -> tuple[int, float] | None:
        """Return how many calls all have on this node, and the moment of the oldest word; None when none was heard."""
        self._forget(now)
        if not self._told:
            return None
        calls = sum(max(0, calls.get(node_id, 0)) for _, calls in self._told.values())
        return calls, next(iter(self._told.values()))[0]

    def _forget(self, now: float) -> None:
        while self._told:
            name, (at, _) = next(iter(self._told.items()))
            if now - at < self._believed_seconds:
                return
            del self._told[name]
