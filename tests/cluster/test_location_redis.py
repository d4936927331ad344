"""The contract of every store, kept by RedisLocation over a real Redis; and what only shows itself there."""

from collections.abc import Callable, Coroutine
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from registrar.bindings import Binding
from registrar.location.changes import Changes
from registrar.location.contract import Conflict, Snapshot
from registrar.location.journal import Journal
from registrar.location.redis import MAX_CONFLICTS, RedisLocation
from registrar.location.settling import RELEASE_SECONDS
from registrar.location.shared_form import snapshot_of
from registrar.records import record_key
from rollcall.cluster.access import make_redis
from rollcall.cluster.config import RedisConfig
from rollcall.net.wheel import TimerWheel
from tests.registrar.examples import ALICE, NOW, A, B, a_binding, a_bound, over_tcp
from tests.registrar.location_contract import BOB, LocationContract
from tests.registrar.writers import AtOnce
from tools.laboratory.redis_servers import RedisServers

T = TypeVar("T")

KEY = record_key(ALICE)
PATIENCE_SECONDS = 10.0
QUIET_SECONDS = 0.01
MOST_BYTES = 1_000_000


class SharedClock(Clock):
    """A clock that Redis goes by, too: what is due there when it advances is gone there."""

    def __init__(self, expire: Callable[[float], None]) -> None:
        super().__init__()
        self._expire = expire

    def advance(self, amount: float) -> None:
        """Let time pass for everybody."""
        super().advance(amount)
        self._expire(self.seconds())


class Watching:
    """Passes on to a location what Redis says."""

    def __init__(self, location: RedisLocation) -> None:
        self.connected, self.disconnected, self.invalidated = (
            location.connected, location.disconnected, location.invalidated)

    def leases_changed(self) -> None:
        """There are none."""


class RedisCase(SynchronousTestCase):
    """Stores over one real Redis that share a clock with it; a reactor of their own runs while somebody waits."""

    ticks = False
    """Whether the tests' clock goes on while somebody waits."""
    redis: RedisServers
    folder: TemporaryDirectory[str]

    @classmethod
    def setUpClass(cls) -> None:
        cls.folder = TemporaryDirectory()
        cls.redis = RedisServers(Path(cls.folder.name), "single")
        cls.redis.start()

    @classmethod
    def tearDownClass(cls) -> None:
        cls.redis.stop()
        cls.folder.cleanup()

    def prepare(self) -> None:
        """Begin with an empty Redis."""
        self.reactor = EPollReactor()
        self.command("FLUSHALL")
        self.changes: list[Changes] = []
        self.released: list[tuple[int, bytes]] = []
        self.clock: Clock = SharedClock(self.expire)
        self.clock.advance(NOW)

    def a_store(self, node: str = "n1", epoch: int = 1, journals: bool = True, max_contacts: int = 10,
                max_records: int = 1000) -> RedisLocation:
        """Return a store of one node, not yet started."""
        folder = TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        wheel = TimerWheel(self.clock)
        changes = Changes(lambda call: wheel.call_later(0, call))
        self.changes.append(changes)
        journal = Journal(f"{folder.name}/journal", AtOnce(), 1000, MOST_BYTES)
        store = RedisLocation(
            wheel=wheel, wall=self.clock.seconds, journal=journal, max_contacts=max_contacts, max_waiting=1000,
            max_records=max_records, max_journal_writes=1000, journals=journals, slow_seconds=0.4, node=node,
            epoch=epoch, release_flow=lambda flow_id, key: self.released.append((flow_id, key)), changes=changes)
        redis = make_redis(self.reactor, RedisConfig(**self.redis.settings), Watching(store))
        store.use(redis)
        redis.start()
        self.addCleanup(lambda: self.run_now(redis.stop()))
        return store

    def run_now(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Return the result of something, once it is there."""
        return self.result_of(Deferred.fromCoroutine(coroutine))

    def result_of(self, waiting: "Deferred[T]") -> T:
        """Return what a Deferred fires with."""
        results: list[Any] = []
        waiting.addBoth(results.append)
        self.spin_until(lambda: bool(results))
        if isinstance(results[0], Failure):
            results[0].raiseException()
        result: T = results[0]
        return result

    def refuse_now(self, coroutine: Coroutine[Any, Any, object], problem: type[Exception]) -> None:
        """Expect a failure."""
        with self.assertRaises(problem):
            self.run_now(coroutine)

    def spin_until(self, is_done: Callable[[], bool]) -> None:
        """Let the reactor run until something is so."""
        ends_at = monotonic() + PATIENCE_SECONDS
        while not is_done():
            self.assertLess(monotonic(), ends_at, "waited in vain")
            self.reactor.iterate(0.01)
            if self.ticks:
                Clock.advance(self.clock, 0.01)

    def spin(self, seconds: float = QUIET_SECONDS) -> None:
        """Let the reactor run for a while, so that all that Redis has said by now is heard."""
        ends_at = monotonic() + seconds
        while monotonic() < ends_at:
            self.reactor.iterate(0.002)

    def command(self, *words: str | bytes | int) -> Any:
        """Return what Redis answers to somebody else."""
        return self.redis.command(self.redis.servers[0], *words)

    def expire(self, now: float) -> None:
        """Let Redis lose the keys whose time is over by the tests' clock."""
        for key in self.command("KEYS", "*"):
            if 0 < self.command("PEXPIRETIME", key) <= now * 1000:
                self.command("DEL", key)
        self.spin()

    def shared(self, aor: str = ALICE) -> Snapshot | None:
        """Return what Redis has."""
        value = self.command("GET", b"loc:" + record_key(aor))
        return None if value is None else snapshot_of(value)


class RedisLocationTests(LocationContract, RedisCase):
    """The contract. A test that looks at counts looks at those of the one node that there is."""

    store: RedisLocation

    def run_now(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Return the result of something, once it is there."""
        return RedisCase.run_now(self, coroutine)

    def refuse_now(self, coroutine: Coroutine[Any, Any, object], problem: type[Exception]) -> None:
        """Expect a failure."""
        RedisCase.refuse_now(self, coroutine, problem)

    def make_store(self) -> RedisLocation:
        self.prepare()
        return self.a_store()


class NodesTests(RedisCase):
    """Two nodes over one Redis."""

    ticks = True

    def setUp(self) -> None:
        self.prepare()
        self.one, self.other = self.a_store("n1"), self.a_store("n2")
        for store in (self.one, self.other):
            self.run_now(store.start())
            # Now it is connected.
            self.run_now(store.load(ALICE))
        self.addCleanup(lambda: self.run_now(self.one.stop()))
        self.addCleanup(lambda: self.run_now(self.other.stop()))

    def save(self, store: RedisLocation, *bindings: Binding, aor: str = ALICE) -> None:
        """Store these bindings over what this node sees, again when the other was first, as the registrar does."""
        for _ in range(MAX_CONFLICTS):
            new = self.run_now(store.load_for_update(aor, False)).followed_by(bindings)
            try:
                return self.run_now(store.save(aor, new))
            except Conflict:
                continue
        self.fail("in conflict without end")

    def contacts(self, store: RedisLocation, aor: str = ALICE) -> list[str]:
        """Return what a node says is bound."""
        return [binding.contact for binding in self.run_now(store.load(aor)).bindings]

    def test_each_sees_what_the_other_has_kept(self) -> None:
        """What one node has kept the other sees, though it knew better before: that there was nothing, or another."""
        for turn in range(20):
            writer, reader = (self.one, self.other) if turn % 2 else (self.other, self.one)
            self.save(writer, a_binding(A, cseq=turn))
            self.spin_until(lambda turn=turn, reader=reader: [  # type: ignore[misc]
                binding.cseq for binding in self.run_now(reader.load(ALICE)).bindings] == [turn])

    def test_the_short_way(self) -> None:
        """What is kept without waiting is seen by the other node, and is refused when the other was first."""
        told: list[bool] = []
        record = self.one.packing.pack(Snapshot(1, (a_binding(A),)), 0)
        self.one.keep(KEY, None, record, "UDP", told.append)
        self.other.keep(KEY, None, self.other.packing.pack(Snapshot(1, (a_binding(B),)), 0), "UDP", told.append)
        self.spin_until(lambda: len(told) == 2)
        self.assertEqual(sorted(told), [False, True])
        self.spin_until(lambda: self.contacts(self.one) == self.contacts(self.other) != [])

    def test_both_at_once(self) -> None:
        """Of two who save at once one has a Conflict, and sees what the other has kept when it loads again."""
        for turn in range(50):
            aor = f"sip:{turn}@example.com"
            saving = [Deferred.fromCoroutine(store.save(aor, Snapshot(1, (a_binding(contact),))))
                      for store, contact in ((self.one, A), (self.other, B))]
            outcomes: list[Any] = []
            for each in saving:
                each.addBoth(outcomes.append)
            self.spin_until(lambda outcomes=outcomes: len(outcomes) == 2)  # type: ignore[misc]
            refused = [outcome for outcome in outcomes if isinstance(outcome, Failure)]
            self.assertEqual([failure.check(Conflict) for failure in refused], [Conflict])
            self.spin_until(
                lambda aor=aor: self.contacts(self.one, aor) == self.contacts(self.other, aor))  # type: ignore[misc]

    def test_a_phone_that_moved(self) -> None:
        """A node lets go of the connection of a phone that has registered at another one."""
        self.save(self.one, a_bound(A, 7))
        self.save(self.other, a_binding(B, source=over_tcp(8, "n2"), connection_bound=True))
        self.spin_until(lambda: self.contacts(self.one) == [B])
        self.clock.advance(2 * RELEASE_SECONDS)
        self.assertEqual(self.released, [(7, KEY)])

    def test_the_last_one_was_lost(self) -> None:
        """All nodes know when the last binding was lost with its connection."""
        self.save(self.one, a_bound(A, 7))
        self.run_now(self.one.unbind(ALICE, "n1", 1, 7))
        self.spin_until(lambda: self.run_now(self.other.load(ALICE)).version == 2)
        seen = self.run_now(self.other.load(ALICE))
        self.assertEqual((seen.version, seen.bindings), (2, ()))
        self.assertLess(abs(seen.lost_at - self.clock.seconds()), 1)

    def test_who_is_told(self) -> None:
        """Who waits for changes at one node hears of those at the other."""
        told: list[str] = []
        self.run_now(self.other.load(ALICE))
        self.changes[1].watch(KEY, lambda: told.append("changed"))
        self.save(self.one, a_binding(A))
        self.spin_until(lambda: bool(told))
        self.assertEqual(told, ["changed"])

    def test_pages(self) -> None:
        """Each node lists what all have."""
        self.save(self.one, a_binding(A))
        self.save(self.other, a_binding(B), aor=BOB)

        async def listed() -> dict[str, Snapshot]:
            return {aor: snapshot async for page in self.one.pages(1) for aor, snapshot in page}

        self.assertEqual(sorted(self.run_now(listed())), sorted((ALICE, BOB)))

    def test_emptied(self) -> None:
        """Into a Redis that somebody empties each node puts back what came in there."""
        self.save(self.one, a_binding(A))
        self.save(self.other, a_binding(B, source=over_tcp(1, "n2")), aor=BOB)
        self.command("FLUSHALL")
        self.spin_until(lambda: self.shared() is not None and self.shared(BOB) is not None)
        self.spin_until(lambda: (self.contacts(self.other), self.contacts(self.one, BOB)) == ([A], [B]))

    def test_removed_by_hand(self) -> None:
        """A key that somebody deletes is put back while its phone hangs on a connection, and is gone else."""
        self.save(self.one, a_bound(A, 7))
        self.save(self.one, a_binding(B), aor=BOB)
        self.command("DEL", b"loc:" + KEY, b"loc:" + record_key(BOB))
        self.spin_until(lambda: self.shared() is not None)
        self.spin_until(lambda: (self.contacts(self.other), self.contacts(self.other, BOB)) == ([A], []))


class RestartTests(RedisCase):
    """A Redis that ends and comes back, with what is on its disk or without."""

    ticks = True

    def setUp(self) -> None:
        self.prepare()
        self.store = self.a_store()
        self.run_now(self.store.start())
        self.addCleanup(lambda: self.run_now(self.store.stop()))

    def save(self, *bindings: Binding, aor: str = ALICE) -> None:
        """Store these bindings in the place of what is there."""
        seen = self.run_now(self.store.load_for_update(aor, True))
        self.run_now(self.store.save(aor, seen.followed_by(bindings)))

    def test_killed(self) -> None:
        """What was acknowledged right before its end is there again, and what was acknowledged meanwhile."""
        for number in range(100):
            self.save(a_binding(A, cseq=number), aor=f"sip:{number}@example.com")
        self.redis.kill(self.redis.servers[0].pid)
        self.save(a_binding(B))
        self.save(a_binding(A, cseq=1000), aor="sip:1@example.com")
        self.redis.restart(0)
        self.spin_until(lambda: self.shared() is not None)
        self.spin_until(lambda: not self.store.levels()["in_doubt"] and not self.store.levels()["owed"])
        found = [self.shared(f"sip:{number}@example.com") for number in range(100)]
        self.assertEqual([each and each.bindings[0].cseq for each in found], [0, 1000, *range(2, 100)])

    def test_paused(self) -> None:
        """A write whose answer does not come is acknowledged by the journal; it is there once, however it went."""
        self.save(a_binding(A))
        pid = self.redis.servers[0].pid
        self.redis.pause(pid)
        saving = Deferred.fromCoroutine(self.store.save(ALICE, Snapshot(2, (a_binding(A), a_binding(B)))))
        self.spin_until(lambda: not self.store._can_ask(b"loc:" + KEY))
        self.result_of(saving)
        self.redis.resume(pid)
        self.spin_until(lambda: self.store._can_ask(b"loc:" + KEY) and not self.store.levels()["owed"])
        shared = self.shared()
        assert shared is not None
        self.assertEqual([binding.contact for binding in shared.bindings], [A, B])
