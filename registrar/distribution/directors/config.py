"""What an operator can set about virtual addresses and directors. The same section may stand on all machines."""

from ipaddress import ip_address, ip_interface
from typing import Literal

from attrs import field, frozen

from rollcall.ops.allowed import NotAllowed, address, at_least, between, each, matching, name, unique, where, zoneless


def _is_interface(text: str) -> bool:
    try:
        ip_interface(text)
    except ValueError:
        return False
    return "%" not in text


def _one_of_each_family(addresses: tuple[str, ...]) -> bool:
    families = [ip_address(each).version for each in addresses]
    return 0 < len(families) == len(set(families))


_own_addresses = [each(address(), zoneless()),
                  where(_one_of_each_family, "an IPv4 address, an IPv6 address, or one of each")]


@frozen(kw_only=True)
class DirectorConfig:
    """A machine that may hold the virtual addresses."""

    name: str = field(validator=name())
    """What it is called, as --name of `rollcall keepalived render` and in keepalived's log."""

    addresses: tuple[str, ...] = field(validator=_own_addresses)
    """Its own addresses, one for each family that there are virtual addresses of."""

    priority: int = field(default=100, validator=between(52, 254))
    """Who has more takes the virtual addresses from who has less, if `preempt` is true. What follows from not being
    ready (51 less) still is a priority."""


@frozen(kw_only=True)
class RealServerConfig:
    """A node that gets its share of the connections."""

    name: str = field(validator=name())
    """What it is called; best its [registrar] node."""

    addresses: tuple[str, ...] = field(validator=_own_addresses)
    """Its own addresses, one for each family that there are virtual addresses of."""

    weight: int = field(default=100, validator=between(1, 253))
    """Its share of the connections beside the other nodes' while it has room."""


@frozen(kw_only=True)
class DirectorsConfig:
    """[directors]: which machines hold the virtual addresses, and spread connections over the nodes."""

    streams_by: Literal["lvs", "haproxy", "nftables", "none"] = "lvs"
    """Who spreads connections (TCP, TLS, WebSocket); "none": whoever has the virtual address serves them itself."""

    datagrams_by: Literal["lvs", "nftables", "none"] = "lvs"
    """Who spreads datagrams (UDP), which HAProxy knows nothing of."""

    addresses: tuple[str, ...] = field(
        default=(), validator=each(where(_is_interface, "an address such as 192.0.2.10/24 or 2001:db8::10/64")))
    """The virtual addresses, with the length of their network's prefix; without one they stand alone (/32, /128).
    Default: those of our own [[site]]."""

    directors: tuple[DirectorConfig, ...] = field(default=(), validator=unique(lambda each: each.name, "names"))
    """Who may hold them. Default: the nodes themselves."""

    nodes: tuple[RealServerConfig, ...] = field(default=(), validator=unique(lambda each: each.name, "names"))
    """Whom connections are spread over."""

    interface: str = field(default="eth0", validator=matching(r"[A-Za-z0-9_.-]{1,15}", "the name of an interface"))
    """The network interface that has the virtual addresses."""

    gateways: tuple[str, ...] = field(
        default=(), validator=each(where(_is_interface, "an address such as 10.0.0.1/24 or fd00::1/64")))
    """With nftables: the addresses that the nodes have as their default gateway; they move with the virtual ones."""

    gateway_interface: str = field(default="eth1", validator=matching(r"[A-Za-z0-9_.-]{1,15}", "an interface's name"))
    """The network interface towards the nodes, which has these."""

    virtual_router_id: int = field(default=51, validator=between(1, 255))
    """What tells these directors from others in the same network (RFC 5798 §5.2.3)."""

    advert_seconds: float = field(default=1.0, validator=between(0.01, 40.95))
    """How often the holder tells that it lives; after three times as long without a word another one takes over."""

    unicast: bool = False
    """Whether directors tell each other one by one, for networks without multicast."""

    preempt: bool = False
    """Whether a director of higher priority takes the addresses as soon as it is back: each move ends connections."""

    drain_file: str = field(default="/run/rollcall-drain", validator=matching(r"/[^\s\"#!]+", "an absolute path"))
    """A director with another number than 0 in this file gives the addresses away at once."""

    scheduler: Literal["mh", "sh", "wlc", "lc", "wrr", "rr", "sed", "nq"] = "mh"
    """How LVS chooses a node. "mh" has every director choose the same without having heard of the flow."""

    sync: bool = True
    """Whether the directors tell each other of LVS' connections."""

    sync_interface: str = field(default="", validator=matching(r"[A-Za-z0-9_.-]{0,15}", "an interface's name"))
    """By which they do; default: that of the virtual addresses."""

    sync_id: int = field(default=51, validator=between(0, 255))
    """What tells their words from those of other directors."""

    quorum: int = field(default=1, validator=at_least(1))
    """Below so much weight of all nodes together keepalived logs that a service is down."""

    check_command: str = field(default="", validator=matching(r"(/[^\"\n]+)?", "an absolute path and words"))
    """How nodes are checked. Default: `rollcall check-sip`, where it stands on the machine that renders."""

    check_user: str = field(default="nobody", validator=name())
    """Who runs the checks."""

    check_seconds: int = field(default=1, validator=between(1, 3600))
    """How often each service of each node is checked."""

    check_timeout_seconds: float = field(default=2.0, validator=between(0.1, 60))
    """How long an answer may take."""

    check_fall: int = field(default=2, validator=between(1, 100))
    """So many failed checks in a row make a node dead."""

    check_rise: int = field(default=2, validator=between(1, 100))
    """So many good ones in a row make it live again, where there is nothing but a virtual address, or HAProxy."""

    proxy_balance: Literal["leastconn", "source", "roundrobin", "random"] = "leastconn"
    """How HAProxy chooses a node."""

    proxy_max_connections: int = field(default=9000, validator=at_least(1))
    """How many connections one HAProxy carries; each takes two file descriptors of it."""

    proxy_slow_start_seconds: int = field(default=60, validator=between(0, 3600))
    """How long HAProxy takes to give a node that is back its whole share."""

    hash_seed: int = field(default=0x526F6C6C, validator=between(0, 0xFFFFFFFF))
    """What nftables mixes into its hash: all directors must have the same, and nobody else need know it."""

    def __attrs_post_init__(self) -> None:
        if len({director.priority for director in self.directors}) > 1 and not self.preempt:
            raise NotAllowed("the same for all directors, or preempt = true: without it whoever has the addresses "
                             "keeps them", "directors.priority")
        if (self.directors and not self.nodes) and self.streams_by != "none":
            raise NotAllowed("the nodes that these directors spread connections over", "nodes")
