"""The balancer and the registrars of a world: what is polled, published and followed, and how old that is by then.

Each registrar has a clock of its own, and chooses from the snapshot that it followed last.
"""

from collections.abc import Callable, Mapping
from typing import Protocol

from attrs import frozen

from rollcall.media.selection import Chosen, Placements, Random, Wanted
from rollcall.media.snapshot import MediaNode, PathKey, Quality, Rule, Snapshot
from tools.simulate.running import Stage
from tools.simulate.variants import RULE, Chooser
from tools.simulate.world import REGIONS

EPOCH = 1_700_000_000.0
"""The balancer's clock when the world begins."""
CLOCKS_APART = 1000.0
"""Each registrar's clock differs by so much from the next one's."""


POLL_SECONDS = 1.0
PUBLISH_SECONDS = 0.5
FOLLOW_SECONDS = 0.2


@frozen(kw_only=True)
class Conduct:
    """How nodes are chosen, and from what; as we do it unless something is left out."""

    rule: Rule = Rule()
    has_map: bool = True
    """The operator says how far sites are from regions."""
    counts_own: bool = True
    """A registrar counts what it has placed since nodes were polled."""
    make_board: Callable[[Snapshot], Chooser] = RULE


OURS = Conduct()


class Paths(Protocol):
    """Whoever believes something of ways."""

    def paths(self, now: float) -> Mapping[PathKey, Quality]:
        """Return it, at a moment of the balancer's clock."""
        ...


class Registrar:
    """One that places calls."""

    def __init__(self, clock: float, conduct: Conduct, snapshot: Snapshot) -> None:
        self.clock = clock
        """What its clock shows when the world begins."""
        self.snapshot = snapshot
        self.board = conduct.make_board(snapshot)
        self.placements = Placements()
        self._conduct = conduct

    def follow(self, now: float, snapshot: Snapshot) -> None:
        """Take a newer snapshot."""
        if snapshot is not self.snapshot:
            self.snapshot, self.board = snapshot, self._conduct.make_board(snapshot)
            self.placements.followed(snapshot, now + self.clock)

    def placed(self, now: float, node: str) -> None:
        """It has placed a call."""
        if self._conduct.counts_own:
            self.placements.placed(node, now + self.clock)

    def choose(self, now: float, wanted: Wanted, random: Random) -> str | None:
        """Return the node for a call."""
        self.placements.lapse(now + self.clock)
        found = self.board.choose(wanted, self.placements, random)
        return found.node.id if isinstance(found, Chosen) else None


class Control:
    """All of them, at their work on a stage."""

    def __init__(self, stage: Stage, conduct: Conduct = OURS, paths: Paths | None = None) -> None:
        self._stage = stage
        self._rule = conduct.rule
        self._paths = paths
        self._priors = map_priors(stage) if conduct.has_map else {}
        self._nodes = {node.id: MediaNode(id=node.id, address=f"{node.id}:22222", site=node.site,
                                          capacity=node.capacity, polled_at=EPOCH) for node in stage.world.nodes}
        self.published = self._snapshot(0.0)
        count = stage.world.scenario.registrars
        self.registrars = [Registrar(CLOCKS_APART * (number + 1), conduct, self.published) for number in range(count)]
        for number, node in enumerate(stage.world.nodes):
            stage.every(POLL_SECONDS, POLL_SECONDS * number / len(stage.world.nodes), self._poller(node.id))
        stage.every(PUBLISH_SECONDS, 0.0, self._publish)
        for number, registrar in enumerate(self.registrars):
            stage.every(FOLLOW_SECONDS, FOLLOW_SECONDS * number / count, self._follower(registrar))

    def _poller(self, node: str) -> Callable[[float], None]:
        def poll(now: float) -> None:
            if any(begins <= now < ends for begins, ends in self._stage.world.stale):
                return
            old = self._nodes[node]
            self._nodes[node] = MediaNode(id=node, address=old.address, site=old.site, capacity=old.capacity,
                                          sessions=self._stage.sessions[node], polled_at=EPOCH + now)

        return poll

    def _follower(self, registrar: Registrar) -> Callable[[float], None]:
        return lambda now: registrar.follow(now, self.published)

    def _publish(self, now: float) -> None:
        self.published = self._snapshot(now)

    def _snapshot(self, now: float) -> Snapshot:
        return Snapshot(published_at=EPOCH + now, rule=self._rule, nodes=dict(self._nodes), priors=self._priors,
                        paths={} if self._paths is None else self._paths.paths(EPOCH + now))


def map_priors(stage: Stage) -> dict[PathKey, Quality]:
    """Return what an operator tells the balancer of the map: distances, and what a last mile adds."""
    return {(region, site): Quality(0.003, stage.world.distances[region, site] + 25.0)
            for region in REGIONS for site in REGIONS}
