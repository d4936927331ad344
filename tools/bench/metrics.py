"""What Rollcall says of itself: its metrics, as Prometheus would read them."""

from contextlib import suppress
from urllib.error import URLError
from urllib.request import urlopen

from attrs import frozen

from tools.bench.processes import LOOPBACK

TIMEOUT_SECONDS = 30.0
GC_PAUSE = "rollcall_gc_pause_longest_seconds"
TURN = "rollcall_turn_longest_seconds"


@frozen
class Pauses:
    """How long a server stood still at most, in milliseconds: in a garbage collection, and in a turn of its reactor.

    None where it does not say.
    """

    gc_ms: float | None = None
    turn_ms: float | None = None

    def or_longer(self, other: "Pauses") -> "Pauses":
        """Return the longer ones of both."""
        return Pauses(_longer(self.gc_ms, other.gc_ms), _longer(self.turn_ms, other.turn_ms))


def pauses(port: int) -> Pauses:
    """Ask the server whose metrics are at a port of loopback."""
    text = ""
    with (
        suppress(URLError, TimeoutError),
        urlopen(f"http://{LOOPBACK}:{port}/metrics", timeout=TIMEOUT_SECONDS) as page,
    ):
        text = page.read().decode("utf-8")
    return Pauses(_milliseconds(text, GC_PAUSE), _milliseconds(text, TURN))


def highest(text: str, name: str) -> float | None:
    """Return the highest value of a metric in the text format of Prometheus; None when it is not there."""
    lines = (line.rpartition(" ") for line in text.splitlines())
    return max((float(value) for key, _, value in lines if key.partition("{")[0] == name), default=None)


def _milliseconds(text: str, name: str) -> float | None:
    seconds = highest(text, name)
    return None if seconds is None else round(seconds * 1000, 2)


def _longer(one: float | None, other: float | None) -> float | None:
    return max((value for value in (one, other) if value is not None), default=None)
