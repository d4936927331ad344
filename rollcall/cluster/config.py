"""What an operator can set about Redis and about the cluster of registrars. Every time is in seconds."""

import re
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Literal

from attrs import field, frozen
from attrs.validators import and_, deep_iterable, ge, gt, le

_port = and_(ge(0), le(65535))

_SITE = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,38}[A-Za-z0-9])?")

MOST_CONNECTIONS = 2**30
"""More than a process of Linux can have descriptors."""


def _not_empty(instance: object, attribute: object, value: object) -> None:
    if not value:
        raise ValueError("something: it may not be empty")


def _host_and_port(instance: object, attribute: object, value: str) -> None:
    host, colon, digits = value.rpartition(":")
    bare = not host.startswith("[") and ":" in host
    if not (colon and host and digits.isascii() and digits.isdigit() and 0 < int(digits) < 65536) or bare:
        raise ValueError("host:port, such as 192.0.2.7:6379 or [2001:db8::7]:6379")


def _numeric_host(instance: object, attribute: object, value: str) -> None:
    try:
        ip_address(value)
    except ValueError:
        raise ValueError("an IPv4 or IPv6 address, without brackets") from None


def _address_for_all(instance: object, attribute: object, value: str) -> None:
    _numeric_host(instance, attribute, value)
    if "%" in value:
        raise ValueError('an address without a zone ("%"), for it is told to others')


def _secret() -> Any:
    """Return a field that is never shown and may be given in a file of its own, see rollcall.ops.config.secret."""
    return field(default="", repr=False, metadata={"rollcall.secret": True})


@frozen(kw_only=True)
class RedisConfig:
    """[redis]: where Redis is, who we are there, and how long it may take."""

    mode: Literal["single", "sentinel", "cluster"] = "single"
    """One server; a master that Sentinels name; or Redis Cluster."""

    addresses: tuple[str, ...] = field(
        default=("127.0.0.1:6379",), validator=[_not_empty, deep_iterable(_host_and_port)])
    """host:port of the server; of the Sentinels; or of some nodes of the Cluster."""

    master: str = field(default="rollcall", validator=_not_empty)
    """What the Sentinels call the master."""

    username: str = ""
    """The ACL user; empty for the default user."""

    password: str = _secret()
    """Its password; empty for none."""

    sentinel_username: str = ""
    """The ACL user at the Sentinels."""

    sentinel_password: str = _secret()
    """Its password; empty for none."""

    database: int = field(default=0, validator=ge(0))
    """The number of the database; Redis Cluster has only 0."""

    tls: bool = False
    """Whether to speak TLS, to the Sentinels too."""

    tls_authority_file: Path | None = None
    """PEM: the authorities that the servers' certificates are checked against; none for the system's."""

    tls_certificate_file: Path | None = None
    """PEM: the certificate that we show; none for none."""

    tls_key_file: Path | None = None
    """PEM: its private key."""

    tls_server_name: str = ""
    """The name that the servers' certificates have to have; empty for the host that was connected to."""

    connect_seconds: float = field(default=2.0, validator=gt(0))
    """How long a connection may take, with TLS, AUTH and all that has to be said first."""

    timeout_seconds: float = field(default=1.0, validator=gt(0))
    """How long an answer may take; then the connection is given up, and with it all that waits on it."""

    reconnect_seconds: float = field(default=0.1, validator=gt(0))
    """The pause after a connection has failed; twice as long each time, with some chance in it."""

    reconnect_max_seconds: float = field(default=2.0, validator=gt(0))
    """The longest such pause."""

    breaker_failures: int = field(default=3, validator=ge(1))
    """After so many failures in a row a server is not asked any more until it has answered a probe."""

    breaker_seconds: float = field(default=1.0, validator=gt(0))
    """How long it is left alone between probes."""

    max_waiting: int = field(default=50_000, validator=ge(1))
    """Commands that may wait for one server; a further one fails at once."""

    max_redirections: int = field(default=5, validator=ge(1))
    """How often a command follows MOVED and ASK."""

    def __attrs_post_init__(self) -> None:
        if self.mode == "single" and len(self.addresses) > 1:
            raise ValueError("mode is \"single\", so addresses has one item; \"sentinel\" and \"cluster\" have several")
        if self.mode == "cluster" and self.database:
            raise ValueError("Redis Cluster has no database but 0")
        if (self.tls_certificate_file is None) is not (self.tls_key_file is None):
            raise ValueError("tls_certificate_file and tls_key_file are given together or not at all")
        if self.reconnect_seconds > self.reconnect_max_seconds:
            raise ValueError("reconnect_seconds may not be more than reconnect_max_seconds")


def _site_name(instance: object, attribute: object, value: str) -> None:
    if _SITE.fullmatch(value) is None:
        raise ValueError("letters, digits and '-', at most 40: it becomes a part of host names")


@frozen(kw_only=True)
class SiteConfig:
    """[[site]]: a place with nodes, addresses and a Redis of its own. All nodes of all sites list the same sites."""

    name: str = field(validator=_site_name)
    """What it is called in [cluster] site, in [dns] and in host names."""

    addresses: tuple[str, ...] = field(default=(), validator=deep_iterable(_address_for_all))
    """The (virtual) addresses, IPv4 and IPv6, by which phones reach it."""

    members: tuple[str, ...] = field(default=(), validator=deep_iterable(_host_and_port))
    """host:port of the internal listeners of some of its nodes, for nodes of other sites to ask; best all of them."""


@frozen(kw_only=True)
class ClusterConfig:
    """[cluster]: how nodes know of each other, and reach each other. It counts when bindings are kept in Redis."""

    lease_seconds: float = field(default=3.0, validator=ge(0.5))
    """A node that has not renewed its lease for so long is dead: what hangs on its connections is not found."""

    renew_seconds: float = field(default=1.0, validator=ge(0.1))
    """How often a node renews its lease, and looks which others have one."""

    janitor_seconds: float = field(default=60.0, validator=ge(1.0))
    """How long after a node's end its records are removed; until then nobody finds them."""

    janitor_keys_per_second: int = field(default=5000, validator=ge(1))
    """How many records are looked through for that in a second."""

    internal_host: str = field(default="127.0.0.1", validator=_numeric_host)
    """The address that other nodes speak to; they must be able to reach it."""

    internal_port: int = field(default=5070, validator=_port)
    """The port; worker N of several has the one N - 1 above it. 0 lets the kernel choose."""

    internal_advertise_host: str = ""
    """What other nodes are told when it is not internal_host."""

    internal_tls: bool = False
    """Whether nodes speak TLS to each other; both show certificates of internal_authority_file then."""

    internal_certificate_file: Path | None = None
    """PEM: this node's certificate for that."""

    internal_key_file: Path | None = None
    """PEM: its private key."""

    internal_authority_file: Path | None = None
    """PEM: who has issued the certificates of all nodes."""

    handshake_seconds: float = field(default=3.0, validator=gt(0))
    """How long another node may take to prove that it is one."""

    max_internal_connections: int = field(default=1024, validator=ge(1))
    """Connections of other nodes, those that have proved nothing yet included."""

    reconnect_wait: float = field(default=10.0, validator=ge(0))
    """How long an INVITE waits for a phone whose connection was lost less than so long ago; 0: not at all."""

    max_reconnect_waiting: int = field(default=10_000, validator=ge(0))
    """INVITEs that wait so at a time; a further one is answered 480."""

    drain_grace_seconds: float = field(default=3.0, validator=ge(0))
    """How long a node that is to drain goes on as ever: a little longer than directors take to hear of it."""

    drain_flows_per_second: float = field(default=50.0, validator=gt(0))
    """How many connections a node that is drained, each worker of it, closes in a second: so many phones move over."""

    drain_patience_seconds: float = field(default=200.0, validator=ge(0))
    """How long it then keeps a connection on which a request is unanswered: a little longer than any phone rings."""

    max_clock_skew_seconds: float = field(default=2.0, validator=gt(0))
    """A clock that differs from that of Redis by more is warned of at the start."""

    site: str = ""
    """Which [[site]] this node stands in; empty where there is only one."""

    site_poll_seconds: float = field(default=1.0, validator=ge(0.1))
    """How often each other site is asked who lives there."""

    site_dead_seconds: float = field(default=3.0, validator=gt(0))
    """A site that has not answered for so long is not reachable."""

    site_question_seconds: float = field(default=0.7, validator=gt(0))
    """How long a question to another site may take. Calls for phones of our own site never wait for one."""

    site_questions_per_second: int = field(default=500, validator=ge(1))
    """How many addresses-of-record other sites are asked for in a second; a further one is not found there."""

    max_site_questions: int = field(default=500, validator=ge(1))
    """How many of these may wait for an answer at a time."""

    site_negative_seconds: float = field(default=3.0, validator=ge(0))
    """So long it is remembered that nobody is registered at the other sites."""

    max_site_negatives: int = field(default=20_000, validator=ge(1))
    """Of so many addresses-of-record; the oldest are forgotten first."""

    capacity: int = field(default=20_000, validator=and_(ge(1), le(MOST_CONNECTIONS)))
    """How many connections of phones this node, each worker of it, is to carry; what is free of it is its weight."""

    def __attrs_post_init__(self) -> None:
        if self.renew_seconds * 2 > self.lease_seconds:
            raise ValueError("renew_seconds may not be more than half of lease_seconds")
        files = self.internal_certificate_file, self.internal_key_file, self.internal_authority_file
        if self.internal_tls and None in files:
            raise ValueError("internal_tls needs internal_certificate_file, internal_key_file, internal_authority_file")
