"""What runs of the packet bench come to: figures of each, and the table of all."""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from statistics import fmean

from attrs import frozen

from rollcall.media.emodel import POOR_R
from tools.laboratory.packet_world import PROXIES, CallSeen, Proxy, Run, Way

LEAVE_SECONDS = 15.0
"""After the first report new calls may take the bad way for so long."""
AWAY_SECONDS = 20.0
"""The way was left when no new call took it for so long: of calls that do not care, eight or so would have."""


@frozen(kw_only=True)
class Figures:
    """Of one run. Times in seconds; None where it did not happen."""

    calls: int
    failed: int
    bad: int
    """Calls that were answered whose mean R was below 70 for one of both."""
    disturbed: int
    """Such calls that had nothing to do with the bad way: so much is the machine's fault. A busy one cannot do this."""
    mean_r: float
    low_r: float
    """Five of a hundred calls were worse."""
    most_at_a_node: int
    most_at_once: int
    reported_after: float | None
    """The first report of a loss, from when the way went bad."""
    left_after: float | None
    """The last new call over the bad way before it was left, from the first report."""
    later: int
    """New calls over the bad way later than 15 s after the first report: one or other has to try whether it is good."""
    others_before: float
    others_meanwhile: float
    """What part of the other carriers' calls began at the node while the way was good, and while it was bad."""
    back_after: float | None
    """The first new call over the way after it had healed."""


def figures_of(run: Run) -> Figures:
    """Return the figures of a run."""
    answered = [call for call in run.calls if not call.failed]
    ratings = sorted(call.r for call in answered)
    of_way = [call.begun_at for call in run.calls if _is_of(run.way, call)]
    reported = run.first_report_at
    taken = [at for at in of_way if reported is not None and reported < at < run.healed_at]
    return Figures(
        calls=len(run.calls),
        failed=len(run.calls) - len(answered),
        bad=sum(rating < POOR_R for rating in ratings),
        disturbed=sum(call.r < POOR_R for call in answered if not _is_of(run.way, call)),
        mean_r=fmean(ratings) if ratings else 0.0,
        low_r=ratings[len(ratings) // 20] if ratings else 0.0,
        most_at_a_node=max((_most(call for call in answered if call.host == host)
                            for host in {call.host for call in answered}), default=0),
        most_at_once=_most(answered),
        reported_after=None if reported is None else reported - run.went_bad_at,
        left_after=None if reported is None else _left_after(taken, reported, run.healed_at),
        later=0 if reported is None else sum(at > reported + LEAVE_SECONDS for at in taken),
        others_before=_others(run, 0.0, run.went_bad_at),
        others_meanwhile=_others(run, run.went_bad_at, run.healed_at),
        back_after=min((at - run.healed_at for at in of_way if at >= run.healed_at), default=None),
    )


def table(runs: Iterable[Run]) -> list[str]:
    """Return the table of all runs, a line for each proxy: sums, and means over its seeds."""
    by_proxy: dict[Proxy, list[Figures]] = {}
    for run in runs:
        by_proxy.setdefault(run.proxy, []).append(figures_of(run))
    lines = ["| | seeds | calls | failed | bad (R < 70) | elsewhere | mean R | 5 % worse than R | most at a node | "
             "first report s | left s later | calls there after 15 s | others at the node | back s |",
             "|---" * 14 + "|"]
    return lines + [_row(PROXIES[proxy], found) for proxy, found in by_proxy.items()]


def _row(name: str, found: Sequence[Figures]) -> str:
    calls, bad = sum(each.calls for each in found), sum(each.bad for each in found)
    cells = [
        name, str(len(found)), str(calls), str(sum(each.failed for each in found)),
        f"{bad} ({100 * bad / calls:.1f} %: {', '.join(str(each.bad) for each in found)})",
        str(sum(each.disturbed for each in found)),
        f"{fmean(each.mean_r for each in found):.1f}", f"{fmean(each.low_r for each in found):.1f}",
        f"{max(each.most_at_a_node for each in found)} of {max(each.most_at_once for each in found)}",
        _seconds(each.reported_after for each in found), _seconds(each.left_after for each in found),
        ", ".join(str(each.later) for each in found),
        f"{100 * fmean(each.others_before for each in found):.0f} % → "
        f"{100 * fmean(each.others_meanwhile for each in found):.0f} %",
        _seconds(each.back_after for each in found),
    ]
    return "| " + " | ".join(cells) + " |"


def _seconds(values: Iterable[float | None]) -> str:
    return ", ".join("never" if value is None else f"{value:.0f}" for value in values)


def _is_of(way: Way, call: CallSeen) -> bool:
    return way.carrier in call.carriers and call.host == way.host


def _left_after(taken: Sequence[float], reported: float, healed_at: float) -> float | None:
    for earlier, later in pairwise([reported, *sorted(taken), healed_at]):
        if later - earlier >= AWAY_SECONDS:
            return earlier - reported
    return None


def _others(run: Run, begin: float, end: float) -> float:
    hosts = [call.host for call in run.calls
             if begin <= call.begun_at < end and run.way.carrier not in call.carriers and call.host]
    return hosts.count(run.way.host) / len(hosts) if hosts else 0.0


def _most(calls: Iterable[CallSeen]) -> int:
    """Return how many of them there were at once."""
    steps = sorted((at, step) for call in calls for at, step in ((call.begun_at, 1), (call.ended_at, -1)))
    most = now = 0
    for _, step in steps:
        now += step
        most = max(most, now)
    return most
