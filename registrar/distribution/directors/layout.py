"""What the renderers know: the virtual addresses, the machines, and which services are spread over which nodes."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from ipaddress import IPv4Interface, IPv6Interface, ip_address, ip_interface, ip_network
from shlex import quote
from typing import Literal, TypeVar

from attrs import frozen

from registrar.distribution.directors.check_sip import place_of
from registrar.distribution.directors.config import DirectorConfig, DirectorsConfig, RealServerConfig
from registrar.distribution.health.config import HealthConfig
from rollcall.net.config import KeepaliveConfig, ListenerConfig
from rollcall.ops.allowed import is_address

Role = Literal["director", "node", "both"]
Interface = IPv4Interface | IPv6Interface
FAMILIES = (4, 6)
Machine = TypeVar("Machine", DirectorConfig, RealServerConfig)
SILENT_SPARE_SECONDS = 300


class CannotRender(ValueError):
    """Why nothing can be written for this cluster, or this machine; one line for each mistake."""


@frozen
class Service:
    """A port of the virtual addresses of one family."""

    family: int
    transport: str
    port: int
    check_transport: str
    """How a node is asked whether it serves it: udp, tcp or tls."""
    check_port: int
    check_expects_proxy: bool
    """Whether there connections of the directors have to begin with a PROXY header."""

    @property
    def is_stream(self) -> bool:
        """Whether connections come by it."""
        return self.transport != "udp"

    @property
    def protocol(self) -> str:
        """What it is for the kernel."""
        return "TCP" if self.is_stream else "UDP"

    @property
    def label(self) -> str:
        """Names it in configurations: letters, digits and "_"."""
        return f"sip{self.family}_{self.transport}_{self.port}"


@frozen(kw_only=True)
class Layout:
    """A cluster with its virtual addresses."""

    config: DirectorsConfig
    addresses: tuple[Interface, ...]
    gateways: tuple[Interface, ...]
    services: tuple[Service, ...]
    domain: str
    """One that the nodes serve: it stands in the Request-URI of checks."""
    agent_ports: Mapping[int, int]
    """Of the nodes' [health] agent, by family; empty: they have none."""
    keepalive: KeepaliveConfig
    silent_seconds: int
    """Longer than any registration lasts: who has said nothing for so long is gone."""
    check_command: str

    @property
    def idle_seconds(self) -> int:
        """After so long without a packet the kernels of nodes have given a connection up."""
        watched = self.keepalive.idle + self.keepalive.interval * self.keepalive.probes
        return max(watched, self.keepalive.user_timeout_ms // 1000)

    def families(self) -> tuple[int, ...]:
        """Return those that there are virtual addresses of."""
        return tuple(family for family in FAMILIES if self.of_family(family))

    def of_family(self, family: int) -> tuple[Interface, ...]:
        """Return the virtual addresses of a family."""
        return tuple(each for each in self.addresses if each.version == family)

    def spread_by(self, means: str) -> tuple[Service, ...]:
        """Return the services that "lvs", "haproxy" or "nftables" spreads."""
        return tuple(service for service in self.services if self.means(service) == means)

    def means(self, service: Service) -> str:
        """Return what spreads a service."""
        return self.config.streams_by if service.is_stream else self.config.datagrams_by

    @property
    def holders(self) -> tuple[DirectorConfig, ...]:
        """The machines that may hold the virtual addresses."""
        nodes = (DirectorConfig(name=node.name, addresses=node.addresses) for node in self.config.nodes)
        return self.config.directors or tuple(nodes)

    def holder(self, name: str) -> DirectorConfig:
        """Return the machine of this name that may hold the virtual addresses. Raises CannotRender."""
        return _named(self.holders, name, "a director")

    def node(self, name: str) -> RealServerConfig:
        """Return the node of this name. Raises CannotRender."""
        return _named(self.config.nodes, name, "a node")

    def check(self, service: Service, node: RealServerConfig, more: str = "") -> str:
        """Return the command that says how a node serves a service."""
        words = [self.check_command, place(address_of(node, service.family), service.check_port), "--transport",
                 service.check_transport, "--domain", self.domain, "--timeout",
                 f"{self.config.check_timeout_seconds:g}"]
        return " ".join([*words, *([more] if more else [])])

    def agent(self, node: RealServerConfig, family: int) -> str:
        """Return host:port of a node's agent; empty when it has none."""
        if family not in self.agent_ports:
            family = next((other for other in self.agent_ports if other in families_of(node.addresses)), 0)
        return place(address_of(node, family), self.agent_ports[family]) if family else ""


def layout_of(
    config: DirectorsConfig,
    listeners: Sequence[ListenerConfig],
    site_addresses: Iterable[str],
    domain: str,
    health: HealthConfig,
    keepalive: KeepaliveConfig,
    longest_registration: int,
    rollcall: str,
) -> Layout:
    """Return what the configuration says; `rollcall` is where that command stands. Raises CannotRender."""
    mistakes: list[str] = []
    addresses = tuple(ip_interface(each) for each in (config.addresses or tuple(site_addresses)))
    if not addresses:
        mistakes.append("[directors] addresses is empty, and so are the addresses of our own [[site]]")
    if not config.nodes:
        mistakes.append("[directors] nodes is empty: it names the nodes that phones are spread over")
    families = sorted({each.version for each in addresses})
    machines: tuple[DirectorConfig | RealServerConfig, ...] = (*config.directors, *config.nodes)
    for machine in machines:
        mistakes += [f"[directors] {machine.name} has no IPv{family} address, but there is a virtual one"
                     for family in families if family not in families_of(machine.addresses)]
    services = tuple(_services(config, listeners, addresses, mistakes))
    if mistakes:
        raise CannotRender("\n".join(mistakes))
    return Layout(
        config=config, addresses=addresses, services=services, domain=domain,
        gateways=tuple(ip_interface(each) for each in config.gateways),
        agent_ports=_agent_ports(health),
        keepalive=keepalive,
        silent_seconds=longest_registration + SILENT_SPARE_SECONDS,
        check_command=config.check_command or f"{quote(rollcall)} check-sip",
    )


def warnings(layout: Layout, listeners: Iterable[ListenerConfig], health: HealthConfig) -> list[str]:
    """Return what will not work as it stands, in sentences."""
    return [*_wrong_listeners(layout, listeners), *_wrong_agents(layout, health)]


def _wrong_listeners(layout: Layout, listeners: Iterable[ListenerConfig]) -> Iterable[str]:
    own = " or ".join(str(each.ip) for each in layout.addresses)
    from_node = not layout.config.directors or layout.config.datagrams_by == "lvs"
    virtual = {str(each.ip) for each in layout.addresses}
    for listener in listeners:
        if listener.host in virtual and not listener.free_bind:
            yield (f"[[listen]] {listener.name} is bound to {listener.host} without free_bind = true: the node does "
                   "not start while it does not have that address")
        if listener.transport == "udp" and listener.host in ("0.0.0.0", "::") and from_node:
            yield (f"[[listen]] {listener.name} is bound to {listener.host}: what it sends has the node's own address "
                   f"as its source, not {own}. Have one with host = \"(the virtual address)\" and free_bind = true, "
                   "and one with the node's own address for checks")
        if listener.transport != "udp" and layout.config.streams_by == "haproxy" and not _expects_proxy(
                listener, layout.config.directors):
            yield (f"[[listen]] {listener.name} does not list all directors in proxy_protocol_from: it takes the PROXY "
                   "header of the others for bad SIP")


def _wrong_agents(layout: Layout, health: HealthConfig) -> Iterable[str]:
    """Yield agents that directors cannot reach, and directors that agents do not answer."""
    for host, _ in map(place_of, health.agent):
        if is_address(host) and ip_address(host).is_loopback and layout.config.directors:
            yield f"[health] agent is bound to {host}, where directors cannot ask it"
    networks = [ip_network(each) for each in health.agent_networks]
    # Nodes with virtual addresses of their own are asked by themselves alone.
    asking = layout.holders if any(layout.means(each) != "none" for each in layout.services) else ()
    for holder in asking if health.agent else ():
        own = [ip_address(each) for each in holder.addresses if ip_address(each).version in layout.agent_ports]
        if not all(any(each in network for network in networks) for each in own):
            yield f"[health] agent_networks has not the address of {holder.name}: the agents do not answer it"


def address_of(machine: DirectorConfig | RealServerConfig, family: int) -> str:
    """Return its address of a family; layout_of has seen to it that there is one."""
    return next(each for each in machine.addresses if ip_address(each).version == family)


def _services(config: DirectorsConfig, listeners: Sequence[ListenerConfig], addresses: Sequence[Interface],
              mistakes: list[str]) -> Iterable[Service]:
    """Yield each port of the virtual addresses once."""
    virtual = {str(each.ip) for each in addresses}
    for family in sorted({each.version for each in addresses}):
        ours = [each for each in listeners if ip_address(each.host).version == family and each.port]
        own = [each for each in ours if each.host not in virtual and each.transport in ("udp", "tcp", "tls")]
        reached = {(each.port, each.transport) for each in ours if _is_reached(config, each, virtual)}
        if not reached:
            mistakes.append(f"no [[listen]] has {'0.0.0.0' if family == 4 else '::'} as its host, or the IPv{family} "
                            "address by which it is reached, which is the virtual one but for HAProxy and nftables")
        for port, transport in sorted(reached):
            checked = _checked(config, own, transport, port)
            if checked is None:
                mistakes.append(f"{transport} {port} cannot be checked by IPv{family}: no [[listen]] with udp, tcp or "
                                "tls has the node's own address, or all, as its host and takes what the directors say "
                                "as it is, without a PROXY header")
            else:
                yield Service(family, transport, port, checked.transport, checked.port,
                              _expects_proxy(checked, config.directors))


def _checked(config: DirectorsConfig, own: Iterable[ListenerConfig], transport: str,
             port: int) -> ListenerConfig | None:
    """Return the listener that says how a service is: itself, or else another one of the same process.

    WebSockets, and what is bound to a virtual address alone, cannot be asked. Only HAProxy's checks know PROXY headers.
    """
    by_haproxy = transport != "udp" and config.streams_by == "haproxy"
    able = [each for each in own if by_haproxy or not _expects_proxy(each, config.directors)]
    if by_haproxy:
        able = [each for each in able if each.transport != "udp"]
    return min(able, key=lambda each: ((each.transport, each.port) != (transport, port), each.transport == "udp"),
               default=None)


def _is_reached(config: DirectorsConfig, listener: ListenerConfig, virtual: Collection[str]) -> bool:
    """Say whether what comes to a virtual address comes to a listener."""
    is_stream = listener.transport != "udp"
    # HAProxy and DNAT go to a node's own address; what LVS sends, or comes without it, is for the virtual one.
    to_own = (config.streams_by if is_stream else config.datagrams_by) in ("haproxy", "nftables")
    return ip_address(listener.host).is_unspecified or (listener.host in virtual) is not to_own


def _expects_proxy(listener: ListenerConfig, directors: Iterable[DirectorConfig]) -> bool:
    """Say whether what all directors send begins with a PROXY header there."""
    networks = [ip_network(each) for each in listener.proxy_protocol_from]
    own = [ip_address(each) for director in directors for each in director.addresses]
    ours = [each for each in own if each.version == ip_address(listener.host).version]
    return bool(ours) and all(any(each in network for network in networks) for each in ours)


def families_of(addresses: Iterable[str]) -> set[int]:
    """Return 4, 6 or both."""
    return {ip_address(each).version for each in addresses}


def place(host: str, port: int) -> str:
    """Return host:port, an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _agent_ports(health: HealthConfig) -> dict[int, int]:
    ports: dict[int, int] = {}
    for host, port in map(place_of, health.agent):
        # A name says nothing of its family, and most networks have IPv4.
        ports.setdefault(ip_address(host).version if is_address(host) else 4, port)
    return ports


def _named(machines: Sequence[Machine], name: str, what: str) -> Machine:
    for machine in machines:
        if machine.name == name:
            return machine
    names = ", ".join(machine.name for machine in machines)
    raise CannotRender(f"{name} is not {what} of [directors]; there are: {names or 'none'}")
