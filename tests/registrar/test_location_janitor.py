"""What is removed after the end of nodes, when, and by whom."""

from collections.abc import AsyncIterator, Callable
from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from registrar.bindings import Binding
from registrar.location.contract import Snapshot
from registrar.location.janitor import HOLD, LOCK, PAGE, PASSED, Janitor
from registrar.location.keeping import KEEP
from registrar.location.redis import EMPTY_SECONDS
from registrar.location.shared_form import snapshot_of, value_of, version_of_value
from rollcall.cluster.config import ClusterConfig
from rollcall.cluster.redis import RedisUnavailable, Script
from tests.registrar.examples import NOW, A, B, a_binding, a_bound, over_tcp

CONFIG = ClusterConfig(janitor_seconds=60, janitor_keys_per_second=1000)
DEAD = ("n1", 1)


class Records:
    """As much of Redis as the janitor needs, in memory."""

    def __init__(self) -> None:
        self.values: dict[bytes, bytes] = {}
        self.ends: dict[bytes, int] = {}
        self.is_away = False
        self.asked: list[bytes] = []
        self.before_keep: Callable[[], None] = lambda: None

    def ask(self, key: bytes, *command: bytes | int) -> "Deferred[Any]":
        self.asked.append(key)
        if self.is_away:
            return fail(RedisUnavailable("no answer"))
        if command[0] == b"GET":
            return succeed(self.values.get(key))
        if b"NX" in command and key in self.values:
            return succeed(None)
        assert isinstance(command[2], bytes)
        self.values[key] = command[2]
        return succeed(b"OK")

    def evaluate(self, script: Script, key: bytes, *arguments: Any) -> "Deferred[Any]":
        if self.is_away:
            return fail(RedisUnavailable("no answer"))
        if script is HOLD:
            return succeed(self._hold(key, *arguments))
        assert script is KEEP
        self.before_keep()
        value, expected, ends_at, _ = arguments
        old = self.values.get(key)
        if (0 if old is None else version_of_value(old)) != expected:
            return succeed(old)
        self.values[key], self.ends[key] = value, ends_at
        return succeed(1)

    def _hold(self, key: bytes, name: bytes, milliseconds: int) -> int:
        if self.values.get(key) != name:
            return 0
        if not milliseconds:
            del self.values[key]
        return 1

    async def scan(self, match: bytes, count: int = 1000) -> AsyncIterator[list[bytes]]:
        yield [key for key in self.values if key.startswith(match[:-1])]


class Ends:
    """Which lives are over, and since when; whose lives cannot be declared over."""

    def __init__(self) -> None:
        self.over: dict[tuple[str, int], float] = {}
        self.stubborn: set[tuple[str, int]] = set()
        self.fenced: list[tuple[str, int]] = []

    def is_living(self, node: str, epoch: int) -> bool:
        return (node, epoch) not in self.over

    def ended_at(self, node: str, epoch: int) -> float | None:
        return self.over.get((node, epoch))

    async def fence(self, node: str, epoch: int) -> bool:
        self.fenced.append((node, epoch))
        return (node, epoch) not in self.stubborn


class JanitorTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(NOW)
        self.records = Records()
        self.lives = Ends()
        self.written: list[bytes] = []
        self.janitor = self.a_janitor("n9")

    def a_janitor(self, name: str) -> Janitor:
        """Return the janitor of a node, started."""
        janitor = Janitor(self.clock, self.records, self.lives, CONFIG, (name, 1), self.clock.seconds,  # type: ignore[arg-type]
                          self.written.append)
        janitor.start()
        return janitor

    def bind(self, name: str, *bindings: Binding, version: int = 3) -> bytes:
        """Keep a record, and return its key."""
        key = b"loc:%s@example.com" % name.encode()
        self.records.values[key] = value_of(Snapshot(version, bindings))
        return key

    def kept(self, key: bytes) -> Snapshot:
        """Return what a record says now."""
        snapshot = snapshot_of(self.records.values[key])
        assert snapshot is not None
        return snapshot

    def end(self, *life: Any) -> None:
        """Have a life end now."""
        self.lives.over[life] = self.clock.seconds()
        self.janitor.ended([life])

    def pass_(self, seconds: float) -> None:
        """Let time pass in small steps."""
        for _ in range(round(seconds * 2)):
            self.clock.advance(0.5)

    def test_removed(self) -> None:
        """What hung on connections of a node is removed a while after its end, and its life is declared over first."""
        alice = self.bind("alice", a_bound(A, 7))
        self.end(*DEAD)
        self.pass_(58)
        self.assertEqual(len(self.kept(alice).bindings), 1)
        self.pass_(8)
        self.assertEqual(self.kept(alice), Snapshot(4, (), NOW))
        self.assertEqual((self.lives.fenced, self.written, self.janitor.removed), ([DEAD], [alice], 1))
        self.assertApproximates(self.records.ends[alice] / 1000, self.clock.seconds() + EMPTY_SECONDS, 8)

    def test_others_stay(self) -> None:
        """What hangs on nodes that live, and what came in datagrams, stays as it is."""
        elsewhere = evolve(a_bound(A, 7), source=over_tcp(7, "n2"))
        newer = evolve(a_bound(A, 7), source=over_tcp(7, "n1", 2))
        datagrams = a_binding(A)
        keys = [self.bind(str(number), each) for number, each in enumerate((elsewhere, newer, datagrams))]
        before = dict(self.records.values)
        self.end(*DEAD)
        self.pass_(70)
        self.assertEqual([self.records.values[key] for key in keys], [before[key] for key in keys])
        self.assertEqual((self.written, self.lives.fenced), ([], []))

    def test_one_of_several(self) -> None:
        """Of several bindings those stay that live, for as long as they last."""
        living = evolve(a_bound(B, 8), source=over_tcp(8, "n2"))
        alice = self.bind("alice", a_bound(A, 7), living)
        self.end(*DEAD)
        self.pass_(70)
        self.assertEqual(self.kept(alice), Snapshot(4, (living,)))
        self.assertEqual(self.records.ends[alice], int(living.expires_at * 1000))

    def test_lives_after_all(self) -> None:
        """A life that cannot be declared over keeps its bindings."""
        alice = self.bind("alice", a_bound(A, 7))
        self.lives.stubborn.add(DEAD)
        self.end(*DEAD)
        self.pass_(70)
        self.assertEqual((len(self.kept(alice).bindings), self.lives.fenced), (1, [DEAD]))

    def test_changed_meanwhile(self) -> None:
        """A record that somebody else changes is looked at anew, and what it says then decides."""
        alice = self.bind("alice", a_bound(A, 7))
        moved = evolve(a_bound(A, 9), source=over_tcp(9, "n2"))

        def move() -> None:
            self.bind("alice", moved, version=4)
            self.records.before_keep = lambda: None

        self.records.before_keep = move
        self.end(*DEAD)
        self.pass_(70)
        self.assertEqual(self.kept(alice), Snapshot(4, (moved,)))
        self.assertEqual((self.written, self.janitor.removed), ([], 0))

    def test_changed_all_the_time(self) -> None:
        """A record that is changed again and again is left, and nobody waits for it."""
        alice = self.bind("alice", a_bound(A, 7))

        def change() -> None:
            self.bind("alice", a_bound(A, 7), version=self.kept(alice).version + 1)

        self.records.before_keep = change
        self.end(*DEAD)
        self.pass_(70)
        self.assertEqual((len(self.kept(alice).bindings), self.written), (1, []))
        self.assertIn(PASSED, self.records.values)

    def test_no_moment(self) -> None:
        """Whatever says when all was done last, and cannot be so, keeps nobody from doing it."""
        for passed in (b"x", b"nan", b"1e300", b"%d" % (NOW + 86400)):
            self.setUp()
            key = self.bind("alice", a_bound(A, 7), a_binding(B))
            self.records.values[PASSED] = passed
            self.end(*DEAD)
            self.clock.pump([5.0] * 14)
            self.assertEqual([each.contact for each in self.kept(key).bindings], [B])

    def test_not_understood(self) -> None:
        """A record of somebody else's is left alone."""
        key = b"loc:x@example.com"
        self.records.values[key] = b"whatever this is"
        self.end(*DEAD)
        self.pass_(70)
        self.assertEqual(self.records.values[key], b"whatever this is")

    def test_one_at_a_time(self) -> None:
        """Of several nodes one cleans up, and the others see that it is done."""
        others = [self.a_janitor(name) for name in ("n7", "n8")]
        for name in range(20):
            self.bind(str(name), a_bound(A, 7))
        self.end(*DEAD)
        for janitor in others:
            janitor.ended([DEAD])
        self.pass_(80)
        self.assertEqual(self.lives.fenced, [DEAD])
        self.assertEqual((len(self.written), len(set(self.written))), (20, 20))
        self.assertNotIn(LOCK, self.records.values)

    def test_lock_of_another(self) -> None:
        """While another cleans up nobody else does; after him somebody does, unless he has finished."""
        alice = self.bind("alice", a_bound(A, 7))
        self.records.values[LOCK] = b"n7:1"
        self.end(*DEAD)
        self.pass_(90)
        self.assertEqual(len(self.kept(alice).bindings), 1)
        del self.records.values[LOCK]
        self.pass_(10)
        self.assertEqual(self.kept(alice).bindings, ())

    def test_lock_lost(self) -> None:
        """One who has lost the lock stops, and what is left is not taken for done."""
        for number in range(PAGE + 1):
            self.bind(str(number), a_bound(A, 7))
        self.records.before_keep = lambda: self.records.values.update({LOCK: b"n7:1"})
        self.end(*DEAD)
        self.pass_(66)
        self.assertEqual(len(self.written), PAGE)
        self.assertNotIn(PASSED, self.records.values)
        self.assertEqual(self.records.values[LOCK], b"n7:1")

    def test_pace(self) -> None:
        """No more records are looked at in a second than may be."""
        for number in range(3000):
            self.bind(str(number), a_binding(A))
        self.end(*DEAD)
        self.pass_(60)
        self.records.asked.clear()
        seen = []
        for _ in range(10):
            self.clock.pump([0.05] * 10)
            seen.append(sum(key.startswith(b"loc:") for key in self.records.asked))
        self.assertEqual(seen[-1], 3000 - PAGE)
        self.assertLessEqual(max(later - first for first, later in zip(seen, seen[2:], strict=False)), 1000 + PAGE)

    def test_redis_away(self) -> None:
        """While Redis is away nothing is done, and it is done later."""
        alice = self.bind("alice", a_bound(A, 7))
        self.records.is_away = True
        self.end(*DEAD)
        self.pass_(90)
        self.records.is_away = False
        self.pass_(10)
        self.assertEqual(self.kept(alice).bindings, ())

    def test_after_start(self) -> None:
        """A node looks once after its own start for what ended before its time, and never without a reason again."""
        self.lives.over[DEAD] = NOW - 1000
        alice = self.bind("alice", a_bound(A, 7))
        self.pass_(70)
        self.assertEqual(self.kept(alice).bindings, ())
        self.records.asked.clear()
        self.pass_(3600)
        self.assertEqual(self.records.asked, [])

    def test_stopped(self) -> None:
        """One that has been stopped does nothing more."""
        self.end(*DEAD)
        self.janitor.stop()
        self.pass_(90)
        self.assertEqual(self.records.asked, [])
