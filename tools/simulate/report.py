"""The results as people read them: a Markdown table for each world."""

from collections.abc import Iterator, Sequence
from statistics import fmean

from tools.simulate.scoring import Interval, Result, by_policy, paired

HEADER = ("policy", "bad calls", "than {}: bad, points", "mean R", "than {}: R", "peak u", "than {}: peak", "busiest u",
          "refused")


def tables(results: Sequence[Result], reference: str) -> str:
    """Return them all; differences are "this policy less `reference`", with 95 % intervals."""
    worlds = list(dict.fromkeys(each.world for each in results))
    return "\n\n".join(_table(results, world, reference) for world in worlds) + "\n"


def _table(results: Sequence[Result], world: str, reference: str) -> str:
    policies = by_policy(results, world)
    ours = policies[reference]
    header = [name.format(reference) for name in HEADER]
    lines = [f"### {world} ({len(ours)} seeds, {round(fmean(each.calls for each in ours))} calls each)", "",
             _row(header), _row(["---"] + ["---:"] * (len(header) - 1))]
    lines += [_row(_cells(policy, some, ours)) for policy, some in policies.items()]
    return "\n".join(lines)


def _cells(policy: str, some: Sequence[Result], ours: Sequence[Result]) -> Iterator[str]:
    differs = some is not ours
    yield policy
    yield f"{100 * fmean(each.bad for each in some):.2f} %"
    yield _shown(paired(some, ours, lambda each: 100 * each.bad), 2) if differs else ""
    yield f"{fmean(each.mean for each in some):.2f}"
    yield _shown(paired(some, ours, lambda each: each.mean), 2) if differs else ""
    yield f"{fmean(each.peak for each in some):.3f}"
    yield _shown(paired(some, ours, lambda each: each.peak), 3) if differs else ""
    yield f"{fmean(each.busiest for each in some):.3f}"
    yield f"{fmean(each.refused for each in some):.1f}"


def _shown(interval: Interval, digits: int) -> str:
    return f"{interval.mean:+.{digits}f} [{interval.low:+.{digits}f}, {interval.high:+.{digits}f}]"


def _row(cells: Sequence[str] | Iterator[str]) -> str:
    return "| " + " | ".join(cells) + " |"
