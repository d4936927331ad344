"""Tests of what passes within calls through media nodes (RFC 3261 §14, RFC 3264 §8, RFC 3311, RFC 3262)."""

from attrs import evolve

from rollcall.media.snapshot import NodeState
from rollcall.sip.message import Response
from tests.registrar.media.scripted import CALL_ID, MediaCase, a_node, address, sdp, version

FAX = "image 4000 udptl t38"


class OfferTests(MediaCase):
    """Either side offers something new."""

    def setUp(self) -> None:
        super().setUp()
        self.stands()

    def test_hold_by_the_caller(self) -> None:
        """Alice puts Bob on hold: each reads the node's address, and what both agreed on is known."""
        hold = sdp("alice", 2, "sendonly")
        self.ask(self.from_alice("INVITE", body=hold))
        self.assertEqual(self.bob.heard(), ["INVITE"])
        self.assertEqual(self.bob.requests["INVITE"].body, hold.replace(b"phone", b"m1"))
        (ok,) = self.answers_with(self.bob, 200, sdp("bob", 2, "recvonly"))
        self.assertEqual(address(ok), "m1")
        self.assertEqual(self.nodes.told(), ["m1 offer alice bob", "m1 answer alice bob"])
        self.assertEqual((self.session.caller.sdp, self.session.callee.sdp), (hold, sdp("bob", 2, "recvonly")))
        self.assertEqual(self.session.caller.cseq, 2)

    def test_hold_by_the_callee(self) -> None:
        """Bob puts Alice on hold, from his side of the call."""
        hold = sdp("bob", 2, "sendonly")
        self.receive(self.from_bob("INVITE", 5, hold), self.bob.flow)
        self.assertEqual(self.alice.heard(), ["INVITE"])
        self.assertEqual(self.alice.requests["INVITE"].body, hold.replace(b"phone", b"m1"))
        (ok,) = self._alice_answers(200, sdp("alice", 2, "recvonly"))
        self.assertEqual((ok.status, address(ok)), (200, "m1"))
        self.assertEqual(self.nodes.told(), ["m1 offer bob alice", "m1 answer bob alice"])
        self.assertEqual((self.session.callee.sdp, self.session.callee.cseq), (hold, 5))

    def test_update(self) -> None:
        """An UPDATE offers as a re-INVITE does."""
        self.ask(self.from_alice("UPDATE", body=sdp("alice", 2)))
        self.answers_with(self.bob, 200, method="UPDATE")
        self.assertEqual(self.nodes.told(), ["m1 offer alice bob", "m1 answer alice bob"])

    def test_update_without_offer(self) -> None:
        """An UPDATE that only refreshes the session says when the call is over, and nothing to the node."""
        self.ask(self.from_alice("UPDATE"))
        self.answers_with(self.bob, 200, b"", "UPDATE", (("Session-Expires", "600;refresher=uac"),))
        self.assertEqual((self.nodes.told(), self.session.interval, self.session.refresher), ([], 600, "caller"))

    def test_refresher_from_the_callee(self) -> None:
        """In what Bob asks, "uac" is Bob."""
        self.receive(self.from_bob("UPDATE", 5), self.bob.flow)
        self.alice.heard()
        self._alice_answers(200, b"", "UPDATE", "600;refresher=uac")
        self.assertEqual(self.session.refresher, "callee")

    def test_fax(self) -> None:
        """A switch to T.38 is passed as any other offer."""
        self.receive(self.from_bob("INVITE", 5, sdp("bob", 2, media=FAX)), self.bob.flow)
        self.alice.heard()
        (ok,) = self._alice_answers(200, sdp("alice", 2, media=FAX))
        self.assertEqual((b"udptl t38" in ok.body, address(ok)), (True, "m1"))

    def test_refused(self) -> None:
        """After an offer that is refused the node goes back to what was agreed on (RFC 3261 §14.1)."""
        self.ask(self.from_alice("INVITE", body=sdp("alice", 2, "inactive")))
        (refusal,) = self.answers_with(self.bob, 488, b"")
        self.assertEqual(refusal.status, 488)
        self.assertEqual(self.nodes.told(), ["m1 offer alice bob", "m1 offer alice bob", "m1 answer alice bob"])
        self.assertEqual([arguments["sdp"] for arguments in self.nodes.arguments[-2:]], [sdp("alice"), sdp("bob")])
        self.assertEqual(self.session.caller.sdp, sdp("alice"))

    def test_late_offer(self) -> None:
        """A re-INVITE without an offer gets one, which its ACK answers."""
        self.ask(self.from_alice("INVITE"))
        (ok,) = self.answers_with(self.bob, 200, sdp("bob", 2))
        self.assertEqual(address(ok), "m1")
        self.receive(self.from_alice("ACK", 2, sdp("alice", 2)), self.alice.flow)
        self.bob.heard()
        self.assertEqual(address(self.bob.requests["ACK"]), "m1")
        self.assertEqual(self.nodes.told(), ["m1 offer bob alice", "m1 answer bob alice"])
        self.assertEqual(self.session.caller.sdp, sdp("alice", 2))

    def test_not_understood(self) -> None:
        """An offer that no node understands is refused, and the call goes on."""
        self.nodes.puzzled |= {"m1", "m2"}
        answers = self.ask(self.from_alice("INVITE", body=sdp("alice", 2)))
        self.assertEqual([answer.status for answer in answers], [100, 488])
        self.assertEqual((self.bob.heard(), self.session.node), ([], "m1"))

    def test_new_contact(self) -> None:
        """Where the phones are from now on is noted (target refresh)."""
        request = self.from_alice("INVITE", body=sdp("alice", 2), headers=(("Contact", "<sip:alice@192.0.2.99>"),))
        self.ask(request)
        self.answers_with(self.bob, 200)
        self.assertEqual(self.session.caller.contact, "<sip:alice@192.0.2.99>")

    def test_info(self) -> None:
        """What offers nothing passes as it is."""
        self.ask(self.from_alice("INFO"))
        self.assertEqual((self.bob.heard(), self.nodes.told()), (["INFO"], []))

    def _alice_answers(self, status: int, body: bytes, method: str = "INVITE", expires: str = "") -> list[Response]:
        """Have Alice answer Bob; return what he hears."""
        self.answers_with(self.alice, status, body, method, (("Session-Expires", expires),) if expires else ())
        return [answer for answer in self.answers(self.bob.flow) if answer.status != 100]


class EndTests(MediaCase):
    """A call ends at its node when it ends."""

    def setUp(self) -> None:
        super().setUp()
        self.stands()

    def test_bye_of_the_caller(self) -> None:
        """Alice hangs up."""
        self.ask(self.from_alice("BYE"))
        self.answers_with(self.bob, 200, b"", "BYE")
        self.assertEqual((self.nodes.told(), len(self.sessions)), (["m1 delete"], 0))

    def test_bye_of_the_callee(self) -> None:
        """Bob hangs up."""
        self.receive(self.from_bob("BYE"), self.bob.flow)
        self.alice.heard()
        self.alice.answer(200, "BYE", "alice")
        self.assertEqual((self.nodes.told(), len(self.sessions)), (["m1 delete"], 0))

    def test_nobody_answers(self) -> None:
        """A phone that is gone cannot keep the call."""
        self.ask(self.from_alice("BYE"))
        self.registrar.end_transactions()
        self.assertEqual((self.nodes.told(), len(self.sessions)), (["m1 delete"], 0))

    def test_challenged(self) -> None:
        """A BYE that has to be sent again with a password has ended nothing."""
        self.ask(self.from_alice("BYE"))
        self.answers_with(self.bob, 407, b"", "BYE")
        self.assertEqual((self.nodes.told(), len(self.sessions)), ([], 1))

    def test_nobody_is_there(self) -> None:
        """A BYE that goes nowhere ends the call, too: its phone has lost its connection and is not registered."""
        del self.network.transports.flows[self.bob.flow.id]
        self.bind()
        refused = self.ask(self.from_alice("BYE"))
        self.assertEqual([answer.status for answer in refused], [430])
        self.assertEqual((self.nodes.told(), len(self.sessions)), (["m1 delete"], 0))

    def test_dead_node(self) -> None:
        """A call whose node is dead ends all the same."""
        self.nodes.dead.add("m1")
        self.ask(self.from_alice("BYE"))
        (ok,) = self.answers_with(self.bob, 200, b"", "BYE")
        self.assertEqual((ok.status, len(self.sessions)), (200, 0))


class SecondPhoneTests(MediaCase):
    """Two phones have taken the same call, and the caller hangs up at the second."""

    def test_bye(self) -> None:
        """The BYE to the second phone ends nothing of the first one's."""
        carol = self.network.phone("carol")
        self.bind(self.bound(self.bob), self.bound(carol))
        self.call()
        self.bob.heard()
        self.answers_with(self.bob, 200)
        (self.ok,) = self.answers_with(carol, 200)
        self.nodes.told()
        self.ask(self.from_alice("BYE", callee="carol"))
        (ok,) = self.answers_with(carol, 200, b"", "BYE")
        self.assertEqual((ok.status, self.nodes.told(), self.session.callee.tag), (200, [], "bob"))


class EarlyTests(MediaCase):
    """Offers before the call is taken."""

    def test_prack_offers(self) -> None:
        """A PRACK may offer something new, which its 200 answers (RFC 3262 §5)."""
        self._ring()
        self.ask(self.from_alice("PRACK", body=sdp("alice", 2)))
        self.bob.heard()
        self.assertEqual(address(self.bob.requests["PRACK"]), "m1")
        (ok,) = self.answers_with(self.bob, 200, sdp("bob", 2), "PRACK")
        self.assertEqual(address(ok), "m1")
        self.assertEqual(self.nodes.told(), ["m1 offer alice bob", "m1 answer alice bob"])

    def test_prack_answers(self) -> None:
        """The PRACK of a caller who offered nothing answers what the phone offered when it rang, and only the first."""
        self._ring(b"")
        self.ask(self.from_alice("PRACK", body=sdp("alice")))
        self.bob.heard()
        self.assertEqual(address(self.bob.requests["PRACK"]), "m1")
        self.answers_with(self.bob, 200, b"", "PRACK")
        self.ask(self.from_alice("PRACK", 3, body=sdp("alice", 2)))
        self.assertEqual(self.nodes.told(), ["m1 answer bob alice", "m1 offer alice bob"])

    def test_update_of_the_callee(self) -> None:
        """A phone that rings may offer something new itself."""
        self._ring()
        self.receive(self.from_bob("UPDATE", 1, sdp("bob", 2)), self.bob.flow)
        self.alice.heard()
        self.assertEqual(address(self.alice.requests["UPDATE"]), "m1")
        self.assertEqual(self.nodes.told(), ["m1 offer bob alice"])

    def _ring(self, offer: bytes | None = None) -> None:
        self.call(offer)
        self.bob.heard()
        self.bobs_invite = self.bob.requests["INVITE"]
        (self.ok,) = self.answers_with(self.bob, 183, headers=(("Require", "100rel"), ("RSeq", "1")))
        self.nodes.told()


class MovedTests(MediaCase):
    """The node of a call that stands is dead when somebody offers something new."""

    def setUp(self) -> None:
        super().setUp()
        self.stands()

    def test_moves(self) -> None:
        """The call goes on through another node, and both phones read a description that is newer than the last."""
        self.nodes.dead.add("m1")
        self.ask(self.from_alice("INVITE", body=sdp("alice")))
        self.bob.heard()
        self.assertEqual((address(self.bob.requests["INVITE"]), version(self.bob.requests["INVITE"])), ("m2", 2))
        (ok,) = self.answers_with(self.bob, 200)
        self.assertEqual((address(ok), version(ok)), ("m2", 2))
        self.assertEqual((self.session.node, self.session.moves, self.stranded), ("m2", 1, []))

    def test_refused(self) -> None:
        """When the offer that would lead the call elsewhere is refused, the call is led there all the same."""
        self.nodes.dead.add("m1")
        self.ask(self.from_alice("INVITE", body=sdp("alice", 2)))
        self.answers_with(self.bob, 491, b"")
        self.assertEqual((self.session.node, self.session.moves, self.stranded), ("m2", 0, [CALL_ID]))

    def test_known_to_be_dead(self) -> None:
        """A node that is published as dead is not asked at all."""
        self.publish(a_node("m1", state=NodeState.DOWN), a_node("m2"))
        self.ask(self.from_alice("INVITE", body=sdp("alice")))
        self.assertEqual(self.nodes.told(), ["m2 offer alice bob"])

    def test_dies_before_the_answer(self) -> None:
        """Who gets an answer by another node than the one that his peer has the address of is led there."""
        self.ask(self.from_alice("INVITE", body=sdp("alice", 2)))
        self.nodes.dead.add("m1")
        (ok,) = self.answers_with(self.bob, 200, sdp("bob", 2))
        self.assertEqual((address(ok), self.stranded), ("m2", [CALL_ID]))

    def test_dies_before_an_ack(self) -> None:
        """An ACK that cannot be answered for leaves a stranded call."""
        self.ask(self.from_alice("INVITE"))
        self.answers_with(self.bob, 200, sdp("bob", 2))
        self.nodes.dead.add("m1")
        self.receive(self.from_alice("ACK", 2, sdp("alice", 2)), self.alice.flow)
        self.assertEqual((self.bob.heard(), self.stranded), (["ACK"], [CALL_ID]))


class CountingTests(MediaCase):
    """Phones whose call was led through another node in their names hear each other's numbers as they would go on."""

    def test_numbers(self) -> None:
        """CSeq is raised on its way and put back in the answer; so it is in ACK and BYE."""
        self.stands()
        session = self.session
        number, caller = session.caller.spoken_for()
        self.sessions._keep(evolve(session, caller=caller))
        self.ask(self.from_alice("INVITE", 2, sdp("alice", 2)))
        self.bob.heard()
        self.assertEqual(self.bob.requests["INVITE"].get("CSeq"), f"{number + 1} INVITE")
        (ok,) = self.answers_with(self.bob, 200)
        self.assertEqual(ok.get("CSeq"), "2 INVITE")
        self.receive(self.from_alice("ACK", 2), self.alice.flow)
        self.bob.heard()
        self.assertEqual(self.bob.requests["ACK"].get("CSeq"), f"{number + 1} ACK")
        self.ask(self.from_alice("BYE", 3))
        (ok,) = self.answers_with(self.bob, 200, b"", "BYE")
        self.assertEqual(self.bob.requests["BYE"].get("CSeq"), f"{number + 2} BYE")
        self.assertEqual(ok.get("CSeq"), "3 BYE")
