"""Calls through real rtpengines, by phones that send RTP: offers and answers in every place where SIP may have them."""

from rollcall.sip.message import Request
from rollcall.sip.transaction import cancellation
from tests.interop.media_case import SDP_TYPE, MediaCase, SoundPhone, talk
from tests.interop.media_talk import BOTH, Talking

RELIABLY = [("Require", "100rel"), ("RSeq", "1")]
CAN_RELIABLY = [("Supported", "100rel")]


class TwoPhones(MediaCase, Talking):
    """Alice and Bob."""

    def setUp(self) -> None:
        super().setUp()
        self.alice, self.bob = self.a_phone("alice"), self.a_phone("bob")

    @property
    def host(self) -> str:
        """See Talking."""
        return self.nodes[0].host


class CallTests(TwoPhones):
    """One call after the other."""

    def test_call(self) -> None:
        """Both hear each other through the node, which forgets the call with its BYE."""
        self.call()
        self.check_sound()
        self.assertEqual((self.calls_of(0), self.calls_of(1)), (1, 0))
        self.hangs_up()

    def test_early_media(self) -> None:
        """What a phone plays before it answers is heard, and so is the call afterwards."""
        self.invite = self.alice.invite("bob")
        self.invited = self.bob.request()
        self.bob.hears_of(self.invited)
        self.bob.takes(self.invited, 183, self.bob.sdp())
        early = self.alice.response()
        while early.status == 100:
            early = self.alice.response()
        self.alice.hears_of(early)
        self.check_sound()
        self.bob.version = 0
        self.bob.takes(self.invited)
        self.ok = self.alice.final()
        self.alice.hears_of(self.ok)
        self.alice.send(self.alice.within("ACK", self.invite, self.ok, 1))
        self.assertEqual(self.bob.request().method, "ACK")
        self.check_sound()
        self.hangs_up()

    def test_hold_by_the_caller(self) -> None:
        """Alice holds Bob and takes him back; each reads the mode that the other one said."""
        self.call()
        final = self.offers(self.from_alice("INVITE", 2, self.alice.sdp("sendonly")), self.alice, self.bob,
                            self.bob.sdp("recvonly"))
        self.assertIn(b"a=recvonly", final.body)
        self.alice.send(self.from_alice("ACK", 2))
        self.bob.request()
        self.assertEqual(talk(self.alice, self.bob)[1], {"alice"})
        self.offers(self.from_alice("INVITE", 3, self.alice.sdp()), self.alice, self.bob)
        self.alice.send(self.from_alice("ACK", 3))
        self.bob.request()
        self.check_sound()
        self.hangs_up()

    def test_hold_by_the_callee(self) -> None:
        """Bob holds Alice and takes her back."""
        self.call()
        for cseq, mode, reply in ((1, "sendonly", "recvonly"), (2, "sendrecv", "sendrecv")):
            self.offers(self.from_bob("INVITE", cseq, self.bob.sdp(mode)), self.bob, self.alice, self.alice.sdp(reply))
            self.bob.send(self.from_bob("ACK", cseq))
            self.assertEqual(self.alice.request().method, "ACK")
        self.check_sound()
        self.hangs_up()

    def test_refused_offer(self) -> None:
        """After an offer that Bob refuses both hear each other as before, though Alice had a new port ready."""
        self.call()
        moved = self.alice.sdp().replace(str(self.alice.sound.getsockname()[1]).encode(), b"6000")
        offer = self.from_alice("INVITE", 2, moved)
        self.alice.send(offer)
        self.bob.answer(self.bob.request(), 488, tag="bob")
        refusal = self.alice.final()
        self.assertEqual(refusal.status, 488)
        self.alice.acknowledge(offer, refusal)
        self.assertEqual(self.bob.request().method, "ACK")
        self.check_sound()
        self.hangs_up()

    def test_update(self) -> None:
        """An UPDATE offers as a re-INVITE does (RFC 3311)."""
        self.call()
        self.offers(self.from_alice("UPDATE", 2, self.alice.sdp()), self.alice, self.bob)
        self.offers(self.from_bob("UPDATE", 1, self.bob.sdp()), self.bob, self.alice)
        self.check_sound()
        self.hangs_up()

    def test_late_offer(self) -> None:
        """Bob offers in his 200, and Alice answers in her ACK."""
        self.invite = self.alice.invite("bob", b"")
        self.invited = self.bob.request()
        self.assertEqual(self.invited.body, b"")
        self.bob.takes(self.invited)
        self.ok = self.alice.final()
        self.alice.hears_of(self.ok)
        ack = self._with(self.alice.within("ACK", self.invite, self.ok, 1), self.alice, self.alice.sdp())
        self.alice.send(ack)
        self.assertEqual(self.bob.hears_of(self.bob.request()), self.host)
        self.check_sound()
        self.hangs_up()

    def test_offer_in_a_prack(self) -> None:
        """A phone rings reliably with an answer; the PRACK offers again, and its 200 answers (RFC 3262 §5)."""
        self._rings_reliably(self.alice.invite("bob", None, CAN_RELIABLY))
        self.offers(self.from_alice("PRACK", 2, self.alice.sdp()), self.alice, self.bob)
        self.check_sound()
        self._is_taken()

    def test_answer_in_a_prack(self) -> None:
        """A caller offers nothing, so the phone does when it rings, and the PRACK answers."""
        self._rings_reliably(self.alice.invite("bob", b"", CAN_RELIABLY))
        self.alice.send(self.from_alice("PRACK", 2, self.alice.sdp()))
        prack = self.bob.request()
        self.assertEqual(self.bob.hears_of(prack), self.host)
        self.bob.answer(prack, 200, tag="bob")
        self.assertEqual(self.alice.final().status, 200)
        self.check_sound()
        self._is_taken()

    def test_fax(self) -> None:
        """A switch to T.38 gets addresses of the node and keeps what it says (RFC 3362)."""
        self.call()
        fax = "image {port} udptl t38\r\na=T38FaxVersion:0"
        final = self.offers(self.from_bob("INVITE", 1, self.bob.sdp(media=fax)), self.bob, self.alice,
                            self.alice.sdp(media=fax))
        self.assertIn(b"udptl t38", final.body)
        self.assertIn(b"a=T38FaxVersion:0", final.body)
        self.bob.send(self.from_bob("ACK", 1))
        self.alice.request()
        self.hangs_up()

    def test_cancelled(self) -> None:
        """A call that Alice gives up while it rings is forgotten at the node."""
        invite = self.alice.invite("bob")
        invited = self.bob.request()
        self.bob.takes(invited, 180, b"")
        self.assertEqual([self.alice.response().status for _ in range(2)], [100, 180])
        self.assertEqual(self.calls_of(0), 1)
        self.alice.send(cancellation(invite))
        self.assertEqual(self.alice.final().get("CSeq"), "2 CANCEL")
        cancel = self.bob.request()
        self.bob.answer(cancel, 200, tag="bob")
        self.bob.answer(invited, 487, tag="bob")
        refusal = self.alice.final()
        self.assertEqual(refusal.status, 487)
        self.alice.acknowledge(invite, refusal)
        self.assertEqual(self.bob.request().method, "ACK")
        self.wait_no_calls()

    def test_over_tcp(self) -> None:
        """Phones on connections have the same."""
        self.alice, self.bob = self.a_phone("alice", "TCP"), self.a_phone("carol", "TCP")
        self.invite = self.alice.invite("carol")
        self.invited = self.bob.request()
        self.bob.hears_of(self.invited)
        self.bob.takes(self.invited)
        self.ok = self.alice.final()
        self.alice.hears_of(self.ok)
        self.alice.send(self.alice.within("ACK", self.invite, self.ok, 1))
        self.bob.request()
        self.assertEqual(talk(self.alice, self.bob), [{"carol"}, {"alice"}])
        self.alice.send(self.from_alice("BYE", 3))
        self.bob.answer(self.bob.request(), 200, tag="carol")
        self.assertEqual(self.alice.final().status, 200)
        self.wait_no_calls()

    def _rings_reliably(self, invite: Request) -> None:
        self.invite, self.invited = invite, self.bob.request()
        if self.invited.body:
            self.bob.hears_of(self.invited)
        self.bob.takes(self.invited, 183, None, RELIABLY)
        self.ok = self.alice.response()
        while self.ok.status == 100:
            self.ok = self.alice.response()
        self.assertEqual(self.alice.hears_of(self.ok), self.host)

    def _is_taken(self) -> None:
        self.bob.takes(self.invited, 200, b"")
        self.assertEqual(self.alice.final().status, 200)
        self.alice.send(self.from_alice("ACK", 1))
        self.assertEqual(self.bob.request().method, "ACK")
        self.check_sound()
        self.hangs_up()


class ForkTests(TwoPhones):
    """Bob has two phones."""

    def setUp(self) -> None:
        super().setUp()
        self.other = self.a_phone("bob")

    def ring(self) -> None:
        """Let both phones ring, each with a sound of its own."""
        self.invite = self.alice.invite("bob")
        self.offered = [(phone, phone.request()) for phone in (self.bob, self.other)]
        for phone, request in self.offered:
            phone.hears_of(request)
            response = phone.make_answer(request, 183, [SDP_TYPE], f"tag-{phone.port}")
            response.body = phone.sdp()
            phone.send(response)
        for _ in self.offered:
            early = self.alice.response()
            while early.status == 100:
                early = self.alice.response()
            self.alice.hears_of(early)

    def test_first_who_rang_answers(self) -> None:
        """Whoever takes the call is heard by Alice, also when the other one was the last to ring; the other is not."""
        self.ring()
        taking, losing = self.offered
        self.take(*taking)
        self.lose(*losing)
        self.check(taking[0], losing[0])

    def test_last_who_rang_answers(self) -> None:
        """The same the other way round."""
        self.ring()
        losing, taking = self.offered
        self.take(*taking)
        self.lose(*losing)
        self.check(taking[0], losing[0])

    def take(self, phone: SoundPhone, request: Request) -> None:
        """Take the call at this phone."""
        phone.version -= 1
        response = phone.make_answer(request, 200, [SDP_TYPE], f"tag-{phone.port}")
        response.body = phone.sdp()
        phone.send(response)
        self.ok = self.alice.final()
        self.assertEqual((self.ok.status, self.alice.hears_of(self.ok)), (200, self.host))
        self.alice.send(self.alice.within("ACK", self.invite, self.ok, 1))
        self.assertEqual(phone.request().method, "ACK")

    def lose(self, phone: SoundPhone, request: Request) -> None:
        """Be told that another phone has it."""
        cancel = phone.request()
        self.assertEqual(cancel.method, "CANCEL")
        phone.answer(cancel, 200, tag=f"tag-{phone.port}")
        phone.answer(request, 487, tag=f"tag-{phone.port}")
        self.assertEqual(phone.request().method, "ACK")

    def check(self, taking: SoundPhone, losing: SoundPhone) -> None:
        """See who is heard, and that one BYE ends it all."""
        losing.heard()
        self.assertEqual(talk(self.alice, taking), BOTH)
        self.assertEqual(losing.heard(), set())
        self.alice.send(self.alice.within("BYE", self.invite, self.ok, 2))
        taking.answer(taking.request(), 200, tag=f"tag-{taking.port}")
        self.assertEqual(self.alice.final().status, 200)
        self.wait_no_calls()
