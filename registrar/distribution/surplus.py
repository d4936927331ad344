"""How many connections a node has beyond its share: a decision from what the leases of all nodes say.

The share of a node is what it would have if all of its site carried the same part of what each is to carry. Nobody is
asked and nobody decides for others: each node sees the same leases and gives away what it has too much.
"""

from collections.abc import Iterable
from math import ceil

from rollcall.cluster.nodes import Node

LEAST_SHARE = 0.01
"""Less than this part of its capacity is not worth that phones are sent away."""


def surplus(nodes: Iterable[Node], me: str, tolerance: float, is_moving: bool) -> int:
    """Return how many connections the node `me` should give away to others of `nodes`; 0 when all is well.

    It begins when it has more than its share by the part `tolerance` of it, and goes on until it has its share.
    """
    together = [node for node in nodes if node.capacity > 0 and (node.node == me or _takes_phones(node))]
    own = next((node for node in together if node.node == me), None)
    if own is None or len(together) < 2:
        return 0
    share = own.capacity * sum(node.connections for node in together) / sum(node.capacity for node in together)
    beyond = own.connections - share
    least = 0.0 if is_moving else max(tolerance * share, LEAST_SHARE * own.capacity)
    return ceil(beyond) if beyond > least and beyond >= 1 else 0


def hindrance(nodes: Iterable[Node]) -> str | None:
    """Say why no connection may be moved between these nodes of a site; None when some may."""
    known = tuple(nodes)
    if len(known) < 2:
        return "there is no other node"
    if any(node.draining for node in known):
        return "a node is being drained"
    return None


def _takes_phones(node: Node) -> bool:
    """Say whether phones may come to a node: not to one that starts, nor to one that is full."""
    return not node.draining and node.weight > 0
