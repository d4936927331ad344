"""Writes haproxy.cfg (HAProxy 2.6): connections are passed on as they are, TLS and WebSockets too, and a PROXY header
(version 2) ahead of each tells the node the phone's own address.

A connection of a phone is quiet for as long as a registration lasts; the kernel's keepalive finds those that are gone.
A node that is drained, or not ready, gets no new connections and keeps what it has. One that is dead loses its
connections at once, for phones behind HAProxy hear of it no other way. A node that is drained closes its listeners in
the end, so what tells one from the other is its agent, which is asked for its weight and for signs of life. Without an
agent there is the answer to OPTIONS, and who is dead loses connections only when the kernel finds that out.
"""

from collections.abc import Iterator

from attrs import frozen

from registrar.distribution.directors.check_sip import bracketed
from registrar.distribution.directors.config import RealServerConfig
from registrar.distribution.directors.layout import CannotRender, Layout, Service, address_of, place

CONNECT_SECONDS = 5
HEADERS = (
    "Via: SIP/2.0/{transport} haproxy.invalid;branch=z9hG4bK%[uuid];rport",
    "Max-Forwards: 70",
    "From: <sip:check@haproxy.invalid>;tag=%[uuid]",
    "To: <sip:{domain}>",
    "Call-ID: %[uuid]",
    "CSeq: 1 OPTIONS",
    "Content-Length: 0",
    "",
)
# What an agent says that is not down: "ready up 75%", "drain".
LIVING = "^(ready|drain)"
# All but 5xx: 501 and 505 are said of the request, the others of a node that gets no new connections (L7OKC).
SERVING = r"^SIP/2\.0\ ([2346]|501|505)"


@frozen
class Port:
    """A port of all the virtual addresses."""

    transport: str
    number: int
    services: tuple[Service, ...]

    @property
    def family(self) -> int:
        """That by which nodes are reached."""
        return min(service.family for service in self.services)

    @property
    def check(self) -> Service:
        """How they are checked."""
        return next(service for service in self.services if service.family == self.family)


def render(layout: Layout) -> str:
    """Return haproxy.cfg, which is the same on all directors. Raises CannotRender."""
    services = layout.spread_by("haproxy")
    if not services:
        raise CannotRender("nothing is spread by HAProxy: see [directors] streams_by")
    lines = [*_global(layout), *_defaults(layout)]
    keys = sorted({(service.port, service.transport) for service in services})
    for number, transport in keys:
        found = tuple(each for each in services if (each.port, each.transport) == (number, transport))
        lines += _listen(layout, Port(transport, number, found))
    return "\n".join(lines).rstrip("\n") + "\n"


def _global(layout: Layout) -> Iterator[str]:
    yield "# Written by: rollcall haproxy render"
    yield "# Datagrams (UDP) are not for HAProxy: see [directors] datagrams_by."
    yield "global"
    yield f"    maxconn {layout.config.proxy_max_connections}"
    yield "    log stderr format raw daemon notice"
    yield ""


def _defaults(layout: Layout) -> Iterator[str]:
    config = layout.config
    yield "defaults"
    yield "    mode tcp"
    yield "    log global"
    yield "    option dontlognull"
    yield f"    maxconn {config.proxy_max_connections}"
    yield f"    balance {config.proxy_balance}"
    yield f"    timeout connect {CONNECT_SECONDS}s"
    yield "    # Who finds a node dead that is not known as such is given to another one at once."
    yield "    option redispatch 1"
    yield "    # Who has said nothing for longer than any registration lasts is gone."
    yield f"    timeout client {layout.silent_seconds}s"
    yield f"    timeout server {layout.silent_seconds}s"
    yield f"    timeout check {round(config.check_timeout_seconds * 1000)}ms"
    for side in ("cli", "srv"):
        yield f"    option {side}tcpka"
        yield f"    {side}tcpka-idle {layout.keepalive.idle}s"
        yield f"    {side}tcpka-intvl {layout.keepalive.interval}s"
        yield f"    {side}tcpka-cnt {layout.keepalive.probes}"
    agent = f" on-marked-down shutdown-sessions agent-check agent-inter {config.check_seconds}s"
    yield (f"    default-server inter {config.check_seconds}s fall {config.check_fall} rise {config.check_rise} "
           f"slowstart {config.proxy_slow_start_seconds}s tcp-ut {layout.idle_seconds}s"
           f"{agent if layout.agent_ports else ''}")
    yield ""


def _listen(layout: Layout, port: Port) -> Iterator[str]:
    yield f"listen sip_{port.transport}_{port.number}"
    for address in layout.addresses:
        if address.version in {service.family for service in port.services}:
            yield f"    bind {place(str(address.ip), port.number)} tcp-ut {layout.idle_seconds}s"
    yield "    option tcp-check"
    yield from _expected_of_agents() if layout.agent_ports else _options(layout, port)
    for node in layout.config.nodes:
        yield f"    server {node.name} {_server(layout, port, node)}"
    yield ""


def _expected_of_agents() -> Iterator[str]:
    yield f"    tcp-check expect rstring {LIVING}"


def _options(layout: Layout, port: Port) -> Iterator[str]:
    domain = bracketed(layout.domain)
    yield f'    tcp-check send-lf "OPTIONS sip:{domain} SIP/2.0\\r\\n"'
    for header in HEADERS:
        text = header.format(transport=port.check.check_transport.upper(), domain=domain)
        yield f'    tcp-check send-lf "{text}\\r\\n"'
    yield f"    tcp-check expect error-status L7OKC rstring {SERVING}"


def _server(layout: Layout, port: Port, node: RealServerConfig) -> str:
    words = [place(address_of(node, port.family), port.number), "send-proxy-v2", f"weight {node.weight}", "check"]
    agent = layout.agent(node, port.family)
    return " ".join(words + (_asked_of_agent(agent) if agent else _asked_of_listener(port)))


def _asked_of_agent(agent: str) -> list[str]:
    # An IPv6 address without its brackets would be taken for one with a port.
    host, _, number = agent.rpartition(":")
    return [f"addr {host} port {number}", f"agent-addr {host} agent-port {number}"]


def _asked_of_listener(port: Port) -> list[str]:
    check = port.check
    words = []
    if (check.check_transport, check.check_port) != (port.transport, port.number):
        words.append(f"port {check.check_port}")
        if check.check_expects_proxy:
            words.append("check-send-proxy")
    if check.check_transport == "tls":
        words.append("check-ssl verify none")
    return words
