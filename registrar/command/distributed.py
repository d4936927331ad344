"""What `rollcall check` says of names, health, virtual addresses and tickles: whether they fit to all else."""

from collections.abc import Iterator
from ipaddress import ip_address

from attrs import frozen

from registrar.command.directors import described
from registrar.config import RegistrarConfig
from registrar.distribution.directors.check_sip import place_of
from registrar.distribution.directors.layout import CannotRender, warnings
from rollcall.ops.allowed import is_address


@frozen
class Place:
    """An address and a port where something of this process listens."""

    what: str
    transport: str
    host: str
    port: int

    def is_taken_by(self, other: "Place") -> bool:
        """Say whether the two cannot both listen."""
        if (self.transport, self.port) != (other.transport, other.port) or not self.port:
            return False
        return self.host == other.host or _is_for_all(self.host, other.host) or _is_for_all(other.host, self.host)


def clashes(config: RegistrarConfig) -> Iterator[str]:
    """Yield what of [dns] and [health] listens where something else does."""
    taken = [Place(f"listener {each.name}", "udp" if each.transport == "udp" else "tcp", each.host, each.port)
             for each in config.listeners]
    taken.append(Place("admin.port", "tcp", config.admin.host, config.admin.port))
    if config.location.kind == "redis":
        taken.append(Place("internal_port", "tcp", config.cluster.internal_host, config.cluster.internal_port))
    for place in _new_places(config):
        yield from (f"{place.what}: {place.host} port {place.port} ({place.transport}) is that of {each.what}, too"
                    for each in taken if place.is_taken_by(each))
        taken.append(place)


def unfit(config: RegistrarConfig) -> tuple[list[str], list[str]]:
    """Return what is wrong with [directors], and what would work but badly; nothing when it is not used."""
    used = config.directors
    if not (used.addresses or used.directors or used.nodes):
        return [], []
    try:
        layout = described(config)
    except CannotRender as problem:
        return str(problem).splitlines(), []
    virtual = {str(each.ip) for each in layout.addresses}
    absent = [f"[dns] listens at {text} without free_bind = true: the node does not start while it does not have that "
              "address" for text in config.dns.listen if place_of(text)[0] in virtual and not config.dns.free_bind]
    return [], [*warnings(layout, config.listeners, config.health), *absent]


def unused(config: RegistrarConfig) -> Iterator[str]:
    """Yield sections that need a cluster where there is none."""
    for name, enabled in (("rebalance", config.rebalance.enabled), ("tickle", config.tickle.enabled)):
        if enabled and config.location.kind != "redis":
            yield f'[{name}] is not used: nodes know of each other only with [location] kind = "redis"'


def _new_places(config: RegistrarConfig) -> Iterator[Place]:
    for text in config.dns.listen:
        host, port = place_of(text)
        yield Place("dns.listen", "udp", host, port)
        yield Place("dns.listen", "tcp", host, port)
    for text in config.health.agent:
        yield Place("health.agent", "tcp", *place_of(text))


def _is_for_all(host: str, other: str) -> bool:
    """Say whether a socket at one host has the port of another host, too."""
    if not (is_address(host) and is_address(other)):
        return False
    return ip_address(host).is_unspecified and ip_address(host).version == ip_address(other).version
