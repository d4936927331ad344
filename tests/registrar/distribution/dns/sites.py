"""Sites and zones for tests of the name server."""

from collections.abc import Mapping, Sequence
from typing import Any

from registrar.distribution.dns.config import DnsConfig, RouteConfig
from registrar.distribution.dns.layout import Layout, lay_out
from rollcall.cluster.config import SiteConfig
from rollcall.cluster.nodes import Node
from rollcall.cluster.sites import SiteState
from rollcall.net.config import ListenerConfig

NOW = 1_800_000_000.0
FRA, AMS, NYC = (
    SiteConfig(name="fra", addresses=("192.0.2.10", "2001:db8::10"), members=("10.0.0.1:5070",)),
    SiteConfig(name="ams", addresses=("192.0.2.20",), members=("10.0.0.2:5070",)),
    SiteConfig(name="nyc", addresses=("198.51.100.30", "2001:db8:1::30"), members=("10.0.0.3:5070",)),
)
SITES = (FRA, AMS, NYC)
ROUTES = (
    RouteConfig(group="telekom/DE", sites=("fra", "ams")),
    RouteConfig(group="*/US", sites=("nyc",)),
    RouteConfig(group="kpn/*", sites=("ams|fra",)),
)
LISTENERS = (
    ListenerConfig(name="udp", transport="udp", host="192.0.2.1", port=5060),
    ListenerConfig(name="tcp", transport="tcp", host="192.0.2.1", port=5060),
    ListenerConfig(name="tls", transport="tls", host="192.0.2.1", port=5061),
    ListenerConfig(name="ws", transport="ws", host="192.0.2.1", port=80),
    ListenerConfig(name="wss", transport="wss", host="192.0.2.1", port=443),
)


def a_config(**changes: Any) -> DnsConfig:
    """Return a configuration with three routes."""
    return DnsConfig(**{"listen": ("127.0.0.1:53",), "routes": ROUTES} | changes)


def a_layout(config: DnsConfig | None = None, domains: Sequence[str] = ("example.com",),
             listeners: Sequence[ListenerConfig] = LISTENERS, sites: Sequence[SiteConfig] = SITES) -> Layout:
    """Return the zone of one domain with three sites."""
    return lay_out(config or a_config(), domains, listeners, sites)


def a_state(name: str, *weights: int, now: float = NOW, reachable: bool = True, capacity: int = 20_000) -> SiteState:
    """Return a site that was heard of now, with a node of each weight."""
    nodes = tuple(Node(node=f"{name}-{number}", epoch=1, host="10.0.0.1", port=5070, weight=weight, capacity=capacity)
                  for number, weight in enumerate(weights))
    return SiteState(name=name, nodes=nodes, heard_at=now, reachable=reachable)


class KnownSites:
    """What is known of sites: as the test says."""

    def __init__(self, *states: SiteState) -> None:
        self.known: dict[str, SiteState] = {state.name: state for state in states}

    def states(self) -> Mapping[str, SiteState]:
        """See Sites."""
        return self.known

    def become(self, *states: SiteState) -> None:
        """Replace what is known of these."""
        self.known |= {state.name: state for state in states}
