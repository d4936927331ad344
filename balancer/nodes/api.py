"""What nodes and operators can ask of a balancer over HTTP: to join, to leave, to drain, to be told a load.

`GET /v1/nodes` is not here: it says more than what is known of nodes alone.
"""

from collections.abc import Callable

from balancer.nodes.registry import Nodes, NotAccepted
from balancer.nodes.saying import Announcement, Saying
from balancer.nodes.statistics import LoadReport
from rollcall.ops.api import ApiError, Call, Reply, Routes


class NodesApi:
    """Answers below /v1/nodes."""

    def __init__(self, nodes: Nodes, saying: Saying, now: Callable[[], float]) -> None:
        self._nodes = nodes
        self._saying = saying
        self._now = now

    def mount(self, routes: Routes) -> None:
        """Add the routes."""
        routes.post("/v1/nodes", self.announce)
        routes.delete("/v1/nodes/{id}", self.withdraw)
        routes.post("/v1/nodes/{id}/drain", lambda call: self._drain(call, True))
        routes.post("/v1/nodes/{id}/undrain", lambda call: self._drain(call, False))
        routes.post("/v1/nodes/{id}/load", self.report)

    def announce(self, call: Call) -> Reply:
        """Take a node, or that it is still there; 201 when it is new. It has to come again before its lease ends."""
        said = call.body(Announcement)
        is_new = self._nodes.find(said.id) is None
        try:
            self._saying.announce(said.as_config())
        except ValueError as problem:
            raise ApiError(400, str(problem)) from problem
        except NotAccepted as refusal:
            raise ApiError(409, str(refusal)) from refusal
        return Reply({"id": said.id, "lease_seconds": self._nodes.limits.lease_seconds}, 201 if is_new else 200)

    def withdraw(self, call: Call) -> None:
        """Forget a node that had announced itself."""
        try:
            self._saying.withdraw(call.parts["id"])
        except LookupError as problem:
            raise _unknown() from problem
        except NotAccepted as refusal:
            raise ApiError(409, str(refusal)) from refusal

    def report(self, call: Call) -> None:
        """Take a node's load."""
        try:
            self._saying.report(call.parts["id"], call.body(LoadReport))
        except LookupError as problem:
            raise _unknown() from problem

    def _drain(self, call: Call, is_draining: bool) -> object:
        """Have a node drained, or no longer; answer what is known of it then."""
        try:
            self._saying.drain(call.parts["id"], is_draining)
        except LookupError as problem:
            raise _unknown() from problem
        node = self._nodes.find(call.parts["id"])
        return node.shown(self._now()) if node is not None else None


def _unknown() -> ApiError:
    return ApiError(404, "there is no such node")
