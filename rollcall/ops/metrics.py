"""Counting that costs nearly nothing: plain integers, told to Prometheus only when it asks.

The text format is Prometheus' own (https://prometheus.io/docs/instrumenting/exposition_formats/).
A name carries its unit ("…_seconds", "…_bytes"); a counter's ends in "_total". Labels are bounded: beyond
`limit` combinations everything new is counted under "other", so that a hostile peer cannot fill the memory.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Generic, TypeVar

from prometheus_client import (
    CONTENT_TYPE_PLAIN_0_0_4,
    CollectorRegistry,
    GCCollector,
    Metric,
    PlatformCollector,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector
from twisted.logger import Logger

from rollcall.ops.process import ProcessCollector

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
LABEL_COMBINATIONS = 500
OTHER = "other"
INFINITY = float("inf")
NAME = re.compile(r"[a-z][a-z0-9_]*")
LATENCY_SECONDS = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)

# The key of a Mapping is invariant, hence the short tuples.
Reading = float | Mapping[tuple[str, ...], float] | Mapping[tuple[str], float] | Mapping[tuple[str, str], float]


class Cell:
    """One counted number. In the hottest places `cell.value += 1` saves the call."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: float = 0

    def add(self, amount: float = 1) -> None:
        self.value += amount


class Buckets:
    """The distribution of one observed quantity over fixed upper bounds."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total: float = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def cumulative(self) -> list[tuple[str, float]]:
        """Return (upper bound, observations not above it), "+Inf" last, as the text format wants them."""
        running, result = 0, []
        for bound, count in zip((*self.bounds, INFINITY), self.counts, strict=True):
            running += count
            result.append(("+Inf" if bound == INFINITY else str(bound), float(running)))
        return result


CellType = TypeVar("CellType")
MetricType = TypeVar("MetricType", bound=Metric)


class Family(Generic[CellType]):
    """The cells of one metric, one for each combination of label values."""

    def __init__(self, labels: Sequence[str], limit: int, make: Callable[[], CellType]) -> None:
        self._labels = tuple(labels)
        self._limit = limit
        self._make = make
        self._cells: dict[tuple[str, ...], CellType] = {}
        if not labels:
            self.cell()

    def cell(self, *values: str) -> CellType:
        """Return the cell of these label values: get it once and keep it where it is needed often."""
        try:
            return self._cells[values]
        except KeyError:
            return self._new_cell(values)

    def items(self) -> Iterator[tuple[tuple[str, ...], CellType]]:
        yield from self._cells.items()

    def _new_cell(self, values: tuple[str, ...]) -> CellType:
        if len(values) != len(self._labels):
            raise ValueError(f"labels are {self._labels}, values are {values}")
        if len(self._cells) >= self._limit:
            values = (OTHER,) * len(values)
        return self._cells.setdefault(values, self._make())


class Metrics:
    """Everything one process counts, and the page that Prometheus reads."""

    _log = Logger()

    def __init__(self, process: bool = True) -> None:
        self._families: dict[str, Callable[[], Metric]] = {}
        self._settling: list[Callable[[], None]] = []
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(_Scrape(self._collect))
        if process:
            self._registry.register(ProcessCollector())
            PlatformCollector(registry=self._registry)
            GCCollector(registry=self._registry)

    def counter(
        self, name: str, help: str, labels: Sequence[str] = (), limit: int = LABEL_COMBINATIONS
    ) -> Family[Cell]:
        """Return a counter; without labels `counter(…).cell()` is its only cell. The name ends in "_total"."""
        family = Family(labels, limit, Cell)

        def fill(metric: CounterMetricFamily) -> None:
            for values, cell in family.items():
                metric.add_metric(values, cell.value)

        self._declare(name, labels, lambda: _counter(name, help, labels), fill)
        return family

    def histogram(
        self,
        name: str,
        help: str,
        labels: Sequence[str] = (),
        bounds: Iterable[float] = LATENCY_SECONDS,
        limit: int = LABEL_COMBINATIONS,
    ) -> Family[Buckets]:
        """Return a histogram: `histogram(…).cell(…).observe(seconds)`. Bounds are upper bounds, inclusive."""
        ordered = tuple(sorted(bounds))
        family = Family(labels, limit, lambda: Buckets(ordered))

        def fill(metric: HistogramMetricFamily) -> None:
            for values, buckets in family.items():
                metric.add_metric(values, buckets.cumulative(), buckets.total)

        self._declare(name, labels, lambda: HistogramMetricFamily(name, help, labels=labels), fill)
        return family

    def gauge(self, name: str, help: str, labels: Sequence[str], read: Callable[[], Reading]) -> None:
        """Export what `read()` returns at each scrape: a number, or with labels {(value, …): number}."""
        self._declare(
            name, labels, lambda: GaugeMetricFamily(name, help, labels=labels), lambda metric: _fill(metric, read())
        )

    def total(self, name: str, help: str, labels: Sequence[str], read: Callable[[], Reading]) -> None:
        """Like gauge, for a sum that somebody else keeps and that only grows. The name ends in "_total"."""
        self._declare(name, labels, lambda: _counter(name, help, labels), lambda metric: _fill(metric, read()))

    def settle_by(self, settle: Callable[[], None]) -> None:
        """Call `settle` before each page: for who counts by himself and brings it into the cells when somebody asks."""
        self._settling.append(settle)

    def render(self) -> bytes:
        """Return the page in text format (CONTENT_TYPE)."""
        return generate_latest(self._registry)

    def _declare(
        self,
        name: str,
        labels: Sequence[str],
        empty: Callable[[], MetricType],
        fill: Callable[[MetricType], None],
    ) -> None:
        if name in self._families:
            raise ValueError(f"{name} is already counted")
        if not all(NAME.fullmatch(each) for each in (name, *labels)):
            raise ValueError(f"names are of a-z, 0-9 and _, unlike {name} {labels}")
        empty()  # a counter checks its name

        def export() -> Metric:
            metric = empty()
            fill(metric)
            return metric

        self._families[name] = export

    def _collect(self) -> Iterator[Metric]:
        for settle in self._settling:
            try:
                settle()
            except Exception:
                self._log.failure("while counts were brought in")
        for name, export in self._families.items():
            try:
                yield export()
            except Exception:
                self._log.failure("while reading metric {name}", name=name)


class _Scrape(Collector):
    def __init__(self, collect: Callable[[], Iterator[Metric]]) -> None:
        self._collect = collect

    def collect(self) -> Iterator[Metric]:
        return self._collect()


def _counter(name: str, help: str, labels: Sequence[str]) -> CounterMetricFamily:
    if not name.endswith("_total"):
        raise ValueError(f"the name of a counter ends in _total, unlike {name}")
    return CounterMetricFamily(name, help, labels=labels)


def _fill(metric: CounterMetricFamily | GaugeMetricFamily, reading: Reading) -> None:
    values = reading if isinstance(reading, Mapping) else {(): reading}
    for labels, value in values.items():
        metric.add_metric(labels, value)
