"""GET /v1/nodes and /v1/flows, and POST /v1/nodes/{node}/drain."""

from collections.abc import Sequence
from typing import Any
from urllib.parse import urlencode

from attrs import evolve
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from registrar.bound import tie
from registrar.cluster_api import MOST_AORS, Alone, Flows, Nodes
from registrar.location.contract import LocationUnavailable, Snapshot
from registrar.location.memory import MemoryLocation
from registrar.records import record_key
from rollcall.cluster.nodes import Node
from rollcall.cluster.redis import RedisUnavailable
from rollcall.net.flow import Flow
from rollcall.net.wheel import TimerWheel
from rollcall.ops.admin import AdminConfig, AdminSite
from rollcall.ops.metrics import Metrics
from tests.flows import MemoryFlow, a_flow
from tests.registrar.examples import ALICE, NOW, A, B, a_bound, over_tcp
from tests.rollcall.ops.asking import Answered, ask

BOB = "sip:bob@example.com"
N1 = Node(node="n1", epoch=7, host="192.0.2.1", port=5070, tls=True, started_at=NOW,
          faces={"tcp": "192.0.2.1:5060"}, admin="http://192.0.2.1:8060", site="fra", capacity=50, connections=11,
          weight=80)
N2 = Node(node="n2", epoch=8, host="192.0.2.2", port=5070, draining=True, started_at=NOW)
WORKERS = tuple(Node(node=f"w-{index}", epoch=9, host="192.0.2.3", port=5069 + index, of="w") for index in (1, 2))


def a_site() -> AdminSite:
    """Return an admin site without anything of ours."""
    return AdminSite(MemoryReactorClock(), AdminConfig(), Metrics(process=False))


class NodesTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.living: tuple[Node, ...] = (N1, N2, *WORKERS)
        self.problem: str | None = None
        self.wishes: list[tuple[str, bool]] = []
        self.is_away = False
        self.admin = a_site()
        self.under_test = Nodes(self, "n1", lambda: 12)
        self.under_test.mount(self.admin.routes)

    def nodes(self) -> tuple[Node, ...]:
        """Return who lives."""
        return self.living

    async def wish(self, name: str, drained: bool) -> bool:
        """Note a wish."""
        if self.is_away:
            raise RedisUnavailable("no answer")
        self.wishes.append((name, drained))
        return True

    def drain(self, name: str, body: object) -> Answered:
        """Have a node drained."""
        return ask(self.admin.site, "POST", f"/v1/nodes/{name}/drain", body, content_type="application/json")

    def test_load_of_others(self) -> None:
        """How many connections another node has, and its weight, are what its lease said last."""
        self.living = (N2, evolve(N1, node="n3"))
        _, third = ask(self.admin.site, "GET", "/v1/nodes").json["nodes"]
        self.assertEqual((third["connections"], third["capacity"], third["weight"]), (11, 50, 80))

    def test_shown(self) -> None:
        """Of each node is told what others know of it, and of this one what only it knows."""
        answer = ask(self.admin.site, "GET", "/v1/nodes").json
        first, second, *_ = answer["nodes"]
        self.assertEqual(first, {
            "node": "n1", "epoch": 7, "of": None, "this": True, "draining": False, "started_at": NOW,
            "host": "192.0.2.1", "port": 5070, "tls": True, "listeners": {"tcp": "192.0.2.1:5060"},
            "admin": "http://192.0.2.1:8060", "connections": 12, "site": "fra", "capacity": 50,
            "weight": 80})
        self.assertEqual((second["this"], second["draining"], second["connections"]), (False, True, None))
        self.assertEqual((second["site"], second["capacity"]), (None, None))
        self.assertEqual([node["node"] for node in answer["nodes"]], ["n1", "n2", "w-1", "w-2"])
        self.assertEqual(answer["problem"], None)

    def test_problem(self) -> None:
        """Whoever may seem dead to others says so."""
        self.problem = "no lease yet"
        self.assertEqual(ask(self.admin.site, "GET", "/v1/nodes").json["problem"], "no lease yet")

    def test_drained(self) -> None:
        """Any node can be told to have any node drained, and that it need not be any more."""
        answered = self.drain("n2", {})
        self.assertEqual((answered.status, answered.json), (202, {"nodes": ["n2"], "draining": True}))
        self.drain("n1", {"undo": True})
        self.assertEqual(self.wishes, [("n2", True), ("n1", False)])

    def test_workers(self) -> None:
        """The name of a registrar with workers stands for them all; that of a worker for itself."""
        self.assertEqual(self.drain("w", {}).json["nodes"], ["w-1", "w-2"])
        self.assertEqual(self.drain("w-2", {}).json["nodes"], ["w-2"])
        self.assertEqual(self.under_test.named("w"), {"w", "w-1", "w-2"})

    def test_not_there(self) -> None:
        """A node that does not live is 404, and so is part of a name."""
        self.assertEqual([self.drain(name, {}).status for name in ("n3", "n", "w-")], [404] * 3)
        self.assertEqual(self.wishes, [])

    def test_not_told(self) -> None:
        """While a node cannot be told the answer is 503."""
        self.is_away = True
        answered = self.drain("n2", {})
        self.assertEqual((answered.status, answered.json["error"]), (503, "it cannot be told now: no answer"))

    def test_mistakes(self) -> None:
        """What makes no sense is refused, and no browser can be led to it."""
        self.assertEqual(self.drain("n2", {"undo": 1}).status, 400)
        self.assertEqual(self.drain("n2", {"now": True}).status, 400)
        self.assertEqual(ask(self.admin.site, "POST", "/v1/nodes/n2/drain", {}, content_type="text/plain").status, 415)
        self.assertEqual(ask(self.admin.site, "GET", "/v1/nodes/n2/drain").status, 405)
        self.assertEqual(self.wishes, [])

    def test_alone(self) -> None:
        """A registrar that shares nothing is one node, and can be drained as well."""
        wishes: list[bool] = []
        admin = a_site()

        def me() -> Node:
            return evolve(N1, host="", port=0, draining=wishes[-1:] == [True])

        Nodes(Alone(me, wishes.append), "n1", lambda: 3).mount(admin.routes)
        (node,) = ask(admin.site, "GET", "/v1/nodes").json["nodes"]
        self.assertEqual((node["node"], node["host"], node["port"], node["connections"]), ("n1", None, None, 3))
        for name, body, status in (("n1", {}, 202), ("n1", {"undo": True}, 202), ("n2", {}, 404)):
            answered = ask(admin.site, "POST", f"/v1/nodes/{name}/drain", body, content_type="application/json")
            self.assertEqual(answered.status, status)
        self.assertEqual(wishes, [True, False])

    def test_cannot_listen_again(self) -> None:
        """When its address is taken by then, whoever undoes it is told so."""
        admin = a_site()
        Nodes(Alone(lambda: N2, lambda drained: None), "n2", lambda: 3).mount(admin.routes)
        answered = ask(admin.site, "POST", "/v1/nodes/n2/drain", {"undo": True}, content_type="application/json")
        self.assertEqual((answered.status, answered.json["error"]), (503, "it cannot listen again; the log says why"))


class FlowsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.location = MemoryLocation(TimerWheel(Clock()), lambda: NOW)
        self.connections: list[MemoryFlow] = []
        self.admin = a_site()
        Flows(self, self.location, "n1").mount(self.admin.routes)

    def flows(self) -> Sequence[Flow]:
        """Return all connections."""
        return self.connections

    def flow(self, flow_id: int) -> Flow | None:
        """Return an open connection."""
        return next((flow for flow in self.connections if flow.id == flow_id and flow.is_open), None)

    def connect(self, number: int) -> list[MemoryFlow]:
        """Have so many more connections."""
        flows = [a_flow("TCP", port=40000 + index) for index in range(number)]
        self.connections += flows
        return flows

    def ask(self, **query: object) -> Answered:
        """Return the answer to a query."""
        return ask(self.admin.site, "GET", f"/v1/flows?{urlencode(query)}")

    def bind(self, flow: MemoryFlow, aor: str = ALICE, registered_at: float = NOW - 60) -> None:
        """Have two bindings, one of which is on a connection."""
        tie(flow, record_key(aor))
        here = evolve(a_bound(A, flow.id), source=over_tcp(flow.id), registered_at=registered_at)
        elsewhere = evolve(a_bound(B, flow.id), source=over_tcp(flow.id, "n2"), registered_at=NOW - 600)
        self.location.put(aor, Snapshot(1, (here, elsewhere)))

    def test_shown(self) -> None:
        """Of each connection is told what hangs on it, and since when."""
        bound, idle = self.connect(2)
        self.bind(bound)
        idle.holds = 1
        first, second = self.ask().json["flows"]
        self.assertEqual(first, {
            "flow": bound.id, "node": "n1", "transport": "TCP", "host": bound.peer[0], "port": 40000, "listener": "tcp",
            "aors": [ALICE], "bound": 1, "since": NOW - 60, "in_use": False})
        self.assertEqual((second["aors"], second["since"], second["in_use"]), ([], None, True))

    def test_trunk(self) -> None:
        """Of a connection that very many addresses-of-record are bound to some are told, and how many there are."""
        (trunk,) = self.connect(1)
        for number in range(MOST_AORS + 5):
            self.bind(trunk, f"sip:{number}@example.com", NOW - number)
        (shown,) = self.ask().json["flows"]
        self.assertEqual((shown["bound"], len(shown["aors"])), (MOST_AORS + 5, MOST_AORS))

    def test_pages(self) -> None:
        """A listing shows every connection once; what comes or ends meanwhile is not shown."""
        flows = self.connect(7)
        page = self.ask(size=3).json
        seen = [flow["flow"] for flow in page["flows"]]
        flows[-1].close("by the test")
        self.connect(1)
        while page["next"] is not None:
            page = self.ask(after=page["next"]).json
            seen += [flow["flow"] for flow in page["flows"]]
        self.assertEqual(seen, [flow.id for flow in flows[:-1]])
        self.assertEqual(self.ask(size=8).json["next"], None)

    def test_of_one(self) -> None:
        """The connections of one address-of-record are found."""
        alices, bobs = self.connect(2)
        self.bind(alices)
        self.bind(bobs, BOB)
        self.assertEqual([flow["flow"] for flow in self.ask(aor=BOB).json["flows"]], [bobs.id])
        self.assertEqual(self.ask(aor="sip:carol@example.com").json, {"flows": [], "next": None})

    def test_store_away(self) -> None:
        """Connections are told of though the store cannot say since when."""
        async def away(aor: str) -> Any:
            raise LocationUnavailable("Redis is away")

        (flow,) = self.connect(1)
        self.bind(flow)
        self.patch(self.location, "load", away)
        (shown,) = self.ask().json["flows"]
        self.assertEqual((shown["aors"], shown["since"]), ([ALICE], None))

    def test_mistakes(self) -> None:
        """Whatever is wrong with a query is refused."""
        for query, status in (({"size": 0}, 400), ({"node": "n1"}, 400), ({"after": "x"}, 410), ({"aor": "x"}, 400)):
            self.assertEqual(self.ask(**query).status, status, query)
