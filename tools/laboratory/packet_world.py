"""The world of the packet bench: carriers, media nodes and calls, and one way between them that goes bad and heals."""

from collections.abc import Sequence
from random import Random
from typing import Literal

from attrs import field, frozen

from tools.laboratory.media_servers import CARRIERS

Proxy = Literal["quality", "least-loaded", "kamailio"]
PROXIES: dict[Proxy, str] = {
    "quality": "Rollcall",
    "least-loaded": "Rollcall, least-loaded",
    "kamailio": "Kamailio, rtpengine hash",
}


@frozen(kw_only=True)
class World:
    """How much of what. Times in seconds."""

    nodes: int = 6
    capacity: int = 25
    """Calls of a node at once: what all nodes could have is nearly twice what there is."""
    phones_of_a_carrier: int = 70
    calls_per_second: float = 4.0
    talk_seconds: tuple[float, float] = (12.0, 28.0)
    loss: float = 0.08
    """Of the bad way, in each direction."""
    good_seconds: float = 40.0
    bad_seconds: float = 90.0
    healed_seconds: float = 90.0

    @property
    def seconds(self) -> float:
        """How long calls are placed."""
        return self.good_seconds + self.bad_seconds + self.healed_seconds


@frozen
class Way:
    """From the phones of a carrier to a node, and back."""

    carrier: str
    host: str


@frozen(kw_only=True)
class CallSeen:
    """What the bench knows of one call. Moments count from the first call, R is that of the user who heard worse."""

    begun_at: float
    ended_at: float
    carriers: tuple[str, str]
    host: str
    """Of the node that it began at; empty when it never had one."""
    r: float
    failed: str = ""


@frozen(kw_only=True)
class Run:
    """What was seen in one run."""

    proxy: Proxy
    seed: int
    way: Way
    went_bad_at: float
    healed_at: float
    first_report_at: float | None
    """When a phone at the bad way first reported a loss; None when none did."""
    calls: Sequence[CallSeen] = field(repr=False)
    starved: int = 0
    """Calls that were due when no phones were free."""


def bad_way(seed: int, hosts: Sequence[str]) -> Way:
    """Return which way goes bad: another one with each seed, the same for every proxy."""
    chance = Random(f"way/{seed}")
    return Way(chance.choice(list(CARRIERS)), hosts[chance.randrange(len(hosts))])
