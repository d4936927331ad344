"""The balancer's configuration file, section by section."""

from collections.abc import Mapping

from attrs import field, frozen

from balancer.ingest.config import IngestConfig
from balancer.nodes.config import NodeConfig, NodesConfig
from balancer.placing import PlacementConfig
from balancer.publication import PublicationConfig
from balancer.quality.config import QualityConfig
from balancer.redirect import RedirectConfig
from balancer.standby import StandbyConfig
from rollcall.cluster.config import RedisConfig
from rollcall.media.access import AccessConfig
from rollcall.media.snapshot import Rule
from rollcall.ops.admin import AdminConfig
from rollcall.ops.allowed import NAME, port, unique, where
from rollcall.ops.logs import LogConfig


def _are_names(tenants: Mapping[str, str]) -> bool:
    return all(NAME.fullmatch(group) for group in tenants.values())


@frozen(kw_only=True)
class BalancerAdminConfig(AdminConfig):
    """[admin]: as everywhere, on a port beside the registrar's."""

    port: int = field(default=8061, validator=port(zero=True))


@frozen(kw_only=True)
class BalancerConfig:
    """The whole file."""

    nodes: tuple[NodeConfig, ...] = field(
        alias="node", default=(), validator=[
            unique(lambda node: node.id, "ids of nodes"), unique(lambda node: node.address, "addresses of nodes"),
            unique(lambda node: node.capture_id or node.id, "capture ids")])
    polling: NodesConfig = field(alias="nodes", default=NodesConfig())
    ingest: IngestConfig = IngestConfig()
    quality: QualityConfig = QualityConfig()
    access: AccessConfig = AccessConfig()
    rule: Rule = Rule()
    redis: RedisConfig = RedisConfig()
    standby: StandbyConfig = StandbyConfig()
    publication: PublicationConfig = PublicationConfig()
    tenants: Mapping[str, str] = field(
        factory=dict, validator=where(_are_names, "node groups: letters, digits, '.', '_' and '-', at most 64"))
    """The node group of each tenant's calls: by AOR, "internal:<domain>" or domain."""
    placements: PlacementConfig = PlacementConfig()
    redirect: RedirectConfig = RedirectConfig()
    admin: BalancerAdminConfig = BalancerAdminConfig()
    log: LogConfig = LogConfig()
