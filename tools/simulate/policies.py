"""All who choose: the rule as it is, the baselines, and the rule with one part left out or set otherwise."""

from collections.abc import Callable

from attrs import evolve, frozen

from balancer.quality.config import PriorConfig, QualityConfig
from balancer.quality.hearing import Hearing
from rollcall.media.snapshot import Kind, MediaNode, Rule
from tools.simulate.baselines import BASELINES
from tools.simulate.control import OURS, Conduct, Control, map_priors
from tools.simulate.demand import Demand
from tools.simulate.ours import Ours
from tools.simulate.running import Policy, Stage
from tools.simulate.variants import any_of_them, board_with, least_loaded

Make = Callable[[Stage, Demand], Policy]

REFERENCE = "quality"
"""What the rule is called in results."""


@frozen(kw_only=True)
class Variant:
    """The rule and what reports are worth; as they are unless something is said."""

    conduct: Conduct = OURS
    quality: QualityConfig = QualityConfig()
    divides_blame: bool = True
    """What is lost is divided among both ways; otherwise all of it is the listener's."""

    def __call__(self, stage: Stage, demand: Demand) -> Policy:
        """Return who chooses so."""
        kind: Kind = "rtpengine" if self.divides_blame else "other"
        nodes = {node.id: MediaNode(id=node.id, kind=kind, address=f"{node.id}:22222", site=node.site)
                 for node in stage.world.nodes}
        groups = demand.group_of()
        priors = tuple(PriorConfig(region=region, site=site, delay_ms=each.delay_ms, loss=each.loss)
                       for (region, site), each in map_priors(stage).items() if self.conduct.has_map)
        hearing = Hearing(evolve(self.quality, prior=priors), lambda host: groups.get(host, ""), nodes.get)
        return Ours(stage, hearing, Control(stage, self.conduct, hearing))


def _rule(rule: Rule) -> Variant:
    return Variant(conduct=Conduct(rule=rule))


def _baseline(name: str) -> Make:
    return lambda stage, demand: BASELINES[name](stage)


GREEDY = "greedy quality"
LOAD_FIRST = "quality, load first"
COMPARED: dict[str, Make] = {
    REFERENCE: Variant(),
    LOAD_FIRST: _rule(Rule(free_load=0.4, load_penalty=80.0)),
    **{name: _baseline(name) for name in BASELINES if name != "oracle"},
    GREEDY: _rule(Rule(margin_r=0.0, load_penalty=0.0)),
    "oracle": _baseline("oracle"),
}
"""The rule and everything that it is compared to."""

ABLATIONS: dict[str, Make] = {
    REFERENCE: Variant(),
    "no margin": _rule(Rule(margin_r=0.0)),
    "one at random within the margin": Variant(conduct=Conduct(make_board=board_with(any_of_them))),
    "least loaded within the margin": Variant(conduct=Conduct(make_board=board_with(least_loaded))),
    "no load penalty": _rule(Rule(load_penalty=0.0)),
    "own placements not counted": Variant(conduct=Conduct(counts_own=False)),
    "no map": Variant(conduct=Conduct(has_map=False)),
    "every phone trusted": Variant(quality=QualityConfig(distrusted=0)),
    "blame not divided": Variant(divides_blame=False),
    "late reports count": Variant(quality=QualityConfig(stale_seconds=60.0)),
}
"""The rule without one of its parts."""

SETTINGS: dict[str, Make] = {
    REFERENCE: Variant(),
    "margin 1": _rule(Rule(margin_r=1.0)),
    "margin 6": _rule(Rule(margin_r=6.0)),
    "penalty 20": _rule(Rule(load_penalty=20.0)),
    "penalty 80": _rule(Rule(load_penalty=80.0)),
    "free load 0.5": _rule(Rule(free_load=0.5)),
    "free load 0.8": _rule(Rule(free_load=0.8)),
    "half-life 10 s": Variant(quality=QualityConfig(half_life_seconds=10.0)),
    "half-life 15 s": Variant(quality=QualityConfig(half_life_seconds=15.0)),
    "half-life 60 s": Variant(quality=QualityConfig(half_life_seconds=60.0)),
    "distrusted 1": Variant(quality=QualityConfig(distrusted=1)),
}
"""The rule with other settings."""
