"""Tests of subscribers above one database, without Redis: what is remembered, for how long, and what is asked."""

from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs, formatEvent

from registrar.auth import StoreUnavailable
from registrar.subscribers.cache import CacheConfig
from registrar.subscribers.contract import NoSuchSubscriber
from registrar.subscribers.lookups import REFRESH_REST_SECONDS
from registrar.subscribers.store import CachedSubscribers
from tests.registrar.subscriber_nodes import DOMAIN, FRESH_SECONDS, Node, NodesCase, NodeSource

ALICE = f"alice@{DOMAIN}"


class StoreCase(NodesCase):
    def setUp(self) -> None:
        super().setUp()
        self.use()

    def use(self, **settings: Any) -> None:
        """Begin with a registrar that knows nobody."""
        self.node = Node(self, has_redis=False, **settings)
        self.store, self.source = self.node.store, self.node.source

    def peek(self, key: str = ALICE) -> bytes | None:
        """Return what is at hand."""
        return self.store.peek(key, self.clock.seconds())


class RememberingTests(StoreCase):
    def test_asks_once(self) -> None:
        """Who was found is remembered, and is at hand then."""
        self.assertIsNone(self.peek())
        for _ in range(3):
            self.assertEqual(self.node.password(), "old")
        self.assertIsNotNone(self.peek())
        self.assertEqual((self.source.asked, self.store.cached), ([("alice", False)], 1))

    def test_not_read_ahead(self) -> None:
        """A start that can read nobody goes on, and says why: the table may have another name."""
        self.database.problem = "the database has no table subs"
        store = CachedSubscribers(self.clock, NodeSource(self.database), CacheConfig(), warms_up=True)
        with capturedLogs() as logs:
            self.successResultOf(Deferred.fromCoroutine(store.start()))
        self.assertEqual([formatEvent(event) for event in logs],
                         ["users are not read into memory ahead of need: the database has no table subs"])

    def test_remembers_nobody(self) -> None:
        """That there is nobody is remembered, for less long."""
        self.use(cache_seconds=1000, negative_cache_seconds=10)
        for _ in range(2):
            self.assertIsNone(self.node.password(username="mallory"))
            self.assertEqual(self.node.password(), "old")
        self.pass_time(11)
        self.node.password(username="mallory"), self.node.password()
        self.assertEqual(self.source.asked, [("mallory", False), ("alice", False), ("mallory", False)])

    def test_scanner_drives_out_nobody(self) -> None:
        """However many names a scanner tries, those who exist stay remembered."""
        self.use(max_cached=2, max_cached_negative=4)
        self.node.password()
        for number in range(100):
            self.node.password(username=f"guess{number}")
        self.source.asked.clear()
        self.node.password()
        self.assertEqual(self.source.asked, [])

    def test_failure_is_not_remembered(self) -> None:
        """When the database fails everybody who waits is told, and the next one asks again."""
        self.database.problem, self.source.held = "away", []
        findings = [self.node.finding() for _ in range(2)]
        self.source.release()
        for finding in findings:
            self.failureResultOf(finding, StoreUnavailable)
        self.database.problem = None
        self.assertEqual(self.node.password(), "old")

    def test_stale(self) -> None:
        """Who is remembered is found while the database is away, for `stale_seconds`; a phone gets 200 until then."""
        self.use(cache_seconds=100, stale_seconds=1000)
        self.node.password()
        self.database.problem = "away"
        self.pass_time(999)
        self.assertEqual(self.node.password(), "old")
        self.assertIsNone(self.peek(), "it is not at hand, for the database is asked first")
        self.pass_time(2)
        self.failureResultOf(self.node.finding(), StoreUnavailable)

    def test_change_is_not_stale(self) -> None:
        """Who was changed is not found as he was, database or not."""
        self.node.password()
        self.database.write("alice", "new", replicates=False, tells=False)
        self.store.changed([("alice", DOMAIN)])
        self.database.problem = "away"
        self.failureResultOf(self.node.finding(), StoreUnavailable)

    def test_stopped(self) -> None:
        """A store that is stopped has nobody at hand, and watches no clock."""
        self.node.password()
        self.store.changed([("bob", DOMAIN)])
        self.successResultOf(Deferred.fromCoroutine(self.store.stop()))
        self.assertIsNone(self.peek())
        self.failureResultOf(self.node.finding(), StoreUnavailable)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_counted(self) -> None:
        """It is counted who was found where."""
        self.node.password(), self.node.password(), self.peek()
        self.node.password(username="bob"), self.node.password(username="bob")
        self.database.problem = "away"
        self.failureResultOf(self.node.finding("carol"), StoreUnavailable)
        self.assertEqual(self.store.totals(), {
            ("database", "found"): 1, ("database", "unknown"): 1, ("database", "unavailable"): 1,
            ("memory", "found"): 2, ("memory", "unknown"): 1})


class AskingTests(StoreCase):
    def test_asked_together(self) -> None:
        """Those who look for the same user at the same time ask once, and all get the answer."""
        self.source.held = []
        findings = [self.node.finding() for _ in range(5)]
        other = self.node.finding("bob")
        self.assertEqual(self.source.asked, [("alice", False), ("bob", False)])
        self.assertNoResult(other)
        self.source.release()
        self.assertEqual([self.which(self.successResultOf(finding)) for finding in findings], ["old"] * 5)

    def test_one_gives_up(self) -> None:
        """Who stops waiting takes the answer from nobody else."""
        self.source.held = []
        first, second = self.node.finding(), self.node.finding()
        first.addErrback(lambda _: None)
        first.cancel()
        self.source.release()
        self.assertEqual(self.which(self.successResultOf(second)), "old")

    def test_too_many_wait(self) -> None:
        """When the database is slow no more than `max_waiting` users are asked for; others are told at once."""
        self.use(max_waiting=2)
        self.source.held = []
        self.node.finding("a"), self.node.finding("b")
        self.failureResultOf(self.node.finding("c"), StoreUnavailable)
        self.assertNoResult(self.node.finding("a"))
        self.source.release()
        self.assertIsNone(self.node.password(username="c"))

    def test_read_ahead(self) -> None:
        """A busy user is answered from memory and read again meanwhile, so that nobody ever waits for him."""
        self.use(cache_seconds=100)
        self.node.password()
        self.source.held, self.source.holds_changes = [], False
        for _ in range(40):
            self.pass_time(10)
            self.assertEqual(self.node.password(), "old")
            self.assertIsNotNone(self.peek())
            self.source.release()
            self.source.held = []
        self.assertIn(len(self.source.asked), range(6, 10))

    def test_few_read_ahead(self) -> None:
        """No more than `max_refreshing` are read ahead at a time, none with 0."""
        for most in (0, 2):
            self.use(cache_seconds=100, max_refreshing=most)
            for username in "abcd":
                self.database.write(username, "x", tells=False)
                self.node.password(username=username)
            self.pass_time(60)
            self.source.asked.clear()
            self.node.password("x", username="a")
            self.source.held = []
            for username in "abcd":
                self.node.password("x", username=username)
            self.assertEqual(len([name for name, _ in self.source.asked if name != "a"]), most)

    def test_rest_after_failing_ahead(self) -> None:
        """While the database is away it is not asked again and again ahead of need."""
        self.use(cache_seconds=100)
        self.node.password()
        self.pass_time(60)
        self.database.problem = "away"
        self.source.asked.clear()
        for _ in range(100):
            self.node.password()
        self.assertEqual(len(self.source.asked), 1)
        self.clock.advance(REFRESH_REST_SECONDS)
        self.node.password()
        self.assertEqual(len(self.source.asked), 2)
        self.assertEqual(self.node.password(), "old")


class LookingAgainTests(StoreCase):
    def test_changed_meanwhile(self) -> None:
        """Whose password was changed by others is given anew; afterwards that one counts."""
        self.node.password()
        self.database.write("alice", "new", replicates=False, tells=False)
        self.pass_time(11)
        self.assertEqual(self.which(self.successResultOf(self.node.look_again())), "new")
        self.assertEqual(self.node.password(), "new")
        self.assertEqual(self.source.asked[-1], ("alice", True))

    def test_added_meanwhile(self) -> None:
        """Who was nobody a while ago is looked for again."""
        self.node.password(username="bob")
        self.database.write("bob", "new", tells=False)
        self.pass_time(11)
        self.assertEqual(self.which(self.successResultOf(self.node.look_again("bob"))), "new")

    def test_nothing_newer(self) -> None:
        """Nothing is given when the database says the same, was asked a moment ago, or is away."""
        self.node.password()
        self.database.write("alice", "new", tells=False)
        self.assertIsNone(self.successResultOf(self.node.look_again()), "a moment ago")
        self.database.write("alice", "old", tells=False)
        self.pass_time(11)
        self.assertIsNone(self.successResultOf(self.node.look_again()), "the same")
        asked = len(self.source.asked)
        self.assertIsNone(self.successResultOf(self.node.look_again()), "a moment ago")
        self.assertEqual(len(self.source.asked), asked)
        self.pass_time(11)
        self.database.problem = "away"
        self.assertIsNone(self.successResultOf(self.node.look_again()))

    def test_guessing_is_cheap(self) -> None:
        """However often somebody guesses, the database is asked once in `recheck_seconds`, and once at a time."""
        self.node.password()
        self.pass_time(11)
        self.source.held = []
        waiting = [self.node.look_again() for _ in range(10)]
        self.source.release()
        for each in waiting:
            self.assertIsNone(self.successResultOf(each))
        for _ in range(100):
            self.pass_time(0.25)
            self.node.look_again()
        self.assertIn(len(self.source.asked), range(3, 6))


class LateReplicaTests(StoreCase):
    """Only a replica answers, which is behind: it knows neither alice's new password nor that bob was added."""

    def setUp(self) -> None:
        super().setUp()
        self.database.write("alice", "new", replicates=False, tells=False)
        self.database.write("bob", "new", replicates=False, tells=False)
        self.source.may_be_late = True

    def come_back(self) -> None:
        """Let the primary answer again, and the replica catch up."""
        self.source.may_be_late = False
        self.database.catch_up()

    def test_counts_shortly(self) -> None:
        """What it says counts, but when the primary is back the old password soon does not."""
        for _ in range(2):
            self.assertEqual(self.node.password(), "old")
        self.assertEqual(len(self.source.asked), 1)
        self.come_back()
        self.pass_time(FRESH_SECONDS)
        self.assertEqual(self.node.password(), "new")

    def test_nobody(self) -> None:
        """Whom it does not know may be new: nobody is refused because of that."""
        self.failureResultOf(self.node.finding("bob"), StoreUnavailable)
        self.come_back()
        self.assertEqual(self.node.password(username="bob"), "new")

    def test_known_better(self) -> None:
        """What was known before stays: neither a look ahead of need nor one before a refusal puts the old in its place.

        Who proves the password that the replica knows is let in all the same: it may be the newer one.
        """
        self.use(cache_seconds=100)
        self.database.catch_up()
        self.assertEqual(self.node.password(), "new")
        self.database.replica["alice"] = "old"
        self.source.may_be_late = True
        self.pass_time(60)
        self.assertEqual(self.which(self.successResultOf(self.node.look_again())), "old")
        self.assertIsNone(self.successResultOf(self.node.look_again("carol")))
        for _ in range(2):
            self.assertEqual(self.node.password(), "new")
        self.pass_time(60)
        self.assertEqual(self.node.password(), "new", "though it does not count any more")

    def test_slower_than_the_primary(self) -> None:
        """A replica's answer that comes after the primary's to who looked again puts nothing old in its place."""
        self.source.may_be_late = False
        self.source.held = []
        finding = self.node.finding()
        held, self.source.held = self.source.held, None
        self.assertEqual(self.which(self.successResultOf(self.node.look_again())), "new")
        held[0].callback(None)
        self.assertEqual(self.which(self.successResultOf(finding)), "new")
        self.assertEqual(self.node.password(), "new")


class ChangesTests(StoreCase):
    def test_change_by_others(self) -> None:
        """Who was changed by others is read again within a second, of the primary; others are not."""
        self.database.write("bob", "x", tells=False)
        self.node.password(), self.node.password(username="bob")
        self.pass_time(0.75)
        self.database.write("alice", "new", replicates=False)
        self.node.password()
        self.assertEqual(self.node.password(), "new")
        self.node.password(username="bob")
        self.assertEqual(self.source.asked, [("alice", False), ("bob", False), ("alice", True)])

    def test_anybody(self) -> None:
        """When it cannot be told who was changed, everybody is read again."""
        self.database.knows_who = False
        self.node.password()
        self.database.write("bob", "x")
        self.pass_time(0.75)
        self.node.password()
        self.node.password()
        self.assertEqual(len(self.source.asked), 2)

    def test_read_again_when_all_know(self) -> None:
        """Who was changed is read once more when every replica must have the change."""
        self.successResultOf(Deferred.fromCoroutine(self.store.set_password("alice", DOMAIN, "new")))
        self.assertEqual(self.node.password(), "new")
        self.database.catch_up()
        for _ in range(round(FRESH_SECONDS) + 2):
            self.pass_time(1)
            self.assertEqual(self.node.password(), "new")
        self.assertEqual(self.source.asked[-1], ("alice", False))

    def test_looks_seldom(self) -> None:
        """However many are looked up, changes are asked for twice in `changes_seen_within_seconds`."""
        for _ in range(100):
            self.clock.advance(0.1)
            self.node.password(), self.peek()
        self.assertIn(self.source.changes_asked, range(14, 21))

    def test_waits_when_long_unseen(self) -> None:
        """When nobody was looked up for long, the first one waits for the look; nobody gets what may be outdated."""
        self.node.password()
        self.database.write("alice", "new")
        self.clock.advance(60)
        self.source.held = []
        self.assertIsNone(self.peek())
        findings = [self.node.finding() for _ in range(2)]
        for finding in findings:
            self.assertNoResult(finding)
        self.assertEqual(self.source.changes_asked, 1)
        self.source.release()
        self.assertEqual([self.which(self.successResultOf(finding)) for finding in findings], ["new", "new"])

    def test_answers_meanwhile(self) -> None:
        """While a look is under way that is not late, memory answers."""
        self.node.password()
        self.clock.advance(0.6)
        self.source.held = []
        self.assertIsNotNone(self.peek())
        self.assertEqual(self.node.password(), "old")

    def test_changes_cannot_be_told(self) -> None:
        """When the database cannot say who was changed, those remembered are still found, and it is asked again."""
        self.node.password()
        self.database.problem = "away"
        self.clock.advance(60)
        self.assertEqual(self.node.password(), "old")
        self.database.problem = None
        self.database.write("alice", "new")
        self.clock.advance(0.6)
        self.node.password()
        self.assertEqual(self.node.password(), "new")

    def test_started_without_database(self) -> None:
        """What was read before it was known how far changes go is read again then."""
        self.database.problem = "away"
        self.use(cache_seconds=100)
        self.assertEqual(self.source.changes_asked, 0)
        self.database.problem = None
        self.node.password()
        self.pass_time(1)
        self.node.password()
        self.node.password()
        self.assertEqual(len(self.source.asked), 2)

    def test_refused_change(self) -> None:
        """A change that is refused is raised, and whoever it was is looked up again."""
        self.assertIsNone(self.node.password(username="bob"))
        self.database.write("bob", "x", tells=False)
        del self.database.primary["bob"]
        change = Deferred.fromCoroutine(self.store.set_password("bob", DOMAIN, "x"))
        self.failureResultOf(change, NoSuchSubscriber)
        self.assertIsNone(self.node.password(username="bob"))
        self.assertEqual(self.source.asked, [("bob", False), ("bob", True)])
