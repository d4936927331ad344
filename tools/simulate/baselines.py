"""What others do: the policies that ours is compared to. Each is spared full nodes, which refuse calls.

Those that are called exact know every node's calls at every moment, which no balancer does.
"""

from collections.abc import Callable
from itertools import pairwise
from zlib import crc32

from tools.simulate.control import Control
from tools.simulate.demand import Call
from tools.simulate.running import Stage
from tools.simulate.truth import mean_rating
from tools.simulate.world import Epoch, Node, World, region_of

PROXY_REGION = "middle"
"""Where the proxy stands that pings nodes."""


class Baseline:
    """A policy that only has to say which of the nodes that are left is best: the one with the lowest cost."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.nodes = stage.world.nodes

    def choose(self, call: Call, now: float, refused: frozenset[str]) -> str | None:
        """Return the best of those that are left."""
        left = [node for node in self.nodes if node.id not in refused]
        return self.best(left, call, now).id if left else None

    def best(self, left: list[Node], call: Call, now: float) -> Node:
        """Return one of them."""
        raise NotImplementedError

    def placed(self, call: Call, node: str, now: float) -> None:
        """Nothing is remembered."""

    def ended(self, call: Call, now: float) -> None:
        """Nothing is remembered."""


class RoundRobin(Baseline):
    """Each registrar sends call after call to the next node, by weight of capacity (smooth, as nginx does it)."""

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self._credits = [{node.id: 0 for node in self.nodes} for _ in range(stage.world.scenario.registrars)]

    def best(self, left: list[Node], call: Call, now: float) -> Node:
        """Return the one with most credit, which then pays for all."""
        credits = self._credits[call.registrar]
        for node in left:
            credits[node.id] += node.capacity
        chosen = max(left, key=lambda node: credits[node.id])
        credits[chosen.id] -= sum(node.capacity for node in left)
        return chosen


class LeastLoad(Baseline):
    """The lowest u as it is at this very moment."""

    def best(self, left: list[Node], call: Call, now: float) -> Node:
        """Return it; equal ones by chance."""
        return min(left, key=lambda node: (self.stage.load(node.id), self.stage.random.random()))


class PolledLeastLoad(Baseline):
    """The lowest u by the snapshot that a registrar has, without what was placed since."""

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self._control = Control(stage)

    def best(self, left: list[Node], call: Call, now: float) -> Node:
        """Return it; equal ones by chance."""
        return min(left, key=lambda node: (self.known(node, call), self.stage.random.random()))

    def known(self, node: Node, call: Call) -> float:
        """Return the node's u as the registrar of this call knows it."""
        return self._control.registrars[call.registrar].snapshot.nodes[node.id].sessions / node.capacity


class TwoChoices(PolledLeastLoad):
    """Two at random, and the one with the lower u by the snapshot."""

    def best(self, left: list[Node], call: Call, now: float) -> Node:
        """Return it."""
        drawn = self.stage.random.sample(left, min(2, len(left)))
        return min(drawn, key=lambda node: self.known(node, call))


class Hash(Baseline):
    """By a hash of the Call-ID and the node, weighted by capacity, as Kamailio's rtpengine module does it."""

    def best(self, left: list[Node], call: Call, now: float) -> Node:
        """Return the node at the point of the hash."""
        point = crc32(call.id.encode()) % sum(node.capacity for node in left)
        for node in left:
            point -= node.capacity
            if point < 0:
                return node
        return left[-1]


class StaticMap(Baseline):
    """A node of the site in the caller's region, by a hash; of the next nearest site when all of that are full."""

    def best(self, left: list[Node], call: Call, now: float) -> Node:
        """Return it."""
        distances, region = self.stage.world.distances, region_of(call.caller.group)
        nearest = min(distances[region, node.site] for node in left)
        near = [node for node in left if distances[region, node.site] == nearest]
        return near[crc32(call.id.encode()) % len(near)]


class Ping(Baseline):
    """The node that answers the proxy's ping first, as dispatchers do it: the proxy's way, not the phone's."""

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self._answers = {node.id: 0.0 for node in self.nodes}
        stage.every(1.0, 0.0, self._ask)

    def best(self, left: list[Node], call: Call, now: float) -> Node:
        """Return the quickest."""
        return min(left, key=lambda node: self._answers[node.id])

    def _ask(self, now: float) -> None:
        """Ask all nodes; a sick or strained one takes longer."""
        world, random = self.stage.world, self.stage.random
        for node in self.nodes:
            away = 2 * world.distances[PROXY_REGION, node.site]
            ill = world.at(now).sick[node.id].delay_ms
            strained = 40.0 * max(0.0, self.stage.load(node.id) - 0.85)
            self._answers[node.id] = away + ill + strained + random.uniform(0.0, 5.0)


class Oracle(Baseline):
    """Knows every node's calls, and what every way will be like for as long as the call lasts."""

    def best(self, left: list[Node], call: Call, now: float) -> Node:
        """Return the node over which the call will be best; what it costs the others there is counted, too."""
        epochs = _spans(self.stage.world, now, min(now + call.seconds, self.stage.world.scenario.seconds))
        return max(left, key=lambda node: self._worth(node, call, epochs))

    def _worth(self, node: Node, call: Call, epochs: list[tuple[float, Epoch]]) -> float:
        # A node that fills up harms all its calls, so it is left early: what others lose is this call's cost.
        load = self.stage.load(node.id)
        total = sum(spent * mean_rating(epoch, call, node.id, load) for spent, epoch in epochs)
        return total / sum(spent for spent, _ in epochs) - 100.0 * max(0.0, load - 0.8)


def _spans(world: World, begins: float, ends: float) -> list[tuple[float, Epoch]]:
    """Return how long each epoch lasts between two moments."""
    edges = [begins, *(edge for edge in world.edges if begins < edge < ends), max(ends, begins + 0.001)]
    return [(until - since, world.at(since)) for since, until in pairwise(edges)]


BASELINES: dict[str, Callable[[Stage], Baseline]] = {
    "round-robin": RoundRobin,
    "least-load (exact)": LeastLoad,
    "least-load (polled)": PolledLeastLoad,
    "two choices": TwoChoices,
    "hash": Hash,
    "static map": StaticMap,
    "ping latency": Ping,
    "oracle": Oracle,
}
