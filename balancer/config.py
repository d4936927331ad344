"""The balancer's configuration file, section by section."""

from attrs import field, frozen

from balancer.nodes import PlacementConfig
from balancer.selection import MediaNode
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
    placements: PlacementConfig = PlacementConfig()
    admin: BalancerAdminConfig = BalancerAdminConfig()
    log: LogConfig = LogConfig()
