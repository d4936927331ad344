"""Clusters for the tests of what is written for directors."""

from typing import Any

from attrs import evolve

from registrar.distribution.directors.config import DirectorConfig, DirectorsConfig, RealServerConfig
from registrar.distribution.directors.layout import Layout, layout_of
from registrar.distribution.health.config import HealthConfig
from rollcall.net.config import KeepaliveConfig, ListenerConfig

VIRTUAL4, VIRTUAL6 = "192.0.2.10", "2001:db8::10"
LONGEST = 7200
NODES = tuple(RealServerConfig(name=f"node{number}", addresses=(f"192.0.2.{10 + number}", f"2001:db8::1{number}"),
                               weight=weight) for number, weight in ((1, 100), (2, 50)))
DIRECTORS = tuple(DirectorConfig(name=f"lb{number}", addresses=(f"192.0.2.{number}", f"2001:db8::{number}"))
                  for number in (1, 2))
BOTH = DirectorsConfig(addresses=(f"{VIRTUAL4}/24", f"{VIRTUAL6}/64"), directors=DIRECTORS, nodes=NODES,
                       check_command="/bin/true check-sip")
ALONE = evolve(BOTH, streams_by="none", datagrams_by="none", directors=())


def a_listener(transport: str, host: str, port: int = 5060, **more: Any) -> ListenerConfig:
    """Return a listener."""
    return ListenerConfig(name=f"{transport}-{host}-{port}", transport=transport, host=host,  # type: ignore[arg-type]
                          port=port, **more)


UDP4, UDP6 = (a_listener("udp", each, free_bind=True) for each in (VIRTUAL4, VIRTUAL6))
UDP_OWN = a_listener("udp", "192.0.2.11")
TCP4, TCP6 = a_listener("tcp", "0.0.0.0"), a_listener("tcp", "::")
TLS4, WS4 = a_listener("tls", "0.0.0.0", 5061), a_listener("ws", "0.0.0.0", 80)
ALL = (UDP4, UDP6, UDP_OWN, TCP4, TCP6, TLS4, WS4)


def a_layout(config: DirectorsConfig = BOTH, listeners: tuple[ListenerConfig, ...] = ALL,
             agent: tuple[str, ...] = ("192.0.2.11:5090",), site: tuple[str, ...] = ()) -> Layout:
    """Return a cluster."""
    return layout_of(config, listeners, site, "example.com", HealthConfig(agent=agent), KeepaliveConfig(), LONGEST,
                     "/usr/bin/rollcall")
