"""Time: what is sent again and what is not, who is given up, and when. RFC 3261 §17, RFC 4320, RFC 6026.

On the side that is looked at stands a phone of ours: sipp itself recognises what is sent again and does not show it.
"""

from time import monotonic

from rollcall.sip.message import Request
from tests.interop.phone import Phone, Silence
from tests.interop.script import DOMAIN
from tests.interop.sipp_case import EVERYBODY, EXACT
from tests.interop.test_calls_sipp import CallCase

T1_SECONDS = 0.03


class PatienceTests(CallCase):
    """A server with a short T1, so that 64*T1 is two seconds."""

    sections = EVERYBODY + EXACT + f"[transactions]\nt1_seconds = {T1_SECONDS}\nt2_seconds = 0.5\n"

    def registered(self, transport: str) -> Phone:
        """Return a phone of Bob that answers to nothing by itself."""
        phone = self.phone(self.bob.user, transport)
        self.assertEqual(phone.register().status, 200)
        return phone

    def caller(self, transport: str = "UDP") -> tuple[Phone, Request]:
        """Return a phone that calls Bob, and its INVITE."""
        phone = self.phone(self.alice.user, transport)
        invite = phone.make("INVITE", self.bob.address, [("Contact", f"<{phone.contact}>")])
        phone.send(invite)
        return phone, invite

    def test_silent_phone(self) -> None:
        """A phone that says nothing is asked again over UDP, ever more rarely, then the caller gets 408."""
        bob = self.registered("UDP")
        self.alice.invite(self.bob.user)
        self.alice.refused(408)
        self.play(self.alice)
        asked = [message.serialise() for message in self.arrived(bob)]
        self.assertEqual(len(set(asked)), 1)
        # Timer A: after 1, 2, 4, … 32 times T1; a busy machine may come too late for some.
        self.assertTrue(3 <= len(asked) <= 7, len(asked))

    def test_silent_phone_with_connection(self) -> None:
        """Over TCP it is asked once."""
        bob = self.registered("TCP")
        self.alice.invite(self.bob.user)
        self.alice.refused(408)
        self.play(self.alice, "tcp")
        self.assertEqual(len(self.arrived(bob)), 1)

    def test_silence_is_not_told(self) -> None:
        """A request other than INVITE gets no 408, which would come too late for anybody (RFC 4320 §4.2)."""
        bob = self.registered("TCP")
        alice = self.phone(self.alice.user)
        sent_at = monotonic()
        alice.send(alice.make("MESSAGE", self.bob.address))
        self.assertEqual(bob.request().method, "MESSAGE")
        # A 100 is due when the caller has slowed down; it is the last that is heard.
        self.assertEqual(alice.response().status, 100)
        self.assertRaises(Silence, alice.receive, 80 * T1_SECONDS - (monotonic() - sent_at))

    def test_late_answer(self) -> None:
        """An answer to an INVITE that comes when the caller has been told 408 goes nowhere."""
        bob = self.registered("TCP")
        alice, invite = self.caller()
        asked = bob.request()
        refused = alice.final()
        self.assertEqual(refused.status, 408)
        alice.acknowledge(invite, refused)
        bob.answer(asked, 486)
        self.check_silent(bob)
        self.check_silent(alice)

    def test_invite_sent_again(self) -> None:
        """An INVITE that comes twice is one call: the phone hears of it once, the caller hears what was last said."""
        bob = self.registered("TCP")
        alice, invite = self.caller()
        self.assertEqual(alice.response().status, 100)
        asked = bob.request()
        bob.answer(asked, 180)
        self.assertEqual(alice.response().status, 180)
        alice.send(invite)
        self.assertEqual(alice.response().status, 180)
        self.check_silent(bob)

    def test_request_sent_again(self) -> None:
        """Any other request that comes twice is passed once, and its answer is given again."""
        bob = self.registered("TCP")
        alice = self.phone(self.alice.user)
        message = alice.make("MESSAGE", self.bob.address)
        alice.send(message)
        asked = bob.request()
        alice.send(message)
        bob.answer(asked, 202)
        answer = alice.final()
        alice.send(message)
        self.assertEqual(alice.final(), answer)
        self.check_silent(bob)

    def test_refusal_sent_again(self) -> None:
        """A phone's refusal is repeated over UDP until the ACK comes, and not after it."""
        bob = self.registered("TCP")
        alice, invite = self.caller()
        bob.answer(bob.request(), 486)
        first, second = alice.final(), alice.final()
        self.assertEqual((first, first.status), (second, 486))
        alice.acknowledge(invite, first)
        self.arrived(alice)
        self.assertRaises(Silence, alice.receive, 0.8)

    def test_refusal_over_connection(self) -> None:
        """Over TCP it is sent once."""
        bob = self.registered("TCP")
        alice, _ = self.caller("TCP")
        bob.answer(bob.request(), 486)
        self.assertEqual(alice.final().status, 486)
        self.assertRaises(Silence, alice.receive, 0.8)

    def test_turned_away(self) -> None:
        """Who is refused by the server itself is told once, and again when he asks again (RFC 3261 §26.3.2.4)."""
        alice = self.phone(self.alice.user)
        invite = alice.make("INVITE", f"sip:nobody@{DOMAIN}")
        alice.send(invite)
        first = alice.final()
        self.assertEqual(first.status, 404)
        self.assertRaises(Silence, alice.receive, 0.8)
        alice.send(invite)
        self.assertEqual(alice.final(), first)

    def test_acknowledged_again(self) -> None:
        """A phone that repeats its refusal gets the ACK again, and the caller is not troubled."""
        bob = self.registered("UDP")
        alice, invite = self.caller("TCP")
        asked = bob.request()
        acks = []
        for _ in range(3):
            bob.answer(asked, 486)
            while (request := bob.request()).method != "ACK":
                self.assertEqual(request, asked)
            acks.append(request)
        self.assertEqual(acks[0], acks[1])
        self.assertEqual(acks[0], acks[2])
        refused = alice.final()
        self.assertEqual(refused.status, 486)
        alice.acknowledge(invite, refused)
        self.check_silent(alice)

    def test_accepted_again(self) -> None:
        """A 200 that the phone repeats reaches the caller each time, until the ACK has gone all the way (RFC 6026)."""
        bob = self.registered("TCP")
        alice, invite = self.caller("TCP")
        asked = bob.request()
        for _ in range(3):
            bob.answer(asked, 200)
            answer = alice.final()
            self.assertEqual(answer.status, 200)
        alice.send(alice.within("ACK", invite, answer, 1))
        self.assertEqual(bob.request().method, "ACK")

    def test_phone_that_vanishes(self) -> None:
        """When the connection to the only phone breaks before it has answered, the caller is told at once."""
        bob = self.registered("TCP")
        alice, _ = self.caller()
        bob.request()
        bob.close()
        self.assertEqual(alice.final().status, 500)
