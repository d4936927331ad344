"""Tests of registrar.location.redis: what is put back that Redis has lost."""



from registrar.bindings import Binding
from registrar.location.contract import Snapshot
from registrar.location.settling import RELEASE_SECONDS, RETRY_SECONDS
from registrar.location.shared_form import to_shared, value_of
from tests.registrar.examples import ALICE, NOW, A, B, C, a_binding, a_bound, over_tcp
from tests.registrar.redis_case import KEY, RedisCase


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
