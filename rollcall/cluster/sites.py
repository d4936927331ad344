"""Sites: places with nodes, addresses and a Redis of their own, and what one of them knows of the others."""

from collections.abc import Mapping
from typing import Protocol

from attrs import frozen

from rollcall.cluster.nodes import Node


@frozen(kw_only=True)
class SiteState:
    """One site as a node knows it."""

    name: str
    nodes: tuple[Node, ...]
    """The nodes that live there; empty when there is none, or nothing was ever heard."""
    heard_at: float
    """When it was last known, in seconds since the epoch; for our own site that is now. 0.0: never."""
    reachable: bool
    """Whether what is known of it is fresh: one of its members has answered within `site_dead_seconds`."""


class Sites(Protocol):
    """Who knows all the sites that are configured."""

    def states(self) -> Mapping[str, SiteState]:
        """Return every site by its name, our own one included; nothing where there is only one place."""


class OnePlace:
    """The Sites of a registrar that has no others."""

    def states(self) -> Mapping[str, SiteState]:
        """See Sites."""
        return {}
