"""What receivers get, and what it is worth: the E-model by itself, not the balancer's.

ITU-T G.107 in its simplified form: R = 93.2 - Id - Ie_eff, Id = 0.024 d + 0.11 max(0, d - 177.3),
Ie_eff = Ie + (95 - Ie) P / (P + Bpl), d in ms from mouth to ear, P in per cent.
"""

from math import sqrt

from attrs import frozen

from tools.simulate.demand import Call
from tools.simulate.world import Epoch

EQUIPMENT = {"PCMU": (0.0, 25.1), "G729": (11.0, 19.0)}
"""Ie and Bpl by codec (G.113)."""
PACKET_MS = 20.0
PLAYOUT_JITTERS = 2.0
"""A phone keeps packets so many jitters before it plays them."""
PATIENCE_MS = 60.0
"""It keeps none longer; what comes later is lost."""
LATE_PER_MS = 0.002
"""For each ms of jitter that two of it exceed its patience by, so much comes too late."""

FREE_LOAD = 0.85
"""From this load on a node's packets wait, and some are lost; at its capacity it refuses calls."""
LOSS_AT_CAPACITY = 0.06
DELAY_AT_CAPACITY_MS = 40.0


@frozen
class Heard:
    """What one receiver gets at a moment."""

    loss: float
    """The fraction that the network lost."""
    late: float
    """The fraction that came too late."""
    delay_ms: float
    """From mouth to ear."""
    jitter_ms: float


def heard(epoch: Epoch, speaker: str, listener: str, node: str, load: float) -> Heard:
    """Return what a phone of the group `listener` gets of one of `speaker` through a node with that load u."""
    first, last, sick = epoch.ways[speaker, node], epoch.ways[listener, node], epoch.sick[node]
    strain = max(0.0, load - FREE_LOAD) / (1.0 - FREE_LOAD)
    kept = (1 - first.up) * (1 - sick.loss) * (1 - LOSS_AT_CAPACITY * strain) * (1 - last.down)
    jitter = sqrt(first.jitter_ms * first.jitter_ms + last.jitter_ms * last.jitter_ms)
    wanted = PLAYOUT_JITTERS * jitter
    late = LATE_PER_MS * max(0.0, wanted - PATIENCE_MS)
    delay = first.delay_ms + sick.delay_ms + DELAY_AT_CAPACITY_MS * strain + last.delay_ms
    return Heard(1 - kept, late, delay + PACKET_MS + min(wanted, PATIENCE_MS), jitter)


def rating(heard: Heard, codec: str) -> float:
    """Return R."""
    equipment, robustness = EQUIPMENT[codec]
    lost = 100 * (1 - (1 - heard.loss) * (1 - heard.late))
    delay = heard.delay_ms
    impaired = 0.024 * delay + 0.11 * max(0.0, delay - 177.3)
    return max(0.0, 93.2 - impaired - equipment - (95 - equipment) * lost / (lost + robustness))


def mean_rating(epoch: Epoch, call: Call, node: str, load: float) -> float:
    """Return the mean R of both receivers of a call at a moment."""
    if load > FREE_LOAD:
        return _mean_rating(epoch, call, node, load)
    key = (call.sides, call.codec, node)
    known = epoch.known.get(key)
    if known is None:
        known = epoch.known[key] = _mean_rating(epoch, call, node, load)
    return known


def _mean_rating(epoch: Epoch, call: Call, node: str, load: float) -> float:
    ours, theirs = call.sides
    return (rating(heard(epoch, ours, theirs, node, load), call.codec)
            + rating(heard(epoch, theirs, ours, node, load), call.codec)) / 2
