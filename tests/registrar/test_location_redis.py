"""Tests of registrar.location.redis: what happens between a question to Redis and its answer."""


from twisted.trial.unittest import SynchronousTestCase

from registrar.bindings import Binding
from registrar.location.contract import Conflict, LocationUnavailable, Snapshot
from registrar.location.redis import EMPTY_SECONDS, MAX_WAITING_PER_RECORD
from registrar.location.settling import MAX_ATTEMPTS, RELEASE_SECONDS
from registrar.location.shared_form import value_of
from registrar.location.writing import ON_ITS_WAY, TRANSITIONS, Event, State
from rollcall.cluster.redis import RedisRefused
from tests.registrar.examples import ALICE, NOW, A, B, C, a_binding, a_bound, over_tcp
from tests.registrar.redis_case import KEY, SLOW_SECONDS, RedisCase


class SavingTests(RedisCase):
    def test_acknowledged_by_redis(self) -> None:
        """A save returns when Redis has acknowledged it, and nobody sees it before."""
        seen = self.knows(a_binding(A))
        saving = self.saving(a_binding(B), seen=seen)
        self.assertNoResult(saving)
        self.assertEqual(self.now(self.store.load(ALICE)), seen)
        self.redis.answer(1)
        self.assertIsNone(self.successResultOf(saving))
        self.assertEqual(self.contacts(self.now(self.store.load(ALICE))), [B])
        self.assertEqual(self.redis.asked, [])

    def test_what_is_on_its_way_is_not_built_on(self) -> None:
        """A second save while one is on its way is a Conflict; who loads to build on it waits for its end."""
        seen = self.knows(a_binding(A))
        first = self.saving(a_binding(B), seen=seen)
        self.failureResultOf(self.saving(a_binding(C), seen=seen), Conflict)
        self.failureResultOf(self.saving(a_binding(C), seen=Snapshot(2)), Conflict)
        loading = self.begin(self.store.load_for_update(ALICE, True))
        self.assertNoResult(loading)
        self.assertFalse(self.store.takes_at_once(KEY, True))
        self.redis.answer(1)
        self.successResultOf(first)
        self.assertEqual(self.successResultOf(loading), Snapshot(2, (a_binding(B),)))

    def test_what_is_being_read_is_not_built_on(self) -> None:
        """Who loads to build on a record that somebody reads has what he reads."""
        told: list[bool] = []
        self.store.keep(KEY, None, self.store.packing.pack(Snapshot(1, (a_binding(A),)), 0), "UDP", told.append)
        reading = self.begin(self.store.load(ALICE))
        self.redis.answer(1)
        self.assertFalse(self.store.takes_at_once(KEY, False))
        loading = self.begin(self.store.load_for_update(ALICE, True))
        self.assertNoResult(loading)
        self.redis.answer(value_of(Snapshot(1, (a_binding(A),))))
        self.successResultOf(reading)
        saving = self.saving(a_binding(B), seen=self.successResultOf(loading))
        self.redis.answer(1)
        self.successResultOf(saving)

    def test_somebody_was_first(self) -> None:
        """A refusal is a Conflict, and brings what Redis has."""
        saving = self.saving(a_binding(B), seen=self.knows(a_binding(A)))
        theirs = Snapshot(7, (a_binding(C),))
        self.redis.answer(value_of(theirs))
        self.failureResultOf(saving, Conflict)
        self.assertEqual(self.now(self.store.load(ALICE)), theirs)

    def test_nothing_is_there_any_more(self) -> None:
        """A refusal with nothing is a Conflict, and the next save begins anew."""
        saving = self.saving(a_binding(B), seen=self.knows(a_binding(A)))
        self.redis.answer(None)
        self.failureResultOf(saving, Conflict)
        self.assertEqual(self.now(self.store.load(ALICE)), Snapshot())

    def test_flushed_between_load_and_save(self) -> None:
        """Who has loaded before the connection broke has to load again: the version may be another one now."""
        for forget in (lambda: self.store.connected("127.0.0.1:1", "two", True),
                       lambda: self.store.invalidated((b"loc:" + KEY,)), lambda: self.store.invalidated(None)):
            seen = self.knows(a_binding(A))
            forget()
            self.failureResultOf(self.saving(a_binding(B), seen=seen), Conflict)
            self.redis.fail_all()

    def test_errors_of_redis(self) -> None:
        """What Redis refuses for reasons of its own is kept in the journal."""
        saving = self.saving(a_binding(B), seen=self.knows(a_binding(A)))
        self.redis.answer(RedisRefused("NOPERM"))
        self.successResultOf(saving)
        self.assertEqual(self.store.levels()["journal_records"], 1)
        self.flushLoggedErrors()

    def test_too_many_wait(self) -> None:
        """More saves than may wait are refused at once."""
        for number in range(10):
            self.begin(self.store.save(f"sip:{number}@example.com", Snapshot(1, (a_binding(A),))))
        self.assertFalse(self.store.takes_at_once(KEY, True))
        self.failureResultOf(self.begin(self.store.save(ALICE, Snapshot(1, (a_binding(A),)))), LocationUnavailable)
        for _ in range(10):
            self.redis.answer(1)
        self.assertTrue(self.store.takes_at_once(KEY, True))

    def test_many_for_one_record(self) -> None:
        """Who waits to write the same record is woken once, and in order; beyond a number nobody waits."""
        self.knows(a_binding(A))
        woken = 0

        async def register(cseq: int) -> None:
            nonlocal woken
            seen = await self.store.load_for_update(ALICE, True)
            woken += 1
            await self.store.save(ALICE, seen.followed_by((a_binding(A, cseq=cseq),)))

        registering = [self.begin(register(number)) for number in range(MAX_WAITING_PER_RECORD + 3)]
        for refused in registering[-2:]:
            self.failureResultOf(refused, LocationUnavailable)
        for number, registered in enumerate(registering[:-2]):
            self.assertEqual(woken, number + 1)
            (binding,) = self.kept(self.redis.answer(1)).bindings
            self.assertEqual(binding.cseq, number)
            self.successResultOf(registered)
        self.assertEqual(self.redis.asked, [])

    def test_stop_waits(self) -> None:
        """The store stops when what it has accepted is acknowledged; later saves are refused."""
        saving = self.saving(a_binding(B), seen=self.knows(a_binding(A)))
        stopping = self.begin(self.store.stop())
        self.assertNoResult(stopping)
        self.failureResultOf(self.begin(self.store.save("sip:bob@example.com", Snapshot(1))), LocationUnavailable)
        self.redis.answer(1)
        self.successResultOf(saving)
        self.successResultOf(stopping)


class OvertakenTests(RedisCase):
    def test_while_a_write_is_on_its_way(self) -> None:
        """What somebody changes while our write is on its way is asked for, whatever the write came to."""
        seen = self.knows(a_binding(A))
        for reply in (1, value_of(Snapshot(3, (a_binding(C),)))):
            saving = self.saving(a_binding(B), seen=seen)
            self.store.invalidated((b"loc:" + KEY,))
            self.redis.answer(reply)
            self.assertTrue(saving.called)
            saving.addErrback(lambda failure: failure.trap(Conflict))
            loading = self.begin(self.store.load(ALICE))
            self.assertNoResult(loading)
            seen = Snapshot(9, (a_binding(C),))
            self.redis.answer(value_of(seen))
            self.assertEqual(self.successResultOf(loading), seen)

    def test_while_it_is_read(self) -> None:
        """What somebody changes while we read it is read again: the answer may be older than the change."""
        loading = self.begin(self.store.load(ALICE))
        self.store.invalidated((b"loc:" + KEY,))
        self.redis.answer(value_of(Snapshot(1, (a_binding(A),))))
        self.assertNoResult(loading)
        self.redis.answer(value_of(Snapshot(2, (a_binding(B),))))
        self.assertEqual(self.contacts(self.successResultOf(loading)), [B])
        self.now(self.store.load(ALICE))

    def test_changes_all_the_time(self) -> None:
        """A record that changes whenever it is read is given as it was, and is not known."""
        loading = self.begin(self.store.load(ALICE))
        for version in range(MAX_ATTEMPTS):
            self.store.invalidated((b"loc:" + KEY,))
            self.redis.answer(value_of(Snapshot(version + 1, (a_binding(A),))))
        seen = self.successResultOf(loading)
        self.assertEqual(seen.version, MAX_ATTEMPTS)
        self.failureResultOf(self.saving(a_binding(B), seen=seen), Conflict)

    def test_read_once_for_all(self) -> None:
        """Of many who want a record one asks."""
        loading = [self.begin(self.store.load(ALICE)) for _ in range(5)]
        self.assertEqual(len(self.redis.asked), 1)
        self.redis.answer(None)
        self.assertEqual([self.successResultOf(each) for each in loading], [Snapshot()] * 5)

    def test_absence_is_known(self) -> None:
        """That there is nothing is known until Redis says that it has changed."""
        for _ in range(2):
            loading = self.begin(self.store.load(ALICE))
            self.redis.answer(None)
            self.successResultOf(loading)
            self.assertEqual(self.now(self.store.load(ALICE)), Snapshot())
            self.store.invalidated((b"loc:" + KEY,))

    def test_other_keys(self) -> None:
        """Keys that are no records are nobody's business here."""
        self.knows(a_binding(A))
        self.store.invalidated((b"drain:" + KEY, KEY))
        self.now(self.store.load(ALICE))

    def test_a_phone_that_moved(self) -> None:
        """A record of a phone on a connection of ours is looked at again at once; the connection is let go of later."""
        self.knows(a_bound(A, 7))
        self.store.invalidated((b"loc:" + KEY,))
        self.redis.answer(value_of(Snapshot(2, (a_binding(A, source=over_tcp(7, "n2"), connection_bound=True),))))
        self.clock.advance(RELEASE_SECONDS / 2)
        self.assertEqual(self.released, [])
        self.clock.advance(RELEASE_SECONDS)
        self.assertEqual(self.released, [(7, KEY)])

    def test_a_phone_that_came_back(self) -> None:
        """A connection that a phone has come back to by then is kept."""
        self.knows(a_bound(A, 7))
        self.store.invalidated((b"loc:" + KEY,))
        seen = Snapshot(2, (a_binding(A, source=over_tcp(7, "n2"), connection_bound=True),))
        self.redis.answer(value_of(seen))
        self.saving(a_bound(A, 7, cseq=3), seen=seen)
        self.redis.answer(1)
        self.clock.advance(2 * RELEASE_SECONDS)
        self.assertEqual(self.released, [])

    def test_listeners_are_told(self) -> None:
        """Who waits for changes hears of ours and of others', but not of plain refreshes."""
        told: list[str] = []
        self.changes.watch(KEY, lambda: told.append("changed"))
        seen = self.knows(a_binding(A))
        self.saving(a_binding(A, cseq=2, expires_at=NOW + 7200), seen=seen)
        self.redis.answer(1)
        self.clock.advance(1)
        self.assertEqual(told, [])
        self.saving(a_binding(B), seen=Snapshot(2))
        self.redis.answer(1)
        self.clock.advance(1)
        self.assertEqual(told, ["changed"])
        self.store.invalidated((b"loc:" + KEY,))
        self.clock.advance(1)
        self.assertEqual(told, ["changed"] * 2)


class KeepingAtOnceTests(RedisCase):
    def test_kept(self) -> None:
        """What the short way keeps is told when Redis has acknowledged it."""
        told: list[bool] = []
        self.knows(a_binding(A))
        old = self.store.records[KEY]
        new = self.store.packing.pack(Snapshot(2, (a_binding(A, cseq=2),)), 0)
        self.assertTrue(self.store.takes_at_once(KEY, False))
        self.store.keep(KEY, old, new, "UDP", told.append)
        self.assertEqual((told, self.store.takes_at_once(KEY, False)), ([], False))
        self.redis.answer(1)
        self.assertEqual(told, [True])
        self.assertEqual(self.now(self.store.load(ALICE)).bindings[0].cseq, 2)

    def test_a_first_binding(self) -> None:
        """A record that is not known is added if there is none, and is known when there was one."""
        told: list[bool] = []
        new = self.store.packing.pack(Snapshot(1, (a_binding(A),)), 0)
        for reply in (value_of(Snapshot(3, (a_binding(B),))), 1):
            self.store.keep(KEY, None, new, "UDP", told.append)
            self.redis.answer(reply)
            self.store.invalidated((b"loc:" + KEY,))
        self.assertEqual(told, [False, True])

    def test_slow_and_away(self) -> None:
        """The journal takes what the short way keeps when Redis does not answer."""
        told: list[bool] = []
        self.knows(a_binding(A))
        new = self.store.packing.pack(Snapshot(2, (a_binding(A, cseq=2),)), 0)
        self.store.keep(KEY, self.store.records[KEY], new, "UDP", told.append)
        self.clock.pump([SLOW_SECONDS / 4] * 6)
        self.assertEqual(told, [True])
        self.lose()
        self.assertEqual((told, self.store.levels()["owed"]), ([True], 1))


class BoundTests(RedisCase):
    max_records = 1000

    def read(self, number: int, *bindings: Binding) -> None:
        """Let the store read one record of many."""
        self.begin(self.store.load(f"sip:{number}@example.com"))
        self.redis.answer(value_of(Snapshot(1, bindings)))

    def test_the_longest_unused_are_forgotten(self) -> None:
        """There are never more records than may be; what was used lately stays, and so do our own connections."""
        self.read(0, a_bound(A, 7))
        for number in range(1, 1000):
            self.read(number, a_binding(A))
        self.now(self.store.load("sip:1@example.com"))
        self.read(1000, a_binding(A))
        self.assertLessEqual(len(self.store.records), 1000)
        for kept in (0, 1, 1000):
            self.now(self.store.load(f"sip:{kept}@example.com"))
        self.assertNoResult(self.begin(self.store.load("sip:2@example.com")))

    def test_what_is_owed_is_never_forgotten(self) -> None:
        """A record that has not come to Redis yet stays however many others come."""
        self.lose()
        self.begin(self.store.load_for_update(ALICE, True))
        self.redis.fail_all()
        self.saving(a_binding(B), seen=Snapshot())
        for number in range(1500):
            self.read(number, a_binding(A))
        self.assertIn(KEY, self.store.records)

    def test_empty_records_go(self) -> None:
        """A record without bindings is forgotten after a while, though Redis says nothing."""
        self.saving(seen=self.knows(a_binding(A)))
        asked = self.redis.answer(1)
        self.assertEqual(asked.words[2], (NOW + EMPTY_SECONDS) * 1000)
        self.clock.advance(3700)
        self.assertEqual(self.store.records, {})


class TransitionTests(SynchronousTestCase):
    def test_every_answer_has_its_place(self) -> None:
        """As long as Redis is asked every answer is expected, and as long as the journal writes its outcome is."""
        answers = {Event.KEPT, Event.REFUSED, Event.UNANSWERED}
        outcomes = {Event.WRITTEN, Event.NOT_WRITTEN}
        expected = {State.SENT: answers, State.COVERING: answers | outcomes, State.BARE: answers,
                    State.WRITING: outcomes, State.LATE: answers, State.NEEDLESS: outcomes, State.ENDED: set()}
        for state, events in expected.items():
            self.assertEqual({event for at, event in TRANSITIONS if at is state} - {Event.SLOW}, events)
        self.assertEqual({at for at, event in TRANSITIONS if event is Event.SLOW}, ON_ITS_WAY)
