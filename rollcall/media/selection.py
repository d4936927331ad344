"""Which media node gets the next call (docs/balancer.md, "The rule").

Pure: a Board is one snapshot made ready for choosing, and Placements are the calls that whoever chooses has placed
since the nodes were last asked. Of the nodes that may have the call, each has a score: R of the whole way over it, less
what its load costs. Those within a margin of the best are as good; of two of them, drawn at random, the less loaded
gets the call: many who choose from the same old figures do not all run to the same node.
"""

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from itertools import accumulate
from math import inf
from typing import TypeAlias
from zlib import crc32

from attrs import field, frozen

from rollcall.media.emodel import counted_as, r_factor
from rollcall.media.snapshot import DEFAULT_GROUP, UNKNOWN, MediaNode, NodeState, PathKey, Quality, Snapshot

Random = Callable[[], float]
_Leg: TypeAlias = list[tuple[float, float]]
"""For each node of a pool the fraction that arrives, and the delay in ms."""

NEAR, FAR, SOMEWHERE = Quality(0.0, 20.0), Quality(0.0, 60.0), Quality(0.0, 40.0)
"""What is assumed where the snapshot has not even a prior: within a region, to another, and where one is unknown."""
PACKET_MS = 30.0
"""What mouth-to-ear delay has beside the network's: a packet of 20 ms, and the codec with the sound card."""
LAPSE_SECONDS = 60.0
"""A call counts for so long where nobody polls any more; otherwise, without a balancer, every node would be full."""
ON_THE_WAY_SECONDS = 0.5
"""So much later than it was made a snapshot is followed at most, and a call comes to its node at most: a call counts
rather twice for a moment than never."""
MOST_RANKINGS = 1000
"""So many rankings are kept at once; a board whose balancer is gone lives long."""
MOST_DRAWS = 10
"""After so many vain draws those who are worth drawing are listed, which is slower."""


class Reason(Enum):
    """Why no node can have a call."""

    NO_NODE = "no_node"
    """None is in this group."""
    DRAINING = "draining"
    FULL = "full"
    DOWN = "down"


@frozen
class Wanted:
    """What a call asks of its node."""

    group: str = DEFAULT_GROUP
    """The node group."""
    sides: tuple[str, ...] = ()
    """The access groups of its ends, as far as they are known: none, one or two."""
    call_id: str = ""
    without: frozenset[str] = frozenset()
    """Ids of nodes that have just failed this call."""
    codec: str = ""
    """What it will probably be heard by, as in SDP: some bear loss worse than others. Empty: G.711."""


@frozen
class Chosen:
    """The node for a call, and the R that is expected of it."""

    node: MediaNode
    r: float


@frozen
class NoNode:
    """No node can have the call."""

    reason: Reason


class Placements:
    """Counts own calls that the polled figures do not hold yet, by node; and whose turn it is in round-robin."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        """By node id; a node without any may be missing."""
        self._moments: dict[str, deque[float]] = {}
        self._in_order: deque[tuple[float, str]] = deque()
        self._turn = 0

    def placed(self, node_id: str, now: float) -> None:
        """A call goes to this node. `now` may be any clock that only goes forward, the same for all methods."""
        self.lapse(now)
        self._moments.setdefault(node_id, deque()).append(now)
        self._in_order.append((now, node_id))
        self.counts[node_id] = self.counts.get(node_id, 0) + 1

    def followed(self, snapshot: Snapshot, now: float) -> None:
        """Forget what each node's own count holds since it was polled.

        When that was by our clock is told by the difference of two moments of the balancer's clock.
        """
        self.lapse(now)
        for name in [name for name in self._moments if name not in snapshot.nodes]:
            del self._moments[name]
            self.counts.pop(name, None)
        for name, moments in self._moments.items():
            age = snapshot.published_at - snapshot.nodes[name].polled_at
            self._forget(name, moments, now - age - ON_THE_WAY_SECONDS)

    def lapse(self, now: float) -> None:
        """Forget calls that are LAPSE_SECONDS old. To be called before each choice."""
        while self._in_order and self._in_order[0][0] <= now - LAPSE_SECONDS:
            moment, name = self._in_order.popleft()
            if name in self._moments:
                self._forget(name, self._moments[name], moment)

    def count(self, node_id: str) -> int:
        """Return how many calls this node has beyond those of its last poll."""
        return self.counts.get(node_id, 0)

    def next_turn(self) -> int:
        """Return a number that goes up by one each time."""
        self._turn += 1
        return self._turn - 1

    def _forget(self, name: str, moments: deque[float], until: float) -> None:
        while moments and moments[0] <= until:
            moments.popleft()
        self.counts[name] = len(moments)


class Board:
    """One snapshot, made ready for choosing. What it works out it keeps until the next."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self._pools: dict[str, tuple[tuple[MediaNode, ...], tuple[MediaNode, ...]]] = {}
        self._legs: dict[tuple[str, bool, str], _Leg] = {}
        self._rankings: dict[tuple[str, bool, tuple[str, ...], str], _Ranking] = {}

    def choose(self, wanted: Wanted, placements: Placements, random: Random) -> Chosen | NoNode:
        """Return the node for a call; `random()` gives numbers from 0 up to, but not including, 1.

        A node that is suspect gets it only when nobody else can have it.
        """
        for suspect in (False, True):
            ranking = self._ranking(wanted, suspect)
            if not ranking.nodes:
                continue
            place = _POLICIES[self.snapshot.rule.policy](_Choice(self.snapshot, ranking, wanted, placements, random))
            if place is not None:
                return Chosen(ranking.nodes[place], ranking.ratings[place])
        return NoNode(self._why_none(wanted))

    def rating(self, side: str, node_id: str) -> float:
        """Return R of one leg: from this access group to this node. Raises KeyError when there is no such node."""
        leg = self._believed(side, self.snapshot.nodes[node_id])
        return r_factor(leg.loss, leg.delay_ms + PACKET_MS)

    def _ranking(self, wanted: Wanted, suspect: bool) -> "_Ranking":
        codec = counted_as(wanted.codec)
        key = (wanted.group, suspect, wanted.sides, codec)
        ranking = self._rankings.get(key)
        if ranking is None:
            if len(self._rankings) >= MOST_RANKINGS:
                self._rankings.clear()
                self._legs.clear()
            legs = [self._leg(wanted.group, suspect, side) for side in wanted.sides]
            ranking = self._rankings[key] = _ranked(self._pool(wanted.group)[suspect], legs, codec)
        return ranking

    def _pool(self, group: str) -> tuple[tuple[MediaNode, ...], tuple[MediaNode, ...]]:
        """Return who of a node group is up, and who is suspect, in the order of their ids."""
        pool = self._pools.get(group)
        if pool is None:
            nodes = [node for _, node in sorted(self.snapshot.nodes.items()) if group in node.groups]
            if len(self._pools) >= MOST_RANKINGS:
                self._pools.clear()
            pool = self._pools[group] = (
                tuple(node for node in nodes if node.state is NodeState.UP),
                tuple(node for node in nodes if node.state is NodeState.SUSPECT))
        return pool

    def _leg(self, group: str, suspect: bool, side: str) -> "_Leg":
        key = (group, suspect, side)
        leg = self._legs.get(key)
        if leg is None:
            believed = [self._believed(side, node) for node in self._pool(group)[suspect]]
            leg = self._legs[key] = [(1.0 - each.loss, each.delay_ms) for each in believed]
        return leg

    def _believed(self, side: str, node: MediaNode) -> Quality:
        return self.snapshot.paths.get((side, node.id)) or prior(self.snapshot.priors, side, node.site)

    def _why_none(self, wanted: Wanted) -> Reason:
        states = {node.state for node in self.snapshot.nodes.values()
                  if wanted.group in node.groups and node.id not in wanted.without}
        if states & {NodeState.UP, NodeState.SUSPECT}:
            return Reason.FULL
        if states & {NodeState.DRAINING, NodeState.DRAINED}:
            return Reason.DRAINING
        in_group = any(wanted.group in node.groups for node in self.snapshot.nodes.values())
        return Reason.DOWN if in_group else Reason.NO_NODE


def prior(priors: Mapping[PathKey, Quality], side: str, site: str) -> Quality:
    """Return what is assumed of the way between an access group and a site that nobody has reported on."""
    region = region_of(side)
    found = priors.get((region, site)) or priors.get(("", site)) or priors.get(("", ""))
    if found is not None:
        return found
    if not region or not site:
        return SOMEWHERE
    return NEAR if region == site else FAR


def region_of(group: str) -> str:
    """Return the region of an access group ("carrier/region"); empty when it is unknown."""
    return group.rpartition("/")[2] if group != UNKNOWN else ""


@frozen
class _Ranking:
    """Nodes with R of the whole way over each, the best first."""

    nodes: tuple[MediaNode, ...]
    ratings: tuple[float, ...]
    falling: tuple[float, ...] = field(repr=False)
    """The ratings with the other sign, as bisect wants them."""
    weights: tuple[int, ...] = field(repr=False)
    """The sum of the weights up to each node."""

    def drawn(self, chance: float, end: int) -> int:
        """Return one of the first `end` places, each as likely as its node's weight."""
        return bisect_right(self.weights, chance * self.weights[end - 1], 0, end - 1)


def _ranked(nodes: Sequence[MediaNode], legs: Sequence[_Leg], codec: str) -> _Ranking:
    """Rank nodes by R of a call over these legs: what gets through one may be lost on the other, and delays add up."""
    arriving = [1.0] * len(nodes)
    delays = [PACKET_MS] * len(nodes)
    for leg in legs:
        arriving = [before * arrives for before, (arrives, _) in zip(arriving, leg, strict=True)]
        delays = [before + delay_ms for before, (_, delay_ms) in zip(delays, leg, strict=True)]
    rated = [r_factor(1.0 - arrives, delay_ms, codec) for arrives, delay_ms in zip(arriving, delays, strict=True)]
    order = sorted(range(len(nodes)), key=rated.__getitem__, reverse=True)
    ratings = [rated[place] for place in order]
    ranked = [nodes[place] for place in order]
    return _Ranking(tuple(ranked), tuple(ratings), tuple(-rating for rating in ratings),
                    tuple(accumulate(node.weight for node in ranked)))


class _Choice:
    """One choice: what its policy has to look at. Places are those of the ranking."""

    __slots__ = ("call_id", "counts", "placements", "random", "ranking", "rule", "without")

    def __init__(self, snapshot: Snapshot, ranking: _Ranking, wanted: Wanted, placements: Placements,
                 random: Random) -> None:
        self.rule = snapshot.rule
        self.ranking = ranking
        self.without = wanted.without
        self.counts = placements.counts
        self.random = random
        self.call_id = wanted.call_id
        self.placements = placements

    def load(self, place: int) -> float:
        """Return u: 0 is idle, 1 is full; also for a node that has just failed this call."""
        node = self.ranking.nodes[place]
        if node.id in self.without:
            return 1.0
        return (node.sessions + self.counts.get(node.id, 0)) / node.capacity

    def load_within(self, place: int, least: float) -> float:
        """Return u where the score, which is R less what the load costs, is `least` or more; else 1."""
        load, rule, rating = self.load(place), self.rule, self.ranking.ratings[place]
        if load > rule.free_load:
            rating -= rule.load_penalty * (load - rule.free_load) / (1.0 - rule.free_load)
        return load if rating >= least else 1.0

    def free(self) -> list[int]:
        return [place for place in range(len(self.ranking.nodes)) if self.load(place) < 1.0]


def _by_quality(choice: _Choice) -> int | None:
    """What load_within() says is written out here, where it is needed most."""
    ranking, rule, counts, without = choice.ranking, choice.rule, choice.counts, choice.without
    free_load, slope = rule.free_load, rule.load_penalty / (1.0 - rule.free_load)
    best = -inf
    for rating, node in zip(ranking.ratings, ranking.nodes, strict=True):
        if rating <= best:  # the others have no more, whatever their load
            break
        load = (node.sessions + counts.get(node.id, 0)) / node.capacity
        if load >= 1.0 or node.id in without:
            continue
        score = rating if load <= free_load else rating - slope * (load - free_load)
        if score > best:
            best = score
    if best == -inf:
        return None
    least = best - rule.margin_r
    return _less_loaded_of_two(choice, least, bisect_right(ranking.falling, -least))


def _less_loaded_of_two(choice: _Choice, least: float, end: int) -> int:
    """Draw two of the first `end` whose score is `least` or more, of which there is one at least."""
    first, first_load = -1, 1.0
    for _ in range(MOST_DRAWS):
        place = choice.ranking.drawn(choice.random(), end)
        load = choice.load_within(place, least)
        if place == first or load >= 1.0:
            continue
        if first >= 0:
            return place if load < first_load else first
        first, first_load = place, load
        if end == 1:
            return first
    good = [(load, place) for place in range(end) if (load := choice.load_within(place, least)) < 1.0]
    drawn = good.pop(int(choice.random() * len(good)))
    return min(drawn, good[int(choice.random() * len(good))])[1] if good else drawn[1]


def _at_random(choice: _Choice) -> int | None:
    free = choice.free()
    return free[int(choice.random() * len(free))] if free else None


def _by_weight(choice: _Choice) -> int | None:
    return _weighted(choice, choice.free())


def _least_loaded(choice: _Choice) -> int | None:
    free = choice.free()
    if not free:
        return None
    loads = [choice.load(place) for place in free]
    lowest = min(loads)
    return _weighted(choice, [place for place, load in zip(free, loads, strict=True) if load == lowest])


def _in_turn(choice: _Choice) -> int | None:
    """The order is that of the nodes' ids, which no rating changes."""
    free = sorted(choice.free(), key=lambda place: choice.ranking.nodes[place].id)
    return free[choice.placements.next_turn() % len(free)] if free else None


def _by_call_id(choice: _Choice) -> int | None:
    """The same call gets the same node from everybody, by weight; where that is full, the next who has room."""
    nodes = choice.ranking.nodes
    order = sorted(range(len(nodes)), key=lambda place: nodes[place].id)
    ends = list(accumulate(nodes[place].weight for place in order))
    start = bisect_left(ends, crc32(choice.call_id.encode()) % ends[-1] + 1)
    return next((place for place in order[start:] + order[:start] if choice.load(place) < 1.0), None)


def _weighted(choice: _Choice, places: Sequence[int]) -> int | None:
    if not places:
        return None
    ends = list(accumulate(choice.ranking.nodes[place].weight for place in places))
    return places[bisect_right(ends, choice.random() * ends[-1], 0, len(ends) - 1)]


_POLICIES: Mapping[str, Callable[[_Choice], int | None]] = {
    "quality": _by_quality,
    "random": _at_random,
    "weighted": _by_weight,
    "round-robin": _in_turn,
    "hash": _by_call_id,
    "least-loaded": _least_loaded,
}
