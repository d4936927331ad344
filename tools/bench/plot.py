"""The rows as a picture: for each case a bar per server, its length the cost in Kamailio's (SVG, no library)."""

from collections.abc import Sequence
from html import escape
from itertools import groupby

from tools.bench.report import Row

WIDTH, LEFT, RIGHT, BAR, GAP, TOP = 900, 270, 130, 15, 16, 56
LONGEST = 3.0
"""Bars end here; one that would go on says so by its number."""

COLOURS = {
    "floor": "#9e9e9e",
    "kamailio": "#c62828",
    "kamailio-qm": "#ef9a9a",
    "kamailio-2": "#8e0000",
    "rollcall": "#1565c0",
    "rollcall-pure": "#90caf9",
    "rollcall-sqlite": "#5c6bc0",
    "rollcall-2": "#003c8f",
    "rollcall-pure-2": "#5d99c6",
}
OTHERS = "#607d8b"


def svg(rows: Sequence[Row], title: str) -> str:
    """Return the picture of all rows that have a ratio to Kamailio."""
    drawn: list[str] = []
    y = TOP
    shown = [row for row in rows if row.ratio_kamailio is not None]
    for case, group in groupby(shown, key=lambda row: row.case):
        members = list(group)
        drawn.append(_text(8, y + BAR * len(members) / 2 + 4, case, weight="bold"))
        for row in members:
            drawn += _bar(row, y)
            y += BAR
        y += GAP
    frame = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{y + 8}" font-family="sans-serif" '
        'font-size="12">',
        f'<rect width="{WIDTH}" height="{y + 8}" fill="white"/>',
        _text(8, 22, title, weight="bold"),
        *(_mark(ratio, y) for ratio in (0.5, 1.0, 2.0, LONGEST)),
    ]
    return "\n".join([*frame, *drawn, "</svg>"]) + "\n"


def _x(ratio: float) -> float:
    return LEFT + min(ratio, LONGEST) / LONGEST * (WIDTH - LEFT - RIGHT)


def _bar(row: Row, y: float) -> list[str]:
    assert row.ratio_kamailio is not None
    absolute = f"{row.cpu_us:.1f} µs" if row.cpu_us is not None else f"{row.bytes_per_phone:.0f} bytes"
    end, fill = _x(row.ratio_kamailio), COLOURS.get(row.server, OTHERS)
    return [
        f'<rect x="{LEFT}" y="{y}" width="{end - LEFT:.1f}" height="{BAR - 2}" fill="{fill}"/>',
        _text(LEFT - 6, y + BAR - 4, row.server, anchor="end"),
        _text(end + 5, y + BAR - 4, f"{row.ratio_kamailio:.2f} × ({absolute})"),
    ]


def _mark(ratio: float, bottom: float) -> str:
    line = f'<line x1="{_x(ratio):.1f}" x2="{_x(ratio):.1f}" y1="{TOP - 8}" y2="{bottom - GAP + 4}" stroke="#ccc"/>'
    return line + _text(_x(ratio), TOP - 12, f"{ratio:g} ×", anchor="middle")


def _text(x: float, y: float, text: str, *, anchor: str = "start", weight: str = "normal") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}">{escape(text)}</text>'
