"""The registrar's configuration file, section by section."""

from pathlib import Path
from socket import gethostname
from typing import Literal

from attrs import Factory, evolve, field, frozen

from registrar.admission import AdmissionConfig
from registrar.auth import AuthConfig
from registrar.avalanche.config import AvalancheConfig
from registrar.bans import BansConfig
from registrar.bindings import BindingConfig
from registrar.calls.config import CallsConfig
from registrar.database.config import DatabaseConfig
from registrar.distribution.directors.config import DirectorsConfig
from registrar.distribution.dns.config import DnsConfig
from registrar.distribution.dns.layout import Layout, lay_out
from registrar.distribution.health.config import HealthConfig
from registrar.distribution.rebalancing import RebalanceConfig
from registrar.distribution.tickle.config import TickleConfig
from registrar.location.sqlite import MAX_WAITING
from registrar.media.config import MediaConfig
from registrar.regevent.asking import RegEventConfig
from registrar.routing import ProxyConfig, spelling
from registrar.subscribers.columns import TableConfig
from registrar.subscribers.sqlite import SqliteConfig
from registrar.workers.config import WorkersConfig
from rollcall.cluster.config import ClusterConfig, RedisConfig, SiteConfig
from rollcall.media.access import AccessConfig
from rollcall.net.config import (
    EngineConfig,
    KeepaliveConfig,
    LimitsConfig,
    ListenerConfig,
    NetConfig,
    ResolverConfig,
    TlsConfig,
)
from rollcall.ops.admin import AdminConfig
from rollcall.ops.allowed import NotAllowed, at_least, between, each, host, name, non_empty, unique
from rollcall.ops.config import secret
from rollcall.ops.logs import LogConfig
from rollcall.sip.transaction import TransactionConfig
from rollcall.sql.config import MysqlConfig


@frozen(kw_only=True)
class NodeConfig:
    """[registrar]: the node itself."""

    node: str = field(default=Factory(gethostname), validator=name())
    """What this node is called in flow tokens, logs and other nodes' eyes; no two nodes share a name."""
    data_dir: Path = Path("data")
    """Where bindings, subscribers and the node's secret are kept."""
    secret_file: Path | None = None
    """The secret behind nonces, flow tokens and GRUUs; made at the first start. Default: node.secret in data_dir."""
    workers: int = field(default=1, validator=between(1, 64))
    """Processes that share the ports, each on a processor of its own; see [workers] and docs/workers.md."""
    retry_after_seconds: int = field(default=30, validator=at_least(1))
    """What a 503 asks for at most; half of it is random, so that phones do not return together."""


@frozen(kw_only=True)
class DomainConfig:
    """[[domain]]: a SIP domain whose phones register here."""

    name: str = field(validator=host())
    """The part behind the @ of its users; also the realm of its passwords."""
    aliases: tuple[str, ...] = field(default=(), validator=each(host()))
    """Other names of the same domain, addresses too."""


@frozen(kw_only=True)
class AuthSection(AuthConfig):
    """[auth]: who must prove who they are, and how."""

    required: bool = True
    """False lets everybody register and call as anybody: for closed networks and benchmarks only."""


@frozen(kw_only=True)
class LocationConfig:
    """[location]: where bindings are kept beyond memory."""

    kind: Literal["sqlite", "memory", "redis"] = "sqlite"
    """"memory" forgets all bindings at a restart; "redis" shares them with other registrars, see [redis], [cluster]."""
    file: Path | None = None
    """Default: location.sqlite in data_dir."""
    synchronous: Literal["FULL", "NORMAL"] = "FULL"
    """"FULL" waits for the disk itself: what was acknowledged survives a power cut too. "NORMAL" survives the end of
    the process, however sudden, and is faster."""
    max_waiting: int = field(default=MAX_WAITING, validator=at_least(1))
    """Writes that wait for the disk, or for Redis; beyond that REGISTERs are answered 503."""
    max_records: int = field(default=1_000_000, validator=at_least(1000))
    """With "redis": addresses-of-record that are remembered in memory; the longest unused ones are forgotten."""
    when_unavailable: Literal["journal", "refuse"] = "journal"
    """With "redis", while it does not answer: write into a journal on disk, or answer 503."""
    slow_seconds: float = field(default=0.4, validator=at_least(0.01))
    """With "redis": a write that has taken so long goes into the journal too, and the phone gets its answer."""
    journal_file: Path | None = None
    """Default: location.journal in data_dir; with workers each has one of its own, with its number appended."""
    max_journal_writes: int = field(default=200_000, validator=at_least(1))
    """Addresses-of-record with changes in the journal; beyond that REGISTERs are answered 503."""
    max_journal_bytes: int = field(default=268_435_456, validator=at_least(1_048_576))
    """The size of the journal on disk; beyond that too."""


@frozen(kw_only=True)
class SubscribersConfig(SqliteConfig, TableConfig):
    """[subscribers]: where users and their password hashes are kept, and what is remembered of them."""

    kind: Literal["sqlite", "mysql"] = "sqlite"
    """"mysql": in the database of [mysql]; a table of Kamailio or OpenSIPS is used as it is."""
    file: Path | None = None
    """With "sqlite"; default: subscribers.sqlite in data_dir."""
    cache_key: str = secret("")
    """What hashes are encrypted with in Redis; all nodes have the same. Default: derived from secret_file."""


def _each_with_its_own_names(_: object, __: object, domains: tuple[DomainConfig, ...]) -> None:
    taken: set[str] = set()
    for domain in domains:
        names = {spelling(name) for name in (domain.name, *domain.aliases)}
        if names & taken:
            twice = ", ".join(sorted(names & taken))
            raise NotAllowed(f"domains whose names and aliases differ, and {twice} is there twice")
        taken |= names


@frozen(kw_only=True)
class RegistrarConfig:
    """The whole file."""

    registrar: NodeConfig = NodeConfig()
    workers: WorkersConfig = WorkersConfig()
    domains: tuple[DomainConfig, ...] = field(alias="domain", validator=[non_empty(), _each_with_its_own_names])
    listeners: tuple[ListenerConfig, ...] = field(alias="listen", validator=non_empty())
    keepalive: KeepaliveConfig = KeepaliveConfig()
    limits: LimitsConfig = LimitsConfig()
    tls: TlsConfig = TlsConfig()
    resolver: ResolverConfig = ResolverConfig()
    redis: RedisConfig = RedisConfig()
    cluster: ClusterConfig = ClusterConfig()
    sites: tuple[SiteConfig, ...] = field(default=(), alias="site", validator=unique(lambda site: site.name, "names"))
    dns: DnsConfig = DnsConfig()
    health: HealthConfig = HealthConfig()
    directors: DirectorsConfig = DirectorsConfig()
    rebalance: RebalanceConfig = RebalanceConfig()
    tickle: TickleConfig = TickleConfig()
    avalanche: AvalancheConfig = AvalancheConfig()
    engine: EngineConfig = EngineConfig()
    admission: AdmissionConfig = AdmissionConfig()
    transactions: TransactionConfig = TransactionConfig()
    auth: AuthSection = AuthSection()
    bans: BansConfig = BansConfig()
    bindings: BindingConfig = BindingConfig()
    proxy: ProxyConfig = ProxyConfig()
    regevent: RegEventConfig = RegEventConfig()
    location: LocationConfig = LocationConfig()
    subscribers: SubscribersConfig = SubscribersConfig()
    mysql: MysqlConfig = MysqlConfig()
    database: DatabaseConfig = DatabaseConfig()
    calls: CallsConfig = CallsConfig()
    media: MediaConfig = MediaConfig()
    access: AccessConfig = AccessConfig()
    admin: AdminConfig = AdminConfig()
    log: LogConfig = LogConfig()

    @property
    def net(self) -> NetConfig:
        """What concerns the transports."""
        listeners = self.listeners
        if self.registrar.workers > 1:
            listeners = tuple([evolve(listener, reuse_port=True) for listener in listeners])
        return NetConfig(listeners=listeners, keepalive=self.keepalive, limits=self.limits, tls=self.tls,
                         resolver=self.resolver, engine=self.engine)

    @property
    def zones(self) -> Layout:
        """What the zones of the name server consist of. Raises NotAllowed when sections do not fit together."""
        names = [name for domain in self.domains for name in (domain.name, *domain.aliases)]
        return lay_out(self.dns, names, self.listeners, self.sites)

    def path(self, given: Path | None, name: str) -> Path:
        """Return `given`, or the file `name` in the data directory."""
        return given if given is not None else self.registrar.data_dir / name

    def __attrs_post_init__(self) -> None:
        # NetConfig knows which sections must fit together: names, and certificates for TLS.
        self.net  # noqa: B018
        if self.cluster.site and self.cluster.site not in {site.name for site in self.sites}:
            raise NotAllowed("the name of a [[site]]", "cluster.site", self.cluster.site)
        if self.dns.listen:
            self.zones  # noqa: B018 - they must fit together, too
        if len(self.sites) > 1 and not self.cluster.site:
            raise NotAllowed("the name of the [[site]] that this node stands in", "cluster.site", "")
        if len(self.sites) > 1 and self.location.kind != "redis":
            raise NotAllowed('"redis" where there are several sites: only its nodes speak to each other',
                             "location.kind", self.location.kind)
        bindings = self.path(self.location.file, "location.sqlite")
        if bindings.absolute() == self.path(self.subscribers.file, "subscribers.sqlite").absolute():
            raise NotAllowed("another file than that of [subscribers]", "location.file", bindings)
        if self.registrar.workers > 1 and any(not listener.port for listener in self.listeners):
            raise NotAllowed("a port that workers can share, which 0 is not", "listen.port", 0)
