"""The line between a phone and a media node: what delays packets there. Losses are the kernel's part (media_loss)."""

from collections.abc import Mapping
from random import Random

from attrs import field, frozen


@frozen(kw_only=True)
class Path:
    """How long packets take, in each of both directions alike."""

    delay_ms: float = 20.0
    """The shortest time."""
    jitter_ms: float = 2.0
    """How much longer on average, exponentially distributed."""


@frozen
class Paths:
    """The lines of all phones: by a phone's carrier and a node's host."""

    known: Mapping[tuple[str, str], Path] = field(factory=dict)
    usual: Path = Path()

    def line(self, carrier: str, host: str, random: Random) -> "Line":
        """Return one direction of a line."""
        return Line(self.known.get((carrier, host), self.usual), random)


class Line:
    """One direction: packets come out in the order in which they went in."""

    def __init__(self, path: Path, random: Random) -> None:
        self._path = path
        self._random = random
        self._last = 0.0

    def passed(self, entered: float) -> float:
        """Return when a packet comes out that goes in at this moment."""
        jitter = self._path.jitter_ms
        took_ms = self._path.delay_ms + (self._random.expovariate(1.0 / jitter) if jitter else 0.0)
        self._last = max(self._last, entered + took_ms / 1000.0)
        return self._last
