"""Calls whose media node has died get another one, by re-INVITEs in their phones' names."""

from typing import Any

from attrs import evolve

from registrar.media.anchoring import Anchoring, watch_anchoring
from registrar.media.config import MediaConfig
from registrar.media.moving import AGAIN_SECONDS, Moving
from registrar.media.session import CSEQ_JUMP
from registrar.media.speaking import ANSWER_SECONDS, Speaking
from rollcall.media.snapshot import NodeState
from rollcall.ops.metrics import Metrics
from rollcall.sip.headers import parse_via
from rollcall.sip.message import Request
from tests.flows import an_answer
from tests.registrar.examples import a_binding
from tests.registrar.media.scripted import SDP_TYPE, MediaCase, a_node, address, sdp, version
from tests.registrar.network import Phone

CONFIG = MediaConfig(enabled=True, reanchor_seconds=20)
BOTH = ("m2 offer alice bob", "m2 answer alice bob", "m2 offer bob alice", "m2 answer bob alice", "m1 delete")


class AnchoringCase(MediaCase):
    """A call between Alice and Bob through m1 that stands."""

    session_expires: tuple[tuple[str, str], ...] = ()

    def setUp(self) -> None:
        super().setUp()
        proxying, clock = self.registrar.proxying, self.registrar.clock
        speaking = Speaking(proxying.dialogs, self.network.sending, self.layer.transactions, self.config,
                            proxying.follow)
        moving = Moving(self.sessions, self.nodes, self.choosing, speaking, CONFIG, clock.seconds,
                        lambda least, most: most)
        self.anchoring = Anchoring(self.sessions, moving, self.layer.transactions.wheel, CONFIG, clock.seconds)
        self.addCleanup(self.anchoring.stop)
        self.follow()
        self.stands()
        self.answers()

    def follow(self, m1: NodeState = NodeState.UP, **changed: Any) -> None:
        """Have everybody follow a snapshot in which m1 is like this."""
        nodes = [evolve(a_node("m1", state=m1), **changed), a_node("m2", sessions=500)]
        self.publish(*nodes)
        self.anchoring.followed(self.choosing.board.snapshot)

    def dies(self) -> None:
        """Let m1 die, and the registrar hear of it."""
        self.nodes.dead.add("m1")
        self.follow(NodeState.DOWN)
        self.wait(0.2)

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.layer.wait(seconds)

    def asked(self, phone: Phone) -> Request:
        """Return the re-INVITE that a phone has got."""
        self.assertEqual(phone.heard(), ["INVITE"])
        return phone.requests["INVITE"]

    def says(self, phone: Phone, status: int, body: bytes = b"", *headers: tuple[str, str]) -> None:
        """Let a phone answer the re-INVITE."""
        request = phone.requests["INVITE"]
        kind = (SDP_TYPE,) if body else ()
        answer = an_answer(request, status, None, phone.name, (
            ("Contact", f"<sip:{phone.name}@192.0.2.20:{phone.flow.peer[1]};transport=tcp>"), *kind, *headers))
        answer.body = body
        phone.reply(answer)


class MovedTests(AnchoringCase):
    """How a call is moved."""

    def test_both_sides(self) -> None:
        """First the callee hears where its peer's audio goes now, then the caller; each answer is acknowledged."""
        self.dies()
        to_bob = self.asked(self.bob)
        self.assertEqual((address(to_bob), version(to_bob)), ("m2", 2))
        self.assertEqual(to_bob.get("CSeq"), f"{1 + CSEQ_JUMP} INVITE")
        self.assertEqual((to_bob.get("From"), to_bob.get("To")), (self.bobs_invite.get("From"), self.ok.get("To")))
        self.assertEqual(to_bob.get("Contact"), self.bobs_invite.get("Contact"))
        self.says(self.bob, 200, sdp("bob", 2))
        self.assertEqual(self.bob.heard(), ["ACK"])
        to_alice = self.asked(self.alice)
        self.assertEqual((address(to_alice), version(to_alice)), ("m2", 2))
        self.assertEqual((to_alice.get("From"), to_alice.get("To")), (self.ok.get("To"), self.bobs_invite.get("From")))
        self.says(self.alice, 200, sdp("alice", 2))
        self.assertEqual(self.alice.heard(), ["ACK"])
        self.assertEqual(tuple(self.nodes.told()), BOTH)
        self.assertEqual((self.session.node, self.session.moves), ("m2", 1))
        self.assertEqual(self.anchoring.outcomes, {"moved": 1})
        self.assertEqual(self.anchoring.waiting, 0)

    def moved(self) -> None:
        """Move the call."""
        self.dies()
        self.bob.heard()
        self.says(self.bob, 200, sdp("bob", 2))
        self.alice.heard()
        self.says(self.alice, 200, sdp("alice", 2))
        self.assertEqual((self.alice.heard(), self.bob.heard()), (["ACK"], ["ACK"]))

    def test_acknowledged_as_asked(self) -> None:
        """The ACK has the number and the names of what it acknowledges, and is sent again with each 2xx."""
        self.dies()
        self.bob.heard()
        for _ in range(2):
            self.says(self.bob, 200, sdp("bob", 2))
            self.assertEqual(self.bob.heard(), ["ACK"])
            ack = self.bob.requests["ACK"]
            self.assertEqual((ack.get("CSeq"), ack.get("To"), ack.body),
                             (f"{1 + CSEQ_JUMP} ACK", self.ok.get("To"), b""))

    def test_goes_on(self) -> None:
        """What Alice sends afterwards is counted on from what Bob has heard in her name, and his versions for her."""
        self.moved()
        self.ask(self.from_alice("INVITE", 2, sdp("alice", 3)))
        self.bob.heard()
        invite = self.bob.requests["INVITE"]
        self.assertEqual((invite.get("CSeq"), version(invite)), (f"{2 + CSEQ_JUMP} INVITE", 3))
        (ok,) = self.answers_with(self.bob, 200, sdp("bob", 3))
        self.assertEqual((ok.get("CSeq"), version(ok), address(ok)), ("2 INVITE", 3, "m2"))

    def test_hung_up(self) -> None:
        """Bob, who has never sent a request, hangs up: Alice takes his BYE for newer than what came in his name."""
        self.moved()
        said = self.alice.requests["INVITE"].get("CSeq") or ""
        self.receive(self.from_bob("BYE", 1), self.bob.flow)
        self.assertEqual(self.alice.heard(), ["BYE"])
        bye = self.alice.requests["BYE"].get("CSeq") or ""
        self.assertGreater(int(bye.split()[0]), int(said.split()[0]))

    def test_session_timer(self) -> None:
        """What both have agreed on as to refreshing is asked for again, or it would end here (RFC 4028 §7.2)."""
        self.sessions._keep(evolve(self.session, interval=90, refresher="callee"))
        self.dies()
        self.assertEqual(self.asked(self.bob).get("Session-Expires"), "90;refresher=uas")
        self.says(self.bob, 200, sdp("bob", 2), ("Session-Expires", "90;refresher=uas"))
        self.assertEqual(self.asked(self.alice).get("Session-Expires"), "90;refresher=uac")
        self.says(self.alice, 200, sdp("alice", 2), ("Session-Expires", "90;refresher=uac"))
        self.assertEqual((self.session.interval, self.session.refresher), (90, "callee"))

    def test_started_again(self) -> None:
        """A node that was started again has lost its calls, though it is up: it may get them once more."""
        self.follow(started_at=1000.0)
        self.follow(started_at=1100.0)
        self.wait(0.2)
        self.assertEqual(address(self.asked(self.bob)), "m1")

    def test_stranded(self) -> None:
        """A call of which one side sends to where nobody is gets re-INVITEs a moment later, with its ACK before."""
        self.anchoring.stranded(self.session)
        self.wait(0.2)
        self.assertEqual(self.bob.heard(), [])
        self.wait(1)
        self.asked(self.bob)

    def test_one_route_less(self) -> None:
        """Our own Routes are taken off, and our way is not recorded anew: the phones' route sets stay."""
        self.dies()
        invite = self.asked(self.bob)
        self.assertEqual((invite.values("Route"), invite.values("Record-Route")), ([], []))
        self.assertEqual(parse_via(invite.first_value("Via") or "").transport, "TCP")


class InTheWayTests(AnchoringCase):
    """What may keep a call from being moved."""

    def test_glare(self) -> None:
        """After 491 it is tried again, as late as the owner of the Call-ID has to (RFC 3261 §14.1)."""
        self.dies()
        self.asked(self.bob)
        self.says(self.bob, 491)
        self.assertEqual(self.bob.heard(), ["ACK"])
        self.wait(3.9)
        self.assertEqual(self.bob.heard(), [])
        self.wait(0.5)
        again = self.asked(self.bob)
        self.assertEqual((again.get("CSeq"), version(again)), (f"{1 + 2 * CSEQ_JUMP} INVITE", 3))
        self.assertEqual(self.anchoring.outcomes, {})

    def test_second_side_busy(self) -> None:
        """When the other side is busy both hear it again from the same new node, which has the call already."""
        self.dies()
        self.bob.heard()
        self.says(self.bob, 200, sdp("bob", 2))
        self.asked(self.alice)
        self.says(self.alice, 491)
        self.nodes.told()
        self.wait(3)
        self.assertEqual(self.bob.heard(), ["ACK", "INVITE"])
        self.assertEqual(self.nodes.told(), ["m2 offer alice bob"])

    def test_refused(self) -> None:
        """A phone that will not is left alone, and operators are told why."""
        self.dies()
        self.bob.heard()
        self.says(self.bob, 488)
        self.assertEqual((self.anchoring.outcomes, self.anchoring.waiting), ({"488": 1}, 0))
        self.wait(30)
        self.assertEqual(self.bob.heard(), ["ACK"])

    def test_silent_phone(self) -> None:
        """A phone that does not answer is tried until the time is over; what it says later is not for us."""
        self.dies()
        self.asked(self.bob)
        self.wait(ANSWER_SECONDS + AGAIN_SECONDS + 0.2)
        self.assertEqual(self.bob.heard(), ["INVITE"])
        self.wait(ANSWER_SECONDS)
        self.assertEqual((self.anchoring.outcomes, self.anchoring.waiting), ({"silent": 1}, 0))

    def test_no_description(self) -> None:
        """An answer without a description cannot be told to a node."""
        self.dies()
        self.bob.heard()
        self.says(self.bob, 200)
        self.assertEqual(self.anchoring.outcomes, {"no description": 1})

    def test_phone_is_gone(self) -> None:
        """A phone that has lost its connection, and does not come back, is not reached."""
        self.network.transports.flows.clear()
        self.bind()
        self.dies()
        self.wait(40)
        self.assertEqual(self.anchoring.outcomes, {"gone": 1})

    def test_phone_has_moved(self) -> None:
        """A phone that has lost its connection and come back over another gets its re-INVITE there."""
        lost, self.bob.flow = self.bob.flow, self.network.phone("bob").flow
        del self.network.transports.flows[lost.id]
        self.bind(self.bound(self.bob))
        self.dies()
        invite = self.asked(self.bob)
        self.assertEqual(address(invite), "m2")
        self.says(self.bob, 200, sdp("bob", 2))
        self.assertEqual(self.bob.heard(), ["ACK"])

    def test_connection_breaks(self) -> None:
        """A phone whose connection breaks with the re-INVITE on its way is asked again where it is then."""
        self.dies()
        self.asked(self.bob)
        self.layer.lose(self.bob.flow)
        self.assertEqual(self.anchoring.waiting, 1)
        self.wait(AGAIN_SECONDS + 0.2)
        self.assertEqual(self.anchoring.outcomes, {})

    def test_no_node(self) -> None:
        """Without another node it is tried again until there is one."""
        self.nodes.dead |= {"m1", "m2"}
        self.publish(a_node("m1", state=NodeState.DOWN), a_node("m2", state=NodeState.DOWN))
        self.anchoring.followed(self.choosing.board.snapshot)
        self.wait(5)
        self.assertEqual((self.bob.heard(), self.anchoring.waiting), ([], 1))
        self.nodes.dead.discard("m2")
        self.follow(NodeState.DOWN)
        self.wait(3)
        self.assertEqual(self.bob.heard(), ["INVITE"])

    def test_full_node(self) -> None:
        """A node without room is left out, and another asked a moment later."""
        self.nodes.puzzled.add("m2")
        self.dies()
        self.assertEqual(self.anchoring.outcomes, {"refused by a node": 1})

    def test_hung_up_meanwhile(self) -> None:
        """A call that ends while one side is asked is over; that side hears of it once more, with a newer CSeq."""
        self.dies()
        self.bob.heard()
        self.ask(self.from_alice("BYE"))
        self.assertEqual(self.bob.heard(), ["BYE"])
        self.bob.answer(200, "BYE")
        self.assertEqual(self.bob.heard(), ["BYE"])
        self.assertEqual(self.bob.requests["BYE"].get("CSeq"), f"{2 + 2 * CSEQ_JUMP - 1} BYE")
        self.bob.answer(481, "BYE")
        self.says(self.bob, 200, sdp("bob", 2))
        self.assertEqual(self.anchoring.outcomes, {"over": 1})
        self.assertEqual([answer.status for answer in self.answers()], [200])
        self.assertEqual((self.bob.heard(), self.alice.heard()), (["ACK"], []))

    def test_hung_up_at_once(self) -> None:
        """The same for a call that ends right after it was moved, for both sides; not for one that ends later."""
        for seconds, byes in ((0.0, 1), (3.0, 0)):
            self.setUp()
            self.dies()
            self.bob.heard()
            self.says(self.bob, 200, sdp("bob", 2))
            self.alice.heard()
            self.says(self.alice, 200, sdp("alice", 2))
            self.wait(seconds)
            for phone in (self.alice, self.bob):
                phone.heard()
            self.sessions._drop(self.session)
            self.assertEqual((self.bob.heard().count("BYE"), self.alice.heard().count("BYE")), (byes, 0))
            if byes:
                self.bob.answer(481, "BYE")
                self.assertEqual(self.alice.heard(), ["BYE"])

    def test_moved_by_a_phone(self) -> None:
        """A call that a phone's own re-INVITE has led through another node is left alone."""
        self.follow(NodeState.DOWN)
        self.sessions._keep(evolve(self.session, node="m2", moves=1))
        self.wait(0.2)
        self.assertEqual((self.bob.heard(), self.anchoring.outcomes), ([], {"over": 1}))

    def test_other_kind(self) -> None:
        """A call through a node that had it as two calls of its own has ended with it."""
        self.sessions._keep(evolve(self.session, kind="freeswitch"))
        self.dies()
        self.assertEqual((len(self.sessions), self.bob.heard()), (0, []))

    def test_stop(self) -> None:
        """After the stop nothing is begun."""
        self.follow(NodeState.DOWN)
        self.anchoring.stop()
        self.wait(1)
        self.assertEqual((self.bob.heard(), self.anchoring.waiting), ([], 0))


class ElsewhereTests(AnchoringCase):
    """Bob's phone is behind something that is found by its URI."""

    def stands(self, offer: bytes | None = None) -> None:
        """Have a call that he has taken there."""
        (self.bob,) = self.network.server("bob@203.0.113.9", ("TCP", "203.0.113.9", 5060))
        self.bind(a_binding("sip:bob@203.0.113.9", direct=False))
        self.call()
        self.bob.heard()
        self.bobs_invite = self.bob.requests["INVITE"]
        recorded = tuple(("Record-Route", value) for value in self.bobs_invite.values("Record-Route"))
        answer = an_answer(self.bobs_invite, 200, None, "bob", (
            ("Contact", "<sip:bob@203.0.113.9>"), *recorded, SDP_TYPE))
        answer.body = sdp("bob")
        self.bob.reply(answer)
        (self.ok,) = [each for each in self.answers() if each.status == 200]
        self.nodes.told()

    def test_nowhere_on_this_machine(self) -> None:
        """A Contact on loopback is spoken to for nobody whose own address is not known."""
        (server,) = self.network.server("bob@127.0.0.1", ("TCP", "127.0.0.1", 5060))
        session = self.session
        self.sessions._keep(evolve(session, caller=evolve(session.caller, host=""),
                                   callee=evolve(session.callee, contact="<sip:bob@127.0.0.1>")))
        self.dies()
        self.assertEqual((server.heard(), self.bob.heard()), ([], []))

    def test_both_sides(self) -> None:
        """He is found again by his Contact, and Alice over her connection."""
        self.dies()
        to_bob = self.asked(self.bob)
        self.assertEqual((address(to_bob), to_bob.uri), ("m2", "sip:bob@203.0.113.9"))
        answer = an_answer(to_bob, 200, None, "bob", (("Contact", "<sip:bob@203.0.113.9>"), SDP_TYPE))
        answer.body = sdp("bob", 2)
        self.bob.reply(answer)
        self.assertEqual(self.bob.heard(), ["ACK"])
        self.assertEqual(address(self.asked(self.alice)), "m2")
        self.says(self.alice, 200, sdp("alice", 2))
        self.assertEqual(self.anchoring.outcomes, {"moved": 1})


class PacedTests(AnchoringCase):
    """Many calls at once."""

    def test_so_many_a_second(self) -> None:
        """Calls are begun at the pace that is configured, not all at once."""
        for number in range(100):
            self.sessions.begin(evolve(self.session, call_id=f"more-{number}", id=f"more-{number}"))
        self.nodes.dead.add("m1")
        self.follow(NodeState.DOWN)
        offers = []
        for _ in range(10):
            self.wait(0.1)
            offers.append(self.nodes.told().count("m2 offer alice bob"))
        self.assertLessEqual(max(offers), 10)
        self.assertTrue(45 <= sum(offers) <= 55, offers)

    def test_answered_late(self) -> None:
        """A call that is answered only when its node is dead already gets another one after its ACK."""
        self.follow(NodeState.DOWN)
        self.wait(0.2)
        late = evolve(self.session, call_id="late", id="late", node="m1", answered_at=0.0)
        self.sessions.begin(late)
        self.sessions._keep(evolve(late, answered_at=1.0))
        self.assertNotIn("late", [asked["call-id"] for asked in self.nodes.arguments])
        self.wait(1)
        self.assertIn("late", [asked["call-id"] for asked in self.nodes.arguments])

    def test_metrics(self) -> None:
        """Operators see how many were moved, and how long they had been without a node."""
        metrics = Metrics(process=False)
        watch_anchoring(metrics, self.anchoring)
        self.dies()
        self.assertIn(b"rollcall_media_reanchoring 1.0", metrics.render())
        self.bob.heard()
        self.says(self.bob, 200, sdp("bob", 2))
        self.alice.heard()
        self.says(self.alice, 200, sdp("alice", 2))
        page = metrics.render()
        self.assertIn(b'rollcall_media_reanchored_total{outcome="moved"} 1.0', page)
        self.assertIn(b"rollcall_media_reanchored_seconds_count 1.0", page)
