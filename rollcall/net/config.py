"""What an operator can set about sockets, connections, TLS and DNS. Every time is in seconds, every size in bytes."""

from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Literal

from attrs import field, frozen
from attrs.validators import and_, deep_iterable, ge, gt, in_, instance_of, le, min_len, optional

SECURE_TRANSPORTS = frozenset(("TLS", "WSS"))
WEBSOCKET_TRANSPORTS = frozenset(("WS", "WSS"))

# RFC 3261 §19.1.2, RFC 7118 §5.5
DEFAULT_PORTS = {"UDP": 5060, "TCP": 5060, "TLS": 5061, "WS": 80, "WSS": 443}

_port = and_(instance_of(int), ge(0), le(65535))


def _numeric_host(instance: object, attribute: object, value: str) -> None:
    try:
        ip_address(value)
    except ValueError:
        raise ValueError("an IPv4 or IPv6 address, without brackets") from None


def _network(instance: object, attribute: object, value: str) -> None:
    try:
        ip_network(value)
    except ValueError as error:
        raise ValueError(f"networks such as 192.0.2.0/24, but {error}") from None


@frozen(kw_only=True)
class ListenerConfig:
    """One socket that peers speak to."""

    name: str = field(validator=and_(instance_of(str), min_len(1)))
    """What logs, metrics and flow tokens call it; unique."""

    transport: Literal["udp", "tcp", "tls", "ws", "wss"] = field(validator=in_(("udp", "tcp", "tls", "ws", "wss")))
    """What is spoken there."""

    host: str = field(default="0.0.0.0", validator=_numeric_host)
    """The address to bind; "0.0.0.0" for all of IPv4, "::" for all of IPv6."""

    port: int = field(default=5060, validator=_port)
    """The port to bind; 0 lets the kernel choose."""

    advertise_host: str = ""
    """The name or address that peers are told (Via, Record-Route); empty for the bound address, or for this machine's
    own address towards the Internet when all are bound."""

    advertise_port: int = field(default=0, validator=_port)
    """The port that peers are told; 0 for the bound one."""

    reuse_port: bool = False
    """Whether several processes share the port (SO_REUSEPORT)."""

    free_bind: bool = False
    """Whether to bind an address that this machine does not have yet, e.g. a virtual one (IP_FREEBIND)."""

    backlog: int = field(default=4096, validator=ge(1))
    """How many connections the kernel accepts ahead of us, as far as net.core.somaxconn allows."""

    receive_buffer_bytes: int = field(default=1_048_576, validator=ge(0))
    """The kernel's buffer for datagrams that we have not read yet, as far as net.core.rmem_max allows: a datagram of a
    phone takes 2.3 kB of it. 0 for the system's default, which holds 92 of these."""

    max_connections: int = field(default=0, validator=ge(0))
    """How many connections may be open on it; 0 for no limit."""

    proxy_protocol_from: tuple[str, ...] = field(default=(), validator=deep_iterable(_network))
    """Networks whose connections begin with a PROXY protocol v2 header; others speak to us directly."""

    allowed_origins: tuple[str, ...] = ()
    """Origins (e.g. "https://phone.example.com") whose pages may open WebSockets; empty for any."""


@frozen(kw_only=True)
class KeepaliveConfig:
    """How the kernel watches idle connections (tcp(7)). All times in seconds."""

    idle: int = field(default=600, validator=and_(ge(1), le(32767)))
    """Silence before the first probe."""

    interval: int = field(default=30, validator=and_(ge(1), le(32767)))
    """Time between probes."""

    probes: int = field(default=4, validator=and_(ge(1), le(127)))
    """Unanswered probes before the connection is lost."""

    user_timeout: int | None = field(default=None, validator=optional(ge(1)))
    """How long sent data may stay unacknowledged (RFC 5482); none for idle + interval * probes."""

    @property
    def user_timeout_ms(self) -> int:
        """What TCP_USER_TIMEOUT is set to, in milliseconds."""
        seconds = self.user_timeout if self.user_timeout is not None else self.idle + self.interval * self.probes
        return seconds * 1000


@frozen(kw_only=True)
class LimitsConfig:
    """What a connection may cost us."""

    first_request_seconds: float = field(default=30.0, validator=gt(0))
    """A connection that sent no valid request by then is closed."""

    message_seconds: float = field(default=30.0, validator=gt(0))
    """A connection whose message has begun and is not whole by then is closed (RFC 4475 §3.1.2.2)."""

    handshake_seconds: float = field(default=10.0, validator=gt(0))
    """How long the PROXY header may take, and after it the TLS handshake and the WebSocket upgrade together."""

    connect_seconds: float = field(default=5.0, validator=gt(0))
    """How long TCP may take to connect to somebody; TLS comes after it, see handshake_seconds."""

    close_seconds: float = field(default=5.0, validator=gt(0))
    """How long a closed connection may take to deliver what was written and hear the peer's end."""

    max_write_buffer_bytes: int = field(default=262_144, validator=ge(1024))
    """A peer that does not read is cut off when this much waits for it, beyond the kernel's and the first 64 KiB."""

    max_connections_per_source: int = field(default=10_000, validator=ge(0))
    """Connections from one address; many phones share one behind a NAT. 0 for no limit."""

    accepts_per_second: float = field(default=5000.0, validator=ge(0))
    """Connections that all listeners of a process accept together; others wait in the kernel's backlog. 0 for as many
    as come."""

    tls_accept_cost: float = field(default=10.0, validator=ge(1))
    """Among these one that begins with a TLS handshake counts as so many."""

    max_waiting_handshakes: int = field(default=32, validator=ge(1))
    """While more TLS handshakes than this wait for their turn, no new one is accepted."""

    max_head_bytes: int = field(default=16_384, validator=ge(1024))
    """Size of a message before its body, on streams and WebSockets."""

    max_body_bytes: int = field(default=65_536, validator=ge(0))
    """Size of a message's body, on streams and WebSockets."""

    max_upgrade_bytes: int = field(default=8_192, validator=ge(512))
    """Size of the HTTP request that opens a WebSocket."""

    max_ready_per_turn: int = field(default=64, validator=ge(1))
    """Sockets of Twisted's transports (TLS, WebSocket, admin site) that are served before timers have their turn."""


@frozen(kw_only=True)
class EngineConfig:
    """How plain TCP connections and datagrams are served: many of them in one turn of the reactor."""

    enabled: bool = True
    """Whether the flow engine serves plain TCP connections; false leaves them to Twisted's transport."""

    coalesce_ms: float = field(default=3.0, validator=and_(ge(0), le(10)))
    """Under load we look for messages once in so many milliseconds instead of waking up for each; 0 wakes for each."""

    max_events_per_turn: int = field(default=256, validator=and_(ge(1), le(65536)))
    """Connections that are read from before the reactor may do something else."""

    max_turn_ms: float = field(default=10.0, validator=gt(0))
    """How long connections, or the datagrams of one socket, are served before the reactor may do something else."""

    max_accepts_per_turn: int = field(default=64, validator=and_(ge(1), le(65536)))
    """Connections of one listener that are accepted before the reactor may do something else."""

    max_datagrams_per_turn: int = field(default=256, validator=and_(ge(1), le(65536)))
    """Datagrams of one socket that are read before the reactor may do something else."""

    read_bytes: int = field(default=8192, validator=and_(ge(512), le(65536)))
    """What is read at most from one connection before it is the next one's turn."""

    accept_pause_seconds: float = field(default=0.5, validator=gt(0))
    """How long no connection is accepted after the system had no descriptor or no memory left for one."""


@frozen(kw_only=True)
class CertificateConfig:
    """A certificate that we show, for the names in it."""

    certificate_file: Path
    """PEM: the certificate, then its chain."""

    key_file: Path
    """PEM: its private key, without a passphrase."""


@frozen(kw_only=True)
class TlsConfig:
    """TLS on both sides of us."""

    certificates: tuple[CertificateConfig, ...] = ()
    """The first is shown to clients that name no server (SNI), or one that no certificate has."""

    minimum_version: str = field(default="1.2", validator=in_(("1.2", "1.3")))
    """The oldest version spoken."""

    verify_peers: bool = True
    """Whether the certificate of a server we connect to must be valid for the name we look for."""

    trust_roots_file: Path | None = None
    """PEM: the authorities trusted then; none for the system's."""

    handshakes_turn_seconds: float = field(default=0.01, validator=gt(0))
    """So much of a turn of the reactor is for handshakes with clients at most; the other clients wait for the next."""


@frozen(kw_only=True)
class ResolverConfig:
    """How SIP servers are located (RFC 3263)."""

    servers: tuple[str, ...] = field(default=(), validator=deep_iterable(_numeric_host))
    """DNS servers; empty for those of /etc/resolv.conf."""

    port: int = field(default=53, validator=and_(_port, ge(1)))
    """The port of these servers."""

    hosts_file: Path | None = Path("/etc/hosts")
    """Addresses that are looked up before DNS is asked."""

    timeout_seconds: float = field(default=4.0, validator=gt(0))
    """How long one question may take, repetitions included."""

    max_cached: int = field(default=10_000, validator=ge(0))
    """Answers kept until they lapse."""

    max_ttl_seconds: int = field(default=3600, validator=ge(0))
    """No answer is kept longer."""

    negative_ttl_seconds: int = field(default=30, validator=ge(0))
    """How long it is remembered at most that there was no answer (RFC 2308)."""


@frozen(kw_only=True)
class MemberConfig:
    """How the nodes of a cluster reach each other. Its settings are those of the cluster."""

    host: str = field(validator=_numeric_host)
    """The address that other nodes speak to."""

    port: int = field(validator=_port)
    """The port to bind; 0 lets the kernel choose."""

    advertise_host: str = ""
    """What other nodes are told (Via, leases); empty for the bound address."""

    tls: bool = False
    """Whether nodes speak TLS to each other; the three files are needed then."""

    certificate_file: Path | None = None
    """PEM: this node's certificate, then its chain; shown as a server and as a client."""

    key_file: Path | None = None
    """PEM: its private key, without a passphrase."""

    authority_file: Path | None = None
    """PEM: the authorities that every node's certificate has to be from."""

    handshake_seconds: float = field(default=3.0, validator=gt(0))
    """How long it may take to connect, and then how long another node may take to prove that it is one."""

    max_connections: int = field(default=1024, validator=ge(1))
    """Connections of other nodes, those that have proved nothing yet included."""

    def __attrs_post_init__(self) -> None:
        if self.tls and None in (self.certificate_file, self.key_file, self.authority_file):
            raise ValueError("tls needs certificate_file, key_file and authority_file")


@frozen(kw_only=True)
class NetConfig:
    """All about transports."""

    listeners: tuple[ListenerConfig, ...] = field()
    keepalive: KeepaliveConfig = KeepaliveConfig()
    limits: LimitsConfig = LimitsConfig()
    tls: TlsConfig = TlsConfig()
    resolver: ResolverConfig = ResolverConfig()
    engine: EngineConfig = EngineConfig()

    @listeners.validator
    def _names_are_unique(self, attribute: object, value: tuple[ListenerConfig, ...]) -> None:
        names = [listener.name for listener in value]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"listeners must have different names; {', '.join(twice)} is there twice")

    def __attrs_post_init__(self) -> None:
        needing = [listener.name for listener in self.listeners if listener.transport in ("tls", "wss")]
        if needing and not self.tls.certificates:
            raise ValueError(f"tls.certificates is empty, but listener {needing[0]} needs one")
