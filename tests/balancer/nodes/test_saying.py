"""What operators and nodes say, to one of two balancers, over HTTP."""

from typing import Any

from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from balancer.nodes.api import NodesApi
from balancer.nodes.registry import Nodes
from balancer.nodes.saying import Saying
from balancer.nodes.sharing import KEY
from rollcall.media.snapshot import NodeState
from rollcall.ops.admin import AdminConfig, AdminSite
from rollcall.ops.metrics import Metrics
from tests.balancer.nodes.examples import FS, LIMITS, M1, WordRedis, a_load
from tests.rollcall.ops.asking import Answered, ask

NOW = 1_800_000_000.0
JOINING: dict[str, Any] = {"id": "m9", "address": "192.0.2.9:22222", "region": "FR", "capture_id": 9}


class Side:
    """One balancer with its nodes and its site."""

    def __init__(self, clock: MemoryReactorClock, redis: WordRedis | None) -> None:
        self.nodes = Nodes([M1, FS], LIMITS)
        self.saying = Saying(clock, self.nodes, redis)
        self.saying.sharing.startService()
        self.admin = AdminSite(clock, AdminConfig(), Metrics(process=False))
        NodesApi(self.nodes, self.saying, clock.seconds).mount(self.admin.routes)

    def post(self, path: str, body: Any = None, method: str = "POST") -> Answered:
        return ask(self.admin.site, method, path, body)


class SayingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = MemoryReactorClock()
        self.clock.advance(NOW)
        self.redis = WordRedis(self.clock)
        self.one, self.other = Side(self.clock, self.redis), Side(self.clock, self.redis)

    def pass_time(self, seconds: float = 0.6) -> None:
        for _ in range(round(seconds / 0.1)):
            self.clock.advance(0.1)

    def states(self, name: str) -> list[NodeState | None]:
        nodes = [side.nodes.nodes(self.clock.seconds()).get(name) for side in (self.one, self.other)]
        return [node.state if node is not None else None for node in nodes]

    def answer(self, name: str) -> None:
        for side in (self.one, self.other):
            side.nodes.answered(name, a_load(), self.clock.seconds(), self.clock.seconds())

    def test_joining(self) -> None:
        """A node that announces itself to one balancer is known to both, with all it said; its lease is told to it."""
        answered = self.one.post("/v1/nodes", JOINING)
        self.assertEqual((answered.status, answered.json), (201, {"id": "m9", "lease_seconds": 15.0}))
        self.pass_time()
        node = self.other.nodes.nodes(self.clock.seconds())["m9"]
        self.assertEqual((node.address, node.site), ("192.0.2.9:22222", "FR"))
        self.assertEqual(self.other.nodes.node_of(9, "", ""), "m9")
        self.assertEqual(self.other.post("/v1/nodes", JOINING).status, 200)

    def test_lease(self) -> None:
        """The lease ends at every balancer at the same time, and is renewed by saying the same to any of them."""
        self.one.post("/v1/nodes", JOINING)
        self.answer("m9")
        self.pass_time(10)
        self.other.post("/v1/nodes", JOINING)
        self.pass_time(10)
        self.answer("m9")
        self.assertEqual(self.states("m9"), [NodeState.UP] * 2)
        self.pass_time(5.5)
        self.assertEqual(self.states("m9"), [NodeState.DRAINING] * 2)

    def test_leases_while_redis_is_away(self) -> None:
        """No lease ends because its renewal cannot be heard; one that had ended before stays so."""
        self.one.post("/v1/nodes", JOINING)
        self.one.post("/v1/nodes", JOINING | {"id": "m8", "address": "192.0.2.8:22222", "capture_id": 8})
        self.pass_time()
        self.answer("m8")
        self.answer("m9")
        for _ in range(4):
            self.pass_time(5)
            self.one.post("/v1/nodes", JOINING)
        self.redis.problem = "it is away"
        for _ in range(6):
            self.pass_time(5)
            self.one.post("/v1/nodes", JOINING)
        self.assertEqual(self.states("m9"), [NodeState.UP] * 2)
        self.redis.problem = None
        self.pass_time(1.2)
        self.answer("m8")
        self.assertEqual(self.states("m9"), [NodeState.UP] * 2)
        self.assertEqual(self.states("m8"), [NodeState.DRAINED] * 2)
        self.pass_time(16)
        self.assertIsNot(self.states("m9")[1], NodeState.UP)

    def test_a_balancer_that_comes_later(self) -> None:
        """A balancer that starts later knows what was said, of nodes that joined and of their draining."""
        self.one.post("/v1/nodes", JOINING)
        self.one.post("/v1/nodes/m9/drain")
        words = self.redis.hashes[KEY]
        self.redis.hashes[KEY] = dict(sorted(words.items()))  # "drain:" before "node:"
        later = Side(self.clock, self.redis)
        self.pass_time(1.2)
        later.nodes.answered("m9", a_load(), self.clock.seconds(), self.clock.seconds())
        self.assertIs(later.nodes.nodes(self.clock.seconds())["m9"].state, NodeState.DRAINING)

    def test_leaving(self) -> None:
        """A node that leaves is gone everywhere, its draining with it; it may come back."""
        self.one.post("/v1/nodes", JOINING)
        self.one.post("/v1/nodes/m9/drain")
        self.pass_time()
        self.assertEqual(self.other.post("/v1/nodes/m9", method="DELETE").status, 204)
        self.pass_time(1.2)
        self.assertEqual(self.states("m9"), [None, None])
        self.assertEqual(self.other.post("/v1/nodes/m9", method="DELETE").status, 404)
        self.one.post("/v1/nodes", JOINING)
        self.pass_time(1.2)
        self.answer("m9")
        self.assertEqual(self.states("m9"), [NodeState.UP] * 2)

    def test_draining(self) -> None:
        """A node is drained and no longer drained by word to any balancer; the answer shows it."""
        self.answer("m1")
        answered = self.one.post("/v1/nodes/m1/drain")
        self.assertEqual((answered.json["id"], answered.json["state"]), ("m1", "draining"))
        self.pass_time()
        self.assertEqual(self.states("m1"), [NodeState.DRAINING] * 2)
        self.assertEqual(self.other.post("/v1/nodes/m1/undrain").json["state"], "up")
        self.pass_time()
        self.assertEqual(self.states("m1"), [NodeState.UP] * 2)
        self.assertEqual(self.one.post("/v1/nodes/m7/drain").status, 404)

    def test_load(self) -> None:
        """A load that a node reports to one balancer counts at both."""
        self.assertEqual(self.one.post("/v1/nodes/fs/load", {"sessions": 17}).status, 204)
        self.pass_time()
        for side in (self.one, self.other):
            self.assertEqual(side.nodes.nodes(self.clock.seconds())["fs"].sessions, 17)
        self.assertEqual(self.one.post("/v1/nodes/m7/load", {"sessions": 17}).status, 404)

    def test_without_redis(self) -> None:
        """A balancer that works alone takes all this, too."""
        alone = Side(self.clock, None)
        self.assertEqual(alone.post("/v1/nodes", JOINING).status, 201)
        self.assertEqual(alone.post("/v1/nodes/m9/drain").json["id"], "m9")
        self.assertEqual(alone.post("/v1/nodes/m9", method="DELETE").status, 204)

    def test_mistakes(self) -> None:
        """A mistake is answered with 400 and its field, a conflict with 409; neither reaches the other balancer."""
        for changes, mentioned in (
            ({"address": "nowhere"}, "address"), ({"capacity": 0}, "capacity"), ({"kind": "pbx"}, "kind"),
            ({"id": "a b"}, "id"), ({"media_hosts": ["x"]}, "media_hosts"), ({"adress": "x"}, "adress"),
            ({"transport": "tls"}, "transport"), ({"capture_id": -1}, "capture_id"), ({"region": "x" * 65}, "region"),
        ):
            answered = self.one.post("/v1/nodes", JOINING | changes)
            self.assertEqual(answered.status, 400)
            self.assertIn(mentioned, answered.json["error"])
        self.assertEqual(self.one.post("/v1/nodes", JOINING | {"id": "m1"}).status, 409)
        self.assertEqual(self.one.post("/v1/nodes/m1", method="DELETE").status, 409)
        self.assertEqual(self.one.post("/v1/nodes/fs/load", {"sessions": -1}).status, 400)
        self.pass_time()
        self.assertEqual(self.states("m9"), [None, None])

    def test_words_that_nobody_understands(self) -> None:
        """What another version, or somebody else, has written into Redis is logged and changes nothing."""
        for field, word in ((b"drain:m1", b"maybe"), (b"node:m9", b"{}"), (b"load:m1", b'{"calls":1}'),
                            (b"node:m8", b'{"id":"m1","address":"192.0.2.8:1"}'), (b"mood:m1", b'"good"')):
            self.redis.hashes.setdefault(KEY, {})[field] = b"%d %s" % (NOW * 1000, word)
        self.answer("m1")
        self.pass_time()
        self.assertEqual(self.states("m1"), [NodeState.UP] * 2)
        self.assertEqual(self.states("m9"), [None, None])
