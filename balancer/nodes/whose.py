"""Whose a report is: the node that its capture id or name is of, or that has the address it came from."""

from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from balancer.nodes.config import NodeConfig
from rollcall.ops.allowed import is_address

# So many addresses that no node has as its own are remembered with the node whose network they are in, or none.
REMEMBERED_ADDRESSES = 10_000


class Whose:
    """Knows this of the nodes of one moment; a report costs a few look-ups, from whatever address it seems to be."""

    def __init__(self, nodes: Iterable[NodeConfig]) -> None:
        self._ids: set[str] = set()
        self._of_capture: dict[int, str] = {}
        self._of_host: dict[str, str] = {}
        self._networks: list[tuple[IPv4Network | IPv6Network, str]] = []
        self._remembered: dict[str, str | None] = {}
        for node in nodes:
            self._ids.add(node.id)
            self._of_host[_written(node.host)] = node.id
            if node.capture_id:
                self._of_capture[node.capture_id] = node.id
            self._networks += [(ip_network(each), node.id) for each in node.media_hosts]

    def find(self, capture_id: int | None, name: str, host: str) -> str | None:
        """Return the id of the node that a report is from.

        `capture_id` is None or 0, and `name` empty, where it bears none; `host` is numeric, or empty.
        """
        if capture_id and capture_id in self._of_capture:
            return self._of_capture[capture_id]
        return name if name in self._ids else self.at(host)

    def at(self, host: str) -> str | None:
        """Return the id of the node that has this numeric address."""
        own = self._of_host.get(host)
        if own is not None or not self._networks:
            return own
        if host not in self._remembered:
            if len(self._remembered) >= REMEMBERED_ADDRESSES:
                self._remembered.clear()
            self._remembered[host] = self._in_networks(host)
        return self._remembered[host]

    def _in_networks(self, host: str) -> str | None:
        try:
            address = ip_address(host)
        except ValueError:
            return None
        return next((name for network, name in self._networks if address in network), None)


def _written(host: str) -> str:
    """Return a host as sockets tell it: of an IPv6 address there is one spelling (RFC 5952)."""
    return str(ip_address(host)) if is_address(host) else host
