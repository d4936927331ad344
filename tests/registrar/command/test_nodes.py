"""`rollcall nodes`, `rollcall flows` and `rollcall drain`, asking a real admin site on loopback."""

import json
from typing import Any

from attrs import evolve
from click.testing import Result
from twisted.internet import reactor
from twisted.internet.task import Clock
from twisted.internet.threads import deferToThread

from registrar.bound import tie
from registrar.cluster_api import Alone, Flows, Nodes
from registrar.command import asking
from registrar.location.contract import Snapshot
from registrar.location.memory import MemoryLocation
from registrar.records import record_key
from rollcall.cluster.nodes import Node
from rollcall.net.flow import Flow
from rollcall.net.wheel import TimerWheel
from rollcall.ops.admin import AdminConfig, AdminSite
from rollcall.ops.metrics import Metrics
from tests.flows import MemoryFlow, a_flow
from tests.registrar.command.running import CommandCase, run
from tests.registrar.examples import ALICE, NOW, A, a_bound, over_tcp

N1 = Node(node="n 1", epoch=7, host="2001:db8::1", port=5070, tls=True, started_at=1_700_000_000.0,
          faces={"udp": "192.0.2.1:5060", "tcp": "192.0.2.1:5060"}, site="fra", capacity=100, connections=4, weight=95)
N2 = Node(node="n2", epoch=8, host="192.0.2.2", port=5070, draining=True, started_at=1_700_000_000.0, weight=0)


class AskingCase(CommandCase):
    def setUp(self) -> None:
        super().setUp()
        self.admin = AdminSite(reactor, AdminConfig(port=0, token="t0p"), Metrics(process=False))
        self.mount()
        self.admin.startService()
        self.addCleanup(self.admin.stopService)
        port = self.admin.url.rpartition(":")[2]
        self.config.write_text(self.config.read_text() + f"[admin]\nport = {port}\ntoken = 't0p'\n")

    def mount(self) -> None:
        """Have the site answer."""

    async def ask(self, *arguments: str) -> Result:
        """Run the command in a thread, so that the site can answer."""
        result: Result = await deferToThread(run, *arguments, ROLLCALL_CONFIG=str(self.config))
        return result

    async def json(self, *arguments: str) -> Any:
        """Return what it prints with --json."""
        result = await self.ask(*arguments, "--json")
        self.assertEqual((result.exit_code, result.stderr), (0, ""))
        return json.loads(result.stdout)


class NodesTests(AskingCase):
    problem: str | None = None

    def mount(self) -> None:
        self.wishes: list[tuple[str, bool]] = []
        self.living: tuple[Node, ...] = (N1, N2)
        Nodes(self, "n 1", lambda: 5).mount(self.admin.routes)

    def nodes(self) -> tuple[Node, ...]:
        """Return who lives."""
        return self.living

    async def wish(self, name: str, drained: bool) -> bool:
        """Note a wish."""
        self.wishes.append((name, drained))
        return True

    async def test_nodes(self) -> None:
        """Programs get all that the registrar says."""
        answer = await self.json("nodes")
        self.assertEqual([(node["node"], node["epoch"], node["draining"]) for node in answer["nodes"]],
                         [("n 1", 7, False), ("n2", 8, True)])
        self.assertEqual(answer["problem"], None)

    async def test_table(self) -> None:
        """People get a table, and hear when others may believe that the node is dead."""
        self.problem = "it has no lease yet"
        result = await self.ask("nodes")
        _, first, second = result.stdout.splitlines()
        self.assertEqual(first.split(maxsplit=2)[2].split(), [
            "fra", "serving", "2023-11-14", "22:13:20Z", "[2001:db8::1]:5070", "(TLS)", "tcp", "192.0.2.1:5060,", "udp",
            "192.0.2.1:5060", "5", "of", "100", "95"])
        self.assertEqual(second.split(), ["n2", "draining", "2023-11-14", "22:13:20Z", "192.0.2.2:5070", "0"])
        self.assertEqual(result.stderr, "Others may believe that this node is dead, for its lease is not renewed: "
                                        "it has no lease yet\n")

    async def test_alone(self) -> None:
        """A registrar that shares nothing has no address for others."""
        self.living = (evolve(N1, host="", port=0),)
        result = await self.ask("nodes")
        self.assertIn("  alone  ", result.stdout)

    async def test_drain(self) -> None:
        """A node is drained by its name, whatever that is, and not any more when that is undone."""
        self.assertEqual(await self.json("drain", "n 1"), {"nodes": ["n 1"], "draining": True})
        result = await self.ask("drain", "n2", "--undo")
        self.assertEqual(result.stdout, "n2: phones may come again.\n")
        self.assertIn("its phones move over", (await self.ask("drain", "n2")).stdout)
        self.assertEqual(self.wishes, [("n 1", True), ("n2", False), ("n2", True)])

    async def test_nobody(self) -> None:
        """A node that does not live is a failure that says so."""
        result = await self.ask("drain", "n3")
        self.assertEqual(result.exit_code, 1)
        self.assertIn("answers 404: there is no node n3", result.stderr)

    async def test_wrong_token(self) -> None:
        """Without the right token nobody is drained."""
        self.config.write_text(self.config.read_text().replace("t0p", "other"))
        result = await self.ask("drain", "n2")
        self.assertIn("answers 401: a bearer token is needed", result.stderr)
        self.assertEqual((result.exit_code, self.wishes), (1, []))


class LonelyTests(AskingCase):
    def mount(self) -> None:
        self.wishes: list[bool] = []
        Nodes(Alone(self.me, self.wishes.append), "n1", lambda: 5).mount(self.admin.routes)

    def me(self) -> Node:
        """Return what it says of itself."""
        return evolve(N1, node="n1", draining=self.wishes[-1:] == [True])

    async def test_drain(self) -> None:
        """A registrar that shares nothing can be drained as well."""
        await self.json("drain", "n1")
        await self.json("drain", "n1", "--undo")
        self.assertEqual(self.wishes, [True, False])


class FlowsTests(AskingCase):
    def mount(self) -> None:
        self.location = MemoryLocation(TimerWheel(Clock()), lambda: NOW)
        self.addCleanup(self.location.stop)
        self.connections: list[MemoryFlow] = []
        Flows(self, self.location, "n1").mount(self.admin.routes)

    def flows(self) -> list[MemoryFlow]:
        """Return all connections."""
        return self.connections

    def flow(self, flow_id: int) -> Flow | None:
        """Return one of them."""
        return next((flow for flow in self.connections if flow.id == flow_id), None)

    def connect(self, number: int) -> None:
        """Have so many more connections, the first of which is Alice's."""
        self.connections += [a_flow("TCP", port=40000 + index) for index in range(number)]
        first = self.connections[0]
        tie(first, record_key(ALICE))
        binding = evolve(a_bound(A, first.id), source=over_tcp(first.id), registered_at=1_700_000_000.0)
        self.location.put(ALICE, Snapshot(1, (binding,)))

    async def test_all(self) -> None:
        """All connections are shown, over as many pages as it takes."""
        self.patch(asking, "PAGE_SIZE", 2)
        self.connect(5)
        found = (await self.json("flows"))["flows"]
        self.assertEqual([flow["port"] for flow in found], [40000, 40001, 40002, 40003, 40004])
        self.assertEqual([flow["aors"] for flow in found], [[ALICE], [], [], [], []])

    async def test_one(self) -> None:
        """The connections of one user are found by any of his names."""
        self.connect(2)
        for name in ("alice", "alice@SIP.example.com", "sip:alice@example.com"):
            self.assertEqual([flow["port"] for flow in (await self.json("flows", name))["flows"]], [40000])
        result = await self.ask("flows", "bob")
        self.assertEqual((result.exit_code, result.stdout, result.stderr), (0, "", "bob has no connection here.\n"))

    async def test_table(self) -> None:
        """People get a table; of a trunk it shows some addresses, and how many more there are."""
        self.connect(1)
        flow = self.connections[0]
        result = await self.ask("flows")
        self.assertEqual(result.stdout.splitlines()[1].split(), [
            str(flow.id), "n1", "TCP", f"{flow.peer[0]}:40000", "tcp", "2023-11-14", "22:13:20Z", ALICE])
        for number in range(5):
            tie(flow, record_key(f"sip:{number}@example.com"))
        self.assertIn("3 more", (await self.ask("flows")).stdout)

    async def test_none(self) -> None:
        """That nobody is connected is said aside, and is no failure."""
        result = await self.ask("flows")
        self.assertEqual((result.exit_code, result.stdout, result.stderr), (0, "", "No connection is open.\n"))
