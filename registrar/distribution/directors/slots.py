"""Which node each value of a hash belongs to: Maglev's table (Eisenbud et al., NSDI 2016, §3.4), with weights.

Every director that knows the same weights makes the same table. Shares are exact to one slot, and a change of one
node's weight moves little but what that node gains or loses: what has no state elsewhere stays where it was.
"""

from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2b
from itertools import groupby

SLOTS = 1021
"""A prime, so that every permutation below reaches every slot. One of them is a thousandth of all phones."""


def table(weights: Mapping[str, int]) -> list[str]:
    """Return the node of each slot; without any weight above 0 there is no slot."""
    takers = sorted((name, weight) for name, weight in weights.items() if weight > 0)
    if not takers:
        return []
    most = max(weight for _, weight in takers)
    found: list[str | None] = [None] * SLOTS
    wishes = {name: _wishes(name) for name, _ in takers}
    credit = dict.fromkeys(wishes, 0)
    left = SLOTS
    while left:
        for name, weight in takers:
            credit[name] += weight
            if credit[name] < most or not left:
                continue
            credit[name] -= most
            slot = next(slot for slot in wishes[name] if found[slot] is None)
            found[slot] = name
            left -= 1
    return [name for name in found if name is not None]


def ranges(names: Sequence[str]) -> list[tuple[int, int, str]]:
    """Return (first slot, last slot, node) of each run of slots with the same node."""
    found, first = [], 0
    for name, run in groupby(names):
        length = len(list(run))
        found.append((first, first + length - 1, name))
        first += length
    return found


def _wishes(name: str) -> Iterator[int]:
    """Yield all slots in the order in which a node wants them."""
    digest = blake2b(name.encode(), digest_size=16).digest()
    offset = int.from_bytes(digest[:8], "big") % SLOTS
    skip = int.from_bytes(digest[8:], "big") % (SLOTS - 1) + 1
    return (((offset + number * skip) % SLOTS) for number in range(SLOTS))
