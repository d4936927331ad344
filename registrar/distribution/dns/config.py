"""What an operator can set about the name server. Every time is in seconds."""

from attrs import field, frozen

from rollcall.ops.allowed import (
    NotAllowed,
    Validator,
    above,
    address,
    at_least,
    between,
    each,
    host,
    host_and_port,
    is_address,
    matching,
    network,
    non_empty,
    unique,
    where,
    zoneless,
)

RANK = "|"
"""Between sites that are equally near."""

EVERY = "*"
"""Any carrier, or any region."""

_site_or_more = matching(r"[A-Za-z0-9-]+(?:\|[A-Za-z0-9-]+)*", 'the name of a [[site]], or of equal ones: "fra|ams"')
_group = matching(r"(?!/\Z)[^/\s]*/[^/\s]*", 'carrier/region, such as "telekom/DE", "telekom/*" or "*/DE"')
_place = where(lambda value: is_address(value.rpartition(":")[0].strip("[]")), "an address, not a name, with a port")
# An answer from all addresses at once would leave from another one than was asked where there are several.
_one = where(lambda value: value.rpartition(":")[0] not in ("0.0.0.0", "[::]"), "one address: name each that is asked")
_mailbox = matching(r"(?:[^\s@]{1,63}@[^\s@]+)?", "a mail address")


def _ttl(low: int) -> Validator:
    # RFC 2181 §8 would allow more; an answer that lives longer than a week nobody has meant
    return between(low, 604_800)


@frozen(kw_only=True)
class NameServerConfig:
    """One item of name_servers: who answers for the zones."""

    name: str = field(validator=[host(), where(lambda value: not is_address(value), "a host name")])
    """Its host name."""

    addresses: tuple[str, ...] = field(default=(), validator=each(address(), zoneless()))
    """Its addresses; needed when the name is in one of our zones and not the host of a site, else of no use."""


@frozen(kw_only=True)
class RouteConfig:
    """One item of routes: the sites for one access group, the nearest first."""

    group: str = field(validator=_group)
    """carrier/region as [access] finds them, either of them "*" for any. The most specific counts: carrier and region,
    then the carrier, then the region, then "*/*"."""

    sites: tuple[str, ...] = field(validator=[non_empty(), each(_site_or_more)])
    """Names of sites; "fra|ams" are equally near and share by what they have free. Others come after all of these."""

    def __attrs_post_init__(self) -> None:
        names = [name for rank in self.sites for name in rank.split(RANK)]
        if len(set(names)) < len(names):
            raise NotAllowed("sites that differ from one another", "sites", list(self.sites))


@frozen(kw_only=True)
class DnsConfig:
    """[dns]: the name server for the domains that phones register in."""

    listen: tuple[str, ...] = field(default=(), validator=each(host_and_port(), _place, _one))
    """Where it listens, over UDP and TCP; empty: there is none. An answer leaves from the address that was asked, so
    each address that is asked is named here."""

    free_bind: bool = False
    """Whether to bind addresses that this machine does not have yet, e.g. virtual ones (IP_FREEBIND)."""

    udp_payload_bytes: int = field(default=1232, validator=between(512, 4096))
    """No longer answer goes out by UDP, so that none is fragmented; what does not fit is asked for again by TCP."""

    max_datagrams_per_turn: int = field(default=256, validator=between(1, 65536))
    """Queries of one socket that are answered before the reactor may do something else."""

    max_turn_ms: float = field(default=2.0, validator=above(0))
    """How long queries of one socket are answered before the reactor may do something else."""

    coalesce_ms: float = field(default=2.0, validator=between(0, 10))
    """Under load queries are looked for once in so many milliseconds; 0 wakes for each."""

    max_cached: int = field(default=8192, validator=at_least(0))
    """Ready answers kept by what was asked, until the next change; at most some 2 kB each."""

    answers_per_second: float = field(default=1000.0, validator=at_least(0))
    """UDP answers of one kind (data, no data, no such name, refused, ...) to one network; 0 for no limit. It bounds
    what a liar who gives somebody else's address can have sent there."""

    burst_seconds: float = field(default=2.0, validator=above(0))
    """For how long a network that was silent may have such a rate at once."""

    slip: int = field(default=2, validator=between(0, 10))
    """Every so manieth answer beyond the rate is sent, but empty and truncated: a true resolver comes back by TCP.
    0 sends none, 1 all of them so."""

    rate_ipv4_bits: int = field(default=24, validator=between(8, 32))
    """What is one network of IPv4."""

    rate_ipv6_bits: int = field(default=56, validator=between(16, 128))
    """What is one network of IPv6."""

    max_networks: int = field(default=20_000, validator=at_least(16))
    """Networks whose rates are remembered; the oldest is forgotten for a new one."""

    unlimited_networks: tuple[str, ...] = field(default=("127.0.0.0/8", "::1/128"), validator=each(network()))
    """Who is answered at any rate."""

    tcp_connections: int = field(default=200, validator=at_least(1))
    """Open TCP connections at each place; a further one is closed."""

    tcp_connections_per_source: int = field(default=20, validator=at_least(1))
    """Open TCP connections of one address at each place."""

    tcp_idle_seconds: float = field(default=10.0, validator=above(0))
    """A TCP connection on which nothing was asked or taken for so long is closed (RFC 7766 §6.2.3)."""

    secondaries: tuple[str, ...] = field(default=(), validator=each(host_and_port(), _place))
    """Name servers that are told of changes (NOTIFY) and may transfer the zones."""

    transfer_networks: tuple[str, ...] = field(default=(), validator=each(network()))
    """Who else may transfer the zones."""

    domains: tuple[str, ...] = field(
        default=(), validator=each(host(), where(lambda value: not is_address(value), "host names")))
    """The names that it knows; empty for those of [[domain]], aliases included, that are no addresses. One below
    another one is in its zone, any other is a zone of its own."""

    listeners: tuple[str, ...] = field(default=(), validator=unique())
    """The names of the [[listen]] that phones are led to; empty for all."""

    addresses: tuple[str, ...] = field(default=(), validator=each(address(), zoneless()))
    """Where phones reach us when there is no [[site]]; empty for what the listeners say of themselves."""

    name_servers: tuple[NameServerConfig, ...] = field(default=(), validator=unique(lambda each: each.name, "names"))
    """Who the zones say answers for them; empty for us: ns-<site>.<zone> at each site, or ns.<zone> without sites."""

    hostmaster: str = field(default="", validator=_mailbox)
    """Whom to write to about a zone; empty for hostmaster@ it."""

    ttl_seconds: int = field(default=30, validator=_ttl(1))
    """How long resolvers may keep what depends on the state of sites, while all are well."""

    ttl_changing_seconds: int = field(default=5, validator=_ttl(0))
    """The same while a site is away, overloaded, or has just come back."""

    ttl_static_seconds: int = field(default=3600, validator=_ttl(1))
    """The same of what depends on this file only: SOA, NS, NAPTR, and the addresses of hosts."""

    negative_ttl_seconds: int = field(default=30, validator=_ttl(0))
    """How long they may remember that something is not there (RFC 2308)."""

    refresh_seconds: int = field(default=60, validator=at_least(1))
    """How often secondaries ask whether there is something new; they are told of it, too."""

    retry_seconds: int = field(default=10, validator=at_least(1))
    """How soon they ask again when that failed."""

    expire_seconds: int = field(default=604_800, validator=at_least(1))
    """How long they answer without us."""

    routes: tuple[RouteConfig, ...] = field(default=(), validator=unique(lambda route: route.group, "groups"))
    """Which sites are near to whom; who is in none of these groups gets the sites in the order of [[site]]."""

    look_seconds: float = field(default=0.25, validator=[above(0), between(0.05, 60)])
    """How often it is looked whether something has changed."""

    overloaded_below: float = field(default=0.1, validator=between(0, 1))
    """A site with a smaller part of its capacity free comes after the next one that has more."""

    recovered_above: float = field(default=0.25, validator=between(0, 1))
    """It is in its place again once so much has been free for hold_seconds."""

    hold_seconds: float = field(default=30.0, validator=at_least(0))
    """See recovered_above."""

    return_seconds: float = field(default=60.0, validator=at_least(0))
    """How long a site that was away takes until it has its whole share again."""

    def __attrs_post_init__(self) -> None:
        if self.overloaded_below > self.recovered_above:
            raise NotAllowed(f"at most recovered_above ({self.recovered_above})", "overloaded_below",
                             self.overloaded_below)
        if self.ttl_changing_seconds > self.ttl_seconds:
            raise NotAllowed(f"at most ttl_seconds ({self.ttl_seconds})", "ttl_changing_seconds",
                             self.ttl_changing_seconds)
