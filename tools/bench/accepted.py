"""The ratios that were accepted, and whether a run falls behind them.

The file holds, for each case and server of ours, the ratio to Kamailio (of CPU, or of memory) and half the distance
between the extremes of the rounds that it came from. A run falls behind when its ratio is larger than the accepted one
by more than the rounds lie apart: those of the run or those accepted, whichever is more.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import asdict, frozen

from tools.bench.processes import BenchError
from tools.bench.report import Row

OURS = "rollcall"
"""With this every server begins whose ratios are ours to accept."""


@frozen(kw_only=True)
class Accepted:
    """A ratio that was good enough, and how far it swung."""

    case: str
    server: str
    ratio_kamailio: float
    spread: float


def accept(rows: Iterable[Row], spreads: Mapping[tuple[str, str], float]) -> list[Accepted]:
    """Return what a run's rows would have later runs keep to."""
    return [
        Accepted(
            case=row.case,
            server=row.server,
            ratio_kamailio=row.ratio_kamailio,
            spread=round(spreads.get((row.case, row.server), 0.0), 3),
        )
        for row in rows
        if row.server.startswith(OURS) and row.ratio_kamailio is not None
    ]


def read(path: Path) -> list[Accepted]:
    """Return the accepted ratios of a file. Raises BenchError when it holds something else."""
    try:
        return [Accepted(**values) for values in json.loads(path.read_text())["accepted"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BenchError(f"{path} does not hold accepted ratios: {error!r}")


def write(path: Path, machine: Mapping[str, Any], new: Sequence[Accepted]) -> None:
    """Write ratios that were accepted on a machine; those of cases and servers that were not measured stay."""
    replaced = {(one.case, one.server) for one in new}
    kept = [one for one in (read(path) if path.exists() else []) if (one.case, one.server) not in replaced]
    text = {
        "machine": {name: value for name, value in machine.items() if name != "command"},
        "accepted": [asdict(one) for one in [*kept, *new]],
    }
    path.write_text(json.dumps(text, indent=1) + "\n")


def fallen_behind(
    accepted: Iterable[Accepted], rows: Sequence[Row], spreads: Mapping[tuple[str, str], float]
) -> list[str]:
    """Return a sentence for each accepted ratio that the run did not reach; what it did not measure says nothing."""
    measured = {(row.case, row.server): row.ratio_kamailio for row in rows}
    found = []
    for one in accepted:
        ratio = measured.get((one.case, one.server))
        slack = max(one.spread, spreads.get((one.case, one.server), 0.0))
        if ratio is not None and ratio > one.ratio_kamailio + slack:
            found.append(
                f"{one.case} on {one.server}: accepted {one.ratio_kamailio:.3f} × Kamailio, "
                f"measured {ratio:.3f}; the rounds explain {slack:.3f}"
            )
    return found
