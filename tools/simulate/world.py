"""The truth: access groups, media nodes, and what the ways between them do to packets at every moment.

A way is between an access group ("carrier/region") and a node. It loses packets in each direction, takes time and
jitters. Distance and peering are there all the time; brown-outs and sick nodes come and go. Nothing here depends on
who chooses: every policy plays in the same world. What nodes do when they are loaded is in tools.simulate.truth.
"""

from bisect import bisect_right
from collections.abc import Hashable, Iterator, Sequence
from random import Random

from attrs import field, frozen

REGIONS = ("west", "middle", "east")
DISTANCE_MS = {0: 10.0, 1: 35.0, 2: 70.0}
"""One way, by how many regions lie between; those of a continent."""
CODECS = (("PCMU", 0.85), ("G729", 0.15))

BAD_PEERING = 1 / 8
"""The share of pairs of carrier and site that are badly connected all the time."""
TROUBLE_LOSS = (0.04, 0.15)
"""What a brown-out loses in a direction."""


@frozen(kw_only=True)
class Scenario:
    """How large a world is, and what happens in it."""

    load: float = 0.70
    """Calls at once in quiet times, as a share of the capacity of all nodes."""
    carriers: int = 4
    nodes_per_site: int = 4
    capacities: tuple[int, ...] = (40, 60, 80)
    """Each node has one of these."""
    seconds: float = 240.0
    warm_up_seconds: float = 60.0
    """Calls that begin earlier are not scored."""
    call_seconds: float = 90.0
    """The mean; lengths are exponential."""
    flash_crowds: int = 2
    flash_share: float = 0.10
    """So many calls more, as a share of all capacity, within flash_seconds and from one access group."""
    flash_seconds: float = 20.0
    is_equal: bool = False
    """Every way is as good as every other, all the time."""
    troubled: float = 0.05
    """The share of time in which a carrier–node way, a carrier–site way or a node is in trouble."""
    trouble_seconds: tuple[float, float] = (60.0, 180.0)
    silent: float = 0.35
    """The share of phones that send no RTCP."""
    lying: float = 0.01
    """The share of phones whose RTCP is not true."""
    stale_polls: int = 2
    """So often the balancer gets no counts from any node, for stale_seconds."""
    stale_seconds: float = 15.0
    late_reports: int = 2
    """So often a node's reports are held back for 30 s and then come at once (rtpengine does that)."""
    registrars: int = 3


@frozen
class Way:
    """What happens to the packets of one access group at one node."""

    up: float
    """The fraction lost on the way to the node."""
    down: float
    """The fraction lost on the way from it."""
    delay_ms: float
    """One way."""
    jitter_ms: float


Ways = dict[tuple[str, str], Way]
"""By (group, node)."""


@frozen(kw_only=True)
class Node:
    """A media node."""

    id: str
    site: str
    capacity: int


@frozen(kw_only=True)
class Trouble:
    """Something that is bad for a while, from `begins` to `ends`."""

    begins: float
    ends: float
    groups: frozenset[str]
    nodes: frozenset[str]
    up: float
    down: float
    delay_ms: float
    jitter_ms: float


@frozen(kw_only=True)
class Sickness:
    """What a sick node does to all packets that pass it, whatever its load; its counts look as ever."""

    begins: float = 0.0
    ends: float = 0.0
    node: str = ""
    loss: float = 0.0
    delay_ms: float = 0.0


HEALTH = Sickness()


@frozen
class Epoch:
    """A time in which nothing begins or ends."""

    ways: Ways
    sick: dict[str, Sickness]
    """By node."""
    known: dict[Hashable, float] = field(factory=dict, eq=False, repr=False)
    """What was worked out of it once."""


@frozen(kw_only=True)
class World:
    """All of it. `epochs` begin at `edges`, the first at 0."""

    scenario: Scenario
    groups: tuple[str, ...]
    nodes: tuple[Node, ...]
    edges: Sequence[float]
    epochs: Sequence[Epoch]
    troubles: tuple[Trouble, ...]
    sicknesses: tuple[Sickness, ...]
    distances: dict[tuple[str, str], float] = field(factory=dict)
    """What an operator knows of the map: delay one way in ms by (region, site), not exactly."""
    stale: tuple[tuple[float, float], ...] = ()
    """When the balancer gets no counts."""
    late: tuple[tuple[str, float, float], ...] = ()
    """Which nodes' reports are held back, from when to when."""

    def at(self, now: float) -> Epoch:
        """Return what is true at that moment."""
        return self.epochs[max(bisect_right(self.edges, now) - 1, 0)]

    @property
    def capacity(self) -> int:
        """Of all nodes."""
        return sum(node.capacity for node in self.nodes)


def build(scenario: Scenario, seed: int) -> World:
    """Return the world of a seed."""
    random = Random(f"world {seed}")
    groups = tuple(f"{carrier}/{region}" for carrier in _carriers(scenario) for region in REGIONS)
    nodes = tuple(
        Node(id=f"{site}{number}", site=site, capacity=random.choice(scenario.capacities))
        for site in REGIONS for number in range(1, scenario.nodes_per_site + 1))
    quiet = _quiet(scenario, groups, nodes, random)
    troubles = () if scenario.is_equal else tuple(_troubles(scenario, groups, nodes, random))
    sicknesses = () if scenario.is_equal else tuple(_sicknesses(scenario, nodes, random))
    changes = {edge for each in troubles for edge in (each.begins, each.ends)}
    changes |= {edge for each in sicknesses for edge in (each.begins, each.ends)}
    edges = [0.0, *sorted(edge for edge in changes if edge > 0)]
    return World(
        scenario=scenario, groups=groups, nodes=nodes, edges=edges, troubles=troubles, sicknesses=sicknesses,
        epochs=[Epoch(_troubled(quiet, troubles, edge), _sick(nodes, sicknesses, edge)) for edge in edges],
        distances={(region, site): _distance(scenario, region, site) * random.uniform(0.7, 1.3)
                   for region in REGIONS for site in REGIONS},
        stale=tuple(_spans(scenario, scenario.stale_polls, scenario.stale_seconds, random)),
        late=tuple((random.choice(nodes).id, begins, ends)
                   for begins, ends in _spans(scenario, scenario.late_reports, 30.0, random)))


def carrier_of(group: str) -> str:
    """Return the carrier of an access group."""
    return group.partition("/")[0]


def region_of(group: str) -> str:
    """Return its region."""
    return group.partition("/")[2]


def _carriers(scenario: Scenario) -> list[str]:
    return [f"carrier{number}" for number in range(1, scenario.carriers + 1)]


def _distance(scenario: Scenario, region: str, site: str) -> float:
    return DISTANCE_MS[0 if scenario.is_equal else abs(REGIONS.index(region) - REGIONS.index(site))]


def _quiet(
    scenario: Scenario, groups: Sequence[str], nodes: Sequence[Node], random: Random
) -> Ways:
    """Return the ways as they are when nothing happens."""
    last_mile = {group: (random.uniform(0.0, 0.004), random.uniform(5.0, 25.0), random.uniform(1.0, 8.0))
                 for group in groups}
    peering = {(carrier, site): _peering(random) for carrier in _carriers(scenario) for site in REGIONS}
    ways = {}
    for group in groups:
        loss, delay, jitter = (0.002, 15.0, 3.0) if scenario.is_equal else last_mile[group]
        for node in nodes:
            more, slower = (0.0, 0.0) if scenario.is_equal else peering[carrier_of(group), node.site]
            away = _distance(scenario, region_of(group), node.site)
            ways[group, node.id] = Way(loss + more, loss + more, delay + slower + away, jitter)
    return ways


def _peering(random: Random) -> tuple[float, float]:
    if random.random() < BAD_PEERING:
        return random.uniform(0.01, 0.02), random.uniform(20.0, 50.0)
    return random.uniform(0.0, 0.002), random.uniform(0.0, 10.0)


def _troubles(
    scenario: Scenario, groups: Sequence[str], nodes: Sequence[Node], random: Random
) -> Iterator[Trouble]:
    by_carrier = {carrier: frozenset(group for group in groups if carrier_of(group) == carrier)
                  for carrier in _carriers(scenario)}
    single = [(members, frozenset([node.id])) for members in by_carrier.values() for node in nodes]
    whole = [(members, frozenset(node.id for node in nodes if node.site == site))
             for members in by_carrier.values() for site in REGIONS]
    for places in (single, whole):
        for begins, ends in _visits(scenario, len(places), random):
            members, affected = random.choice(places)
            loss, (up, down) = random.uniform(*TROUBLE_LOSS), random.choice([(1, 0), (0, 1), (1, 1)])
            yield Trouble(begins=begins, ends=ends, groups=members, nodes=affected, up=loss * up, down=loss * down,
                          delay_ms=random.uniform(0.0, 60.0), jitter_ms=random.uniform(3.0, 30.0))


def _sicknesses(scenario: Scenario, nodes: Sequence[Node], random: Random) -> Iterator[Sickness]:
    for begins, ends in _visits(scenario, len(nodes), random):
        yield Sickness(begins=begins, ends=ends, node=random.choice(nodes).id, loss=random.uniform(0.03, 0.10),
                       delay_ms=random.uniform(0.0, 40.0))


def _visits(scenario: Scenario, places: int, random: Random) -> Iterator[tuple[float, float]]:
    """Yield when troubles begin and end, as many as keep the share of troubled places."""
    shortest, longest = scenario.trouble_seconds
    rate = places * scenario.troubled / ((shortest + longest) / 2)
    begins = -longest + random.expovariate(rate)
    while begins < scenario.seconds:
        ends = begins + random.uniform(shortest, longest)
        if ends > 0:
            yield begins, ends
        begins += random.expovariate(rate)


def _spans(scenario: Scenario, count: int, length: float, random: Random) -> list[tuple[float, float]]:
    starts = [random.uniform(scenario.warm_up_seconds, scenario.seconds - length) for _ in range(count)]
    return [(begins, begins + length) for begins in starts]


def _troubled(quiet: Ways, troubles: Sequence[Trouble], now: float) -> Ways:
    ways = dict(quiet)
    for trouble in troubles:
        if trouble.begins <= now < trouble.ends:
            for group in trouble.groups:
                for node in trouble.nodes:
                    ways[group, node] = _worse(ways[group, node], trouble)
    return ways


def _sick(nodes: Sequence[Node], sicknesses: Sequence[Sickness], now: float) -> dict[str, Sickness]:
    current = {each.node: each for each in sicknesses if each.begins <= now < each.ends}
    return {node.id: current.get(node.id, HEALTH) for node in nodes}


def _worse(way: Way, trouble: Trouble) -> Way:
    return Way(1 - (1 - way.up) * (1 - trouble.up), 1 - (1 - way.down) * (1 - trouble.down),
               way.delay_ms + trouble.delay_ms, way.jitter_ms + trouble.jitter_ms)
