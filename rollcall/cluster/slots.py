"""Which node of a Redis Cluster serves which key (the Redis Cluster specification)."""

from binascii import crc_hqx
from collections.abc import Iterator
from typing import Any

from attrs import frozen

from rollcall.cluster.redis import RedisUnavailable

SLOTS = 16384


def slot_of(key: bytes) -> int:
    """Return the slot of a key: of what stands between its first brace and the next closing one, if anything does."""
    first = key.find(b"{")
    if first >= 0:
        last = key.find(b"}", first + 1)
        if last > first + 1:
            key = key[first + 1 : last]
    return crc_hqx(key, 0) & (SLOTS - 1)


def address_of(host: str, port: int) -> str:
    """Return host:port, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@frozen
class SlotMap:
    """Who serves what, as one node sees it."""

    epoch: int
    ranges: tuple[tuple[int, int, str], ...]
    """First slot, last slot, host:port of the master."""
    nodes: frozenset[str]
    """All that are named, replicas too."""

    @property
    def masters(self) -> frozenset[str]:
        """Those that serve a slot."""
        return frozenset(master for _, _, master in self.ranges)

    def __iter__(self) -> Iterator[tuple[int, str]]:
        """Give each slot that is served, and who serves it."""
        for first, last, master in self.ranges:
            for slot in range(first, last + 1):
                yield slot, master


def read_slots(answer: Any, info: bytes, host: str) -> SlotMap:
    """Read the answers of the node on `host` to CLUSTER SLOTS and CLUSTER INFO. Raises RedisUnavailable.

    A node that does not know its own address means the one that it was asked at.
    """
    try:
        ranges = tuple((first, last, _address(nodes[0], host)) for first, last, *nodes in answer)
        named = frozenset(_address(node, host) for _, _, *nodes in answer for node in nodes)
        if not all(0 <= first <= last < SLOTS for first, last, _ in ranges):
            raise ValueError("no such slots")
    except (ValueError, TypeError, IndexError) as wrong:
        raise RedisUnavailable(f"CLUSTER SLOTS was answered in a way that we do not know: {wrong}") from wrong
    return SlotMap(_epoch(info), ranges, named)


def redirected_to(refusal: str, host: str) -> tuple[int, str]:
    """Return slot and host:port of "MOVED 3999 192.0.2.7:6381" (or ASK) from a node on `host`. Raises ValueError."""
    _, slot, address = refusal.split(" ")[:3]
    there, _, port = address.rpartition(":")
    if not 0 <= int(slot) < SLOTS:
        raise ValueError("no such slot")
    return int(slot), address_of(there or host, int(port))


def _address(node: Any, host: str) -> str:
    named = node[0].decode("ascii") if node[0] else ""
    return address_of(host if named in ("", "?") else named, int(node[1]))


def _epoch(info: bytes) -> int:
    for line in info.splitlines():
        name, _, value = line.partition(b":")
        if name == b"cluster_current_epoch" and value.strip().isdigit():
            return int(value)
    raise RedisUnavailable("CLUSTER INFO names no epoch")
