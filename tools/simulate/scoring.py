"""What runs say: means over seeds, and paired differences with their bootstrap intervals."""

from collections.abc import Callable, Mapping, Sequence
from random import Random
from statistics import fmean

from attrs import frozen

from tools.simulate.running import Outcome

RESAMPLES = 2000
CONFIDENCE = 0.95


@frozen(kw_only=True)
class Result:
    """What one policy did in one world."""

    world: str
    """What the scenario is called."""
    seed: int
    policy: str
    calls: int
    bad: float
    """The share of calls whose mean R is below 70."""
    mean: float
    """Mean R."""
    peak: float
    busiest: float
    refused: int


@frozen
class Interval:
    """A mean over seeds and where it lies with a confidence of 95 %."""

    mean: float
    low: float
    high: float


Figure = Callable[[Result], float]


def result(world: str, seed: int, policy: str, outcome: Outcome) -> Result:
    """Return the figures of an outcome."""
    return Result(world=world, seed=seed, policy=policy, calls=len(outcome.ratings), bad=outcome.bad,
                  mean=outcome.mean, peak=outcome.peak, busiest=outcome.busiest, refused=outcome.refused)


def bootstrap(values: Sequence[float], seed: int = 0) -> Interval:
    """Return the mean of `values` and its interval, by drawing as many of them again and again (percentiles)."""
    random = Random(f"bootstrap {seed}")
    means = sorted(fmean(random.choices(values, k=len(values))) for _ in range(RESAMPLES))
    cut = round(RESAMPLES * (1 - CONFIDENCE) / 2)
    return Interval(fmean(values), means[cut], means[-cut - 1])


def paired(ours: Sequence[Result], theirs: Sequence[Result], figure: Figure) -> Interval:
    """Return how much higher `figure` is in `ours`, seed by seed. Raises ValueError when the seeds differ."""
    if [each.seed for each in ours] != [each.seed for each in theirs]:
        raise ValueError("these are not the same seeds")
    return bootstrap([figure(one) - figure(other) for one, other in zip(ours, theirs, strict=True)])


def by_policy(results: Sequence[Result], world: str) -> Mapping[str, list[Result]]:
    """Return the results in a world by policy, in order of appearance, each by seed."""
    found: dict[str, list[Result]] = {}
    for each in results:
        if each.world == world:
            found.setdefault(each.policy, []).append(each)
    return {policy: sorted(some, key=lambda each: each.seed) for policy, some in found.items()}
