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

from registrar.location.changes import Changes
from registrar.location.contract import Snapshot
from registrar.location.journal import Journal
from registrar.location.redis import RedisLocation
from registrar.location.shared_form import snapshot_of
from registrar.records import record_key
from rollcall.cluster.access import make_redis
from rollcall.cluster.config import RedisConfig
from rollcall.net.wheel import TimerWheel
from tests.registrar.examples import ALICE, NOW
from tests.registrar.location_contract import LocationContract
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
        self.released: list[tuple[int, bytes]] = []
        self.clock: Clock = SharedClock(self.expire)
        self.clock.advance(NOW)

    def a_store(self, node: str = "n1", epoch: int = 1, journals: bool = True, max_contacts: int = 10,
                max_records: int = 1000) -> RedisLocation:
        """Return a store of one node, not yet started."""
        folder = TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        wheel = TimerWheel(self.clock)
        journal = Journal(f"{folder.name}/journal", AtOnce(), 1000, MOST_BYTES)
        store = RedisLocation(
            wheel=wheel, wall=self.clock.seconds, journal=journal, max_contacts=max_contacts, max_waiting=1000,
            max_records=max_records, max_journal_writes=1000, journals=journals, slow_seconds=0.4, node=node,
            epoch=epoch, release_flow=lambda flow_id, key: self.released.append((flow_id, key)),
            changes=Changes(lambda call: wheel.call_later(0, call)))
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
