"""What the admin site says about nodes and connections, and how one is drained: `/v1/nodes`, `/v1/flows`.

Every node of a cluster knows all nodes, and any of them can be told to have any other drained. Connections only the
node knows that has them. A registrar that shares nothing with others is a cluster of one node.
"""

from array import array
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import msgspec
from attrs import define

from registrar.api import Listings, asked_for
from registrar.bound import keys_on
from registrar.location.contract import LocationStore, LocationUnavailable
from registrar.records import aor_of_key, record_key
from rollcall.cluster.nodes import Node
from rollcall.cluster.redis import RedisRefused, RedisUnavailable
from rollcall.net.flow import Flow
from rollcall.ops.api import ApiError, Call, Reply, Routes

MOST_AORS = 100
"""Of a connection that more is bound to so many addresses-of-record are told: it is a trunk."""


class DrainWish(msgspec.Struct, forbid_unknown_fields=True):
    """The body of POST /v1/nodes/{node}/drain: whether the node shall be drained, or no longer."""

    undo: bool = False


class Cluster(Protocol):
    """Who knows the nodes."""

    @property
    def problem(self) -> str | None:
        """Why others may believe that this node is dead."""

    def nodes(self) -> tuple[Node, ...]:
        """Return all nodes that live."""

    async def wish(self, name: str, drained: bool) -> bool:
        """Have a node drained, or no longer; False when it does not live."""


class Alone:
    """The cluster of a registrar that shares nothing with others."""

    problem = None

    def __init__(self, me: Callable[[], Node], drain: Callable[[bool], object]) -> None:
        """`drain` begins to drain this node, or undoes it."""
        self._me = me
        self._drain = drain

    def nodes(self) -> tuple[Node, ...]:
        """See Cluster."""
        return (self._me(),)

    async def wish(self, name: str, drained: bool) -> bool:
        """See Cluster."""
        if name != self._me().node:
            return False
        self._drain(drained)
        if self._me().draining is not drained:
            raise ApiError(503, "it cannot listen again; the log says why")
        return True


class Nodes:
    """Answers which nodes there are, and has them drained."""

    def __init__(self, cluster: Cluster, me: str, left: Callable[[], int]) -> None:
        """`me` is the name of this node; `left` counts its connections."""
        self._cluster = cluster
        self._me = me
        self._left = left

    def mount(self, routes: Routes) -> None:
        """Add what is answered here to the admin site."""
        routes.get("/v1/nodes", self.nodes)
        routes.post("/v1/nodes/{node}/drain", self.drain)

    def named(self, name: str) -> frozenset[str]:
        """Return the nodes that a name stands for: itself, or the workers of a registrar that has several."""
        return frozenset({name, *(node.node for node in self._cluster.nodes() if node.of == name)})

    def nodes(self, call: Call) -> Reply:
        """Answer {"nodes": […], "problem": …}; the latter says why others may believe that this node is dead.

        `weight`, of 100, is the share of new phones that a node wants of what it is to carry. `connections` and
        `weight` of others are what their leases said last; `capacity` and `connections` are null where these do not.
        """
        return Reply({"nodes": [self._shown(node) for node in self._cluster.nodes()], "problem": self._cluster.problem})

    async def drain(self, call: Call) -> Reply:
        """Have a node, or all workers of one, drained; with {"undo": true} no longer. It hears that within a second.

        202 {"nodes": [its name], "draining": …}; 404 when it does not live, 503 when it cannot be told now.
        """
        drained = not call.body(DrainWish).undo
        name = call.parts["node"]
        meant = sorted(self.named(name) & {node.node for node in self._cluster.nodes()})
        try:
            told = [each for each in meant if await self._cluster.wish(each, drained)]
        except (RedisUnavailable, RedisRefused) as problem:
            raise ApiError(503, f"it cannot be told now: {problem}") from problem
        if not told:
            raise ApiError(404, f"there is no node {name}")
        return Reply({"nodes": told, "draining": drained}, 202)

    def _shown(self, node: Node) -> dict[str, Any]:
        is_here = node.node == self._me
        return {
            "node": node.node, "epoch": node.epoch, "of": node.of or None, "this": is_here, "draining": node.draining,
            "started_at": node.started_at, "host": node.host or None, "port": node.port or None, "tls": node.tls,
            "listeners": dict(node.faces), "admin": node.admin or None, "site": node.site or None,
            "capacity": node.capacity or None, "weight": node.weight,
            "connections": self._left() if is_here else node.connections if node.capacity else None,
        }


class Connected(Protocol):
    """Who has the connections."""

    def flows(self) -> Sequence[Flow]:
        """Return all connections of phones."""

    def flow(self, flow_id: int) -> Flow | None:
        """Return the open connection of this id."""


@define(eq=False)
class _Listing:
    """The connections that were there when a listing began, and how far it has come."""

    ids: "array[int]"
    size: int
    shown: int = 0


class Flows:
    """Answers with the connections of this node, page by page."""

    def __init__(self, connected: Connected, location: LocationStore, node: str) -> None:
        self._connected = connected
        self._location = location
        self._node = node
        self._listings: Listings[_Listing] = Listings()

    def mount(self, routes: Routes) -> None:
        """Add what is answered here to the admin site."""
        routes.get("/v1/flows", self.flows)

    async def flows(self, call: Call) -> Reply:
        """Answer `?size=100`, then `?after=` what "next" said, until that is null; or `?aor=sip:alice@example.com`.

        {"flows": […], "next": "…"}. `bound` counts the addresses-of-record on a connection; `since` says when the
        oldest of the bindings there was registered, null when there is none. What has come since the first page is not
        shown, nor what has ended.
        """
        aor, size = asked_for(call)
        if aor is not None:
            return Reply({"flows": await self._of(aor), "next": None})
        listing = self._listings.resumed(call)
        if listing is None:
            listing = _Listing(array("Q", sorted(flow.id for flow in self._connected.flows() if flow.id)), size)
        page = listing.ids[listing.shown:listing.shown + listing.size]
        listing.shown += listing.size
        place = self._listings.keep(listing) if listing.shown < len(listing.ids) else None
        flows = [self._connected.flow(flow_id) for flow_id in page]
        return Reply({"flows": [await self._shown(flow) for flow in flows if flow is not None], "next": place})

    async def _of(self, aor: str) -> list[dict[str, Any]]:
        key = record_key(aor)
        flows = [flow for flow in self._connected.flows() if key in keys_on(flow)]
        return [await self._shown(flow) for flow in flows]

    async def _shown(self, flow: Flow) -> dict[str, Any]:
        host, port = flow.peer
        listener = flow.listener
        keys = keys_on(flow)
        aors = sorted(map(aor_of_key, keys[:MOST_AORS]))
        return {
            "flow": flow.id, "node": self._node, "transport": flow.transport, "host": host, "port": port,
            "listener": listener.name if listener is not None else None, "aors": aors,
            "bound": len(keys), "since": await self._since(flow.id, aors), "in_use": flow.holds > 0,
        }

    async def _since(self, flow_id: int, aors: list[str]) -> float | None:
        try:
            bindings = [each for aor in aors for each in (await self._location.load(aor)).bindings]
        except LocationUnavailable:
            return None
        here = [each.registered_at for each in bindings
                if each.source.flow_id == flow_id and each.source.node == self._node]
        return min(here, default=None)
