"""Tests of the subscribers in SQLite, as the service uses them."""

import queue
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool
from twisted.trial.unittest import SynchronousTestCase

from registrar.auth import StoreUnavailable
from registrar.subscribers.contract import SubscriberExists, SubscriberStore
from registrar.subscribers.sqlite import TURN_SECONDS, SqliteConfig, SqliteSource
from registrar.subscribers.store import WARM_UP_SECONDS, CachedSubscribers
from registrar.subscribers.table import SubscriberTable
from registrar.subscribers.waiting import SECOND_LOOK_SECONDS
from rollcall.sip.digest import ha1
from tests.registrar.subscriber_contract import DOMAIN, SubscriberContract

PATIENCE_SECONDS = 30


class OneThread(Clock):
    """A reactor whose only thread is this one."""

    def callFromThread(self, function: Callable[..., Any], *arguments: Any) -> None:
        function(*arguments)


class NoThreads(ThreadPool):
    """A pool that does its work at once, in the caller's thread, and counts it."""

    def __init__(self) -> None:
        super().__init__(0, 1)
        self.calls: list[str] = []
        self.held: list[Callable[[], Any]] | None = None
        """When it is a list, the answers, which the test gives later."""

    def callInThreadWithCallback(
        self, onResult: Callable[[bool, Any], Any] | None, func: Callable[..., Any], *args: Any, **kw: Any
    ) -> None:
        self.calls.append(func.__name__)
        outcome: tuple[bool, Any]
        try:
            outcome = True, func(*args, **kw)
        except Exception:
            outcome = False, Failure()
        assert onResult is not None
        if self.held is None:
            onResult(*outcome)
        else:
            self.held.append(partial(onResult, *outcome))


def a_store(reactor: Any, path: Path, config: SqliteConfig | None = None, pool: ThreadPool | None = None,
            observe: Callable[[str, float], None] = lambda operation, seconds: None) -> CachedSubscribers:
    """Return a store of this file, as a registrar has it."""
    config = SqliteConfig() if config is None else config
    source = SqliteSource(reactor, path, config, pool, observe)
    return CachedSubscribers(reactor, source, config, warms_up=config.warm_up)


class SqliteSourceTests(SubscriberContract, SynchronousTestCase):
    def make_store(self) -> SubscriberStore:
        self.path = Path(self.enterContext(TemporaryDirectory())) / "subscribers.sqlite"
        self.clock = OneThread()
        self.pool = NoThreads()
        self.observed: list[str] = []
        self.sqlite = a_store(
            self.clock,
            self.path,
            SqliteConfig(busy_seconds=0),
            self.pool,
            observe=lambda operation, seconds: self.observed.append(operation),
        )
        return self.sqlite

    def test_asks_the_file_once(self) -> None:
        """Somebody who comes again is found without the file, and so is somebody who does not exist."""
        self.result(self.store.add("alice", DOMAIN, "secret"))
        self.pool.calls.clear()
        for _ in range(5):
            self.result(self.store.find("alice", DOMAIN))
            self.result(self.store.find("mallory", DOMAIN))
        self.assertEqual(self.pool.calls, ["find", "find"])
        self.assertEqual(self.observed[-2:], ["find", "find"])
        self.assertEqual(self.sqlite.cached, 1)

    def test_change_by_the_command(self) -> None:
        """What another process changes is seen within a second, whoever was remembered."""
        self.result(self.store.add("alice", DOMAIN, "secret"))
        self.result(self.store.find("alice", DOMAIN))
        self.result(self.store.find("bob", DOMAIN))
        self.clock.advance(0.6)
        self.result(self.store.find("alice", DOMAIN))
        with SubscriberTable(self.path) as command:
            command.remove("alice", DOMAIN)
            command.add("bob", DOMAIN, "secret")
        self.clock.advance(1)
        self.assertIsNone(self.result(self.store.find("alice", DOMAIN)))
        self.assertIsNotNone(self.result(self.store.find("bob", DOMAIN)))

    def test_nothing_changed(self) -> None:
        """While nobody changes anything the file is asked for its version only."""
        self.result(self.store.add("alice", DOMAIN, "secret"))
        for _ in range(3):
            self.result(self.store.find("alice", DOMAIN))
            self.clock.advance(0.6)
        self.pool.calls.clear()
        for _ in range(100):
            self.result(self.store.find("alice", DOMAIN))
            self.clock.advance(0.1)
        self.assertEqual(set(self.pool.calls), {"version"})
        self.assertLess(len(self.pool.calls), 21)

    def test_many_answers_in_one_turn(self) -> None:
        """When those who wait take their time, the answers for some come in the next turns, in order, errors too."""
        for name in ("a", "b", "c"):
            self.result(self.store.add(name, DOMAIN, "secret"))
        self.clock.advance(0)
        told: list[str] = []

        def take(subscriber: object, name: str) -> None:
            told.append(name)
            self.clock.rightNow += TURN_SECONDS

        self.pool.held = []
        for name in ("a", "nobody", "c"):
            Deferred.fromCoroutine(self.store.find(name, DOMAIN)).addCallback(take, name)
        broken = Deferred.fromCoroutine(self.store.add("a", DOMAIN, "again"))
        for answer in self.pool.held:
            answer()
        turns = [list(told)]
        self.assertNoResult(broken)
        while self.clock.calls:
            due, self.clock.calls[:] = list(self.clock.calls), []
            for call in due:
                call.func(*call.args, **call.kw)
            turns.append(list(told))
        self.assertEqual(turns[:3], [["a"], ["a", "nobody"], ["a", "nobody", "c"]])
        self.failureResultOf(broken, SubscriberExists)

    def restart(self, held: bool = False, **settings: Any) -> "Deferred[None]":
        """Start another store of the same file; if `held`, the test gives it the answers."""
        self.pool = NoThreads()
        self.pool.held = [] if held else None
        self.sqlite = sqlite = a_store(
            self.clock, self.path, SqliteConfig(busy_seconds=0, **settings), self.pool)
        self.addCleanup(lambda: self.result(sqlite.stop()))
        return Deferred.fromCoroutine(sqlite.start())

    def answer(self, until: str = "nobody asks") -> None:
        """Give the answers that are waited for, until this was asked."""
        assert self.pool.held is not None
        while self.pool.held and until not in self.pool.calls:
            self.pool.held.pop(0)()

    def test_warm_start(self) -> None:
        """After a start all users are in memory: nobody is looked up, whoever comes."""
        for name in ("alice", "bob", "carol"):
            self.result(self.store.add(name, DOMAIN, name))
        self.successResultOf(self.restart())
        self.assertEqual(self.sqlite.cached, 3)
        self.pool.calls.clear()
        for name in ("alice", "bob", "carol"):
            subscriber = self.result(self.sqlite.find(name, DOMAIN))
            self.assertEqual(subscriber and subscriber.ha1["MD5"], ha1("MD5", name, DOMAIN, name))
        self.assertEqual(self.pool.calls, [])
        self.clock.advance(0)
        self.assertEqual(self.clock.getDelayedCalls(), [], "nothing is waited for any more")

    def test_cold_start(self) -> None:
        """Where it is switched off, each user is looked up when he comes."""
        self.result(self.store.add("alice", DOMAIN, "secret"))
        self.successResultOf(self.restart(warm_up=False))
        self.assertEqual(self.sqlite.cached, 0)

    def test_more_users_than_room(self) -> None:
        """No more users are read at the start than are remembered."""
        for number in range(12):
            self.result(self.store.add(f"user{number:02}", DOMAIN, "secret"))
        self.successResultOf(self.restart(max_cached=5))
        self.assertEqual(self.sqlite.cached, 5)

    def test_change_after_a_warm_start(self) -> None:
        """What another process changes after the start is seen as ever."""
        self.result(self.store.add("alice", DOMAIN, "secret"))
        self.successResultOf(self.restart())
        with SubscriberTable(self.path) as command:
            command.remove("alice", DOMAIN)
        self.clock.advance(1.1)
        self.assertIsNone(self.result(self.sqlite.find("alice", DOMAIN)))

    def test_long_warm_up(self) -> None:
        """A start does not wait for ever: what is not in memory by then is read while others are served."""
        self.result(self.store.add("alice", DOMAIN, "secret"))
        starting = self.restart(held=True)
        self.answer(until="version")
        self.assertNoResult(starting)
        self.clock.pump([WARM_UP_SECONDS, SECOND_LOOK_SECONDS])
        self.successResultOf(starting)
        self.assertEqual(self.sqlite.cached, 0)
        self.answer()
        self.assertEqual(self.sqlite.cached, 1)

    def test_stopped_while_warming_up(self) -> None:
        """A store that is stopped meanwhile reads no more, and complains about nothing."""
        self.result(self.store.add("alice", DOMAIN, "secret"))
        starting = self.restart(held=True)
        self.answer(until="version")
        self.result(self.sqlite.stop())
        self.answer()
        self.successResultOf(starting)
        self.assertNotIn("page", self.pool.calls)

    def test_exists(self) -> None:
        """An address-of-record exists when its user does; escapes are understood, and nothing else exists."""
        self.result(self.store.add("alice*1", DOMAIN, "secret"))
        for aor, exists in (
            ("sip:alice*1@example.org", True),
            ("sip:alice%2A1@EXAMPLE.org", True),
            ("sip:alice@example.org", False),
            ("sip:example.org", False),
            ("tel:+12015550123", False),
            ("", False),
        ):
            self.assertEqual(self.result(self.sqlite.exists(aor)), exists, aor)

    def test_cannot_be_opened(self) -> None:
        """When the file cannot be opened starting says why, and the store is closed."""
        store = a_store(self.clock, self.path.parent / "missing" / "file", pool=NoThreads())
        self.assertIn("missing/file", self.error(StoreUnavailable, store.start()))
        self.error(StoreUnavailable, store.find("alice", DOMAIN))


class ReactorThread(Clock):
    """A reactor that does what other threads want done when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.wanted: queue.Queue[tuple[Callable[..., Any], tuple[Any, ...]]] = queue.Queue()

    def callFromThread(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.wanted.put((function, arguments))

    def run_until(self, deferred: "Deferred[Any]") -> None:
        """Do what is wanted until the Deferred has fired."""
        while not deferred.called:
            function, arguments = self.wanted.get(timeout=PATIENCE_SECONDS)
            function(*arguments)


class ThreadsTests(SynchronousTestCase):
    def test_reactor_never_waits(self) -> None:
        """Every query runs in another thread than the one that asked, also when many run at once."""
        reactor, path = ReactorThread(), Path(self.enterContext(TemporaryDirectory())) / "subscribers.sqlite"
        store = a_store(reactor, path, SqliteConfig(threads=3, changes_seen_within_seconds=0.1))
        threads: set[int] = set()
        connect = SubscriberTable._connection

        def connection(table: SubscriberTable) -> Any:
            threads.add(threading.get_ident())
            return connect(table)

        self.patch(SubscriberTable, "_connection", connection)

        def wait_for(coroutine: Any) -> Any:
            deferred = Deferred.fromCoroutine(coroutine)
            reactor.run_until(deferred)
            return self.successResultOf(deferred)

        wait_for(store.start())
        for number in range(20):
            wait_for(store.add(f"user{number}", DOMAIN, "secret"))
        reactor.advance(1)
        findings = [Deferred.fromCoroutine(store.find(f"user{number}", DOMAIN)) for number in range(20)]
        for finding in findings:
            reactor.run_until(finding)
            self.assertIsNotNone(self.successResultOf(finding))
        self.assertEqual(wait_for(store.count()), 20)
        self.successResultOf(Deferred.fromCoroutine(store.stop()))
        self.assertGreater(len(threads), 0)
        self.assertNotIn(threading.get_ident(), threads)
