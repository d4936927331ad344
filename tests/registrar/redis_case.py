"""A store of bindings over a Redis that the test speaks for."""

from collections.abc import Coroutine
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from registrar.bindings import Binding
from registrar.location.changes import Changes
from registrar.location.contract import Snapshot
from registrar.location.journal import Journal
from registrar.location.keeping import KEEP
from registrar.location.redis import RedisLocation
from registrar.location.shared_form import snapshot_of, value_of
from registrar.records import record_key
from rollcall.net.wheel import TimerWheel
from tests.registrar.examples import ALICE, NOW
from tests.registrar.scripted_redis import Asked, ScriptedRedis
from tests.registrar.writers import AtOnce

T = TypeVar("T")

KEY = record_key(ALICE)
SLOW_SECONDS = 0.4
MOST_BYTES = 1_000_000


class RedisCase(SynchronousTestCase):
    """A store over a Redis that the test speaks for."""

    journals = True
    max_records = 1000

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(NOW)
        folder = TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = f"{folder.name}/journal"
        self.released: list[tuple[int, bytes]] = []
        self.redis = ScriptedRedis()
        self.store = self.a_store()
        self.now(self.store.start())
        self.store.connected("127.0.0.1:1", "one", False)

    def a_store(self) -> RedisLocation:
        """Return a store of node n1 in its life 1."""
        wheel = TimerWheel(self.clock)
        self.changes = Changes(lambda call: wheel.call_later(0, call))
        self.journal = Journal(self.path, AtOnce(), 100, MOST_BYTES)
        store = RedisLocation(
            wheel=wheel, wall=self.clock.seconds, journal=self.journal, max_contacts=3, max_waiting=10,
            max_records=self.max_records, max_journal_writes=100, journals=self.journals, slow_seconds=SLOW_SECONDS,
            node="n1", epoch=1, release_flow=lambda flow_id, key: self.released.append((flow_id, key)),
            changes=self.changes)
        store.use(self.redis)
        return store

    def begin(self, coroutine: Coroutine[Any, Any, T]) -> "Deferred[T]":
        """Let something run as far as it can."""
        return Deferred.fromCoroutine(coroutine)

    def now(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Return what comes without waiting."""
        result: T = self.successResultOf(self.begin(coroutine))
        return result

    def knows(self, *bindings: Binding, version: int = 1) -> Snapshot:
        """Let the store read this record from Redis."""
        snapshot = Snapshot(version, bindings)
        loading = self.begin(self.store.load(ALICE))
        self.redis.answer(value_of(snapshot))
        self.assertEqual(self.successResultOf(loading), snapshot)
        return snapshot

    def saving(self, *bindings: Binding, seen: Snapshot) -> "Deferred[None]":
        """Begin to save these bindings in the place of what was seen."""
        return self.begin(self.store.save(ALICE, seen.followed_by(bindings)))

    def lose(self) -> None:
        """Let the connection break: all that waits gets no answer."""
        self.redis.problem = "gone"
        self.store.disconnected("127.0.0.1:1", "gone")
        self.redis.fail_all()

    def come_back(self, may_have_lost: bool = False) -> None:
        """Let Redis be there again."""
        self.redis.problem = None
        self.store.connected("127.0.0.1:1", "two" if may_have_lost else "one", may_have_lost)

    def kept(self, asked: Asked) -> Snapshot:
        """Return what a script would keep."""
        self.assertIs(asked.script, KEEP)
        value = asked.words[0]
        assert isinstance(value, bytes)
        snapshot = snapshot_of(value)
        assert snapshot is not None
        return snapshot

    def contacts(self, snapshot: Snapshot) -> list[str]:
        """Return the contacts that are bound."""
        return sorted(binding.contact for binding in snapshot.bindings)

    def now_away(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Return what comes when nothing is answered."""
        waiting = self.begin(coroutine)
        self.redis.fail_all()
        return self.successResultOf(waiting)
