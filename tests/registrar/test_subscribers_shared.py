"""Tests of what several registrars remember of subscribers, and how they hear of changes."""

from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs

from registrar.auth import StoreUnavailable
from registrar.subscribers.announcing import LOG, MOST_NAMES, TOMBSTONE, place_of
from registrar.subscribers.shared import ANSWER_SECONDS, LEASE_SECONDS, REST_SECONDS
from registrar.subscribers.waiting import SECOND_LOOK_SECONDS
from tests.registrar.subscriber_nodes import DOMAIN, FRESH_SECONDS, Node, NodesCase

PLACE = place_of("alice", DOMAIN)


class SharedTests(NodesCase):
    """Two registrars, a and b."""

    def setUp(self) -> None:
        super().setUp()
        self.a, self.b = Node(self), Node(self)

    # --- remembering together

    def test_read_once(self) -> None:
        """What one node has read in the database the other finds in Redis, and nobody reads it there."""
        self.assertEqual(self.a.password(), "old")
        self.assertEqual(self.b.password(), "old")
        self.assertEqual((self.a.source.asked, self.b.source.asked), ([("alice", False)], []))
        value = self.server.get(PLACE)
        assert value is not None
        found = self.successResultOf(self.a.finding())
        assert found is not None
        for form in (found.ha1, found.ha1b):
            for digits in form.values():
                self.assertNotIn(bytes.fromhex(digits), value)
                self.assertNotIn(digits.encode(), value)

    def test_asked_at_the_same_time(self) -> None:
        """Who looks for somebody whom another node is reading waits for that, and asks no database."""
        self.a.source.held = []
        first, second = self.a.finding(), self.b.finding()
        self.assertEqual((self.a.source.asked, self.b.source.asked), ([("alice", False)], []))
        self.a.source.release()
        self.assertEqual((self.which(self.successResultOf(first)), self.which(self.successResultOf(second))),
                         ("old", "old"))
        self.assertEqual(self.b.source.asked, [])

    def test_own_lease(self) -> None:
        """Who has to read once more does not wait for himself, and puts what he reads then before the others."""
        self.a.source.held = []
        finding = self.a.finding()
        self.a.store.lost_place()
        self.a.source.release()
        self.assertEqual(self.which(self.successResultOf(finding)), "old")
        self.assertEqual(len(self.a.source.asked), 2)
        self.assertEqual((self.b.password(), self.b.source.asked), ("old", []))

    def test_other_node_fails(self) -> None:
        """When the other node gets no answer, or nobody of this name, who waits asks at once."""
        for username in ("alice", "nobody"):
            self.database.problem = "away" if username == "alice" else None
            self.a.source.held = []
            first, second = self.a.finding(username), self.b.finding(username)
            self.database.problem = None
            self.assertNoResult(second)
            self.a.source.release()
            self.assertEqual(self.which(self.successResultOf(second)), "old" if username == "alice" else None)
            first.addErrback(lambda failure: failure.trap(StoreUnavailable))
            self.successResultOf(first)
        self.assertEqual(self.b.source.asked, [("alice", False), ("nobody", False)])

    def test_other_node_stops(self) -> None:
        """A node that dies while it reads holds up the others for a short while only."""
        self.a.source.held = []
        self.a.finding()
        waiting = self.b.finding()
        self.pass_time(LEASE_SECONDS + 0.25)
        self.assertEqual(self.which(self.successResultOf(waiting)), "old")

    def test_read_twice(self) -> None:
        """Who reads a user once more, because something was changed meanwhile, does not wait for himself."""
        self.a.source.held = []
        first = self.a.finding()
        self.a.store.lost_place()
        self.a.source.release()
        self.assertEqual(self.which(self.successResultOf(first)), "old")
        self.assertEqual(self.a.source.asked, [("alice", False)] * 2)
        self.assertEqual((self.b.password(), self.b.source.asked), ("old", []))

    def test_read_fresh(self) -> None:
        """Who has read a user who is just said to be changed holds up nobody else."""
        self.a.source.held = []
        first = self.a.finding()
        self.a.store.everybody_changed()
        self.a.source.release()
        self.successResultOf(first)
        self.assertEqual(self.which(self.successResultOf(self.b.finding())), "old")

    def test_keeps_its_age(self) -> None:
        """Hashes found in Redis are as old as they were there: they are read again when their time is over."""
        self.a = Node(self, cache_seconds=100, max_refreshing=0)
        self.b = Node(self, cache_seconds=100, max_refreshing=0)
        self.a.password()
        self.pass_time(60)
        self.b.password()
        self.database.write("alice", "new", tells=False)
        self.pass_time(39)
        self.assertEqual(self.b.password(), "old")
        self.pass_time(2)
        self.assertEqual(self.b.password(), "new")
        self.assertEqual(self.b.source.asked, [("alice", False)])

    def test_refreshed_for_all(self) -> None:
        """A busy user is read again by one node; the other takes what that has read."""
        self.a, self.b = Node(self, cache_seconds=100), Node(self, cache_seconds=100)
        self.a.password(), self.b.password()
        self.pass_time(60)
        self.a.password()
        self.assertEqual(self.a.source.asked, [("alice", False)] * 2)
        self.b.password()
        self.assertEqual(self.b.source.asked, [])
        self.pass_time(45)
        self.assertEqual((self.a.password(), self.b.password()), ("old", "old"))
        self.assertEqual(len(self.a.source.asked + self.b.source.asked), 2)

    def test_another_key(self) -> None:
        """What was encrypted with another key is as if it were not there, and is replaced."""
        other = Node(self, key=bytes(31) + b"\x01")
        self.a.password()
        self.assertEqual(other.password(), "old")
        self.assertEqual(other.source.asked, [("alice", False)])
        self.assertEqual(other.redis.shared.unreadable, 1)
        self.assertEqual(self.b.password(), "old")
        self.assertEqual(self.b.source.asked, [("alice", False)])

    def test_moved_value(self) -> None:
        """What somebody copies to another user's key is not that user's hash."""
        self.a.password()
        self.server.values[place_of("bob", DOMAIN)] = self.server.values[PLACE]
        self.assertIsNone(self.b.password(username="bob"))
        self.assertEqual(self.b.redis.shared.unreadable, 1)

    # --- Redis that is away or slow

    def test_away(self) -> None:
        """Without Redis the database is asked at once."""
        self.a.redis.lose()
        self.assertEqual(self.a.password(), "old")
        self.assertEqual(self.a.source.asked, [("alice", False)])

    def test_slow(self) -> None:
        """An answer of Redis that takes long is not waited for, and for a while none is asked for."""
        self.a.redis.held_commands = []
        finding = self.a.finding()
        self.assertNoResult(finding)
        self.clock.pump([ANSWER_SECONDS, SECOND_LOOK_SECONDS])
        self.assertEqual(self.which(self.successResultOf(finding)), "old")
        self.assertIsNone(self.a.password(username="bob"))
        self.clock.advance(REST_SECONDS)
        self.a.redis.release()
        self.a.redis.asked.clear()
        self.a.password(username="carol")
        self.assertIn("find", self.a.redis.asked)

    def test_long_turn(self) -> None:
        """After a turn of our own that took long, Redis gets the time to answer all the same."""
        self.b.password()
        self.a.redis.held_commands = []
        finding = self.a.finding()
        self.clock.advance(10 * ANSWER_SECONDS)
        self.a.redis.release()
        self.assertEqual(self.which(self.successResultOf(finding)), "old")
        self.assertEqual(self.a.source.asked, [])

    def test_refusing(self) -> None:
        """Redis that refuses everything, for instance because of an ACL, is as good as away."""
        self.a.redis.refuses = True
        self.assertEqual(self.a.password(), "old")
        self.successResultOf(Deferred.fromCoroutine(self.a.store.set_password("alice", DOMAIN, "new")))
        self.assertEqual(self.a.password(), "new")

    def test_everything_is_away(self) -> None:
        """Without Redis and database those remembered are found, for `stale_seconds` at most; all others are unknown
        whether they are."""
        self.a = Node(self, cache_seconds=100, stale_seconds=1000)
        self.a.password()
        self.a.redis.lose()
        self.database.problem = "away"
        self.pass_time(500)
        self.assertEqual(self.a.password(), "old")
        self.failureResultOf(self.a.finding("bob"), StoreUnavailable)
        self.pass_time(501)
        self.failureResultOf(self.a.finding(), StoreUnavailable)
        self.assertEqual(self.a.store.totals()["stale", "found"], 1)

    def test_stale_in_redis(self) -> None:
        """A node that was started while the database is away finds those whom others have read."""
        self.a = Node(self, cache_seconds=100)
        self.a.password()
        self.pass_time(200)
        self.database.problem = "away"
        late = Node(self, cache_seconds=100)
        self.assertEqual(late.password(), "old")
        self.database.problem = None
        self.database.write("alice", "new", tells=False)
        self.assertEqual(late.password(), "new")


class ChangeTests(NodesCase):
    """Somebody gets another password; both nodes have remembered the old one."""

    def setUp(self) -> None:
        super().setUp()
        self.a, self.b = Node(self), Node(self)
        self.a.password(), self.b.password()

    def change(self, node: Node, password: str = "new") -> None:
        """Change alice's password through a node; the replica does not know it yet."""
        self.successResultOf(Deferred.fromCoroutine(node.store.set_password("alice", DOMAIN, password)))

    def test_counts_at_once_everywhere(self) -> None:
        """Another password counts at every node at once, though no replica has it yet."""
        self.change(self.a)
        self.assertEqual((self.a.password(), self.b.password()), ("new", "new"))
        self.assertEqual(self.b.source.asked, [("alice", True)])

    def test_again_and_again(self) -> None:
        """Whoever changes it, and however often: who has written to the log himself still hears of others."""
        for node, password in ((self.a, "p1"), (self.b, "p2"), (self.a, "p3"), (self.a, "p4"), (self.b, "p5")):
            self.change(node, password)
            self.assertEqual((self.a.password(password), self.b.password(password)), (password, password))

    def test_removed(self) -> None:
        """Nothing is left of who was removed, not even for times without a database."""
        self.successResultOf(Deferred.fromCoroutine(self.a.store.remove("alice", DOMAIN)))
        self.assertEqual((self.a.password(), self.b.password()), (None, None))
        self.database.problem = "away"
        self.pass_time(FRESH_SECONDS + 70)
        for node in (self.a, self.b, Node(self)):
            self.failureResultOf(node.finding(), StoreUnavailable)

    def test_nothing_old_comes_back(self) -> None:
        """Once the tombstone has gone, and replicas know of the change, everybody reads what is true, and shares it."""
        self.change(self.a)
        self.b.password()
        self.assertEqual(self.server.get(PLACE), TOMBSTONE)
        self.database.catch_up()
        self.pass_time(FRESH_SECONDS + 1)
        self.assertIsNone(self.server.get(PLACE))
        self.assertEqual((self.a.password(), self.b.password(), Node(self).password()), ("new", "new", "new"))

    def test_primary_away_after_a_change(self) -> None:
        """What could only be asked of a replica that is behind is read again when the replica must have the change."""
        self.change(self.a)
        self.database.primary["alice"] = "old"  # who asks for the primary gets what the replica knows
        self.assertEqual(self.b.password(), "old")
        self.database.primary["alice"] = "new"
        self.database.catch_up()
        self.pass_time(FRESH_SECONDS)
        self.assertEqual(self.b.password(), "new")

    def test_late_replica(self) -> None:
        """What a replica says that is behind is put before no other registrar."""
        self.database.write("alice", "new", replicates=False, tells=False)
        late = Node(self)
        late.source.may_be_late = True
        self.server.values.clear()
        self.assertEqual(late.password(), "old")
        self.assertIsNone(self.server.get(place_of("alice", DOMAIN)))

    def test_database_away_after_a_change(self) -> None:
        """Who was read after a change is still found when the database goes away then."""
        self.change(self.a)
        self.assertEqual(self.b.password(), "new")
        self.database.problem = "away"
        self.pass_time(FRESH_SECONDS + 1)
        self.assertEqual(self.b.password(), "new")

    def test_lookup_in_flight(self) -> None:
        """A look-up that a replica answered before the change is repeated: nobody is told the old password after it."""
        late = Node(self)
        self.server.values.clear()
        late.source.held = []
        finding = late.finding()
        self.change(self.a)
        late.source.release()
        self.assertEqual(self.which(self.successResultOf(finding)), "new")
        self.assertEqual(late.password(), "new")
        self.assertEqual(late.source.asked, [("alice", False), ("alice", True)])

    def test_answer_of_redis_in_flight(self) -> None:
        """What Redis said before the change, and was heard after it, is not taken."""
        late = Node(self)
        late.redis.held_answers = []
        finding = late.finding()
        answers, late.redis.held_answers = late.redis.held_answers, None
        self.change(self.a)
        for give in answers:
            give()
        self.assertEqual(self.which(self.successResultOf(finding)), "new")
        self.assertEqual(late.password(), "new")

    def test_stopped_node(self) -> None:
        """A node that was stopped between reading and writing puts nothing old into Redis, however late it is."""
        late = Node(self)
        self.server.values.clear()
        late.source.held = []
        late.redis.is_deaf = True
        finding = late.finding()
        self.change(self.a)
        self.database.catch_up()
        self.pass_time(30)
        self.assertIsNone(self.server.get(PLACE), "the tombstone has expired")
        late.source.release()
        self.successResultOf(finding)
        self.assertIsNone(self.server.get(PLACE))
        self.assertEqual((self.a.password(), self.b.password()), ("new", "new"))

    def test_stopped_node_asks_first(self) -> None:
        """A node that was stopped for 30 s looks what was changed before it answers from memory."""
        self.b.redis.is_deaf = True
        self.change(self.a)
        self.clock.advance(30)
        self.assertIsNone(self.b.store.peek(f"alice@{DOMAIN}", self.clock.seconds()))
        self.assertEqual(self.b.password(), "new")

    def test_told_by_nobody(self) -> None:
        """Though Redis tells nothing by itself, a change counts within `changes_seen_within_seconds`."""
        self.pass_time(1)
        self.b.password()
        self.b.redis.is_deaf = True
        self.change(self.a)
        self.database.changed.clear()  # so that it is not heard from there
        self.clock.advance(0.3)
        self.assertEqual(self.b.password(), "old")
        self.clock.advance(0.3)
        self.b.password()
        self.assertEqual(self.b.password(), "new")

    def test_tombstone_seen_first(self) -> None:
        """Who finds the tombstone before he has heard of the change asks the primary, too."""
        late = Node(self)
        late.redis.is_deaf = True
        self.change(self.a)
        self.assertEqual(late.password(), "new")
        self.assertEqual(late.source.asked, [("alice", True)])

    def test_started_after_a_change(self) -> None:
        """A node that was started after a change asks the primary, too, while replicas may not have the change."""
        self.change(self.a)
        self.server.values.clear()  # not even a tombstone is left
        late = Node(self)
        self.assertEqual(late.password(), "new")
        self.assertEqual(late.source.asked, [("alice", True)])
        self.announce(self.a)
        self.pass_time(FRESH_SECONDS + 1)
        later = Node(self)
        self.database.catch_up()
        later.password()
        self.assertEqual(later.source.asked, [("alice", False)], "what was told long ago concerns nobody new")

    def test_two_who_write(self) -> None:
        """Of two nodes that read at the same time only the one with the lease writes, and no old value wins."""
        self.server.values.clear()
        c, d = Node(self), Node(self)
        c.source.held = []
        first = c.finding()
        self.pass_time(LEASE_SECONDS)  # its lease is over
        self.database.write("alice", "new", tells=False)
        self.assertEqual(d.password(), "new")
        held = self.server.get(PLACE)
        c.source.release()
        self.successResultOf(first)
        self.assertEqual(self.server.get(PLACE), held)
        self.assertEqual(Node(self).password(), "new")

    def test_refresh_in_flight(self) -> None:
        """A user who is forgotten while being read ahead is not remembered as he was before."""
        c = Node(self, cache_seconds=100)
        c.password()
        self.pass_time(1)
        c.password()
        self.pass_time(60)
        c.source.held = []
        self.assertEqual(c.password(), "old")
        self.assertEqual(len(c.source.held), 1, "read ahead")
        self.change(self.a)
        c.source.release()
        self.assertEqual(c.password(), "new")

    def test_changed_again_and_again_while_read(self) -> None:
        """Who is changed each time he is read is answered in the end, and not remembered."""
        late = Node(self)
        self.server.values.clear()
        late.source.held = []
        finding = late.finding()
        for number in range(3):
            self.change(self.a, f"p{number}")
            held, late.source.held = late.source.held, []
            for waiting in held:
                waiting.callback(None)
        self.assertEqual(self.which(self.successResultOf(finding), "p1"), "p1")
        late.source.release()
        self.assertEqual(late.password("p2"), "p2")

    def test_changed_in_plain_sql(self) -> None:
        """When one node finds out by itself that somebody was changed, all nodes hear of it."""
        self.database.write("alice", "new", tells=False)
        self.pass_time(20)
        self.assertEqual(self.which(self.successResultOf(self.a.look_again())), "new")
        self.assertEqual((self.a.password(), self.b.password()), ("new", "new"))

    def test_all_domains(self) -> None:
        """Where a username alone says who it is, a change concerns it in all served domains, in Redis too."""
        nodes = [Node(self, domains=lambda: ("example.org", "example.net")) for _ in range(2)]
        place = place_of("alice", "example.net")
        for node in nodes:
            self.assertIsNotNone(self.successResultOf(Deferred.fromCoroutine(node.store.find("alice", "example.net"))))
        self.announce(self.a, "alice")  # who knows nothing of the other domain
        self.assertEqual(self.server.get(place), TOMBSTONE)
        for node in nodes:
            self.assertIsNone(node.store.peek("alice@example.net", self.clock.seconds()))

    # --- anybody

    def test_anybody(self) -> None:
        """When anybody may have changed, nothing counts that was remembered, here or in Redis."""
        self.database.write("alice", "new", tells=False)
        self.announce(self.a)
        self.assertEqual((self.a.password(), self.b.password(), Node(self).password()), ("new", "new", "new"))
        self.pass_time(FRESH_SECONDS + 1)
        self.assertEqual((self.a.password(), self.b.password(), Node(self).password()), ("new", "new", "new"))

    def test_many(self) -> None:
        """Whoever changes very many at a time tells that it may be anybody."""
        self.database.write("alice", "new", tells=False)
        self.announce(self.a, *(f"user{number}" for number in range(MOST_NAMES + 1)))
        self.assertEqual(self.b.password(), "new")
        self.assertEqual(len(self.server.entries), 1)

    def test_old_value_put_after_anybody(self) -> None:
        """A node that has not heard that anybody may have changed puts nothing into Redis that others take."""
        late = Node(self)
        self.server.values.clear()
        late.source.held = []
        late.redis.is_deaf = True
        finding = late.finding()
        self.database.write("alice", "new", tells=False)
        self.announce(self.a)
        late.source.release()
        self.successResultOf(finding)
        self.assertIsNotNone(self.server.get(PLACE))
        self.pass_time(FRESH_SECONDS + 1)
        self.assertEqual((self.a.password(), Node(self).password()), ("new", "new"))

    def test_heard_after_the_end(self) -> None:
        """A node that has stopped, and whose Redis is still there, begins nothing any more."""
        self.successResultOf(Deferred.fromCoroutine(self.b.store.stop()))
        asked = self.b.source.changes_asked
        self.change(self.a)
        self.successResultOf(Deferred.fromCoroutine(self.a.store.stop()))
        self.announce(self.a)
        self.server.flush()
        self.b.redis.come_back()
        self.assertEqual((self.b.source.changes_asked, self.clock.getDelayedCalls()), (asked, []))

    # --- Redis that loses something

    def test_flushed(self) -> None:
        """When Redis was emptied, the log too, everybody is asked for again; what is remembered helps out still."""
        self.database.write("alice", "new", tells=False)
        self.clock.advance(0.1)
        self.server.flush()
        self.assertEqual(self.a.password(), "new")
        self.database.problem = "away"
        self.assertEqual(self.b.password(), "old")

    def test_trimmed(self) -> None:
        """Who was away for so long that the log does not go back to what he knows asks for everybody again."""
        self.change(self.a)
        self.b.password()
        self.b.redis.lose()
        for number in range(5):
            self.announce(self.a, f"user{number}")
        self.database.write("alice", "newer", tells=False)
        self.server.trim(3)
        self.clock.advance(0.1)
        self.b.redis.come_back()
        self.assertEqual(self.b.password("newer"), "newer")

    def test_reconnected(self) -> None:
        """What was announced while the connection was away is heard when it is back."""
        self.change(self.a)  # so that the log has a beginning
        self.database.catch_up()
        self.pass_time(FRESH_SECONDS + 1)
        self.b.password()
        self.b.redis.lose()
        self.change(self.a, "newer")
        self.b.redis.come_back()
        self.assertEqual(self.b.password("newer"), "newer")

    def test_database_asked_without_redis(self) -> None:
        """While Redis is away the database is asked who was changed, and within a second a change counts."""
        self.b.redis.lose()
        self.pass_time(1)
        self.b.password()
        self.database.write("alice", "new")
        self.pass_time(1)
        self.b.password()
        self.assertEqual(self.b.password(), "new")

    def test_database_asked_once_after_redis(self) -> None:
        """What could not be announced while Redis was away is found in the database when it is back; no more is asked
        there."""
        self.b.redis.lose()
        self.database.write("alice", "new")  # and who did it could not tell
        self.b.redis.come_back()
        self.pass_time(1.25)
        self.b.password()
        self.assertEqual(self.b.password(), "new")
        self.assertEqual(self.server.get(PLACE), TOMBSTONE)
        for _ in range(20):
            self.pass_time(1)
            self.b.password()
        self.assertEqual(self.b.source.changes_asked, 2, "once for what all were told then")

    def test_told_when_redis_is_back(self) -> None:
        """Who could not reach Redis tells of what was changed meanwhile: others have heard nothing, and Redis itself
        still has the old password. It does not matter that he has found it in the database long ago.
        """
        for node in (self.a, self.b):
            node.password()
        self.b.redis.lose()
        with capturedLogs():
            self.change(self.b)
        self.database.catch_up()
        for _ in range(20):
            self.pass_time(1)
            self.assertEqual(self.b.password(), "new")
        self.assertEqual(self.a.password(), "old")
        self.b.redis.come_back()
        self.assertEqual([node.password() for node in (self.a, self.b, Node(self))], ["new"] * 3)

    def test_told_without_a_table_of_changes(self) -> None:
        """So does who has changed it himself, where the database notes no changes."""
        self.a.password()
        self.b.redis.lose()
        with capturedLogs():
            self.change(self.b)
        self.database.changed.clear()
        self.database.catch_up()
        self.pass_time(20)
        self.assertEqual(self.a.password(), "old")
        self.b.redis.come_back()
        self.assertEqual([node.password() for node in (self.a, self.b)], ["new"] * 2)

    def test_away_for_all(self) -> None:
        """Redis comes back as it was, with the old password: nobody who asks there later takes it for true."""
        nodes = (self.a, self.b, Node(self))
        self.a.password()
        for node in nodes:
            node.redis.lose()
        self.database.write("bob", "b", tells=False)
        self.database.write("alice", "new")
        for _ in range(20):
            self.pass_time(1)
            for node in nodes:
                node.password(username="bob")
        for node in nodes:
            node.redis.come_back()
        self.pass_time(FRESH_SECONDS + 1)
        self.assertEqual([node.password() for node in nodes], ["new"] * 3)

    def test_little_is_told_again(self) -> None:
        """What all have heard is not told once more whenever Redis comes back."""
        for _ in range(5):
            self.change(self.a)
            self.pass_time(1)
            self.b.password()
        told = len(self.server.entries)
        self.b.redis.lose()
        self.b.redis.come_back()
        self.assertEqual(len(self.server.entries), told)

    def test_quiet_with_redis(self) -> None:
        """While Redis says what was changed the database is asked nothing at all."""
        for _ in range(100):
            self.pass_time(0.5)
            self.a.password()
        self.assertEqual((len(self.a.source.asked), self.a.source.changes_asked), (1, 0))

    def test_silent_redis(self) -> None:
        """When Redis does not answer, look-ups wait for half a second at most; the database says who was changed."""
        self.b.redis.held_commands = []
        self.database.write("alice", "new")
        self.clock.advance(5)
        finding = self.b.finding()
        self.clock.pump([0.5, SECOND_LOOK_SECONDS, ANSWER_SECONDS, SECOND_LOOK_SECONDS])
        self.assertEqual(self.which(self.successResultOf(finding)), "new")

    def test_all_silent(self) -> None:
        """When nobody says who was changed, look-ups wait for a second at most, and what is remembered counts."""
        self.b.redis.held_commands = []
        self.b.source.held = []
        self.clock.advance(5)
        finding = self.b.finding()
        self.clock.pump([0.5, SECOND_LOOK_SECONDS])
        self.assertNoResult(finding)
        self.clock.pump([0.5, SECOND_LOOK_SECONDS])
        self.assertEqual(self.which(self.successResultOf(finding)), "old")

    def test_log_is_tracked(self) -> None:
        """After every reading of the log, and every writing, the server goes on telling what others write there."""
        for node in (self.a, self.b):
            self.assertIn(LOG, node.redis.tracked)
            self.change(node)
            self.assertIn(LOG, self.a.redis.tracked)
            self.assertIn(LOG, self.b.redis.tracked)
