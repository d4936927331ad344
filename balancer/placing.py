"""The media nodes and the calls placed on them.

A placement ends when it is released, or `max_call_seconds` after it was last asked for, so that a caller who dies does
not fill a node for ever. Nothing polls: what has lapsed goes whenever somebody looks.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from secrets import token_urlsafe

from attrs import evolve, field, frozen

from balancer.selection import Load, MediaNode, NoNode, Selected, Wanted, select
from rollcall.ops.allowed import above

Random = Callable[[], float]


@frozen(kw_only=True)
class PlacementConfig:
    """[placements]: how long a call counts."""

    max_call_seconds: float = field(default=4 * 3600.0, validator=above(0))


@frozen
class Placement:
    """A call on a node."""

    id: str
    call_id: str
    node: MediaNode
    expires_at: float


class Nodes:
    """Knows which node has how many calls, and places new ones."""

    def __init__(
        self,
        nodes: Iterable[MediaNode],
        config: PlacementConfig,
        random: Random,
        new_id: Callable[[], str] = lambda: token_urlsafe(12),
    ) -> None:
        self._nodes = tuple(nodes)
        self._config = config
        self._random = random
        self._new_id = new_id
        self._counts = {node.id: 0 for node in self._nodes}
        # in the order in which they lapse: all last equally long, and a renewed one goes to the end
        self._placements: OrderedDict[str, Placement] = OrderedDict()
        self._by_call: dict[str, str] = {}

    def place(self, call_id: str, wanted: Wanted, now: float) -> Placement | NoNode:
        """Return where this call is; a call that was placed before stays, and counts once."""
        self._forget_lapsed(now)
        known = self._by_call.get(call_id)
        if known is not None:
            return self._keep(evolve(self._placements[known], expires_at=now + self._config.max_call_seconds))
        outcome = select(self._loads(), wanted, self._random)
        if not isinstance(outcome, Selected):
            return outcome
        placement = Placement(self._new_id(), call_id, outcome.node, now + self._config.max_call_seconds)
        self._by_call[call_id] = placement.id
        self._counts[placement.node.id] += 1
        return self._keep(placement)

    def release(self, placement_id: str, now: float) -> bool:
        """End this placement; say whether there was one."""
        self._forget_lapsed(now)
        placement = self._placements.pop(placement_id, None)
        if placement is None:
            return False
        self._uncount(placement)
        return True

    def loads(self, now: float) -> list[Load]:
        """Return every node with its load, in the order of the configuration."""
        self._forget_lapsed(now)
        return list(self._loads())

    def _loads(self) -> Iterator[Load]:
        return (Load(node, self._counts[node.id]) for node in self._nodes)

    def _keep(self, placement: Placement) -> Placement:
        self._placements[placement.id] = placement
        self._placements.move_to_end(placement.id)
        return placement

    def _uncount(self, placement: Placement) -> None:
        del self._by_call[placement.call_id]
        self._counts[placement.node.id] -= 1

    def _forget_lapsed(self, now: float) -> None:
        while self._placements:
            oldest = next(iter(self._placements.values()))
            if oldest.expires_at > now:
                return
            del self._placements[oldest.id]
            self._uncount(oldest)
