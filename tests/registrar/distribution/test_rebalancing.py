"""Connections move to a node that has joined: at a pace, the right ones first, and not in circles."""

from collections import Counter
from collections.abc import Callable
from itertools import cycle
from typing import Any

from attrs import evolve
from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from registrar.bound import tie
from registrar.distribution import rebalancing as module
from registrar.distribution.rebalancing import (
    CHOOSE_AGAIN_SECONDS,
    ENOUGH_KNOWN,
    MOST_REMEMBERED,
    READ_AT_ONCE,
    REASON,
    Around,
    RebalanceConfig,
    Rebalancing,
    Stage,
)
from registrar.location.memory import MemoryLocation
from registrar.records import record_key
from rollcall.cluster.nodes import Node
from rollcall.net.flow import Flow
from rollcall.net.wheel import TimerWheel
from tests.flows import MemoryFlow, a_flow
from tests.registrar.distribution.test_surplus import a_node
from tests.registrar.examples import NOW, PHONE, a_binding, over_tcp

CONFIG = RebalanceConfig(enabled=True, settle_seconds=5.0, back_seconds=2.0)
OLD = NOW - 7200


class RebalancingTests(SynchronousTestCase):
    """This node is n1, which was alone; n2 joins."""

    problem: str | None = None
    is_member = True

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.rightNow = NOW
        self.wheel = TimerWheel(self.clock)
        self.location = MemoryLocation(self.wheel, lambda: NOW)
        self.connections: list[MemoryFlow] = []
        self.others: tuple[Node, ...] = (a_node("n2", 0),)
        self.waited_on: set[Flow] = set()
        self.redis_problem: str | None = None
        self.goes_to: Callable[[], str] = lambda: "n2"
        self.gone: Counter[str] = Counter()
        self.rebalancing = self.a_rebalancing()

    def a_rebalancing(self, **changes: Any) -> Rebalancing:
        around = Around(
            wheel=self.wheel, transports=self, location=self.location, waited_on=lambda: self.waited_on, cluster=self,
            redis_problem=lambda: self.redis_problem, node="n1", epoch=1, site="", now=self.clock.seconds)
        made = Rebalancing(around, evolve(CONFIG, **changes))
        self.addCleanup(made.stop)
        return made

    def flows(self) -> list[Flow]:
        """Return all connections."""
        return list(self.connections)

    def nodes(self) -> tuple[Node, ...]:
        """Return all nodes as they are now."""
        others = [evolve(node, connections=node.connections + self.gone[node.node]) for node in self.others]
        return (a_node("n1", len(self.open()), 400), *others)

    def open(self) -> list[MemoryFlow]:
        """Return the connections that are open."""
        return [flow for flow in self.connections if flow.is_open]

    def connect(self, number: int, registered_at: float = OLD) -> list[MemoryFlow]:
        """Have so many more phones."""
        first = len(self.connections)
        return [self.a_phone(f"user{first + index}", registered_at) for index in range(number)]

    def a_phone(self, user: str, registered_at: float = OLD, **changes: Any) -> MemoryFlow:
        """Have one more binding of a user, on a connection of its own."""
        flow, aor = a_flow("TCP"), f"sip:{user}@example.com"
        old = self.location.peek(aor)
        binding = a_binding(f"{aor};n={flow.id}", source=over_tcp(flow.id), connection_bound=True,
                            registered_at=registered_at, **changes)
        self.location.put(aor, old.followed_by((*old.bindings, binding)))
        tie(flow, record_key(aor))
        self.connections.append(flow)
        return flow

    def come_back(self) -> None:
        """Let phones that have just been closed go to the next node, or nowhere."""
        for flow in [flow for flow in self.connections if not flow.is_open and isinstance(flow.bound, bytes)]:
            key, node = flow.bound, self.goes_to()
            assert isinstance(key, bytes)
            flow.bound = None
            aor = f"sip:{key.decode()}"
            old = self.location.peek(aor)
            left = tuple(binding for binding in old.bindings if binding.source.flow_id != flow.id)
            self.gone[node] += 1
            if node == "n1":
                self.location.put(aor, old.followed_by(left))
                self.a_phone(key.decode().partition("@")[0], self.clock.seconds())
            elif node:
                anew = a_binding(f"{aor};n=0", source=over_tcp(10_000_000 + flow.id, node), connection_bound=True)
                self.location.put(aor, old.followed_by((*left, anew)))
            else:
                self.location.put(aor, old.followed_by(left))

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        for _ in range(round(seconds * 20)):
            self.clock.advance(0.05)
            self.come_back()

    def begin(self) -> None:
        """Start, and let it settle."""
        self.rebalancing.start()
        self.wait(CONFIG.settle_seconds + 1)

    # --- how many, and how fast

    def test_share(self) -> None:
        """What is too many is closed, at the pace, down to the share and not further; the rest stays."""
        self.connect(350)
        self.begin()
        left = [len(self.open())]
        for _ in range(400):
            self.wait(0.1)
            left.append(len(self.open()))
        self.assertEqual(left[-1], 100)
        closed = [before - after for before, after in zip(left, left[10:], strict=False)]
        self.assertLessEqual(max(closed), 10)
        self.assertEqual(self.rebalancing.closed, 250)
        self.assertEqual({flow.close_reason for flow in self.connections}, {REASON, ""})
        self.assertEqual((self.rebalancing.stage, self.rebalancing.surplus), (Stage.WATCHING, 0))

    def test_disabled(self) -> None:
        """Where it is not wanted nothing is done at all."""
        self.rebalancing = self.a_rebalancing(enabled=False)
        self.connect(350)
        self.begin()
        self.assertEqual((self.rebalancing._next_look, len(self.open())), (None, 350))

    def test_stopped(self) -> None:
        """A node that ends closes no further connections."""
        self.connect(350)
        self.begin()
        self.wait(3)
        self.assertTrue(self.rebalancing.is_closing)
        self.rebalancing.stop()
        left = len(self.open())
        self.wait(30)
        self.assertEqual(len(self.open()), left)

    # --- which

    def test_second_flows_first(self) -> None:
        """Phones that have another connection come first, and keep that; then those that are here longest."""
        single = [self.a_phone(f"single{age}", NOW - 4000 - age) for age in range(5)]
        double = [self.a_phone(f"double{age}", NOW - 4000, instance=PHONE, reg_id=reg_id)
                  for age in range(2) for reg_id in (1, 2)]
        fresh = self.connect(50, NOW)
        self.begin()
        self.wait(5)
        self.assertEqual([flow.is_open for flow in double].count(False), 2)
        self.assertEqual({double[0].is_open, double[1].is_open}, {True, False})
        self.assertEqual([flow.is_open for flow in single], 5 * [False])
        self.assertTrue(all(flow.is_open for flow in fresh))
        reasons = [flow for flow in (*double, *single) if not flow.is_open]
        self.assertEqual(len(reasons), self.rebalancing.closed)

    def test_longest_first(self) -> None:
        """Of phones with one connection those go that have been here longest."""
        flows = [self.a_phone(f"user{age}", NOW - 4000 - age) for age in range(300)]
        self.begin()
        self.wait(3)
        closed = [index for index, flow in enumerate(flows) if not flow.is_open]
        self.assertGreater(len(closed), 5)
        self.assertEqual(closed, list(range(300 - len(closed), 300)))

    def test_left_alone(self) -> None:
        """Who is waited for, needed or heard just now is left alone, and trunks, strangers, phones that just came."""
        waited_on, held, trunk, asking, *others = self.connect(300)
        self.waited_on, held.holds, asking.unread = {waited_on}, 1, b"INVITE"
        for number in range(11):
            tie(trunk, b"line%d@example.com" % number)
        stranger = a_flow("TCP")
        self.connections.append(stranger)
        young = self.connect(20, NOW - 60)
        self.others = (a_node("n2", 0, 100_000),)
        self.begin()
        self.wait(60)
        self.assertTrue(all(flow.is_open for flow in (waited_on, held, trunk, asking, stranger, *young)))
        self.assertFalse(any(flow.is_open for flow in others))

    def test_chosen_in_parts(self) -> None:
        """No more records than a few are read in one turn."""
        self.connect(2 * READ_AT_ONCE + 1)
        self.rebalancing.start()
        self.wait(CONFIG.settle_seconds)
        read = Counter[float]()
        bindings = self.location.packing.unpack
        self.patch(self.location.packing, "unpack",
                   lambda record: read.update([self.clock.seconds()]) or bindings(record))
        self.wait(2.5)
        self.assertLessEqual(max(read.values()), READ_AT_ONCE)
        self.assertGreaterEqual(sum(read.values()), 2 * READ_AT_ONCE)

    # --- when not

    def test_settles(self) -> None:
        """Nothing is closed until no node has come or gone for a while; one that comes meanwhile stops it."""
        self.connect(300)
        self.rebalancing.start()
        self.wait(CONFIG.settle_seconds - 0.5)
        self.assertEqual(self.rebalancing.closed, 0)
        self.wait(3)
        self.assertGreater(self.rebalancing.closed, 0)
        self.others += (a_node("n3", 0),)
        self.wait(0.2)
        closed = self.rebalancing.closed
        self.wait(CONFIG.settle_seconds - 1)
        self.assertEqual((self.rebalancing.closed, self.rebalancing.stage), (closed, Stage.WATCHING))
        self.wait(4)
        self.assertGreater(self.rebalancing.closed, closed)

    def test_in_doubt(self) -> None:
        """Nothing is closed while Redis is away, the lease is in doubt, a node is drained, or there is no other."""
        self.connect(300)
        n2 = self.others
        for doubt in (("redis_problem", "away"), ("problem", "not renewed"), ("is_member", False), ("others", ()),
                      ("others", (evolve(n2[0], draining=True, weight=0),)), ("others", (evolve(n2[0], site="b"),))):
            rebalancing = self.a_rebalancing()
            before = getattr(self, doubt[0])
            setattr(self, *doubt)
            rebalancing.start()
            self.wait(20)
            self.assertEqual(rebalancing.closed, 0, doubt)
            setattr(self, doubt[0], before)
            rebalancing.stop()

    def test_drain_undone(self) -> None:
        """A node that is no longer drained gets its share like one that has joined, once all has settled."""
        self.connect(300)
        n2 = self.others[0]
        self.others = (evolve(n2, draining=True, weight=0),)
        self.begin()
        self.wait(60)
        self.others = (n2,)
        self.wait(CONFIG.settle_seconds - 0.5)
        self.assertEqual(self.rebalancing.closed, 0)
        self.wait(4)
        self.assertGreater(self.rebalancing.closed, 0)

    def test_doubt_meanwhile(self) -> None:
        """What comes up while connections are closed ends that at once."""
        self.connect(300)
        self.begin()
        self.wait(2)
        self.redis_problem = "away"
        closed = self.rebalancing.closed
        self.wait(10)
        self.assertGreater(closed, 0)
        self.assertEqual(self.rebalancing.closed, closed)

    # --- not in circles

    def test_not_again(self) -> None:
        """A phone that was closed, or has come, is left alone for an hour."""
        (flow,) = self.connect(1)
        self.connect(39, NOW)
        self.goes_to = lambda: "n1"
        self.begin()
        self.wait(3)
        self.assertEqual((flow.is_open, self.rebalancing.closed), (False, 1))
        again = self.connections[-1]
        # Even if what it has there looks old.
        aor = again.bound.decode() if isinstance(again.bound, bytes) else ""
        old = self.location.peek(f"sip:{aor}")
        self.location.put(f"sip:{aor}", old.followed_by((evolve(old.bindings[0], registered_at=OLD),)))
        self.wait(2 * CHOOSE_AGAIN_SECONDS)
        self.assertTrue(again.is_open)
        self.wait(CONFIG.again_seconds)
        self.assertFalse(again.is_open)

    def test_memory(self) -> None:
        """It remembers no more phones than it may."""
        self.patch(module, "MOST_REMEMBERED", 7)
        self.connect(300)
        self.begin()
        self.wait(5)
        self.assertGreater(self.rebalancing.closed, 7)
        self.assertEqual(len(self.rebalancing._closed_at), 7)
        self.assertGreater(MOST_REMEMBERED, CONFIG.flows_per_second * CONFIG.again_seconds)

    def test_they_come_back(self) -> None:
        """When nearly all come back here, for nobody spreads them, it warns and stops until a node comes or goes."""
        self.goes_to = lambda: "n1"
        self.check_stops()
        self.assertGreaterEqual(self.rebalancing.returned, ENOUGH_KNOWN)

    def test_they_stay_away(self) -> None:
        """When nearly all stay away it stops as well: no node ends up empty because its phones find no way."""
        self.goes_to = lambda: ""
        self.check_stops()
        self.assertEqual(self.rebalancing.returned, 0)

    def check_stops(self) -> None:
        """Check that it closes no more than it must to know, says so once, and tries it again with another node."""
        self.connect(300)
        with capturedLogs() as events:
            self.begin()
            self.wait(300)
        told = [event["log_format"] for event in events if event["log_level"].name == "warn"]
        self.assertEqual((len(told), self.rebalancing.stage), (1, Stage.STOPPED))
        closed = self.rebalancing.closed
        self.assertTrue(ENOUGH_KNOWN <= closed <= ENOUGH_KNOWN + 10 * (CONFIG.back_seconds + 1))
        self.others += (a_node("n3", 0),)
        self.wait(CONFIG.settle_seconds + 3)
        self.assertGreater(self.rebalancing.closed, closed)

    def test_half_come_back(self) -> None:
        """That turns between two nodes lead half of them back is no reason to stop; each is closed once at most."""
        turns = cycle(("n1", "n2"))
        self.goes_to = lambda: next(turns)
        self.connect(300)
        self.begin()
        self.wait(60)
        self.assertEqual((self.rebalancing.stage, self.gone["n2"]), (Stage.WATCHING, 150))
        self.assertEqual((self.rebalancing.closed, self.rebalancing.returned), (300, 150))
