"""What the rounds say: medians, ratios, and the forms in which people read them."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from attrs import asdict, frozen
from rich.table import Table

from tools.bench.generator import Tally
from tools.bench.metrics import Pauses


@frozen(kw_only=True)
class Round:
    """One measured run of one server."""

    case: str
    server: str
    cpu_us: float
    """CPU of the server per REGISTER that got its 200 OK."""
    phones_us: float | None = None
    """CPU of the load generator, which competes with a server that may use its core too."""
    tally: Tally

    @property
    def line(self) -> str:
        """The round in a line, for somebody who waits."""
        latency = f"p99 {self.tally.p99_us / 1000:.1f} ms"
        return f"{self.case} {self.server} {self.cpu_us:.2f} µs, {self.tally.answered} answers, {latency}"


@frozen(kw_only=True)
class Holding:
    """What idle registered phones cost a server, in bytes per phone of user-space memory."""

    case: str
    server: str
    phones: int
    proportional: float
    """Growth of the resident pages of all processes, shared ones included once."""
    private: float
    shared_used: float | None
    """Growth of what the server itself says it uses of its shared pool."""
    pauses: Pauses
    """From shortly before the phones came to the last look, as far as the server says."""
    tally: Tally
    """Of the refresh of every phone before the last look, which shows that all are held."""

    @property
    def line(self) -> str:
        """The look in a line, for somebody who waits."""
        said = f"{self.case} {self.server} {self.proportional:.0f} bytes per phone"
        if self.pauses.gc_ms is not None:
            said += f", longest garbage collection {self.pauses.gc_ms:.1f} ms"
        if self.pauses.turn_ms is not None:
            said += f", longest turn {self.pauses.turn_ms:.1f} ms"
        return said


@frozen(kw_only=True)
class Row:
    """One line of the result; None where it was not measured."""

    case: str
    server: str
    cpu_us: float | None = None
    ratio_kamailio: float | None = None
    ratio_floor: float | None = None
    p50_ms: float | None = None
    p99_ms: float | None = None
    p999_ms: float | None = None
    bytes_per_phone: float | None = None


def rows(rounds: Sequence[Round], holdings: Sequence[Holding], reference: str, floor: str) -> list[Row]:
    """Return a row per case and server, in order of appearance; ratios are of medians within the case."""
    groups = _grouped(rounds)
    medians = {key: median(one.cpu_us for one in group) for key, group in groups.items()}
    made = [
        Row(
            case=case,
            server=server,
            cpu_us=round(cpu_us, 2),
            ratio_kamailio=_ratio(cpu_us, medians.get((case, reference))),
            ratio_floor=_ratio(cpu_us, medians.get((case, floor))),
            p50_ms=_milliseconds(one.tally.p50_us for one in groups[case, server]),
            p99_ms=_milliseconds(one.tally.p99_us for one in groups[case, server]),
            p999_ms=_milliseconds(one.tally.p999_us for one in groups[case, server]),
        )
        for (case, server), cpu_us in medians.items()
    ]
    held = {key: median(one.proportional for one in group) for key, group in _grouped(holdings).items()}
    return made + [
        Row(
            case=case,
            server=server,
            ratio_kamailio=_ratio(bytes_per_phone, held.get((case, reference))),
            bytes_per_phone=round(bytes_per_phone, 0),
        )
        for (case, server), bytes_per_phone in held.items()
    ]


def spread(rounds: Iterable[Round]) -> dict[tuple[str, str], float]:
    """Return, for each case and server, how far the rounds lie apart: (largest - smallest) / median."""
    return {
        key: (max(costs) - min(costs)) / median(costs)
        for key, group in _grouped(rounds).items()
        for costs in [[one.cpu_us for one in group]]
    }


def ratio_spreads(rounds: Iterable[Round], holdings: Iterable[Holding], reference: str) -> dict[tuple[str, str], float]:
    """Return, for each case and server, half the distance between the extremes of its ratios to the reference.

    A round's ratio is that to the reference's round of the same number: both had the machine in the same mood.
    """
    costs = {key: [one.cpu_us for one in group] for key, group in _grouped(rounds).items()}
    costs |= {key: [one.proportional for one in group] for key, group in _grouped(holdings).items()}
    found = {}
    for (case, server), own in costs.items():
        ratios = [cost / base for cost, base in zip(own, costs.get((case, reference), ()), strict=False)]
        if ratios:
            found[case, server] = (max(ratios) - min(ratios)) / 2
    return found


def table(made: Sequence[Row], spreads: Mapping[tuple[str, str], float]) -> Table:
    """Return the rows for a terminal."""
    drawn = _columns("CPU µs", "± %", "× Kamailio", "× floor", "p50 ms", "p99 ms", "p99.9 ms", "bytes/phone")
    case = None
    for row in made:
        if case not in (None, row.case):
            drawn.add_section()
        case = row.case
        between = spreads.get((row.case, row.server))
        drawn.add_row(
            row.case,
            row.server,
            _shown(row.cpu_us, 1),
            _shown(None if between is None else between * 50, 0),
            _shown(row.ratio_kamailio, 2),
            _shown(row.ratio_floor, 2),
            _shown(row.p50_ms, 1),
            _shown(row.p99_ms, 1),
            _shown(row.p999_ms, 1),
            _shown(row.bytes_per_phone, 0),
        )
    return drawn


def rates_table(rounds: Sequence[Round]) -> Table:
    """Return how many REGISTERs each server answered in a second, and what of the machine it and the phones used."""
    drawn = _columns("answered/s", "CPU µs", "cores busy", "phones µs", "their cores", "p99 ms")
    for (case, server), group in _grouped(rounds).items():
        rate = median(one.tally.answered / one.tally.seconds for one in group)
        cpu_us, phones_us = median(one.cpu_us for one in group), median(one.phones_us or 0.0 for one in group)
        drawn.add_row(
            case,
            server,
            _shown(rate, 0),
            _shown(cpu_us, 1),
            _shown(rate * cpu_us / 1e6, 2),
            _shown(phones_us, 1),
            _shown(rate * phones_us / 1e6, 2),
            _shown(_milliseconds(one.tally.p99_us for one in group), 1),
        )
    return drawn


def returns_table(rounds: Sequence[Round]) -> Table:
    """Return how long it took until all phones were registered again, and how long one of them waited."""
    drawn = _columns("all in s", "worst s", "p50 ms", "p99 ms", "failed", "CPU µs")
    for (case, server), group in _grouped(rounds).items():
        took = [one.tally.seconds for one in group]
        drawn.add_row(
            case,
            server,
            _shown(median(took), 2),
            _shown(max(took), 2),
            _shown(_milliseconds(one.tally.p50_us for one in group), 1),
            _shown(_milliseconds(one.tally.p99_us for one in group), 1),
            str(sum(one.tally.failed for one in group)),
            _shown(median(one.cpu_us for one in group), 1),
        )
    return drawn


def _columns(*headings: str) -> Table:
    drawn = Table()
    for heading in ("case", "server"):
        drawn.add_column(heading, no_wrap=True)
    for heading in headings:
        drawn.add_column(heading, justify="right", no_wrap=True)
    return drawn


def write(
    path: Path, machine: Mapping[str, Any], made: Sequence[Row], rounds: Sequence[Round], holdings: Sequence[Holding]
) -> None:
    """Write the rows, with every round behind them, as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = {
        "machine": machine,
        "rows": [asdict(row) for row in made],
        "rounds": [asdict(one) for one in rounds],
        "holdings": [asdict(one) for one in holdings],
    }
    path.write_text(json.dumps(text, indent=1) + "\n")


def complaints(rounds: Iterable[Round], holdings: Iterable[Holding]) -> list[tuple[str, str]]:
    """Return (server, sentence) for each run whose figures do not count: not every REGISTER got its 200 OK."""
    runs: list[Round | Holding] = [*rounds, *holdings]
    return [
        (
            one.server,
            f"{one.case} on {one.server}: of {one.tally.sent} sent {one.tally.answered} got 200, "
            f"{one.tally.unanswered} no answer, {one.tally.lost} connections were lost; "
            f"statuses {dict(one.tally.statuses)}",
        )
        for one in runs
        if not one.tally.clean
    ]


def _grouped(items: Iterable[Any]) -> dict[tuple[str, str], list[Any]]:
    groups: dict[tuple[str, str], list[Any]] = {}
    for item in items:
        groups.setdefault((item.case, item.server), []).append(item)
    return groups


def _ratio(value: float, base: float | None) -> float | None:
    return None if not base else round(value / base, 3)


def _milliseconds(microseconds: Iterable[int]) -> float:
    return round(median(microseconds) / 1000, 2)


def _shown(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"
