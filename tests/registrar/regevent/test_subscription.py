"""What a subscriber is told, when, and what his answers mean (RFC 3680 §§4.7, 4.10; RFC 6665 §4.2.2; RFC 5057)."""

from collections.abc import Callable

import attrs

from registrar.records import record_key
from registrar.regevent.subscription import MAX_FAILURES
from tests.registrar.examples import NOW, a_binding, a_bound
from tests.registrar.joined import EPOCH
from tests.registrar.regevent.case import ALICE, EventsCase, FarLocation, state_of

DESK, MOBILE = "sip:alice@192.0.2.4", "sip:alice@192.0.2.5"
LONG = NOW + 7000


class ChangesTests(EventsCase):
    def test_partial(self) -> None:
        """After a change only what has changed is told, and the versions follow one another."""
        desk = a_binding(DESK)
        self.bind(desk)
        alice = self.watching()
        self.wait(5)
        self.bind(desk, a_binding(MOBILE))
        self.assertEqual(alice.document().events, [(MOBILE, "active", "registered")])
        self.wait(5)
        self.bind(desk)
        document = alice.document()
        self.assertEqual((document.events, document.is_full, document.state, document.version),
                         ([(MOBILE, "terminated", "unregistered")], False, "active", 2))
        self.wait(5)
        self.bind()
        document = alice.document()
        self.assertEqual((document.events, document.state), ([(DESK, "terminated", "unregistered")], "terminated"))

    def test_pace(self) -> None:
        """Changes within five seconds are told together, and what changed back is not told at all."""
        alice = self.watching()
        self.bind(a_binding(DESK))
        self.bind(a_binding(DESK), a_binding(MOBILE))
        self.wait(4.75)
        self.assertEqual(alice.told(), [])
        self.wait(0.5)
        self.assertEqual(len(alice.document().events), 2)
        self.bind(a_binding(DESK))
        self.bind(a_binding(DESK), a_binding(MOBILE))
        self.wait(10)
        self.assertEqual(alice.told(), [])

    def test_first_change_at_once(self) -> None:
        """A change after a rest is told in the next turn."""
        alice = self.watching()
        self.wait(5)
        self.bind(a_binding(DESK))
        self.assertEqual(alice.document().events, [(DESK, "active", "registered")])

    def test_one_at_a_time(self) -> None:
        """While a NOTIFY is unanswered, what changes is gathered."""
        alice = self.watching(transport="UDP")
        self.wait(5)
        alice.answers_with = None
        self.bind(a_binding(DESK))
        self.wait(6)
        self.bind(a_binding(DESK), a_binding(MOBILE))
        self.wait(6)
        repeats = alice.told()
        self.assertEqual({notify.get("CSeq") for notify in repeats}, {"2 NOTIFY"})
        alice.answers_with = 200
        alice._notified(repeats[0])
        alice.notifies.clear()
        self.wait(0.5)
        self.assertEqual(alice.document().events, [(MOBILE, "active", "registered")])

    def test_everybody_is_told(self) -> None:
        """All who watch are told, and nobody who watches somebody else."""
        watching = [self.watching() for _ in range(2)]
        bob = self.watching("bob", aor="sip:bob@example.com")
        self.wait(5)
        self.bind(a_binding(DESK))
        self.assertEqual([len(each.told()) for each in (*watching, bob)], [1, 1, 0])

    def test_many_are_told_in_turns(self) -> None:
        """A change that many watch is told to some of them in a turn of the reactor, to all in a few."""
        self.config = attrs.evolve(self.config, max_per_aor=100, max_subscriptions=100)
        self.events = self.made("n1", EPOCH)
        self.registrar.requests.serve_events(self.events)
        watching = [self.watching() for _ in range(40)]
        self.wait(5)
        turns: list[Callable[[], None]] = []
        self.later = turns.append
        self.bind(a_binding(DESK))
        told = []
        while turns:
            turns.pop()()
            told.append(sum(len(each.told()) for each in watching))
        self.assertEqual(told, [16, 16, 8])

    def test_store_is_away(self) -> None:
        """What cannot be looked up is looked up again later."""
        alice = self.watching()
        self.wait(5)
        self.registrar.location.down = True
        self.bind(a_binding(DESK))
        self.wait(10)
        self.assertEqual(alice.told(), [])
        self.registrar.location.down = False
        self.wait(5)
        self.assertEqual(alice.document().events, [(DESK, "active", "registered")])

    def test_refresh_while_looking(self) -> None:
        """Who is told everything while a change is looked up hears nothing older afterwards, and misses nothing."""
        alice = self.watching()
        self.wait(5)
        self.registrar.location.holds = True
        self.bind(a_binding(DESK))
        alice.phone.receive_whole(alice.a_subscribe().serialise())
        self.bind(a_binding(MOBILE))
        self.registrar.location.let_pass()
        self.registrar.location.holds = False
        alice.look()
        self.wait(6)
        alice.look()
        self.assertEqual(list(alice.table.active.values()), [MOBILE])


class FarTests(EventsCase):
    """What is read from the store may be old when it arrives, and may arrive in any order."""

    location = FarLocation

    def setUp(self) -> None:
        super().setUp()
        self.alice = self.watching()
        self.wait(5)
        self.registrar.location.holds = True

    def refresh(self) -> None:
        """Let Alice ask for everything."""
        self.alice.phone.receive_whole(self.alice.a_subscribe().serialise())

    def arrives(self, number: int) -> None:
        """Let the answer of the store arrive that has been waited for, this one of several."""
        self.registrar.location.waiting.pop(number)[1].callback(None)
        self.alice.look()

    def test_old_look(self) -> None:
        """A look whose answer is older than what was told since tells nothing."""
        self.bind(a_binding(DESK))
        self.refresh()
        self.bind(a_binding(MOBILE), tells=False)
        self.refresh()
        self.arrives(2)
        self.arrives(1)
        self.wait(5)
        self.bind(a_binding(MOBILE), a_binding(DESK))
        self.alice.notifies.clear()
        self.arrives(0)
        self.assertEqual(self.alice.told(), [])
        self.arrives(0)
        self.registrar.location.holds = False
        self.wait(6)
        self.alice.look()
        self.assertEqual(sorted(self.alice.table.active.values()), [DESK, MOBILE])

    def test_old_refresh(self) -> None:
        """What a refresh was told too late is put right."""
        self.refresh()
        self.bind(a_binding(DESK))
        self.arrives(1)
        self.assertEqual(list(self.alice.table.active.values()), [DESK])
        self.arrives(0)
        self.assertEqual(list(self.alice.table.active.values()), [])
        self.registrar.location.holds = False
        self.wait(6)
        self.alice.look()
        self.assertEqual(list(self.alice.table.active.values()), [DESK])


class EndsTests(EventsCase):
    def test_lapse(self) -> None:
        """A binding that lapses is told without anybody's word from the store."""
        self.bind(a_binding(DESK, expires_at=NOW + 60))
        alice = self.watching()
        self.wait(60)
        self.assertEqual(alice.told(), [])
        self.wait(1)
        document = alice.document()
        self.assertEqual((document.events, document.state), ([(DESK, "terminated", "expired")], "terminated"))

    def test_prolonged(self) -> None:
        """That a binding lives longer is told when it would have lapsed by what was told before."""
        desk = a_binding(DESK, expires_at=NOW + 60)
        self.bind(desk)
        alice = self.watching()
        self.wait(30)
        self.bind(attrs.evolve(desk, cseq=2, refreshed_at=NOW + 30, expires_at=NOW + 90), tells=False)
        self.wait(30)
        self.assertEqual(alice.told(), [])
        self.wait(1)
        (contact,) = alice.document().contacts
        self.assertEqual((contact.attrib["event"], contact.attrib["expires"]), ("refreshed", "29"))
        self.wait(30)
        self.assertEqual(alice.document().events, [(DESK, "terminated", "expired")])

    def test_prolonged_by_the_way(self) -> None:
        """Whoever says that a record has changed, a longer life alone is told when it has to be, or with other news."""
        desk = a_binding(DESK, expires_at=NOW + 600)
        self.bind(desk)
        alice = self.watching()
        self.wait(5)
        longer = attrs.evolve(desk, cseq=2, refreshed_at=NOW + 5, expires_at=NOW + 605)
        self.bind(longer)
        self.wait(5)
        self.assertEqual(alice.told(), [])
        self.bind(longer, a_binding(MOBILE))
        self.assertEqual(alice.document().events, [(DESK, "active", "refreshed"), (MOBILE, "active", "registered")])

    def test_moved_to_a_node_that_dies(self) -> None:
        """A phone that has moved to another node, which alone is not told, is told to be gone when that one dies."""
        desk = a_bound(DESK, 7, expires_at=LONG)
        self.bind(desk)
        alice = self.watching()
        self.wait(5)
        self.bind(attrs.evolve(desk, cseq=2, expires_at=LONG + 9, source=attrs.evolve(desk.source, node="n2", epoch=5)))
        self.assertEqual(alice.told(), [])
        self.dead.add(("n2", 5))
        self.events.nodes_ended(frozenset(self.dead))
        self.clock.advance(0)
        self.assertEqual(alice.document().events, [(DESK, "terminated", "deactivated")])

    def test_lost_connection(self) -> None:
        """A phone whose only connection broke is deactivated: it should register again."""
        self.bind(a_bound(DESK, 7, expires_at=LONG))
        alice = self.watching()
        self.wait(5)
        self.bind(lost_at=self.clock.seconds())
        self.assertEqual(alice.document().events, [(DESK, "terminated", "deactivated")])

    def test_dead_node(self) -> None:
        """When a node dies, contacts on its connections are told to have ended, and others are not."""
        bound = a_bound(DESK, 7, expires_at=LONG)
        elsewhere = attrs.evolve(bound, contact=MOBILE, source=attrs.evolve(bound.source, node="n2", epoch=5))
        self.bind(bound, elsewhere)
        alice = self.watching()
        self.wait(5)
        self.dead.add(("n2", 5))
        self.events.nodes_ended(frozenset({("n3", 9)}))
        self.clock.advance(0)
        self.assertEqual(alice.told(), [])
        self.events.nodes_ended(frozenset(self.dead))
        self.clock.advance(0)
        document = alice.document()
        self.assertEqual((document.events, document.state), ([(MOBILE, "terminated", "deactivated")], "active"))

    def test_dead_nodes_contacts_are_never_told(self) -> None:
        """Who subscribes later is not told of contacts on the connections of dead nodes."""
        self.dead.add(("n1", EPOCH))
        self.bind(a_bound(DESK, 7, expires_at=LONG))
        self.assertEqual(self.watching().table.state, "init")


class AnswersTests(EventsCase):
    def refused(self, status: int, *headers: tuple[str, str]) -> int:
        """Let a NOTIFY be answered so; return how many subscriptions are left."""
        alice = self.watching()
        self.wait(5)
        alice.answers_with, alice.answer_headers = status, headers
        self.bind(a_binding(DESK))
        alice.look()
        left = len(self.events.book)
        self.events.stop()
        self.bind()
        return left

    def test_forgotten(self) -> None:
        """Who knows nothing of the subscription, or does not want it, is told no more."""
        for status in (481, 404, 405, 489, 603, 401, 302):
            with self.subTest(status):
                self.assertEqual(self.refused(status), 0)
        self.assertEqual(self.refused(481, ("Retry-After", "5")), 0)
        self.assertEqual(self.ended()[("refused",)], 8)

    def test_kept(self) -> None:
        """Who cannot be told now is told later."""
        for status, headers in ((500, ()), (503, ()), (480, (("Retry-After", "5"),))):
            with self.subTest(status):
                self.assertEqual(self.refused(status, *headers), 1)

    def test_later_everything(self) -> None:
        """After a NOTIFY that could not be taken everything is told, after the time that was asked for."""
        self.bind(a_binding(MOBILE))
        alice = self.watching()
        self.wait(5)
        alice.answers_with, alice.answer_headers = 503, (("Retry-After", "20 (busy);duration=3"),)
        self.bind(a_binding(MOBILE), a_binding(DESK))
        self.assertEqual(len(alice.told()), 1)
        alice.answers_with, alice.answer_headers = 200, ()
        self.wait(19.5)
        self.assertEqual(alice.told(), [])
        self.wait(1)
        alice.table.version += 1
        document = alice.document()
        self.assertEqual((document.is_full, len(document.events), document.version), (True, 2, 2))
        self.assertEqual(self.outcomes(), {("taken",): 2, ("postponed",): 1})

    def test_given_up(self) -> None:
        """Who can never be told is forgotten after a few times."""
        alice = self.watching()
        self.wait(5)
        alice.answers_with = 500
        self.bind(a_binding(DESK))
        for _ in range(10):
            alice.look()
            self.wait(5.5)
        self.assertEqual((self.outcomes()[("postponed",)], len(self.events.book)), (MAX_FAILURES, 0))

    def test_silence(self) -> None:
        """Who does not answer within the time of a transaction is forgotten."""
        alice = self.watching(transport="UDP")
        self.wait(5)
        alice.answers_with = None
        self.bind(a_binding(DESK))
        self.wait(33)
        self.assertEqual((self.outcomes()[("silent",)], len(self.events.book), self.ended()),
                         (1, 0, {("silent",): 1}))

    def test_closed_flow(self) -> None:
        """Whose connection cannot be written is forgotten, even before its end is told."""
        alice = self.watching()
        self.wait(5)
        alice.phone.flow.close("lost")
        self.bind(a_binding(DESK))
        self.assertEqual((len(self.events.book), self.ended()), (0, {("unreachable",): 1}))

    def test_late_answer(self) -> None:
        """An answer to the last NOTIFY changes nothing any more."""
        alice = self.watching()
        alice.answers_with = 481
        alice.subscribe(("Expires", "0"))
        self.assertEqual([state_of(each) for each in alice.told()], ["terminated;reason=timeout"])
        self.assertEqual((self.ended(), self.outcomes()), ({("unsubscribed",): 1}, {("taken",): 1, ("refused",): 1}))


class EndTests(EventsCase):
    def test_nothing_is_left(self) -> None:
        """When all subscriptions are over, nothing is watched and nothing is waited for."""
        for _ in range(3):
            self.watching().subscribe(("Expires", "0"))
        self.registrar.end_transactions()
        self.assertEqual((len(self.changes), len(self.registrar.layer.wheel)), (0, 0))
        self.changes.tell(record_key(ALICE))
        self.assertEqual(self.clock.getDelayedCalls(), [])
