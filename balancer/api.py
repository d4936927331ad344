"""What others ask the balancer over HTTP: which nodes there are, and which of them a call should go to.

GET /v1/nodes; POST /v1/select {call_id, group?, region?} → {node, address, kind, region, placement};
DELETE /v1/placements/{id} when the call has ended. The same call_id is answered the same, and counts once.
"""

from collections.abc import Callable
from typing import Annotated

import msgspec
from twisted.logger import Logger

from balancer.placing import Nodes
from balancer.selection import Load, NoNode, Reason, Wanted
from rollcall.ops.api import ApiError, Call, Reply, Routes
from rollcall.ops.metrics import Metrics

SENTENCES = {
    Reason.NO_NODE: "no node serves this group",
    Reason.DRAINING: "every node for this group is draining",
    Reason.FULL: "every node for this group is full",
}

CallId = Annotated[str, msgspec.Meta(min_length=1, max_length=512)]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]


class SelectRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of POST /v1/select."""

    call_id: CallId
    group: Name | None = None
    region: Name | None = None


class BalancerApi:
    """Answers below /v1, and counts what it answered."""

    _log = Logger()

    def __init__(self, nodes: Nodes, metrics: Metrics, now: Callable[[], float]) -> None:
        self._nodes = nodes
        self._now = now
        self._selections = metrics.counter(
            "rollcall_balancer_selections_total",
            "Answers to select; without a node when none could be chosen",
            ["node", "outcome"],
        )
        metrics.gauge("rollcall_balancer_placements", "Calls on a node", ["node"], self._placements)
        metrics.gauge("rollcall_balancer_capacity", "Calls a node can have", ["node"], self._capacities)

    def mount(self, routes: Routes) -> None:
        """Add the routes."""
        routes.get("/v1/nodes", self.list_nodes)
        routes.post("/v1/select", self.select)
        routes.delete("/v1/placements/{id}", self.release)

    def list_nodes(self, call: Call) -> object:
        return {"nodes": [_shown(load) for load in self._nodes.loads(self._now())]}

    def select(self, call: Call) -> Reply:
        asked = call.body(SelectRequest)
        outcome = self._nodes.place(asked.call_id, Wanted(asked.group, asked.region), self._now())
        if isinstance(outcome, NoNode):
            reason = outcome.reason
            self._selections.cell("", reason.value).add()
            self._log.debug("no node for call {call_id}: {reason}", call_id=asked.call_id, reason=reason.value)
            return Reply({"error": SENTENCES[reason], "reason": reason.value}, 503)
        node = outcome.node
        self._selections.cell(node.id, "placed").add()
        self._log.debug("call {call_id} goes to {node}", call_id=asked.call_id, node=node.id)
        return Reply(
            {
                "node": node.id,
                "address": node.address,
                "kind": node.kind,
                "region": node.region,
                "placement": outcome.id,
            }
        )

    def release(self, call: Call) -> None:
        if not self._nodes.release(call.parts["id"], self._now()):
            raise ApiError(404, "there is no such placement; it may have lapsed")

    def _placements(self) -> dict[tuple[str, ...], float]:
        return {(load.node.id,): load.placements for load in self._nodes.loads(self._now())}

    def _capacities(self) -> dict[tuple[str, ...], float]:
        return {(load.node.id,): load.node.capacity for load in self._nodes.loads(self._now())}


def _shown(load: Load) -> dict[str, object]:
    node = load.node
    return {
        "id": node.id,
        "address": node.address,
        "kind": node.kind,
        "region": node.region,
        "groups": node.groups,
        "weight": node.weight,
        "state": load.state,
        "capacity": node.capacity,
        "placements": load.placements,
        "load": round(load.share, 4),
    }
