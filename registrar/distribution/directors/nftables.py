"""Writes a table for nft(8): what comes to a virtual address goes to a node by DNAT, and phones' addresses are seen.

Which node follows from a hash of the phone's address and port with a seed that all directors share, so that a director
that takes over, and knows of no connection, sends each where it was. The hash names a slot, and a map says whose slot
it is; `weights` writes that map anew, all of it in one transaction. A connection keeps its node while the director
remembers it, whatever becomes of the map.
"""

from collections.abc import Iterable, Iterator, Mapping

from registrar.distribution.directors.layout import CannotRender, Layout, Service, address_of
from registrar.distribution.directors.slots import SLOTS, ranges, table

TABLE = "rollcall"
FAMILY_NAMES = {4: "ip", 6: "ip6"}
ELEMENTS_OF_A_LINE = 4
TYPES = {4: "ipv4_addr", 6: "ipv6_addr"}


def render(layout: Layout) -> str:
    """Return the whole table, every node having the weight that is configured. Raises CannotRender."""
    services = layout.spread_by("nftables")
    if not services:
        raise CannotRender("nothing is spread by nftables: see [directors] streams_by and datagrams_by")
    weights = {node.name: node.weight for node in layout.config.nodes}
    families = sorted({service.family for service in services})
    lines = ["# Written by: rollcall nftables render", "# `nft -f` of this file replaces the table as a whole.",
             f"table inet {TABLE}", f"delete table inet {TABLE}", "", f"table inet {TABLE} {{"]
    for family in families:
        lines += _map(layout, family, weights)
    lines += ["    chain prerouting {", "        type nat hook prerouting priority dstnat; policy accept;"]
    for family in families:
        lines += _rules(layout, family, [service for service in services if service.family == family])
    return "\n".join([*lines, "    }", "}", ""])


def weights(layout: Layout, present: Mapping[str, int]) -> str:
    """Return the commands that set the maps to these weights, by node: the same ones as often as one likes."""
    lines = []
    for family in sorted({service.family for service in layout.spread_by("nftables")}):
        name = f"inet {TABLE} nodes{family}"
        elements = ", ".join(_elements(layout, family, present))
        lines += [f"flush map {name}", f"add element {name} {{ {elements} }}"]
    return "\n".join([*lines, ""])


def wanted(configured: Mapping[str, int], present: Mapping[str, int | None]) -> dict[str, int]:
    """Return the weights to set; `present` has None for a node that is dead.

    When nobody wants new phones they go to all that live, and when nobody seems to live, to all: none of them can be
    worse off for it.
    """
    if any(present.values()):
        return {name: present.get(name) or 0 for name in configured}
    living = [name for name in configured if present.get(name) is not None]
    return {name: weight if name in living or not living else 0 for name, weight in configured.items()}


def _map(layout: Layout, family: int, present: Mapping[str, int]) -> Iterator[str]:
    yield f"    map nodes{family} {{"
    yield f"        type mark : {TYPES[family]}"
    yield "        flags interval"
    yield "        elements = {"
    elements = list(_elements(layout, family, present))
    rows = [elements[first:first + ELEMENTS_OF_A_LINE] for first in range(0, len(elements), ELEMENTS_OF_A_LINE)]
    yield ",\n".join(f"            {', '.join(row)}" for row in rows)
    yield from ("        }", "    }", "")


def _elements(layout: Layout, family: int, present: Mapping[str, int]) -> Iterator[str]:
    addresses = {node.name: address_of(node, family) for node in layout.config.nodes}
    for first, last, name in ranges(table(present)):
        yield f"{first if first == last else f'{first}-{last}'} : {addresses[name]}"


def _rules(layout: Layout, family: int, services: Iterable[Service]) -> Iterator[str]:
    kind, seed = FAMILY_NAMES[family], layout.config.hash_seed
    virtual = ", ".join(str(each.ip) for each in layout.of_family(family))
    for protocol in ("tcp", "udp"):
        ports = sorted({service.port for service in services if service.protocol.lower() == protocol})
        if ports:
            yield (f"        {kind} daddr {{ {virtual} }} {protocol} dport {{ {', '.join(map(str, ports))} }} "
                   f"ct mark set jhash {kind} saddr . {protocol} sport mod {SLOTS} seed 0x{seed:08x} "
                   f"dnat {kind} to ct mark map @nodes{family}")
