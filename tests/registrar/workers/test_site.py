"""The admin site of several workers: what it asks them, and what it says when they do not answer."""

import json
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, succeed

from registrar.bindings import Binding
from registrar.draining import DRAINED
from registrar.records import record_key
from registrar.workers.contacts import AllContacts
from registrar.workers.messages import Acquire, Answer, Ask, State
from registrar.workers.nodes import FLOWS, AllNodes, Walk
from registrar.workers.site import WorkersSite
from rollcall.ops.admin import AdminConfig
from rollcall.ops.metrics import Metrics
from tests.registrar.examples import ALICE, NOW, A, B, a_binding
from tests.registrar.workers.test_supervisor import Child, SupervisorCase
from tests.rollcall.ops.asking import Answered, Connection, written

BOB = "sip:bob@example.com"
CAROL = "sip:carol@example.com"


class SiteCase(SupervisorCase):
    """A site whose workers answer with `answers`: (worker, path) -> (status, content), and nothing else."""

    rows: dict[str, tuple[Binding, ...]] | None = None
    shared = False

    def setUp(self) -> None:
        super().setUp()
        self.answers: dict[tuple[int, str], tuple[int, object]] = {}
        self.asked: list[tuple[int, str, dict[str, str]]] = []
        self.posted: list[tuple[int, str, bytes]] = []
        self.site = WorkersSite(self.clock, AdminConfig(), Metrics(process=False), self.supervisor)
        read_after = self.read_after if self.rows is not None else None
        AllContacts(self.supervisor, lambda: NOW, read_after, self.shared).mount(self.site.routes)
        AllNodes(self.supervisor).mount(self.site.routes)
        Walk(self.supervisor, FLOWS).mount(self.site.routes)

    def read_after(self, aor: str, size: int, now: float) -> "Deferred[list[tuple[str, tuple[Binding, ...]]]]":
        """Read the file."""
        assert self.rows is not None
        return succeed([row for row in sorted(self.rows.items()) if row[0] > aor][:size])

    def ask(self, method: str, path: str, body: object = None, seconds: float = 0.0) -> Answered:
        """Return what the site answers, after some time."""
        connection = Connection(self.site.site)
        connection.send(written(method, path, body, content_type="application/json"))
        while self.serve():
            continue
        self.clock.advance(seconds)
        (answered,) = connection.answers()
        return answered

    def serve(self) -> bool:
        """Have the workers answer what they were asked; say whether they were asked anything."""
        was_asked = False
        for child in list(self.children):
            for message in child.heard():
                if isinstance(message, Ask):
                    was_asked = True
                    self.answer(child, message)
        return was_asked

    def answer(self, child: Child, ask: Ask) -> None:
        """Answer as the test said."""
        self.asked.append((child.index, ask.path, ask.query))
        if ask.content is not None:
            self.posted.append((child.index, ask.path, ask.content))
        if (child.index, ask.path) in self.answers:
            status, content = self.answers[child.index, ask.path]
            if callable(content):
                content = content(ask.query)
            data = content if isinstance(content, bytes) else json.dumps(content).encode()
            child.say(Answer(ask.number, status, "text/plain", data))


class SiteTests(SiteCase):
    def test_ready(self) -> None:
        """The site is ready when all workers are, and names those that are not."""
        self.supervisor.start()
        self.children[0].ready()
        answered = self.ask("GET", "/readyz")
        self.assertEqual((answered.status, answered.json["checks"]), (503, {"worker 1": "ok", "worker 2": "starting"}))
        self.children[1].ready()
        self.assertEqual(self.ask("GET", "/readyz").status, 200)
        self.children[1].end()
        self.assertEqual(self.ask("GET", "/readyz").json["checks"]["worker 2"], "pausing")

    def test_metrics(self) -> None:
        """One page adds up all that answer, and says how the workers are; each has its own as well."""
        self.started()
        page = b"# TYPE rollcall_things_total counter\nrollcall_things_total 2.0\n"
        self.answers = {(1, "/metrics"): (200, page), (2, "/metrics"): (200, page)}
        lines = self.ask("GET", "/metrics").content.decode().splitlines()
        for line in ("rollcall_things_total 4.0", 'rollcall_workers{state="ready"} 2.0',
                     'rollcall_worker_starts_total{worker="2"} 1.0', "rollcall_held_records 0.0"):
            self.assertIn(line, lines)
        self.assertEqual(self.ask("GET", "/metrics/2").content, page)
        self.assertNotIn(b"things", self.ask("GET", "/metrics/supervisor").content)
        self.assertEqual((self.ask("GET", "/metrics/3").status, self.ask("GET", "/metrics/x").status), (404, 404))
        self.children[1].end()
        self.assertIn(b"rollcall_things_total 2.0", self.ask("GET", "/metrics").content)
        self.assertEqual(self.ask("GET", "/metrics/2").status, 503)

    def test_silent_worker(self) -> None:
        """A worker that does not answer is missing, and is not waited for without end."""
        self.started()
        self.answers = {(1, "/metrics"): (200, b"# TYPE rollcall_x gauge\nrollcall_x 1.0\n")}
        self.assertIn(b"rollcall_x 1.0", self.ask("GET", "/metrics", seconds=5.1).content)
        self.assertEqual(self.ask("GET", "/metrics/2", seconds=5.1).status, 503)

    def test_workers(self) -> None:
        """Whoever asks is told of each worker what state it is in, and as which process."""
        self.started()
        self.children[1].end()
        self.assertEqual(self.ask("GET", "/v1/workers").json["workers"], [
            {"worker": 1, "state": "ready", "lives": 1, "pid": 100, "not_ready": None},
            {"worker": 2, "state": "pausing", "lives": 1, "pid": None, "not_ready": "pausing"}])

    def test_restart(self) -> None:
        """All workers can be restarted, or some that there are, and not twice at a time."""
        self.assertEqual(self.ask("POST", "/v1/workers/restart", {}).status, 409)
        self.started()
        for body, status in (({"workers": [3]}, 404), ({"workers": 1}, 400), ({"all": True}, 400)):
            self.assertEqual(self.ask("POST", "/v1/workers/restart", body).status, status, body)
        answered = self.ask("POST", "/v1/workers/restart", {})
        self.assertEqual((answered.status, answered.json), (202, {"restarting": [1, 2]}))
        self.assertEqual(self.ask("POST", "/v1/workers/restart", {"workers": [2]}).status, 409)
        self.assertEqual(self.states(), ["draining", "ready"])


class ContactTests(SiteCase):
    def setUp(self) -> None:
        super().setUp()
        self.started()

    def hold(self, worker: int, aor: str) -> None:
        """Let a worker hold a record."""
        self.children[worker - 1].say(Acquire((record_key(aor),)))

    def test_one(self) -> None:
        """Of one address-of-record the worker is asked that holds it; when nobody does, one that is ready."""
        self.hold(2, ALICE)
        self.answers = {(index, "/v1/contacts"): (200, {"from": index}) for index in (1, 2)}
        self.assertEqual(self.ask("GET", f"/v1/contacts?aor={ALICE}").json, {"from": 2})
        self.assertEqual(self.ask("GET", f"/v1/contacts?aor={BOB}").json, {"from": 1})
        self.assertEqual(self.asked, [(2, "/v1/contacts", {"aor": ALICE}), (1, "/v1/contacts", {"aor": BOB})])
        for child in self.children:
            child.end()
        self.assertEqual(self.ask("GET", f"/v1/contacts?aor={BOB}").status, 503)

    def test_mistakes(self) -> None:
        """What makes no sense is refused here, and nobody is asked."""
        for query, status in (("aor=x", 400), ("size=0", 400), ("user=alice", 400), ("after=x", 410)):
            self.assertEqual(self.ask("GET", f"/v1/contacts?{query}").status, status, query)
        self.assertEqual(self.asked, [])

    def listing(self, size: int = 2) -> list[Any]:
        """Return all pages of a listing."""
        answer = self.ask("GET", f"/v1/contacts?size={size}").json
        pages = [answer["contacts"]]
        while answer["next"] is not None:
            answer = self.ask("GET", f"/v1/contacts?after={answer['next']}").json
            pages.append(answer["contacts"])
        return pages

    def test_all(self) -> None:
        """A listing goes through all workers, each page by page."""
        pages = {None: {"contacts": [1, 2], "next": "more"}, "more": {"contacts": [3], "next": None}}
        answer: Callable[[dict[str, str]], object] = lambda query: pages[query.get("after")]  # noqa: E731
        self.answers = {(1, "/v1/contacts"): (200, answer), (2, "/v1/contacts"): (200, answer)}
        self.assertEqual([contact for page in self.listing() for contact in page], [1, 2, 3, 1, 2, 3])
        self.assertEqual({query["size"] for _, _, query in self.asked}, {"2"})

    def test_refused(self) -> None:
        """What a worker refuses is refused, and a page cannot be asked for twice."""
        self.answers = {(1, "/v1/contacts"): (410, {"error": "over"})}
        answered = self.ask("GET", "/v1/contacts")
        self.assertEqual((answered.status, answered.json), (410, {"error": "over"}))
        self.answers = {(1, "/v1/contacts"): (200, {"contacts": [], "next": None})}
        after = self.ask("GET", "/v1/contacts").json["next"]
        self.children[1].end()
        for status in (503, 410):
            self.assertEqual(self.ask("GET", f"/v1/contacts?after={after}").status, status)


    def test_of_a_node(self) -> None:
        """Whose connections are meant is said to each worker, on each page."""
        pages = {None: {"contacts": [1], "next": "more"}, "more": {"contacts": [2], "next": None}}
        answer: Callable[[dict[str, str]], object] = lambda query: pages[query.get("after")]  # noqa: E731
        self.answers = {(1, "/v1/contacts"): (200, answer), (2, "/v1/contacts"): (200, answer)}
        after = self.ask("GET", "/v1/contacts?node=n1&size=2").json["next"]
        self.ask("GET", f"/v1/contacts?after={after}")
        self.ask("GET", f"/v1/contacts?aor={BOB}&node=n1")
        self.assertEqual([query["node"] for _, _, query in self.asked], ["n1"] * 3)


class SharedTests(SiteCase):
    """Workers that share their bindings by Redis, so that each of them knows all."""

    shared = True

    def test_one_is_asked(self) -> None:
        """Only one worker is asked: one that should get work, or else one that is drained."""
        self.started()
        self.answers = {(index, "/v1/contacts"): (200, {"contacts": [index], "next": None}) for index in (1, 2)}
        for worker in self.children:
            answer = self.ask("GET", "/v1/contacts").json
            self.assertEqual(answer["contacts"], [worker.index])
            self.assertEqual(self.ask("GET", f"/v1/contacts?after={answer['next']}").json["contacts"], [])
            worker.say(State(DRAINED))
        self.assertEqual(self.ask("GET", "/v1/contacts").json["contacts"], [1])
        self.assertEqual(self.ask("GET", "/readyz").json["checks"]["worker 1"], DRAINED)


class NodesTests(SiteCase):
    def setUp(self) -> None:
        super().setUp()
        self.started()

    def say(self, worker: int, *names: str, problem: str | None = None) -> None:
        """Have a worker answer which nodes it knows, the first being itself."""
        nodes = [{"node": name, "this": name == names[0], "said_by": worker} for name in names]
        self.answers[worker, "/v1/nodes"] = 200, {"nodes": nodes, "problem": problem}

    def nodes(self) -> list[tuple[str, int]]:
        """Return each node that is shown, and who has told of it."""
        return [(node["node"], node["said_by"]) for node in self.ask("GET", "/v1/nodes").json["nodes"]]

    def test_strangers(self) -> None:
        """Workers that know only themselves are put together."""
        self.say(1, "n-1")
        self.say(2, "n-2")
        self.assertEqual(self.nodes(), [("n-1", 1), ("n-2", 2)])

    def test_members(self) -> None:
        """Of a node that several know it counts what it says itself."""
        self.say(1, "n-1", "n-2", "m")
        self.say(2, "n-2", "n-1", "m")
        self.assertEqual(self.nodes(), [("m", 1), ("n-1", 1), ("n-2", 2)])

    def test_problems(self) -> None:
        """Which worker may seem dead to others is said."""
        self.say(1, "n-1")
        self.say(2, "n-2", problem="no lease")
        self.assertEqual(self.ask("GET", "/v1/nodes").json["problem"], "worker 2: no lease")

    def test_one_has_ended(self) -> None:
        """A worker that is not there is missing; when none is there the answer is 503."""
        self.say(2, "n-2")
        self.children[0].end()
        self.assertEqual(self.nodes(), [("n-2", 2)])
        self.children[1].end()
        self.assertEqual(self.ask("GET", "/v1/nodes").status, 503)

    def test_drain(self) -> None:
        """Each worker is told who shall be drained, and it is enough that one of them knows him."""
        path = "/v1/nodes/n%20-2/drain"
        self.answers = {(1, path): (404, {"error": "there is no node"}),
                        (2, path): (202, {"nodes": ["n-2"], "draining": True})}
        answered = self.ask("POST", path, {"undo": False})
        self.assertEqual((answered.status, answered.json), (202, {"nodes": ["n-2"], "draining": True}))
        self.assertEqual(self.posted, [(1, path, b'{"undo": false}'), (2, path, b'{"undo": false}')])

    def test_drain_nobody(self) -> None:
        """When nobody knows him it is 404; what makes no sense is told to nobody."""
        path = "/v1/nodes/x/drain"
        self.answers = {(index, path): (404, {"error": "there is no node x"}) for index in (1, 2)}
        answered = self.ask("POST", path, {})
        self.assertEqual((answered.status, answered.json), (404, {"error": "there is no node x"}))
        self.posted.clear()
        self.assertEqual(self.ask("POST", path, {"x": 1}).status, 400)
        self.assertEqual(self.posted, [])

    def test_flows(self) -> None:
        """A listing of connections goes through all workers, each page by page."""
        pages = {None: {"flows": [1, 2], "next": "more"}, "more": {"flows": [3], "next": None}}
        answer: Callable[[dict[str, str]], object] = lambda query: pages[query.get("after")]  # noqa: E731
        self.answers = {(index, "/v1/flows"): (200, answer) for index in (1, 2)}
        page = self.ask("GET", "/v1/flows?size=2").json
        seen = page["flows"]
        while page["next"] is not None:
            page = self.ask("GET", f"/v1/flows?after={page['next']}").json
            seen += page["flows"]
        self.assertEqual(seen, [1, 2, 3, 1, 2, 3])

    def test_flows_of_one(self) -> None:
        """Of one address-of-record all workers are asked at once."""
        self.answers = {(index, "/v1/flows"): (200, {"flows": [index], "next": None}) for index in (1, 2)}
        self.assertEqual(self.ask("GET", f"/v1/flows?aor={ALICE}").json, {"flows": [1, 2], "next": None})

    def test_flows_of_who_has_ended(self) -> None:
        """A listing that comes to a worker that is not there ends with 503."""
        self.children[0].end()
        self.assertEqual(self.ask("GET", "/v1/flows").status, 503)


class FileTests(ContactTests):
    """The same with a file, in which there is Bob, whom nobody holds, and Alice."""

    rows = {ALICE: (a_binding(A),), BOB: (a_binding(A), a_binding(B)), CAROL: (a_binding(A),)}

    def test_all(self) -> None:
        """After the workers comes the file, page by page, without those of whom a worker has told."""
        self.hold(1, ALICE)
        answer = {"contacts": ["alice"], "next": None}
        self.answers = {(index, "/v1/contacts"): (200, answer) for index in (1, 2)}
        pages = self.listing()
        self.assertEqual(pages[:2], [["alice"], ["alice"]])
        self.assertEqual([[(contact["aor"], contact["contact"]) for contact in page] for page in pages[2:]],
                         [[(BOB, A), (BOB, B)], [(CAROL, A)], []])
