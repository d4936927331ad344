"""Whether the rule keeps what is claimed of it (docs/simulation.md)."""

from collections.abc import Iterator, Mapping, Sequence

from tools.simulate.scoring import Interval, Result, by_policy, paired

ORACLE = "oracle"
LOAD_ALONE = ("least-load (exact)", "least-load (polled)")
NO_WORSE = 0.002
"""Where all ways are equal, so many more calls may be bad than by load alone, at the upper end of the interval."""


def broken(results: Sequence[Result], reference: str, equal: str) -> list[str]:
    """Return a line for each claim that the results do not bear out; `equal`: the world of equal ways."""
    worlds = list(dict.fromkeys(each.world for each in results))
    return [line for world in worlds
            for line in (_no_worse if world == equal else _fewer)(world, by_policy(results, world), reference)]


def _fewer(world: str, policies: Mapping[str, Sequence[Result]], reference: str) -> Iterator[str]:
    """Fewer calls are bad than with anybody else who does not know the truth; the rule set otherwise is nobody else."""
    for policy, some in policies.items():
        if policy != ORACLE and not policy.startswith(reference):
            more = _more_bad(some, policies[reference])
            if more.low <= 0.0:
                yield f"{world}: bad calls are not shown to be fewer than with {policy} ({100 * more.mean:+.2f} points)"


def _no_worse(world: str, policies: Mapping[str, Sequence[Result]], reference: str) -> Iterator[str]:
    for policy in LOAD_ALONE:
        if policy in policies:
            more = _more_bad(policies[reference], policies[policy])
            if more.high > NO_WORSE:
                yield f"{world}: more calls may be bad than with {policy} ({100 * more.high:+.2f} points)"


def _more_bad(some: Sequence[Result], others: Sequence[Result]) -> Interval:
    return paired(some, others, lambda each: each.bad)
