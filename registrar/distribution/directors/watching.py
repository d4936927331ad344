"""Asks all nodes how many new phones they want, for `rollcall nftables weights`; for LVS keepalived does it itself."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from attrs import frozen

from registrar.distribution.directors import check_sip
from registrar.distribution.directors.config import RealServerConfig
from registrar.distribution.directors.layout import Layout, Service, address_of
from registrar.distribution.directors.nftables import wanted, weights

MOST_AT_A_TIME = 32

AGAIN = 5
"""After so many looks without news the weights are told again: who loads the table anew gives dead nodes phones."""

Ask = Callable[[Layout, Service, RealServerConfig], int]


@frozen
class Change:
    """What is to be told to the kernel; empty where nothing has changed."""

    commands: str
    """For `nft -f`."""
    dead: tuple[str, ...]
    """Addresses of nodes that have died since the last look: what the kernel remembers of them is to be forgotten, so
    that the next packet of each of their phones finds another node, which resets the connection."""
    said: str
    """The weights, in a sentence; empty where they are told again only."""


class Watch:
    """Remembers what was told last, and who has failed how often."""

    def __init__(self, layout: Layout, ask: Ask | None = None) -> None:
        self._layout = layout
        self._ask = ask or exit_code
        self._failures = dict.fromkeys((node.name for node in layout.config.nodes), 0)
        self._present: dict[str, int | None] = {}
        self._told: dict[str, int] | None = None
        self._quiet_looks = 0

    def look(self) -> Change:
        """Ask all nodes, and those that fail for the first time again, and return what has changed."""
        nodes = self._layout.config.nodes
        was_dead = {name for name, weight in self._present.items() if weight is None}
        asked = nodes
        for _ in range(1 if self._told else self._layout.config.check_fall):
            self._ask_all(asked)
            asked = tuple(node for node in asked if self._failures[node.name])
            if not asked:
                break
        dead = [node for node in nodes if self._present[node.name] is None and node.name not in was_dead]
        new = wanted({node.name: node.weight for node in nodes}, self._present)
        has_changed, self._told = new != self._told, new
        self._quiet_looks = 0 if has_changed or self._quiet_looks >= AGAIN else self._quiet_looks + 1
        families = sorted({service.family for service in self._layout.spread_by("nftables")})
        return Change(weights(self._layout, new) if not self._quiet_looks else "",
                      tuple(address_of(node, family) for node in dead for family in families),
                      ", ".join(f"{name} {weight}" for name, weight in new.items()) if has_changed else "")

    def forget(self) -> None:
        """Have the next look say everything, for nobody has heard the last."""
        self._told, self._present = None, {}

    def _ask_all(self, nodes: tuple[RealServerConfig, ...]) -> None:
        service = self._layout.spread_by("nftables")[0]
        with ThreadPoolExecutor(min(len(nodes), MOST_AT_A_TIME)) as pool:
            codes = list(pool.map(lambda node: self._ask(self._layout, service, node), nodes))
        for node, code in zip(nodes, codes, strict=True):
            self._failures[node.name] = self._failures[node.name] + 1 if code == check_sip.DEAD else 0
            if code != check_sip.DEAD:
                self._present[node.name] = node.weight if code == check_sip.ALIVE else code - check_sip.WEIGHT_0
            elif self._failures[node.name] >= self._layout.config.check_fall:
                self._present[node.name] = None
            else:
                self._present.setdefault(node.name, node.weight)


def exit_code(layout: Layout, service: Service, node: RealServerConfig) -> int:
    """Return what `rollcall check-sip` would end with."""
    agent = layout.agent(node, service.family)
    found = check_sip.check(
        (address_of(node, service.family), service.check_port), service.check_transport,
        layout.config.check_timeout_seconds, check_sip.place_of(agent) if agent else None, layout.domain)
    return found.exit_code(node.weight)
