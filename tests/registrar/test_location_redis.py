"""Tests of registrar.location.redis: what happens between a question to Redis and its answer."""

import os
from collections.abc import Coroutine
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from registrar.bindings import Binding
from registrar.location.changes import Changes
from registrar.location.contract import Conflict, LocationUnavailable, Snapshot
from registrar.location.journal import Journal
from registrar.location.journal_file import JournalFile
from registrar.location.keeping import KEEP
from registrar.location.redis import EMPTY_SECONDS, MAX_CONFLICTS, MAX_WAITING_PER_RECORD, RedisLocation
from registrar.location.settling import MAX_ATTEMPTS, PAUSE_SECONDS, RELEASE_SECONDS, RETRY_SECONDS
from registrar.location.shared_form import snapshot_of, to_shared, value_of
from registrar.location.writing import ON_ITS_WAY, TRANSITIONS, Event, State
from registrar.records import record_key
from rollcall.cluster.redis import RedisRefused, RedisUnavailable
from rollcall.net.wheel import TimerWheel
from tests.registrar.examples import ALICE, NOW, A, B, C, a_binding, a_bound, over_tcp
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


class AwayTests(RedisCase):
    def test_slow(self) -> None:
        """A write that takes long is acknowledged by the journal; when Redis answers after all, nothing is owed."""
        saving = self.saving(a_binding(B), seen=self.knows(a_binding(A)))
        self.clock.pump([SLOW_SECONDS / 4] * 3)
        self.assertNoResult(saving)
        self.clock.pump([SLOW_SECONDS / 4] * 3)
        self.successResultOf(saving)
        self.assertEqual((self.store.levels()["owed"], self.store.levels()["writes"]), (1, 0))
        self.redis.answer(1)
        self.assertEqual((self.store.levels()["owed"], self.store.levels()["journal_records"]), (0, 0))
        self.assertEqual(self.contacts(self.now(self.store.load(ALICE))), [B])

    def test_slow_and_refused(self) -> None:
        """What was acknowledged by the journal and refused by Redis later is joined with what is there."""
        self.successResultOf(self.slowly_saved(a_binding(A), a_binding(B)))
        theirs = Snapshot(2, (a_binding(C),))
        self.redis.answer(value_of(theirs))
        self.redis.answer(value_of(theirs))
        joined = self.redis.answer(1)
        self.assertEqual(self.contacts(self.kept(joined)), [B, C])
        self.assertEqual(self.kept(joined).version, 3)
        self.assertEqual(self.store.levels()["owed"], 0)

    def slowly_saved(self, *bindings: Binding) -> "Deferred[None]":
        """Begin a save that Redis does not answer in time."""
        saving = self.saving(*bindings, seen=self.knows(a_binding(A)))
        self.clock.pump([SLOW_SECONDS / 4] * 6)
        return saving

    def test_answered_while_the_journal_is_written(self) -> None:
        """An answer that comes while the journal is being written counts, and the journal forgets it."""
        waiting: list[Deferred[None]] = []
        append = self.journal.append

        def append_later(aor: str, change: Any) -> "Deferred[None]":
            waiting.append(append(aor, change))
            late: Deferred[None] = Deferred()
            waiting.append(late)
            return late

        self.patch(self.journal, "append", append_later)
        saving = self.slowly_saved(a_binding(B))
        self.assertNoResult(saving)
        self.redis.answer(1)
        self.successResultOf(saving)
        waiting[-1].callback(None)
        self.assertEqual((self.store.levels()["owed"], self.store.levels()["journal_records"]), (0, 0))

    def test_lost_with_writes_on_their_way(self) -> None:
        """A write whose fate is unknown is acknowledged by the journal, and joined when Redis is back: never lost."""
        saving = self.saving(a_binding(A), a_binding(B), seen=self.knows(a_binding(A)))
        self.lose()
        self.successResultOf(saving)
        self.assertEqual(self.contacts(self.now_away(self.store.load(ALICE))), [A, B])
        self.come_back()
        theirs = Snapshot(5, (a_binding(C),))
        self.assertEqual(self.redis.answer(value_of(theirs)).words, (b"GET", b"loc:" + KEY))
        self.assertEqual(self.contacts(self.kept(self.redis.answer(1))), [B, C])
        self.assertEqual(self.store.levels()["owed"], 0)

    def now_away(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Return what comes when nothing is answered."""
        waiting = self.begin(coroutine)
        self.redis.fail_all()
        return self.successResultOf(waiting)

    def test_it_was_kept_after_all(self) -> None:
        """Nothing is written again when the lost answer was that it was kept."""
        self.saving(a_binding(B), seen=self.knows(a_binding(A)))
        self.lose()
        self.come_back()
        self.redis.answer(value_of(Snapshot(2, (a_binding(B),))))
        self.assertEqual((self.redis.asked, self.store.levels()["owed"]), ([], 0))
        self.assertEqual(self.contacts(self.now(self.store.load(ALICE))), [B])

    def test_many_saves_while_it_is_away(self) -> None:
        """While Redis is away saves build on one another, and come to Redis together."""
        seen = self.knows(a_binding(A))
        self.lose()
        for cseq in (2, 3, 4):
            self.successResultOf(self.saving(a_binding(A, cseq=cseq, refreshed_at=NOW + cseq), seen=seen))
            seen = self.now_away(self.store.load_for_update(ALICE, True))
        self.assertEqual((seen.version, seen.bindings[0].cseq), (4, 4))
        self.come_back()
        self.redis.answer(value_of(Snapshot(1, (a_binding(A),))))
        self.assertEqual(self.kept(self.redis.answer(1)).bindings[0].cseq, 4)
        self.assertEqual(self.redis.asked, [])

    def test_before_it_is_joined_a_load_joins_it(self) -> None:
        """Who loads a record of which something is owed sees it joined."""
        self.lose()
        self.now_away(self.store.load_for_update(ALICE, True))
        self.successResultOf(self.saving(a_binding(B), seen=Snapshot()))
        self.redis.problem = None
        loading = self.begin(self.store.load(ALICE))
        self.redis.answer(value_of(Snapshot(4, (a_binding(A),))))
        self.assertNoResult(loading)
        self.redis.answer(1)
        self.assertEqual(self.contacts(self.successResultOf(loading)), [A, B])

    def test_an_unknown_record(self) -> None:
        """Of an unknown record nobody sees anything, but who only adds a binding may."""
        self.lose()
        for coroutine in (self.store.load(ALICE), self.store.load_for_update(ALICE, False)):
            loading = self.begin(coroutine)
            self.redis.fail_all()
            self.failureResultOf(loading, LocationUnavailable)
        self.assertEqual(self.now_away(self.store.load_for_update(ALICE, True)), Snapshot())
        self.successResultOf(self.saving(a_binding(B), seen=Snapshot()))
        self.come_back()
        self.redis.answer(value_of(Snapshot(4, (a_binding(A),))))
        self.assertEqual(self.contacts(self.kept(self.redis.answer(1))), [A, B])

    def test_back_between_load_and_save(self) -> None:
        """Who built on a record that could not be read is told when it can be read again before the save."""
        self.lose()
        self.now_away(self.store.load_for_update(ALICE, True))
        self.come_back()
        saving = self.saving(a_binding(B), seen=Snapshot())
        self.redis.answer(value_of(Snapshot(4, (a_binding(A),))))
        self.failureResultOf(saving, Conflict)

    def test_tried_again(self) -> None:
        """What could not be joined is tried again in a while, as long as something is owed."""
        self.saving(a_binding(B), seen=self.knows(a_binding(A)))
        self.lose()
        self.come_back()
        self.redis.fail_all()
        self.assertEqual(self.redis.asked, [])
        self.clock.advance(RETRY_SECONDS * 1.1)
        self.redis.answer(value_of(Snapshot(1, (a_binding(A),))))
        self.redis.answer(1)
        self.assertEqual(self.store.levels()["owed"], 0)

    def test_one_of_several_servers_is_away(self) -> None:
        """What is owed to a server that cannot be asked keeps nothing else waiting."""
        self.lose()
        for aor in (ALICE, "sip:bob@example.com"):
            self.now_away(self.store.load_for_update(aor, True))
            self.successResultOf(self.begin(self.store.save(aor, Snapshot(1, (a_binding(A),)))))
        self.redis.away.add(b"loc:" + KEY)
        self.come_back()
        self.assertEqual(self.redis.answer(None).key, b"loc:bob@example.com")
        self.redis.answer(1)
        self.assertEqual((self.redis.asked, self.store.levels()["owed"]), ([], 1))
        self.assertFalse(self.store.takes_at_once(KEY, False))
        self.redis.away.clear()
        self.clock.advance(RETRY_SECONDS * 1.1)
        self.redis.answer(None)
        self.redis.answer(1)
        self.assertEqual(self.store.levels()["owed"], 0)

    def test_somebody_is_always_first(self) -> None:
        """What does not fit however often it is joined is given up with a cry, and blocks nobody."""
        self.saving(a_binding(B), seen=self.knows(a_binding(A)))
        self.lose()
        self.come_back()
        for version in range(MAX_ATTEMPTS + 1):
            self.redis.answer(value_of(Snapshot(version + 1, (a_binding(A),))))
        self.assertEqual((self.redis.asked, self.store.levels()["owed"]), ([], 0))

    def test_not_understood(self) -> None:
        """A value that nobody understands is taken for nothing, and can be replaced."""
        loading = self.begin(self.store.load(ALICE))
        self.redis.answer(b"something else")
        self.assertEqual(self.successResultOf(loading), Snapshot())
        self.successResultOf(self.saved(a_binding(A)))
        self.assertEqual(self.store.totals()["record_not_understood"], 1)

    def saved(self, *bindings: Binding) -> "Deferred[None]":
        """Save a first record, which Redis keeps."""
        saving = self.saving(*bindings, seen=Snapshot())
        self.redis.answer(1)
        return saving

    def test_after_a_restart(self) -> None:
        """What an earlier life has left in the journal is joined as soon as Redis can be asked."""
        self.saving(a_binding(B), seen=self.knows(a_binding(A)))
        self.lose()
        stopping = self.begin(self.store.stop())
        self.redis.fail_all()
        self.successResultOf(stopping)
        self.redis = ScriptedRedis()
        self.store = self.a_store()
        self.now(self.store.start())
        self.redis.answer(None)
        self.assertEqual(self.contacts(self.kept(self.redis.answer(1))), [B])
        self.assertEqual(self.store.levels()["journal_records"], 0)

    def test_the_journal_is_full(self) -> None:
        """Without a place in the journal a save fails, and the store says so."""
        self.assertIsNone(self.store.problem)
        self.lose()
        for number in range(100):
            aor = f"sip:{number}@example.com"
            self.now_away(self.store.load_for_update(aor, True))
            self.successResultOf(self.begin(self.store.save(aor, Snapshot(1, (a_binding(A),)))))
        self.assertIn("full", self.store.problem or "")
        self.now_away(self.store.load_for_update(ALICE, True))
        self.failureResultOf(self.saving(a_binding(A), seen=Snapshot()), LocationUnavailable)

    def test_why(self) -> None:
        """The log says once why bindings go into the journal, as Redis or the connection to it has said."""
        said: list[str] = []

        @implementer(ILogObserver)
        def observe(event: LogEvent) -> None:
            said.append(formatEvent(event))

        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)
        seen = self.knows(a_binding(A))
        saving = self.saving(a_binding(B), seen=seen)
        self.redis.answer(RedisUnavailable("127.0.0.1:1: OOM command not allowed"))
        self.successResultOf(saving)
        self.lose()
        self.now_away(self.store.load_for_update(ALICE, True))
        self.successResultOf(self.saving(a_binding(A), a_binding(B), seen=Snapshot(2)))
        self.assertEqual([line for line in said if "go into the journal" in line],
                         ["bindings go into the journal: 127.0.0.1:1: OOM command not allowed"])

    def test_the_journal_fails(self) -> None:
        """A disk that takes nothing while Redis is away is told to who looks whether this node can serve."""
        self.lose()
        self.patch(JournalFile, "append", lambda file, data: os.write(-1, data))
        self.now_away(self.store.load_for_update(ALICE, True))
        self.failureResultOf(self.saving(a_binding(A), seen=Snapshot()), LocationUnavailable)
        self.assertIn("cannot be written", self.store.problem or "")
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)
        self.come_back()
        self.assertIsNone(self.store.problem)

    def test_unbind(self) -> None:
        """A connection that ends while Redis is away is gone here at once, and there when Redis is back."""
        self.knows(a_bound(A, 7))
        self.lose()
        removed = self.now_away(self.store.unbind(ALICE, "n1", 1, 7))
        self.assertEqual([binding.contact for binding in removed], [A])
        self.assertEqual(self.now_away(self.store.load(ALICE)).bindings, ())
        self.assertEqual(self.store.levels()["journal_records"], 0)
        self.clock.advance(3)
        self.come_back()
        self.redis.answer(value_of(Snapshot(1, (a_bound(A, 7),))))
        left = self.kept(self.redis.answer(1))
        self.assertEqual((left.bindings, left.version, left.lost_at), ((), 2, NOW))

    def test_a_connection_that_is_in_doubt(self) -> None:
        """When a connection ends whose record is in doubt, nobody puts back what hung on it."""
        self.knows(a_bound(A, 7), a_binding(B))
        self.lose()
        self.come_back(may_have_lost=True)
        self.lose()
        self.now_away(self.store.unbind(ALICE, "n1", 1, 7))
        self.come_back(may_have_lost=True)
        self.clock.advance(PAUSE_SECONDS * 2)
        self.redis.answer(None)
        self.assertEqual(self.contacts(self.kept(self.redis.answer(1))), [B])

    def test_what_was_lost_and_what_is_owed(self) -> None:
        """A record of which Redis lost a part, and to which the journal adds another, comes back whole."""
        self.knows(a_binding(A), version=5)
        self.lose()
        self.come_back(may_have_lost=True)
        self.lose()
        seen = self.now_away(self.store.load_for_update(ALICE, True))
        self.successResultOf(self.saving(*seen.bindings, a_binding(B), seen=seen))
        self.come_back()
        self.clock.advance(PAUSE_SECONDS * 2)
        self.redis.answer(None)
        self.assertEqual(self.contacts(self.kept(self.redis.answer(1))), [A, B])

    def test_stopped_with_ends_owed(self) -> None:
        """A node that stops need not tell of its connections: its life is over."""
        self.knows(a_bound(A, 7))
        self.lose()
        self.now_away(self.store.unbind(ALICE, "n1", 1, 7))
        self.redis.problem = None
        self.successResultOf(self.begin(self.store.stop()))
        self.assertEqual(self.redis.asked, [])

    def test_unbind_what_is_not_known(self) -> None:
        """Of a connection whose record cannot be read the end is remembered, too."""
        self.lose()
        self.assertEqual(self.now_away(self.store.unbind(ALICE, "n1", 1, 7)), ())
        self.come_back()
        self.redis.answer(value_of(Snapshot(1, (a_bound(A, 7), a_binding(B)))))
        self.assertEqual(self.contacts(self.kept(self.redis.answer(1))), [B])

    def test_one_server_of_several(self) -> None:
        """What is in doubt because one server is back is known for as long as its own server cannot be asked."""
        other = a_binding(A, source=over_tcp(7, "n2"), connection_bound=True)
        seen = self.knows(other)
        self.redis.away.add(b"loc:" + KEY)
        self.store.connected("127.0.0.1:2", "other", False)
        self.clock.advance(PAUSE_SECONDS * 2)
        self.assertEqual(self.now_away(self.store.load(ALICE)), seen)
        self.redis.away.clear()
        self.store.connected("127.0.0.1:1", "one", False)
        self.clock.advance(RETRY_SECONDS + PAUSE_SECONDS)
        self.assertEqual(self.store.levels()["in_doubt"], 0)

    def test_unbind_with_an_unknown_outcome(self) -> None:
        """An end that was sent and not answered is owed; nothing brings the binding back."""
        self.knows(a_bound(A, 7), a_binding(B))
        unbinding = self.begin(self.store.unbind(ALICE, "n1", 1, 7))
        self.lose()
        self.assertEqual(len(self.successResultOf(unbinding)), 1)
        self.come_back()
        self.redis.answer(value_of(Snapshot(2, (a_binding(B),))))
        self.assertEqual((self.redis.asked, self.store.levels()["owed"]), ([], 0))

    def test_unbind_after_conflicts(self) -> None:
        """The end of a connection is tried again when somebody was first."""
        self.knows(a_bound(A, 7))
        unbinding = self.begin(self.store.unbind(ALICE, "n1", 1, 7))
        for version in range(2, 2 + MAX_CONFLICTS - 1):
            self.redis.answer(value_of(Snapshot(version, (a_bound(A, 7), a_binding(B)))))
        self.redis.answer(1)
        self.assertEqual(len(self.successResultOf(unbinding)), 1)
        self.assertEqual(self.contacts(self.now(self.store.load(ALICE))), [B])


class RefusingTests(RedisCase):
    journals = False

    def test_away(self) -> None:
        """Without a journal a save fails while Redis is away, and what is known is read all the same."""
        seen = self.knows(a_binding(A))
        saving = self.saving(a_binding(B), seen=seen)
        self.lose()
        self.failureResultOf(saving, LocationUnavailable)
        self.assertIn("gone", self.store.problem or "")
        self.failureResultOf(self.saving(a_binding(B), seen=seen), LocationUnavailable)
        self.assertEqual(self.now(self.store.load(ALICE)), seen)
        self.assertEqual(self.store.levels()["journal_records"], 0)

    def test_slow(self) -> None:
        """A slow answer is waited for."""
        saving = self.saving(a_binding(B), seen=self.knows(a_binding(A)))
        self.clock.pump([SLOW_SECONDS] * 5)
        self.assertNoResult(saving)
        self.redis.answer(1)
        self.successResultOf(saving)

    def test_the_short_way(self) -> None:
        """What the short way keeps is not kept when Redis does not answer, however long it waits; it may be slow."""
        told: list[bool] = []
        self.knows(a_bound(A, 7))
        for version in (2, 3):
            new = self.store.packing.pack(Snapshot(version, (a_bound(A, 7, cseq=version),)), 0)
            self.store.keep(KEY, self.store.records[KEY], new, "TCP", told.append)
            self.clock.pump([SLOW_SECONDS] * 3)
            if version == 2:
                self.redis.answer(1)
        self.assertEqual(told, [True])
        self.lose()
        self.assertEqual((told, self.store.levels()["journal_records"]), ([True, False], 0))

    def test_nothing_to_build_on(self) -> None:
        """What cannot be read is nothing to build on."""
        self.lose()
        loading = self.begin(self.store.load_for_update(ALICE, True))
        self.redis.fail_all()
        self.failureResultOf(loading, LocationUnavailable)


class HealingTests(RedisCase):
    def acknowledged(self, *bindings: Binding) -> Snapshot:
        """Save a record that Redis acknowledges."""
        saving = self.saving(*bindings, seen=Snapshot())
        self.redis.answer(1)
        self.successResultOf(saving)
        return self.now(self.store.load(ALICE))

    def test_an_empty_redis(self) -> None:
        """What came in here is put back into a Redis that came back empty."""
        ours = self.acknowledged(a_bound(A, 7), a_binding(B))
        self.lose()
        self.come_back(may_have_lost=True)
        self.redis.answer(None)
        healed = self.redis.answer(1)
        self.assertEqual(self.contacts(self.kept(healed)), [A, B])
        self.assertGreater(self.kept(healed).version, ours.version)
        self.assertEqual(healed.words[1], 0)

    def test_an_emptied_redis(self) -> None:
        """The same when somebody empties it while we are connected."""
        self.acknowledged(a_binding(A))
        self.store.invalidated(None)
        self.redis.answer(None)
        self.assertEqual(self.contacts(self.kept(self.redis.answer(1))), [A])

    def test_an_older_version(self) -> None:
        """An acknowledged change that a failover has lost is put back as a whole, a removal, too."""
        self.knows(a_binding(A), a_binding(B), version=4)
        self.saving(a_binding(B), seen=Snapshot(4))
        self.redis.answer(1)
        self.lose()
        self.come_back(may_have_lost=True)
        self.redis.answer(value_of(Snapshot(4, (a_binding(A), a_binding(B)))))
        self.assertEqual(self.contacts(self.kept(self.redis.answer(1))), [B])

    def test_others_went_on(self) -> None:
        """A binding that was lost is put back beside what others have registered since."""
        self.acknowledged(a_binding(A))
        self.lose()
        self.come_back(may_have_lost=True)
        self.redis.answer(value_of(Snapshot(3, (a_binding(B),))))
        self.assertEqual(self.contacts(self.kept(self.redis.answer(1))), [A, B])

    def test_what_others_removed(self) -> None:
        """What came in elsewhere and is gone in a later version was removed, and stays so."""
        self.knows(a_binding(A, source=over_tcp(1, "n2")), a_binding(C))
        self.lose()
        self.come_back(may_have_lost=True)
        self.redis.answer(value_of(Snapshot(3, (a_binding(B), a_binding(C)))))
        self.assertEqual(self.redis.asked, [])
        self.assertEqual(self.contacts(self.now(self.store.load(ALICE))), [B, C])

    def test_several_phones_at_several_nodes(self) -> None:
        """Each node puts back its own, though another one has begun the record anew."""
        ours, theirs = a_bound(A, 7), a_binding(B, source=over_tcp(3, "n2"), connection_bound=True)
        self.knows(ours, theirs, version=9)
        self.clock.advance(1000)
        self.store.invalidated(None)
        self.redis.answer(value_of(Snapshot(10, (theirs,))))
        self.assertEqual(self.contacts(self.kept(self.redis.answer(1))), [A, B])

    def test_a_removal_that_was_lost(self) -> None:
        """That nothing was bound any more is put back, too: who knows an older record must not put that back."""
        self.saving(seen=self.knows(a_binding(A), version=4))
        self.redis.answer(1)
        self.store.invalidated(None)
        self.redis.answer(None)
        self.assertEqual(self.kept(self.redis.answer(1)), Snapshot(6))

    def test_lost_twice(self) -> None:
        """What is still in doubt when Redis is lost again was true at the first time only."""
        self.knows(a_binding(A, source=over_tcp(1, "n2"), refreshed_at=NOW + 5), version=5)
        self.lose()
        self.come_back(may_have_lost=True)
        self.lose()
        self.clock.advance(100)
        self.come_back(may_have_lost=True)
        self.clock.advance(RETRY_SECONDS * 1.1)
        self.redis.answer(None)
        self.assertEqual(self.contacts(self.kept(self.redis.answer(1))), [A])

    def test_nothing_is_lost(self) -> None:
        """After a connection to the same Redis what is there is right, and what is not ours is forgotten."""
        self.acknowledged(a_binding(A))
        self.begin(self.store.load("sip:bob@example.com"))
        self.redis.answer(value_of(Snapshot(1, (a_binding(B, source=over_tcp(1, "n2")),))))
        self.lose()
        self.come_back()
        self.redis.answer(value_of(Snapshot(9, (a_binding(B),))))
        self.assertEqual(self.redis.asked, [])
        self.assertEqual(self.contacts(self.now(self.store.load(ALICE))), [B])
        self.assertEqual(list(self.store.records), [KEY])

    def test_nothing_has_changed(self) -> None:
        """A record that is in Redis as it is here is known again."""
        self.acknowledged(a_bound(A, 7))
        record = self.store.records[KEY]
        self.lose()
        self.come_back()
        self.redis.answer(to_shared(self.store.packing, record))
        self.assertIs(self.store.records[KEY], record)
        self.assertTrue(self.store.takes_at_once(KEY, True))

    def test_what_others_had_for_long(self) -> None:
        """What came in elsewhere and was not new when Redis was lost is not put back: it may have been removed."""
        away = Snapshot(5, (a_binding(A, source=over_tcp(1, "n2"), refreshed_at=NOW - 100),
                            a_binding(B, source=over_tcp(2, "n2"), refreshed_at=NOW),
                            a_binding(C, source=over_tcp(3, "n2"), connection_bound=True)))
        self.knows(*away.bindings, version=5)
        self.lose()
        self.come_back(may_have_lost=True)
        self.redis.answer(None)
        self.assertEqual(self.contacts(self.kept(self.redis.answer(1))), [B])
        self.assertEqual(self.contacts(self.now(self.store.load(ALICE))), [B])

    def test_who_came_after_the_loss(self) -> None:
        """A phone that registered while we were away stays, though we know a later version without it."""
        self.knows(a_binding(A), version=9)
        self.lose()
        self.clock.advance(100)
        self.come_back(may_have_lost=True)
        self.redis.answer(value_of(Snapshot(2, (a_binding(B, refreshed_at=NOW + 50),))))
        self.assertEqual(self.contacts(self.kept(self.redis.answer(1))), [A, B])

    def test_in_doubt_it_is_asked_for(self) -> None:
        """After a connection nothing is believed that was not read since, neither by the short way."""
        self.acknowledged(a_binding(A))
        self.lose()
        self.come_back()
        self.assertFalse(self.store.takes_at_once(KEY, False))
        loading = self.begin(self.store.load(ALICE))
        self.assertNoResult(loading)
        self.redis.answer(None)
        self.assertEqual(self.successResultOf(loading).bindings, ())
        self.assertTrue(self.store.takes_at_once(KEY, False))

    def test_away_again(self) -> None:
        """What is in doubt is read and built on while Redis is away again, by the journal."""
        self.acknowledged(a_binding(A))
        self.lose()
        self.come_back()
        self.lose()
        waiting = self.begin(self.store.load_for_update(ALICE, True))
        self.redis.fail_all()
        seen = self.successResultOf(waiting)
        self.assertEqual(self.contacts(seen), [A])
        self.successResultOf(self.saving(*seen.bindings, a_binding(B), seen=seen))

    def test_a_record_that_vanished(self) -> None:
        """Who vanishes from Redis without a trace while he hangs on a connection of ours is put back."""
        self.acknowledged(a_bound(A, 7), a_binding(B))
        self.store.invalidated((b"loc:" + KEY,))
        self.redis.answer(None)
        self.assertEqual(self.contacts(self.kept(self.redis.answer(1))), [A])
        self.clock.advance(2 * RELEASE_SECONDS)
        self.assertEqual(self.released, [])


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
