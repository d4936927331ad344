"""Tickles, joined: what a process begins with, how its share of the pace is found, and what it leaves."""

from collections.abc import Callable
from socket import AF_INET, inet_pton
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from registrar.distribution.tickle.config import TickleConfig
from registrar.distribution.tickle.noting import WRITE_SECONDS
from registrar.distribution.tickle.packets import unpack_records
from registrar.distribution.tickle.tickling import Tickling
from rollcall.cluster.nodes import Node
from rollcall.net.connection import ConnectionFlow
from rollcall.net.connections import FlowWatcher
from rollcall.net.flow import pack_address
from rollcall.ops.metrics import Metrics
from tests.registrar.distribution.tickle.sets import FakeFlow, SetsRedis
from tests.registrar.distribution.tickle.test_waking import FakeOutlet

HERE = ("192.0.2.1", 5060)


class FakeLeases:
    """Leases of which the test says who lives."""

    def __init__(self) -> None:
        self.on_change: list[Callable[[frozenset[tuple[str, int]]], None]] = []
        self.living = {("n1", 7)}
        self.of: list[str] = [""]

    def is_living(self, node: str, epoch: int) -> bool:
        """See Leases."""
        return (node, epoch) in self.living

    def nodes(self) -> tuple[Node, ...]:
        """See Leases."""
        return tuple(Node(node=f"n{index}", epoch=7, host="", port=0, of=of) for index, of in enumerate(self.of))


class FakeTransports:
    """Transports that tell of the connections that the test gives them."""

    def watch(self, watcher: FlowWatcher) -> None:
        """See Transports."""
        self.watcher = watcher

    def confirm(self, flow: FakeFlow) -> None:
        """Have a first request come."""
        self.watcher.confirmed(cast(ConnectionFlow, flow))


class TicklingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = MemoryReactorClock()
        self.redis, self.leases, self.transports = SetsRedis(), FakeLeases(), FakeTransports()
        self.outlet = FakeOutlet()
        self.metrics = Metrics()
        self.rate = 1e6
        self.made = self.a_tickling("")

    def a_tickling(self, registrar: str) -> Tickling:
        made = Tickling(
            self.reactor, TickleConfig(socket="/nowhere/tickle.sock"), cast(Any, self.redis), cast(Any, self.leases),
            cast(Any, self.transports), ("n1", 7), registrar, lambda: self.rate)
        self.addCleanup(made._addresses.stop)
        made.waking._outlet = self.outlet
        return made

    def hold(self, host: str) -> None:
        """Have this host an address beside those that it has."""
        held = self.made._addresses._addresses
        held.addresses |= {inet_pton(AF_INET, host)}

    def note(self, epoch: int) -> None:
        """Have a former life of this node have had a phone."""
        key = f"flows:{{n1:{epoch}}}".encode()
        self.redis.sets.setdefault(b"flows:n1", set()).add(str(epoch).encode())
        self.redis.sets[key] = {b"192.0.2.1:5060"}
        self.redis.sets[key + b":192.0.2.1:5060"] = {pack_address("198.51.100.7", epoch)}

    def woken(self) -> list[int]:
        return [port for record in self.outlet.records for _, _, _, port in unpack_records(record)]

    def run_for(self, seconds: float) -> None:
        self.reactor.pump([0.05] * round(seconds / 0.05))

    def test_came_back(self) -> None:
        """A node whose host lost power and came back wakes the phones of its former lives itself."""
        self.note(5)
        self.note(6)
        self.made.start()
        self.hold("192.0.2.1")
        self.run_for(2)
        self.assertEqual(sorted(set(self.woken())), [5, 6])
        self.assertEqual(self.redis.sets.get(b"flows:n1", set()), set())

    def test_came_back_before_redis(self) -> None:
        """When Redis comes back later than the node, which does not last, those phones are woken then."""
        self.note(5)
        self.redis.is_away = True
        self.made.connected()
        self.made.start()
        self.hold("192.0.2.1")
        self.run_for(2)
        self.assertEqual(self.woken(), [])
        self.redis.is_away = False
        self.made.connected()
        self.run_for(2)
        self.assertEqual(set(self.woken()), {5})
        self.made.connected()
        self.assertEqual([command for command in self.redis.asked if command[:2] == (b"SMEMBERS", b"flows:n1")],
                         [(b"SMEMBERS", b"flows:n1")])

    def test_began_later(self) -> None:
        """A node that has begun after another one died, with its host or on a standby, wakes those phones, too."""
        self.redis.sets = {
            b"flows:": {b"n1", b"n2", b"n3", b"\xff"}, b"flows:n2": {b"3", b"?"}, b"flows:n3": {b"4"},
            b"flows:{n2:3}": {b"192.0.2.1:5060"}, b"flows:{n2:3}:192.0.2.1:5060": {pack_address("198.51.100.7", 3)},
            b"flows:{n3:4}": {b"192.0.2.1:5060"}, b"flows:{n3:4}:192.0.2.1:5060": {pack_address("198.51.100.7", 4)}}
        self.leases.living.add(("n3", 4))
        self.made.start()
        self.hold("192.0.2.1")
        self.run_for(2)
        self.assertEqual(set(self.woken()), {3})

    def test_not_itself(self) -> None:
        """It does not take its own life, nor a later one that somebody has written, for a former one."""
        self.note(7)
        self.note(8)
        self.made.start()
        self.hold("192.0.2.1")
        self.run_for(2)
        self.assertEqual(self.woken(), [])

    def test_others(self) -> None:
        """It hears of lives that end, and of no others."""
        self.made.start()
        self.hold("192.0.2.1")
        self.redis.sets = {b"flows:{n2:3}": {b"192.0.2.1:5060"},
                           b"flows:{n2:3}:192.0.2.1:5060": {pack_address("198.51.100.7", 40_000)}}
        self.run_for(3)
        self.assertEqual(self.woken(), [])
        for listener in self.leases.on_change:
            listener(frozenset({("n2", 3)}))
        self.run_for(1)
        self.assertEqual(set(self.woken()), {40_000})

    def test_share(self) -> None:
        """The workers of a registrar share what the configuration allows; what each can take is its own."""
        pace = self.a_tickling("all").waking._pace
        self.leases.of = ["all", "all", "all", "all", "another", ""]
        self.assertEqual(pace.per_second, 250.0)
        self.rate = 90.0
        self.assertEqual(pace.per_second, 90.0)
        self.leases.of = []
        self.rate = 1e6
        self.assertEqual(pace.per_second, 1000.0)
        self.assertEqual(self.made.waking._pace.per_second, 1000.0)

    def test_notes(self) -> None:
        """Its own connections are noted, anew when Redis is back, and are gone from there when it ends."""
        self.made.start()
        self.transports.confirm(FakeFlow(HERE, ("198.51.100.7", 40_000)))
        self.reactor.advance(WRITE_SECONDS)
        phones = b"flows:{n1:7}:192.0.2.1:5060"
        self.assertEqual(len(self.redis.sets[phones]), 1)
        self.redis.sets.clear()
        self.made.connected()
        self.run_for(1)
        self.assertEqual(len(self.redis.sets[phones]), 1)
        self.successResultOf(Deferred.fromCoroutine(self.made.stop()))
        self.assertEqual(self.redis.sets, {b"flows:": {b"n1"}})

    def test_emptied(self) -> None:
        """When Redis was emptied, which it says, all is noted anew at once; other changes are nothing to us."""
        self.made.start()
        self.transports.confirm(FakeFlow(HERE, ("198.51.100.7", 40_000)))
        self.reactor.advance(WRITE_SECONDS)
        self.redis.sets.clear()
        self.made.changed([b"flows:n1"])
        self.run_for(1)
        self.assertEqual(self.redis.sets, {})
        self.made.changed(None)
        self.run_for(1)
        self.assertEqual(len(self.redis.sets[b"flows:{n1:7}:192.0.2.1:5060"]), 1)

    def test_metrics(self) -> None:
        """Operators see how many are noted, and that the sender is not there."""
        self.made.watch(self.metrics)
        self.made.start()
        self.transports.confirm(FakeFlow(HERE, ("198.51.100.7", 40_000)))
        shown = self.metrics.render().decode()
        for line in ("rollcall_tickle_noted_flows 1.0", "rollcall_tickle_sender_up 0.0",
                     "rollcall_tickle_waiting_flows 0.0", "rollcall_tickle_sets_total 0.0",
                     "rollcall_tickles_sent_total 0.0"):
            self.assertIn(line, shown)
