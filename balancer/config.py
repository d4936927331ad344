"""The balancer's configuration file, section by section."""

from attrs import field, frozen

from balancer.ingest.config import IngestConfig
from balancer.nodes.config import NodesConfig
from balancer.placing import PlacementConfig
from balancer.publication import PublicationConfig
from balancer.quality.config import QualityConfig
from balancer.selection import MediaNode
from balancer.standby import StandbyConfig
from rollcall.cluster.config import RedisConfig
from rollcall.media.access import AccessConfig
from rollcall.media.snapshot import Rule
from rollcall.ops.admin import AdminConfig
from rollcall.ops.allowed import non_empty, port, unique
from rollcall.ops.logs import LogConfig


@frozen(kw_only=True)
class BalancerAdminConfig(AdminConfig):
    """[admin]: as everywhere, on a port beside the registrar's."""

    port: int = field(default=8061, validator=port(zero=True))


@frozen(kw_only=True)
class BalancerConfig:
    """The whole file."""

    nodes: tuple[MediaNode, ...] = field(
        alias="node", validator=[non_empty(), unique(lambda node: node.id, "ids of nodes")]
    )
    polling: NodesConfig = field(alias="nodes", default=NodesConfig())
    ingest: IngestConfig = IngestConfig()
    quality: QualityConfig = QualityConfig()
    access: AccessConfig = AccessConfig()
    rule: Rule = Rule()
    redis: RedisConfig = RedisConfig()
    standby: StandbyConfig = StandbyConfig()
    publication: PublicationConfig = PublicationConfig()
    placements: PlacementConfig = PlacementConfig()
    admin: BalancerAdminConfig = BalancerAdminConfig()
    log: LogConfig = LogConfig()
