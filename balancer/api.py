"""What others ask the balancer over HTTP: which node a call should go to, which nodes there are, who is master.

POST /v1/select {call_id, group?, caller?, callee?, region?, sides?, hosts?, without?} → {node, address, kind, region,
r, placement}; DELETE /v1/placements/{id} when the call has ended. The same call_id is answered the same, and counts
once. GET /v1/nodes, /v1/quality, /v1/weights?group=&side=, /v1/state.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any

import msgspec
from attrs import asdict
from twisted.logger import Logger

from balancer.placing import Placement, Placing
from balancer.publication import Publication
from balancer.quality.hearing import Shown
from balancer.standby import Mastership
from rollcall.media.emodel import mos
from rollcall.media.selection import NoNode, Reason, Wanted
from rollcall.media.snapshot import DEFAULT_GROUP, MediaNode, NodeState, node_group
from rollcall.ops.api import ApiError, Call, Reply, Routes
from rollcall.ops.metrics import Metrics

SENTENCES = {
    Reason.NO_NODE: "no node is in this group",
    Reason.DRAINING: "every node of this group is draining",
    Reason.FULL: "every node of this group is full",
    Reason.DOWN: "every node of this group is down",
}

HIGHEST_WEIGHT = 1000
"""The weight of the best of the nodes that a name server is told; RFC 2782 has room for 65535."""

MOST_WITHOUT = 32

CallId = Annotated[str, msgspec.Meta(min_length=1, max_length=512)]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
Aor = Annotated[str, msgspec.Meta(max_length=255)]
Side = Annotated[str, msgspec.Meta(max_length=128)]
Host = Annotated[str, msgspec.Meta(max_length=45)]


class SelectRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of POST /v1/select."""

    call_id: CallId
    group: Name | None = None
    """The node group; without it that of caller and callee."""
    caller: Aor = ""
    """Their AORs, by which tenants have node groups."""
    callee: Aor = ""
    region: Name | None = None
    """Where both ends are, if no more is known of them."""
    sides: Annotated[tuple[Side, ...], msgspec.Meta(max_length=2)] = ()
    """The access groups of the ends, "carrier/region"."""
    hosts: Annotated[tuple[Host, ...], msgspec.Meta(max_length=2)] = ()
    """Their numeric addresses, which have access groups."""
    without: Annotated[tuple[Name, ...], msgspec.Meta(max_length=MOST_WITHOUT)] = ()
    """Nodes that have just failed this call."""
    codec: Annotated[str, msgspec.Meta(max_length=40)] = ""
    """What it will be heard by, as in SDP; empty: G.711."""


class BalancerApi:
    """Answers below /v1, and counts what it answered."""

    _log = Logger()

    def __init__(self, placing: Placing, metrics: Metrics, now: Callable[[], float],
                 group_of: Callable[[str], str], shown_nodes: Callable[[], Iterable[Mapping[str, Any]]],
                 shown_ways: Callable[[], Iterable[Shown]]) -> None:
        """`now` is the clock of `placing`; `group_of` knows the access group of an address.

        `shown_nodes` and `shown_ways` give the rows of /v1/nodes, and of what was reported of ways to them.
        """
        self._placing = placing
        self._now = now
        self._group_of = group_of
        self._shown_nodes = shown_nodes
        self._shown_ways = shown_ways
        self._selections = metrics.counter(
            "rollcall_balancer_selections_total",
            "Answers to select; without a node when none could be chosen",
            ["node", "outcome"],
        )
        metrics.gauge("rollcall_balancer_placements", "Calls that were placed here, on a node", ["node"],
                      lambda: {(name,): number for name, number in placing.calls(now()).items()})
        metrics.gauge("rollcall_balancer_capacity", "Calls a node can have", ["node"],
                      lambda: {(node.id,): node.capacity for node in self._nodes()})

    def mount(self, routes: Routes) -> None:
        """Add the routes."""
        routes.get("/v1/nodes", self._list_nodes)
        routes.get("/v1/quality", self._list_quality)
        routes.get("/v1/weights", self._list_weights)
        routes.post("/v1/select", self._select)
        routes.delete("/v1/placements/{id}", self._release)

    # --- calls

    def _select(self, call: Call) -> Reply:
        asked = call.body(SelectRequest)
        outcome = self._placing.place(self._wanted(asked), self._now())
        if isinstance(outcome, NoNode):
            reason = outcome.reason
            self._selections.cell("", reason.value).add()
            self._log.debug("no node for call {call_id}: {reason}", call_id=asked.call_id, reason=reason.value)
            return Reply({"error": SENTENCES[reason], "reason": reason.value}, 503)
        self._selections.cell(outcome.node.id, "placed").add()
        self._log.debug("call {call_id} goes to {node}", call_id=asked.call_id, node=outcome.node.id)
        return Reply(_shown(outcome))

    def _wanted(self, asked: SelectRequest) -> Wanted:
        sides = asked.sides or tuple(self._group_of(host) for host in asked.hosts)
        if not sides and asked.region is not None:
            sides = (f"/{asked.region}",)
        tenants = self._placing.board.snapshot.tenants
        group = asked.group or node_group(tenants, asked.caller, asked.callee)
        return Wanted(group, sides, asked.call_id, frozenset(asked.without), asked.codec)

    def _release(self, call: Call) -> None:
        if not self._placing.release(call.parts["id"], self._now()):
            raise ApiError(404, "there is no such placement; it may have lapsed")

    # --- what there is

    def _list_nodes(self, call: Call) -> object:
        placed = self._placing.calls(self._now())
        return {"nodes": [{**row, "placements": placed.get(row["id"], 0)} for row in self._shown_nodes()]}

    def _list_quality(self, call: Call) -> object:
        """What was reported of each way, and what is made of it: R, of this leg alone."""
        return {"quality": [_shown_way(each) for each in self._shown_ways()]}

    def _list_weights(self, call: Call) -> object:
        """The share of new calls that each node should have, for who cannot ask about each call, as a name server."""
        group, side = call.text("group") or DEFAULT_GROUP, call.text("side")
        board = self._placing.board
        room = {node.id: node.weight * self._room(node) for node in self._nodes() if group in node.groups}
        free = [node for node in self._nodes() if room.get(node.id) and _is_usable(node)]
        usable = [node for node in free if node.state is NodeState.UP] or free
        if side is not None:
            rated = {node.id: board.rating(side, node.id) for node in usable}
            least = max(rated.values(), default=0.0) - board.snapshot.rule.margin_r
            usable = [node for node in usable if rated[node.id] >= least]
        most = max((room[node.id] for node in usable), default=1)
        return {"group": group, "weights": [
            {"node": node.id, "address": node.address, "weight": max(1, room[node.id] * HIGHEST_WEIGHT // most)}
            for node in usable]}

    def _room(self, node: MediaNode) -> int:
        return max(0, node.capacity - node.sessions - self._placing.uncounted.count(node.id))

    def _nodes(self) -> Iterable[MediaNode]:
        return self._placing.board.snapshot.nodes.values()


class StateApi:
    """Says who is master, and what was published: GET /v1/state, and metrics."""

    def __init__(self, name: str, metrics: Metrics, mastership: Mastership | None,
                 publication: Publication | None) -> None:
        """Without a mastership, nor a publication, this balancer is alone, and publishes nothing."""
        self._name = name
        self._mastership = mastership
        self._publication = publication
        if mastership is None or publication is None:
            return
        metrics.gauge("rollcall_balancer_master", "1: this balancer is the master; 0: it stands by", (),
                      lambda: float(mastership.is_master))
        metrics.gauge("rollcall_balancer_fence", "The fencing number of the last lease that was ours", (),
                      lambda: float(mastership.fence))
        metrics.total("rollcall_balancer_published_total", "Snapshots that were published", ["kind"],
                      lambda: {("whole",): float(publication.wholes), ("change",): float(publication.changes)})
        metrics.total("rollcall_balancer_published_bytes_total", "How long they were", (),
                      lambda: float(publication.bytes))

    def mount(self, routes: Routes) -> None:
        """Add the route."""
        routes.get("/v1/state", self._state)

    def _state(self, call: Call) -> object:
        mastership, publication = self._mastership, self._publication
        if mastership is None or publication is None:
            return {"name": self._name, "role": "alone"}
        return {
            "name": self._name, "role": "master" if mastership.is_master else "standby", "master": mastership.master,
            "fence": mastership.fence, "version": publication.version, "wholes": publication.wholes,
            "changes": publication.changes, "problem": mastership.problem or publication.problem,
        }


def _shown(placement: Placement) -> dict[str, Any]:
    node = placement.node
    return {"node": node.id, "address": node.address, "kind": node.kind, "region": node.site,
            "r": round(placement.r, 1), "placement": placement.id}


def _shown_way(way: Shown) -> dict[str, Any]:
    row = {name: round(value, 5) if isinstance(value, float) else value for name, value in asdict(way).items()}
    return {**row, "r": round(way.r, 1), "mos": round(mos(way.r), 2)}


def _is_usable(node: MediaNode) -> bool:
    return node.state in (NodeState.UP, NodeState.SUSPECT)
