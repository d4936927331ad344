"""The balancer's API, asked over HTTP in memory."""

from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from balancer.api import BalancerApi
from balancer.placing import Nodes, PlacementConfig
from rollcall.ops.admin import AdminConfig, AdminSite
from rollcall.ops.metrics import Metrics
from tests.balancer.test_selection import a_node
from tests.rollcall.ops.asking import Answered, ask


class BalancerApiTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = MemoryReactorClock()
        self.metrics = Metrics(process=False)
        nodes = Nodes(
            [
                a_node("m1", capacity=1, region="east"),
                a_node("m2", address="media2:22222", capacity=1, groups=("gold",)),
            ],
            PlacementConfig(max_call_seconds=60),
            random=lambda: 0.0,
            new_id=lambda: f"p{len(self.ids)}",
        )
        self.ids: list[str] = []
        self.admin = AdminSite(self.clock, AdminConfig(), self.metrics)
        BalancerApi(nodes, self.metrics, self.clock.seconds).mount(self.admin.routes)

    def select(self, **body: object) -> Answered:
        return ask(self.admin.site, "POST", "/v1/select", body)

    def test_nodes(self) -> None:
        """GET /v1/nodes tells each node with its state and load."""
        self.select(call_id="c1")
        answered = ask(self.admin.site, "GET", "/v1/nodes")
        first, second = answered.json["nodes"]
        self.assertEqual(
            first,
            {
                "id": "m1",
                "address": "192.0.2.1:22222",
                "kind": "rtpengine",
                "region": "east",
                "groups": [],
                "weight": 1,
                "state": "full",
                "capacity": 1,
                "placements": 1,
                "load": 1.0,
            },
        )
        self.assertEqual((second["id"], second["groups"], second["state"]), ("m2", ["gold"], "up"))

    def test_select(self) -> None:
        """POST /v1/select answers the node, its address and the placement."""
        answered = self.select(call_id="c1", group="gold", region="west")
        self.assertEqual(answered.status, 200)
        self.assertEqual(
            answered.json,
            {"node": "m1", "address": "192.0.2.1:22222", "kind": "rtpengine", "region": "east", "placement": "p0"},
        )

    def test_the_same_call(self) -> None:
        """The same call_id is answered the same."""
        self.assertEqual(self.select(call_id="c1").json, self.select(call_id="c1").json)
        self.assertEqual(ask(self.admin.site, "GET", "/v1/nodes").json["nodes"][0]["placements"], 1)

    def test_no_node(self) -> None:
        """When no node can have the call, that is 503 with the reason."""
        self.select(call_id="c1")
        answered = self.select(call_id="c2")
        self.assertEqual(answered.status, 503)
        self.assertEqual(answered.json, {"error": "every node for this group is full", "reason": "full"})

    def test_release(self) -> None:
        """DELETE makes room; a placement that is not there is 404."""
        placement = self.select(call_id="c1").json["placement"]
        path = f"/v1/placements/{placement}"
        self.assertEqual(ask(self.admin.site, "DELETE", path).status, 204)
        self.assertEqual(ask(self.admin.site, "DELETE", path).status, 404)
        self.assertEqual(self.select(call_id="c2").status, 200)

    def test_lapse(self) -> None:
        """A placement that nobody deletes makes room in the end."""
        self.select(call_id="c1")
        self.clock.advance(60)
        self.assertEqual(self.select(call_id="c2").status, 200)

    def test_bad_bodies(self) -> None:
        """A body that does not fit is 400 and names the field."""
        for body, field in (
            ({}, "call_id"),
            ({"call_id": 7}, "$.call_id"),
            ({"call_id": ""}, "$.call_id"),
            ({"call_id": "c", "group": []}, "$.group"),
            ({"call_id": "c", "regoin": "x"}, "regoin"),
        ):
            answered = self.select(**body)
            self.assertEqual(answered.status, 400)
            self.assertIn(field, answered.json["error"])

    def test_metrics(self) -> None:
        """Operators see answers, placements and capacity by node."""
        self.select(call_id="c1")
        self.select(call_id="c2")
        page = self.metrics.render().decode()
        for line in (
            'rollcall_balancer_selections_total{node="m1",outcome="placed"} 1.0',
            'rollcall_balancer_selections_total{node="",outcome="full"} 1.0',
            'rollcall_balancer_placements{node="m1"} 1.0',
            'rollcall_balancer_capacity{node="m2"} 1.0',
        ):
            self.assertIn(line + "\n", page)
