"""The calls that were placed here, over HTTP or by redirection: each has one node, and counts once.

A placement ends when it is released, or `max_call_seconds` after it was last asked for, so that a caller who dies does
not fill a node for ever. Nothing polls: what has lapsed goes whenever somebody looks.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from secrets import token_urlsafe

from attrs import evolve, field, frozen

from rollcall.media.selection import Board, Chosen, NoNode, Placements, Random, Wanted
from rollcall.media.snapshot import MediaNode, NodeState, Snapshot
from rollcall.ops.allowed import above, at_least


@frozen(kw_only=True)
class PlacementConfig:
    """[placements]: how long a call counts."""

    max_call_seconds: float = field(default=4 * 3600.0, validator=above(0))
    max_calls: int = field(default=100_000, validator=at_least(1))
    """So many placements are remembered; of more the oldest is forgotten."""


@frozen
class Placement:
    """A call on a node, and the R that was expected of it when it was placed."""

    id: str
    call_id: str
    node: MediaNode
    r: float
    expires_at: float


class Placing:
    """Places calls by the newest snapshot, and remembers where they are."""

    def __init__(self, config: PlacementConfig, random: Random,
                 new_id: Callable[[], str] = lambda: token_urlsafe(12)) -> None:
        self.board = Board(Snapshot())
        """The newest snapshot, made ready for choosing."""
        self.uncounted = Placements()
        """What the nodes' own counts do not hold yet."""
        self._config = config
        self._random = random
        self._new_id = new_id
        self._calls: dict[str, int] = {}
        # in the order in which they lapse: all last equally long, and a renewed one goes to the end
        self._placements: OrderedDict[str, Placement] = OrderedDict()
        self._by_call: dict[str, str] = {}

    def follow(self, snapshot: Snapshot, now: float) -> None:
        """Choose by this from now on; `now` is the clock of all methods here."""
        self.uncounted.followed(snapshot, now)
        self.board = Board(snapshot)

    def place(self, wanted: Wanted, now: float) -> Placement | NoNode:
        """Return where this call is; a call that was placed before stays there, and counts once.

        It gets another node when its own is down, gone, or one of those that it must not have.
        """
        self._forget_lapsed(now)
        known = self._by_call.get(wanted.call_id)
        if known is not None:
            if self._may_stay(placement := self._placements[known], wanted):
                return self._keep(evolve(placement, expires_at=now + self._config.max_call_seconds))
            self._forget(known)
        outcome = self.choose(wanted, now)
        if isinstance(outcome, NoNode):
            return outcome
        if len(self._placements) >= self._config.max_calls:
            self._forget(next(iter(self._placements)))
        placement = Placement(
            self._new_id(), wanted.call_id, outcome.node, outcome.r, now + self._config.max_call_seconds)
        self._by_call[wanted.call_id] = placement.id
        self._calls[outcome.node.id] = self._calls.get(outcome.node.id, 0) + 1
        return self._keep(placement)

    def choose(self, wanted: Wanted, now: float) -> Chosen | NoNode:
        """Return the node for a call whose end nobody will tell us; it counts until the node's own count holds it."""
        self.uncounted.lapse(now)
        outcome = self.board.choose(wanted, self.uncounted, self._random)
        if isinstance(outcome, Chosen):
            self.uncounted.placed(outcome.node.id, now)
        return outcome

    def release(self, placement_id: str, now: float) -> bool:
        """End this placement; say whether there was one."""
        self._forget_lapsed(now)
        if placement_id not in self._placements:
            return False
        self._forget(placement_id)
        return True

    def calls(self, now: float) -> Mapping[str, int]:
        """Return how many calls that were placed here have not ended, by node id."""
        self._forget_lapsed(now)
        return self._calls

    def _may_stay(self, placement: Placement, wanted: Wanted) -> bool:
        node = self.board.snapshot.nodes.get(placement.node.id)
        return node is not None and node.state is not NodeState.DOWN and node.id not in wanted.without

    def _keep(self, placement: Placement) -> Placement:
        self._placements[placement.id] = placement
        self._placements.move_to_end(placement.id)
        return placement

    def _forget(self, placement_id: str) -> None:
        placement = self._placements.pop(placement_id)
        del self._by_call[placement.call_id]
        name = placement.node.id
        self._calls[name] -= 1
        if not self._calls[name]:
            del self._calls[name]

    def _forget_lapsed(self, now: float) -> None:
        while self._placements:
            oldest = next(iter(self._placements.values()))
            if oldest.expires_at > now:
                return
            self._forget(oldest.id)
