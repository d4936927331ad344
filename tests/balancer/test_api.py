"""The balancer's API, asked over HTTP in memory."""

from attrs import evolve
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from balancer.api import BalancerApi
from balancer.placing import PlacementConfig, Placing
from balancer.quality.hearing import Shown
from rollcall.media.snapshot import NodeState, Quality, Snapshot
from rollcall.ops.admin import AdminConfig, AdminSite
from rollcall.ops.metrics import Metrics
from tests.balancer.test_placing import a_node, a_snapshot
from tests.rollcall.ops.asking import Answered, ask

NODES = (
    a_node("m1", capacity=1, site="east"),
    a_node("m2", address="media2:22222", capacity=1, groups=("gold",)),
)
WAY = Shown("x/east", "m1", loss=0.0812345678, jitter_ms=4.0, rtt_ms=None, r=61.23, weight=2.5, phones=3, trust=1.0)


class ApiCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = MemoryReactorClock()
        self.metrics = Metrics(process=False)
        self.ids: list[str] = []
        self.placing = Placing(PlacementConfig(max_call_seconds=60), lambda: 0.0, lambda: f"p{len(self.ids)}")
        self.follow(a_snapshot(*NODES))
        self.admin = AdminSite(self.clock, AdminConfig(), self.metrics)
        groups = {"192.0.2.7": "x/east", "192.0.2.8": "x/west"}
        BalancerApi(self.placing, self.metrics, self.clock.seconds, lambda host: groups.get(host, ""),
                    lambda: [{"id": "m1", "state": "up"}], lambda: [WAY]).mount(self.admin.routes)

    def follow(self, snapshot: Snapshot) -> None:
        """Let this be what is known."""
        self.placing.follow(snapshot, self.clock.seconds())

    def get(self, path: str) -> Answered:
        """Ask for something."""
        return ask(self.admin.site, "GET", path)

    def select(self, **body: object) -> Answered:
        """Ask for a node."""
        return ask(self.admin.site, "POST", "/v1/select", body)


class SelectTests(ApiCase):
    def test_select(self) -> None:
        """POST /v1/select answers the node, its address, what is expected of it and the placement."""
        answered = self.select(call_id="c1", sides=["x/east", "x/east"])
        self.assertEqual(answered.status, 200)
        self.assertEqual(
            answered.json,
            {"node": "m1", "address": "192.0.2.1:22222", "kind": "rtpengine", "region": "east", "r": 91.5,
             "placement": "p0"},
        )

    def test_the_same_call(self) -> None:
        """The same call_id is answered the same, and counts once."""
        self.assertEqual(self.select(call_id="c1").json, self.select(call_id="c1").json)
        self.assertEqual(self.get("/v1/nodes").json["nodes"][0]["placements"], 1)

    def test_no_node(self) -> None:
        """When no node can have the call, that is 503 with the reason."""
        self.select(call_id="c1")
        answered = self.select(call_id="c2")
        self.assertEqual(answered.status, 503)
        self.assertEqual(answered.json, {"error": "every node of this group is full", "reason": "full"})
        self.assertEqual(self.select(call_id="c3", group="silver").json["reason"], "no_node")

    def test_group_of_the_tenant(self) -> None:
        """Without a group that of caller and callee counts; a group that is named comes before it."""
        self.follow(evolve(a_snapshot(*NODES), tenants={"gold.example": "gold"}))
        self.assertEqual(self.select(call_id="c1", caller="sip:a@gold.example", callee="sip:b@x.example").json["node"],
                         "m2")
        self.assertEqual(self.select(call_id="c2", caller="sip:a@gold.example", group="general").json["node"], "m1")

    def test_what_is_known_of_the_ends(self) -> None:
        """Sides, addresses or a region say where the ends are; the choice is by the ways between them and the nodes."""
        near, far = a_node("near", site="west"), a_node("far", site="east")
        paths = {("x/east", "near"): Quality(0.0, 5.0), ("x/east", "far"): Quality(0.2, 5.0),
                 ("x/west", "near"): Quality(0.2, 5.0), ("x/west", "far"): Quality(0.0, 5.0)}
        priors = {("south", "west"): Quality(0.0, 1.0), ("south", "east"): Quality(0.0, 400.0)}
        self.follow(evolve(a_snapshot(near, far, policy="quality"), paths=paths, priors=priors))
        cases: list[tuple[str, object, str]] = [
            ("sides", ["x/east"], "near"), ("sides", ["x/west"], "far"), ("hosts", ["192.0.2.7"], "near"),
            ("hosts", ["192.0.2.8", "192.0.2.8"], "far"), ("region", "south", "near")]
        for number, (name, value, node) in enumerate(cases):
            self.assertEqual(self.select(call_id=f"c{number}", **{name: value}).json["node"], node, value)

    def test_without(self) -> None:
        """A node that has just failed the call is left out."""
        self.follow(a_snapshot(a_node("a"), a_node("b")))
        self.assertEqual(self.select(call_id="c", without=["a"]).json["node"], "b")

    def test_release(self) -> None:
        """DELETE ends a placement; one that is not there is 404."""
        placement = self.select(call_id="c1").json["placement"]
        path = f"/v1/placements/{placement}"
        self.assertEqual(ask(self.admin.site, "DELETE", path).status, 204)
        self.assertEqual(ask(self.admin.site, "DELETE", path).status, 404)

    def test_bad_bodies(self) -> None:
        """A body that does not fit is 400 and names the field."""
        for body, field in (
            ({}, "call_id"),
            ({"call_id": 7}, "$.call_id"),
            ({"call_id": ""}, "$.call_id"),
            ({"call_id": "c", "group": []}, "$.group"),
            ({"call_id": "c", "sides": ["a", "b", "c"]}, "$.sides"),
            ({"call_id": "c", "regoin": "x"}, "regoin"),
        ):
            answered = self.select(**body)
            self.assertEqual(answered.status, 400)
            self.assertIn(field, answered.json["error"])


class ListTests(ApiCase):
    def test_nodes(self) -> None:
        """GET /v1/nodes tells of each node what is known, and what was placed there over HTTP."""
        self.select(call_id="c1")
        self.assertEqual(self.get("/v1/nodes").json, {"nodes": [{"id": "m1", "state": "up", "placements": 1}]})

    def test_quality(self) -> None:
        """GET /v1/quality tells of each way what was reported and what that sounds like."""
        self.assertEqual(self.get("/v1/quality").json, {"quality": [{
            "group": "x/east", "node": "m1", "loss": 0.08123, "jitter_ms": 4.0, "rtt_ms": None, "r": 61.2, "mos": 3.16,
            "weight": 2.5, "phones": 3, "trust": 1.0}]})

    def weights(self, query: str = "") -> dict[str, int]:
        """Return the weights of nodes."""
        return {each["node"]: each["weight"] for each in self.get(f"/v1/weights{query}").json["weights"]}

    def test_weights(self) -> None:
        """A name server gives each node that is up the share of its free places; a full or dead one is not there."""
        nodes = (a_node("a", capacity=100, sessions=20), a_node("b", capacity=100, sessions=60),
                 a_node("c", sessions=10), a_node("d", state=NodeState.DOWN), a_node("e", state=NodeState.SUSPECT),
                 a_node("f", groups=("gold",)))
        self.follow(a_snapshot(*nodes))
        self.assertEqual(self.weights(), {"a": 1000, "b": 500})
        self.assertEqual(self.weights("?group=gold"), {"f": 1000})
        self.assertEqual(self.weights("?group=none"), {})
        self.follow(a_snapshot(*nodes[2:5]))
        self.assertEqual(self.weights(), {"e": 1000})

    def test_weights_of_a_side(self) -> None:
        """For an access group only nodes are there that are as good as the best for it."""
        paths = {("x/east", "a"): Quality(0.05, 5.0), ("x/east", "b"): Quality(0.0, 5.0)}
        self.follow(evolve(a_snapshot(a_node("a"), a_node("b")), paths=paths))
        self.assertEqual(self.weights("?side=x/east"), {"b": 1000})
        self.assertEqual(self.weights("?side=x/west"), {"a": 1000, "b": 1000})

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
