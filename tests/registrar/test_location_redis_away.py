"""Tests of registrar.location.redis: what happens while Redis is slow or away, and when it is back."""

import os
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher
from zope.interface import implementer

from registrar.bindings import Binding
from registrar.location.contract import Conflict, LocationUnavailable, Snapshot
from registrar.location.debts import MAX_CHANGES
from registrar.location.journal_file import JournalFile
from registrar.location.redis import MAX_CONFLICTS
from registrar.location.settling import MAX_ATTEMPTS, PAUSE_SECONDS, RETRY_SECONDS
from registrar.location.shared_form import value_of
from rollcall.cluster.redis import RedisUnavailable
from tests.registrar.examples import ALICE, NOW, A, B, C, a_binding, a_bound, over_tcp
from tests.registrar.redis_case import KEY, SLOW_SECONDS, RedisCase
from tests.registrar.scripted_redis import ScriptedRedis


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

    def test_one_phone_without_end(self) -> None:
        """A phone that registers all the time owes its last binding; one that invents contacts is refused in the end.
        """
        self.lose()
        for number in range(3 * MAX_CHANGES):
            seen = self.now_away(self.store.load_for_update(ALICE, True))
            self.successResultOf(self.saving(a_binding(A, cseq=number, refreshed_at=NOW + number), seen=seen))
        for number in range(MAX_CHANGES + 1):
            seen = self.now_away(self.store.load_for_update(ALICE, True))
            saving = self.saving(a_binding(f"sip:{number}@192.0.2.4", refreshed_at=NOW + number), seen=seen)
        self.failureResultOf(saving, LocationUnavailable)
        self.assertEqual(self.store.levels()["owed"], 1)

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
