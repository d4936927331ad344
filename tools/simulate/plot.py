"""The results as a picture: bad calls over peak load, a panel for each world (SVG, no library).

Down is better and left is better. Bars are 95 % intervals of the mean over seeds.
"""

from collections.abc import Iterator, Sequence
from html import escape

from attrs import frozen

from tools.simulate.scoring import Interval, Result, bootstrap, by_policy

PANEL, HEIGHT, LEFT, TOP, BOTTOM, GAP = 400, 360, 50, 40, 44, 24
KEY_LINE, KEY_WIDTH = 18, 190
COLOURS = ("#1565c0", "#c62828", "#2e7d32", "#ef6c00", "#6a1b9a", "#00838f", "#9e9d24", "#5d4037", "#546e7a", "#d81b60",
           "#000000")
LOWEST_PEAK, HIGHEST_PEAK = 0.6, 1.02


@frozen
class _Axes:
    """Where a panel's values are drawn."""

    left: float
    highest: float
    """The share of bad calls at the top."""

    def x(self, peak: float) -> float:
        share = (min(max(peak, LOWEST_PEAK), HIGHEST_PEAK) - LOWEST_PEAK) / (HIGHEST_PEAK - LOWEST_PEAK)
        return self.left + share * PANEL

    def y(self, bad: float) -> float:
        return TOP + HEIGHT * (1 - min(bad / self.highest, 1.0))


def svg(results: Sequence[Result]) -> str:
    """Return the picture of all worlds and policies."""
    worlds = list(dict.fromkeys(each.world for each in results))
    policies = list(dict.fromkeys(each.policy for each in results))
    colours = {policy: COLOURS[number % len(COLOURS)] for number, policy in enumerate(policies)}
    width = len(worlds) * (LEFT + PANEL + GAP)
    in_a_row = max(1, (width - LEFT) // KEY_WIDTH)
    height = TOP + HEIGHT + BOTTOM + KEY_LINE * (len(policies) // in_a_row + 1)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif" '
        'font-size="12">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    for number, world in enumerate(worlds):
        lines += _panel(results, world, LEFT + number * (LEFT + PANEL + GAP), colours)
    for number, (policy, colour) in enumerate(colours.items()):
        x, y = LEFT + number % in_a_row * KEY_WIDTH, TOP + HEIGHT + BOTTOM + KEY_LINE * (number // in_a_row)
        lines += [f'<circle cx="{x}" cy="{y - 4}" r="5" fill="{colour}"/>', _text(x + 10, y, policy)]
    return "\n".join([*lines, "</svg>"]) + "\n"


def _panel(results: Sequence[Result], world: str, left: float, colours: dict[str, str]) -> Iterator[str]:
    spots = {policy: (bootstrap([each.peak for each in some]), bootstrap([each.bad for each in some]))
             for policy, some in by_policy(results, world).items()}
    axes = _Axes(left, max(0.01, 1.1 * max(bad.high for _, bad in spots.values())))
    yield f'<rect x="{left}" y="{TOP}" width="{PANEL}" height="{HEIGHT}" fill="none" stroke="#999"/>'
    yield _text(left, TOP - 12, world, weight="bold")
    yield _text(left + PANEL / 2, TOP + HEIGHT + 30, "peak load u of any node", anchor="middle")
    for step in range(5):
        peak, bad = 0.6 + step / 10, axes.highest * step / 4
        yield _text(axes.x(peak), TOP + HEIGHT + 15, f"{peak:.1f}", anchor="middle")
        yield _text(left - 4, axes.y(bad) + 4, f"{100 * bad:.1f} %", anchor="end")
    for policy, (peak_spot, bad_spot) in spots.items():
        yield from _spot(axes, peak_spot, bad_spot, colours[policy], policy)


def _spot(axes: _Axes, peak: Interval, bad: Interval, colour: str, policy: str) -> Iterator[str]:
    x, y = axes.x(peak.mean), axes.y(bad.mean)
    yield _line(axes.x(peak.low), y, axes.x(peak.high), y, colour)
    yield _line(x, axes.y(bad.low), x, axes.y(bad.high), colour)
    yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="{colour}"><title>{escape(policy)}</title></circle>'


def _line(x1: float, y1: float, x2: float, y2: float, colour: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}"/>'


def _text(x: float, y: float, text: str, *, anchor: str = "start", weight: str = "normal") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}">{escape(text)}</text>'
