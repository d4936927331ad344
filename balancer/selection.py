"""Which media node gets the next call: the least loaded of those that may have it.

A node's load is u = own placements / capacity. Nodes that serve other groups, drain or are full are left out; a wanted
region is kept to while it has room, and overflows into the others then. Equal loads are decided by weighted chance.
"""

from collections.abc import Callable, Iterable, Sequence
from enum import Enum
from typing import Literal

from attrs import field, frozen

from rollcall.ops.allowed import at_least, between, each, host_and_port, name, unique


@frozen(kw_only=True)
class MediaNode:
    """[[node]]: one media node as it is configured."""

    id: str = field(validator=name())
    """What it is called in answers, logs and metrics."""
    address: str = field(validator=host_and_port())
    """Where calls for it are sent: the ng port of rtpengine, the SIP port of others."""
    kind: Literal["rtpengine", "freeswitch", "other"] = "rtpengine"
    capacity: int = field(default=1000, validator=at_least(1))
    """Calls at once."""
    region: str = ""
    weight: int = field(default=1, validator=between(1, 1000))
    """Its share of the calls among nodes of equal load."""
    groups: tuple[str, ...] = field(default=(), validator=[each(name()), unique(what="groups")])
    """The tenant groups it serves; none means every call."""
    draining: bool = False
    """It keeps its calls and gets no new ones."""


@frozen
class Load:
    """A node and the calls that were sent to it and have not ended."""

    node: MediaNode
    placements: int

    @property
    def share(self) -> float:
        """The load u: 0 is idle, 1 is full."""
        return self.placements / self.node.capacity

    @property
    def state(self) -> str:
        """ "up", "draining" or "full"."""
        if self.node.draining:
            return "draining"
        return "full" if self.placements >= self.node.capacity else "up"


@frozen
class Wanted:
    """What a call asks of its node."""

    group: str | None = None
    region: str | None = None


class Reason(Enum):
    """Why no node can have a call."""

    NO_NODE = "no_node"
    DRAINING = "draining"
    FULL = "full"


@frozen
class Selected:
    """The node for a call."""

    node: MediaNode


@frozen
class NoNode:
    """No node can have the call."""

    reason: Reason


def select(loads: Iterable[Load], wanted: Wanted, random: Callable[[], float]) -> Selected | NoNode:
    """Return the node for a call; `random()` gives numbers from 0 up to, but not including, 1."""
    serving = [load for load in loads if _serves(load.node, wanted.group)]
    if not serving:
        return NoNode(Reason.NO_NODE)
    working = [load for load in serving if not load.node.draining]
    if not working:
        return NoNode(Reason.DRAINING)
    free = [load for load in working if load.placements < load.node.capacity]
    if not free:
        return NoNode(Reason.FULL)
    near = [load for load in free if load.node.region == wanted.region] if wanted.region else []
    return Selected(_least_loaded(near or free, random))


def _serves(node: MediaNode, group: str | None) -> bool:
    return not node.groups or group in node.groups


def _least_loaded(loads: Sequence[Load], random: Callable[[], float]) -> MediaNode:
    lowest = min(load.share for load in loads)
    equal = [load.node for load in loads if load.share == lowest]
    point = random() * sum(node.weight for node in equal)
    for node in equal:
        point -= node.weight
        if point < 0:
            return node
    return equal[-1]  # rounding, at most
