"""Publishing and following: in order, whole, and never back, whatever is lost on the way."""

import json
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from rollcall.cluster.redis import RedisUnavailable
from rollcall.cluster.snapshots import FRESH_SECONDS, MOST_CHANGES, POLL_SECONDS, Follower, Outcome, Publisher
from rollcall.cluster.streams import LOOK_AFTER
from tests.rollcall.cluster.stream_redis import StreamRedis

KEY = b"stream"
State = dict[str, int]


class Copy:
    """What a follower has: numbers by names. A change that does not fit to what was before would make a mix."""

    def __init__(self) -> None:
        self.state: State = {}
        self.wholes = 0
        """How many were read."""
        self.seen: list[State] = []
        self._next: State = {}

    def whole(self, data: bytes) -> None:
        """Take all."""
        self._next = json.loads(data)
        self.wholes += 1

    def change(self, data: bytes) -> None:
        """Take what is different."""
        self._next = {**self._next, **json.loads(data)}

    def followed(self) -> None:
        """Show it."""
        self.state = self._next
        self.seen.append(self.state)


def now(coroutine: Any) -> Any:
    """Return what a coroutine returns that has nothing to wait for; raises what it raises."""
    found: list[Any] = []
    Deferred.fromCoroutine(coroutine).addBoth(found.append)
    (result,) = found
    if isinstance(getattr(result, "value", None), Exception):
        raise result.value
    return result


class SnapshotCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.redis = StreamRedis(self.clock)
        self.copy = Copy()
        self.follower = Follower(self.clock, self.redis, KEY, self.copy)

    def publisher(self, fence: int = 1) -> Publisher:
        """Return a master's."""
        return Publisher(self.redis, KEY, fence)

    def whole(self, publisher: Publisher, **state: int) -> Outcome:
        """Publish all."""
        outcome: Outcome = now(publisher.whole(json.dumps(state).encode()))
        return outcome

    def change(self, publisher: Publisher, **different: int) -> Outcome:
        """Publish a change."""
        outcome: Outcome = now(publisher.change(json.dumps(different).encode()))
        return outcome

    def poll(self, times: int = 1) -> State:
        """Let the follower ask; return what it has then."""
        for _ in range(times):
            now(self.follower.poll())
        return self.copy.state


class PublisherTests(SnapshotCase):
    def test_in_order(self) -> None:
        """Wholes and changes are taken one after the other, under ids that grow."""
        publisher = self.publisher(7)
        self.assertEqual(self.whole(publisher, a=1), Outcome.TAKEN)
        self.assertEqual(self.change(publisher, a=2), Outcome.TAKEN)
        self.assertEqual(publisher.version, "7-1")

    def test_a_whole_first(self) -> None:
        """A change without a whole before it is nothing that anybody could follow: a whole is asked for."""
        self.assertEqual(self.change(self.publisher(), a=1), Outcome.GAP)
        self.assertEqual(self.redis.streams, {})

    def test_a_later_master(self) -> None:
        """Once a later master has published, the earlier one is refused for good, and is told the other's fence."""
        old, new = self.publisher(3), self.publisher(4)
        self.whole(old, a=1)
        self.whole(new, a=2)
        self.assertEqual(self.change(old, a=3), Outcome.FENCED)
        self.assertEqual(self.whole(old, a=3), Outcome.FENCED)
        self.assertEqual(old.overtaken_by, 4)
        self.assertEqual(self.poll(), {"a": 2})

    def test_all_again(self) -> None:
        """All can be said again only of what is there, and was said by us."""
        publisher = self.publisher()
        self.assertEqual(now(publisher.again(b"{}")), Outcome.GAP)
        self.whole(publisher, a=1)
        self.redis.lose(KEY, 1)
        self.assertEqual(now(publisher.again(b'{"a": 1}')), Outcome.GAP)
        self.whole(self.publisher(9), a=2)
        self.assertEqual(now(publisher.again(b'{"a": 1}')), Outcome.FENCED)

    def test_the_same_fence_twice(self) -> None:
        """Two masters with the same fence are one too many: the second is refused, and has to ask for a greater one."""
        self.whole(self.publisher(3), a=1)
        second = self.publisher(3)
        self.assertEqual(self.whole(second, a=2), Outcome.FENCED)
        self.assertEqual(second.overtaken_by, 3)

    def test_an_answer_that_was_lost(self) -> None:
        """Of a change whose answer was lost the next finds that it is there, and asks for a whole."""
        publisher = self.publisher()
        self.whole(publisher, a=1)
        self.redis.loses_answers = True
        self.assertRaises(RedisUnavailable, self.change, publisher, a=2)
        self.redis.loses_answers = False
        self.assertEqual(self.change(publisher, a=3), Outcome.GAP)
        self.assertEqual(self.whole(publisher, a=3), Outcome.TAKEN)

    def test_a_change_that_never_came(self) -> None:
        """Where the change itself was lost, the next one stands on what was taken before, and no whole is needed."""
        publisher = self.publisher()
        self.whole(publisher, a=1)
        self.redis.problem = "away"
        self.assertRaises(RedisUnavailable, self.change, publisher, a=2)
        self.redis.problem = None
        self.assertEqual(self.change(publisher, a=3), Outcome.TAKEN)
        self.assertEqual(self.poll(), {"a": 3})

    def test_a_server_that_was_emptied(self) -> None:
        """Redis that has lost all, or its newest entries, asks for a whole with the next change."""
        publisher = self.publisher()
        self.whole(publisher, a=1)
        self.change(publisher, a=2)
        self.redis.lose(KEY, 1)
        self.assertEqual(self.change(publisher, a=3), Outcome.GAP)
        self.whole(publisher, a=3)
        self.redis.clear()
        self.assertEqual(self.change(publisher, a=4), Outcome.GAP)

    def test_bound(self) -> None:
        """The stream never has more than two wholes and the changes behind them; the newest whole is always there."""
        publisher = self.publisher()
        for number in range(5 * MOST_CHANGES):
            if self.change(publisher, a=number) is Outcome.GAP:
                self.assertEqual(self.whole(publisher, a=number), Outcome.TAKEN)
            kinds = [fields[1] for _, fields in self.redis.streams[KEY]]
            self.assertIn(kinds.count(b"whole"), (1, 2))
            self.assertEqual(kinds[0], b"whole")
            self.assertLessEqual(len(kinds), 2 * MOST_CHANGES + 2)


class FollowerTests(SnapshotCase):
    def test_from_the_beginning(self) -> None:
        """Who follows from the beginning is told of all, in order."""
        publisher = self.publisher()
        self.whole(publisher, a=1, b=1)
        self.assertEqual(self.poll(), {"a": 1, "b": 1})
        self.change(publisher, a=2)
        self.assertEqual(self.poll(), {"a": 2, "b": 1})
        self.assertEqual(self.follower.version, publisher.version)
        self.assertEqual(self.follower.gaps, 0)

    def test_in_the_middle(self) -> None:
        """Who comes later begins with the newest whole, and is told only of the newest of what came behind it."""
        publisher = self.publisher()
        self.whole(publisher, a=1)
        self.whole(publisher, a=2)
        self.change(publisher, b=3)
        self.assertEqual(self.poll(), {"a": 2, "b": 3})
        self.assertEqual(self.copy.seen, [{"a": 2, "b": 3}])

    def test_all_again(self) -> None:
        """Who has what a whole says again does not read it; who comes later begins with it, and with nothing older."""
        publisher = self.publisher()
        self.whole(publisher, a=1)
        self.poll()
        self.change(publisher, a=2)
        self.assertEqual(now(publisher.again(b'{"a": 2}')), Outcome.TAKEN)
        self.change(publisher, b=3)
        self.assertEqual(self.poll(), {"a": 2, "b": 3})
        self.assertEqual(self.copy.wholes, 1)
        self.assertEqual(now(publisher.again(b'{"a": 2, "b": 3}')), Outcome.TAKEN)
        self.poll()
        self.assertEqual((self.copy.wholes, len(self.copy.seen), self.follower.gaps), (1, 2, 0))
        self.assertEqual(self.follower.version, publisher.version)
        self.follower = Follower(self.clock, self.redis, KEY, self.copy)
        self.assertEqual((self.poll(), self.copy.wholes), ({"a": 2, "b": 3}, 2))

    def test_nothing_there(self) -> None:
        """Before anybody has published there is nothing, and it is not fresh."""
        self.assertEqual(self.poll(), {})
        self.assertEqual((self.follower.version, self.follower.age(5.0), self.follower.is_fresh), ("", None, False))

    def test_held_up(self) -> None:
        """Who was held up until what he had to read was trimmed goes on with the newest whole."""
        publisher = self.publisher()
        self.whole(publisher, a=1)
        self.poll()
        for number in range(3):
            self.change(publisher, a=number)
            self.whole(publisher, a=number, b=number)
        self.change(publisher, c=9)
        self.assertEqual(self.poll(), {"a": 2, "b": 2, "c": 9})

    def test_a_gap(self) -> None:
        """After a gap nothing is taken until there is a whole: better old than mixed."""
        publisher = self.publisher()
        self.whole(publisher, a=1, b=1)
        self.poll()
        self.change(publisher, a=2)
        self.change(publisher, b=2)
        del self.redis.streams[KEY][1]
        self.assertEqual(self.poll(2), {"a": 1, "b": 1})
        self.assertEqual(self.follower.gaps, 1)
        self.whole(publisher, a=3, b=3)
        self.assertEqual(self.poll(), {"a": 3, "b": 3})

    def test_not_understood(self) -> None:
        """What cannot be understood changes nothing; the next whole that can is taken."""
        publisher = self.publisher()
        self.whole(publisher, a=1)
        self.poll()
        now(publisher.change(b"{"))
        self.change(publisher, a=2)
        self.assertEqual(self.poll(3), {"a": 1})
        now(publisher.whole(b"?"))
        self.assertEqual(self.poll(), {"a": 1})
        self.whole(publisher, a=3)
        self.assertEqual(self.poll(), {"a": 3})
        self.assertEqual(len(self.flushLoggedErrors()), 0)

    def test_newest_entries_lost(self) -> None:
        """When Redis loses its newest entries nobody goes back; the master's next whole is taken."""
        publisher = self.publisher()
        self.whole(publisher, a=1)
        self.change(publisher, a=2)
        self.poll()
        self.redis.lose(KEY, 1)
        self.assertEqual(self.poll(3 * LOOK_AFTER), {"a": 2})
        self.assertEqual(self.change(publisher, a=3), Outcome.GAP)
        self.whole(publisher, a=3)
        self.assertEqual(self.poll(), {"a": 3})

    def test_another_redis(self) -> None:
        """In another Redis whose clock is behind ours ids begin lower: it counts once something moves there."""
        self.whole(self.publisher(1000), a=1)
        self.poll()
        self.redis.clear()
        other = self.publisher(900)
        self.whole(other, a=2)
        self.assertEqual(self.poll(3 * LOOK_AFTER), {"a": 1})
        self.change(other, b=2)
        self.assertEqual(self.poll(2 * LOOK_AFTER), {"a": 2, "b": 2})

    def test_age(self) -> None:
        """Age counts from when something was told last, by our own clock; Redis away leaves the last one as it is."""
        publisher = self.publisher()
        self.whole(publisher, a=1)
        self.follower.start()
        self.clock.advance(POLL_SECONDS)
        self.redis.problem = "away"
        self.clock.pump([POLL_SECONDS] * 5)
        self.assertEqual(self.copy.state, {"a": 1})
        self.assertAlmostEqual(self.follower.age(self.clock.seconds()) or 0, 6 * POLL_SECONDS)
        self.assertTrue(self.follower.is_fresh)
        self.assertEqual(self.follower.problem, "away")
        self.clock.advance(FRESH_SECONDS)
        self.assertFalse(self.follower.is_fresh)
        self.redis.problem = None
        self.change(publisher, a=2)
        self.clock.advance(POLL_SECONDS)
        self.assertTrue(self.follower.is_fresh)
        self.assertIsNone(self.follower.problem)
        self.successResultOf(Deferred.fromCoroutine(self.follower.stop()))
        self.assertEqual(self.clock.getDelayedCalls(), [])


class Publications(RuleBasedStateMachine):
    """Masters come and go, answers, entries and all Redis are lost, a follower is held up and started anew."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.redis = StreamRedis(self.clock)
        self.fence = 1
        self.number = 0
        self.masters = [Publisher(self.redis, KEY, 1)]
        self.before: dict[int, State] = {}
        # Every state that a master has ever had; what a follower has must be one of them.
        self.published: list[State] = [{}]
        self.begin()

    def begin(self) -> None:
        """Let a new follower begin."""
        self.copy = Copy()
        self.follower = Follower(self.clock, self.redis, KEY, self.copy)

    def publish(self, place: int, names: set[str], is_whole: bool, is_again: bool = False) -> None:
        """Let a master publish, as balancer.publication does: a change, and all again; or a whole where need is."""
        master = self.masters[place]
        self.number += 1
        old = self.before.get(place, {})
        new = {**old, **dict.fromkeys(names, self.number)}
        self.published.append(new)
        try:
            outcome = Outcome.GAP
            if not is_whole:
                outcome = now(master.change(json.dumps({name: new[name] for name in names}).encode()))
            if outcome is Outcome.TAKEN:
                self.before[place] = new
            if outcome is Outcome.GAP or is_again:
                publish = master.again if outcome is Outcome.TAKEN else master.whole
                outcome = now(publish(json.dumps(new).encode()))
        except RedisUnavailable:
            return
        if outcome is Outcome.TAKEN:
            self.before[place] = new

    NAMES = st.sets(st.sampled_from("abcd"), min_size=1, max_size=2)

    @rule(changes=st.lists(NAMES, min_size=3, max_size=6), is_whole=st.booleans(), loses=st.integers(0, 20),
          again=st.integers(0, 10))
    def newest_publishes(self, changes: list[set[str]], is_whole: bool, loses: int, again: int) -> None:
        """The master publishes several times; perhaps nobody hears whether one of them was taken."""
        for place, names in enumerate(changes):
            self.redis.loses_answers = place == loses
            self.publish(len(self.masters) - 1, names, is_whole and not place, place == again)
        self.redis.loses_answers = False

    @precondition(lambda self: len(self.masters) > 1)
    @rule(names=NAMES, is_whole=st.booleans(), place=st.integers(0, 9))
    def old_one_wakes_up(self, names: set[str], is_whole: bool, place: int) -> None:
        """One that was master publishes as if he still were."""
        self.publish(place % (len(self.masters) - 1), names, is_whole)

    @rule(names=NAMES)
    def takes_over(self, names: set[str]) -> None:
        """There is another master, with other sums; he begins with a whole."""
        self.fence += 1
        self.masters.append(Publisher(self.redis, KEY, self.fence))
        self.publish(len(self.masters) - 1, names, True)

    @rule(number=st.integers(1, 5))
    def entries_are_lost(self, number: int) -> None:
        """Redis fails over to a replica that was behind."""
        self.redis.lose(KEY, number)

    @rule(number=st.integers(1, 5))
    def entries_are_trimmed(self, number: int) -> None:
        """Somebody trims the stream."""
        self.redis.trim(KEY, number)

    @rule(place=st.integers(1, 4))
    def an_entry_is_lost(self, place: int) -> None:
        """Somebody deletes one of the newest entries, but not the newest."""
        stream = self.redis.streams.get(KEY, [])
        if place < len(stream):
            del stream[-place - 1]

    @rule()
    def all_is_lost(self) -> None:
        """Redis is emptied."""
        self.redis.clear()

    @rule(times=st.integers(1, 2 * LOOK_AFTER), is_away=st.booleans())
    def follower_asks(self, times: int, is_away: bool) -> None:
        """The follower asks, with or without an answer."""
        self.redis.problem = "away" if is_away else None
        for _ in range(times):
            try:
                now(self.follower.poll())
            except RedisUnavailable:
                assert is_away
            assert self.copy.state in self.published, f"{self.copy.state} was never published"
        self.redis.problem = None

    @rule()
    def follower_begins_anew(self) -> None:
        """The follower's process is started again."""
        self.begin()

    def teardown(self) -> None:
        """In the end the newest master publishes a whole, and a change a little later: that is what counts then."""
        last = len(self.masters) - 1
        for is_whole in (True, False):
            self.publish(last, {"a", "b", "c", "d"}, is_whole)
            for _ in range(3 * LOOK_AFTER):
                now(self.follower.poll())
                assert self.copy.state in self.published
        assert self.copy.state == self.before[last], (self.copy.state, self.before[last])


PublicationTests = Publications.TestCase
PublicationTests.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
