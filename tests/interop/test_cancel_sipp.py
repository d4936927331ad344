"""CANCEL, and its races with answers, with sipp on both sides: RFC 3261 §§9.1, 9.2, 16.10, RFC 6026 §7."""

from rollcall.sip.transaction import cancellation
from tests.interop.script import HERE, has, lacks, literal
from tests.interop.sipp_case import EVERYBODY, TRANSPORTS
from tests.interop.test_calls_sipp import CallCase

QUICK = "[transactions]\nt1_seconds = 0.03\n"


class CancelTests(CallCase):
    """A caller who gives up."""

    def test_while_ringing(self) -> None:
        """The phone that rings is told to stop, with the INVITE's branch and number; its 487 ends the call."""
        for transport in TRANSPORTS:
            self.alice, self.bob = self.script(f"alice-{transport}"), self.script(f"bob-{transport}")
            self.ring()
            self.bob.cancelled(has("CSeq", "1 CANCEL"), lacks("Record-Route"), lacks("Require"))
            self.alice.cancel()
            self.alice.expect(200, has("CSeq", "1 CANCEL"))
            self.alice.refused(487, has("CSeq", "1 INVITE"))
            self.finish(transport, transport)

    def test_before_the_phone_has_answered(self) -> None:
        """A phone that has said nothing yet is not told to stop, for it may not know of what (§9.1), until it rings."""
        self.bob.registered()
        self.bob.receive("INVITE")
        self.bob.pause(400)
        self.bob.answer(180)
        self.bob.cancelled()
        self.give_up()
        self.alice.expect(200, has("CSeq", "1 CANCEL"))
        # A 180 that comes meanwhile may pass or not: the server transaction still waits for its final answer.
        self.alice.expect(180, optional=True)
        self.alice.refused(487)
        self.finish("udp", "tcp")

    def test_before_the_phone_has_answered_at_all(self) -> None:
        """If such a phone answers at once with 200 the call is made, and it has never heard of the CANCEL."""
        self.bob.registered()
        self.bob.receive("INVITE")
        self.bob.pause(400)
        self.bob.accept()
        self.bob.hung_up()
        self.give_up()
        self.alice.expect(200, has("CSeq", "1 CANCEL"))
        self.alice.expect(200, has("CSeq", "1 INVITE"))
        self.alice.acknowledge()
        self.alice.hang_up()
        self.finish("tcp", "tcp")

    def test_before_the_phone_has_refused(self) -> None:
        """If such a phone is busy the caller hears that."""
        self.bob.registered()
        self.bob.receive("INVITE")
        self.bob.pause(400)
        self.bob.refuse(486)
        self.give_up()
        self.alice.expect(200, has("CSeq", "1 CANCEL"))
        self.alice.refused(486)
        self.finish()

    def test_race_with_200(self) -> None:
        """A CANCEL that leaves while the phone answers at once: whichever is first at the server, the 200 wins.

        The caller is ours: sipp knows answers by their branch, and a CANCEL has that of its INVITE.
        """
        for number, transport in enumerate(TRANSPORTS * 3):
            bob, alice = self.script(f"bob-{number}"), self.phone("alice", transport.upper())
            bob.registered()
            # Without a 180 there is nothing that a CANCEL may follow; so none comes.
            bob.receive("INVITE")
            bob.accept()
            bob.hung_up()
            called = self.serve(bob, transport)
            contact = ("Contact", f"<{alice.contact}>")
            invite = alice.make("INVITE", bob.address, [contact], call_id=self.call_id, cseq=1)
            alice.send(invite)
            self.assertEqual(alice.response().status, 100)
            alice.send(cancellation(invite))
            answers = {answer.get("CSeq"): answer for answer in (alice.final(), alice.final())}
            self.assertEqual({answer.status for answer in answers.values()}, {200})
            accepted = answers["1 INVITE"]
            alice.send(alice.within("ACK", invite, accepted, 1))
            alice.send(alice.within("BYE", invite, accepted))
            self.assertEqual(alice.final().status, 200)
            called.check()

    def test_crossed_by_200(self) -> None:
        """A phone that answers just before it is told to stop has answered: the call is made."""
        for status in (200, 481):
            self.alice, self.bob = self.script(f"alice-{status}"), self.script(f"bob-{status}")
            self.ring()
            self.bob.receive("CANCEL")
            self.bob.answer(status)
            self.bob.accept(to="INVITE")
            self.bob.hung_up()
            self.alice.cancel()
            self.alice.expect(200, has("CSeq", "1 CANCEL"))
            self.alice.expect(200, has("CSeq", "1 INVITE"))
            self.alice.acknowledge()
            self.alice.hang_up()
            self.finish("udp", "tcp")

    def test_crossed_by_refusal(self) -> None:
        """A phone that is declined just then says so, and the caller hears it."""
        self.ring()
        self.bob.receive("CANCEL")
        self.bob.answer(200)
        self.bob.refuse(603, to="INVITE")
        self.alice.cancel()
        self.alice.expect(200, has("CSeq", "1 CANCEL"))
        self.alice.refused(603)
        self.finish("tcp", "udp")

    def test_after_the_end(self) -> None:
        """A CANCEL after the final answer is answered, and has no effect (§9.2)."""
        self.ring()
        self.bob.refuse(486)
        self.alice.refused(486)
        self.alice.cancel()
        self.alice.expect(200, has("CSeq", "1 CANCEL"))
        self.finish()

    def test_within_a_call(self) -> None:
        """A CANCEL after the call was answered does not end it; BYE does."""
        self.talk()
        self.alice.cancel()
        self.alice.expect(200, has("CSeq", "1 CANCEL"))
        self.alice.hang_up()
        self.bob.hung_up()
        self.finish("tcp", "tcp")

    def test_of_nothing(self) -> None:
        """A CANCEL that fits no INVITE is told so by 481."""
        for transport in TRANSPORTS:
            alice = self.script("alice")
            alice.request("CANCEL", f"sip:{self.bob.user}@sip.example")
            alice.expect(481)
            self.play(alice, transport)

    def test_of_another_branch(self) -> None:
        """A CANCEL ends only the INVITE whose branch it has."""
        self.ring()
        self.bob.cancelled()
        self.alice.cancel(branch="another")
        self.alice.expect(481)
        self.alice.cancel()
        self.alice.expect(200)
        self.alice.refused(487)
        self.finish()

    def test_change_of_a_call(self) -> None:
        """A change within a call can be cancelled too; the call goes on."""
        self.talk()
        self.alice.within("INVITE")
        self.alice.expect(100, optional=True)
        self.alice.expect(180)
        self.alice.cancel()
        self.alice.expect(200)
        self.alice.refused(487)
        self.bob.receive("INVITE")
        self.bob.answer(180)
        self.bob.cancelled()
        self.alice.hang_up()
        self.bob.hung_up()
        self.finish("udp", "tcp")

    def test_all_phones(self) -> None:
        """All phones that ring are told to stop, for the reason that the caller gives, and the caller gets one 487."""
        reason = 'SIP;cause=480;text="Late"'
        self.bob.registered()
        self.bob.receive("INVITE")
        self.bob.answer(180)
        self.bob.cancelled(has("Reason", literal(reason)))
        self.alice.invite(self.bob.user)
        for _ in range(3):
            self.alice.expect(180)
        self.alice.cancel(f"Reason: {reason}")
        self.alice.expect(200)
        self.alice.refused(487)
        self.alice.pause(300)
        called = [self.serve(self.bob, transport) for transport in ("tcp", "tcp", "udp")]
        self.play(self.alice)
        for sipp in called:
            sipp.check()

    def give_up(self) -> None:
        """Call, and cancel as soon as the server has taken the call over."""
        self.alice.request("INVITE", self.bob.address, f"Contact: {HERE.format(user=self.alice.user)}")
        self.alice.expect(100)
        self.alice.cancel()


class ImpatientTests(CallCase):
    """A server with a short T1, so that nobody has to wait for long."""

    sections = EVERYBODY + QUICK

    def test_phone_that_goes_on_ringing(self) -> None:
        """A phone that agrees to a CANCEL and then says nothing is given 64*T1; then the caller gets 487 (§9.1)."""
        self.ring()
        self.bob.receive("CANCEL")
        self.bob.answer(200)
        self.alice.cancel()
        self.alice.expect(200)
        self.alice.refused(487)
        self.finish("tcp", "tcp")

    def test_phone_that_says_nothing(self) -> None:
        """A phone that never says anything is never told to stop; the caller's INVITE ends when it would have."""
        self.bob.registered()
        self.bob.receive("INVITE")
        self.bob.pause(2500)
        self.alice.request("INVITE", self.bob.address, f"Contact: {HERE.format(user=self.alice.user)}")
        self.alice.expect(100)
        self.alice.cancel()
        self.alice.expect(200)
        self.alice.refused(487)
        self.finish("tcp", "tcp")
