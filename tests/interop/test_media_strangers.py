"""A phone that knows of a call through a real rtpengine, but is not in it, gets nothing of its sound."""

from rollcall.sip.message import Request
from tests.interop.media_case import SDP_TYPE, SoundPhone
from tests.interop.test_media_offers import TwoPhones


class StrangerTests(TwoPhones):
    """Carol's phone has rung for the call that Bob has taken: it knows the Call-ID and Alice's tag."""

    def setUp(self) -> None:
        super().setUp()
        self.carol = self.a_phone("bob", "TCP")
        self.invite = self.alice.invite("bob")
        self.invited, self.rang = self.bob.request(), self.carol.request()
        self.carol.answer(self.rang, 180, tag="carol")
        self.bob.hears_of(self.invited)
        self.bob.takes(self.invited)
        self.ok = self.alice.final()
        self.alice.hears_of(self.ok)
        self.alice.send(self.alice.within("ACK", self.invite, self.ok, 1))
        self.carol.answer(self.carol.request(), 200)
        self.carol.answer(self.rang, 487, tag="carol")
        self.assertEqual(self.carol.request().method, "ACK")
        self.assertEqual(self.bob.request().method, "ACK")

    def test_offers(self) -> None:
        """Whatever it offers, those two go on to hear each other, and nobody else."""
        self.check_sound()
        for method in ("UPDATE", "PRACK"):
            self.carol.send(self._from_carol(method))
            came = self.alice.request()
            self.assertEqual(came.method, method)
            self.alice.answer(came, 481)
            self.assertEqual(self.carol.final().status, 481)
            self.check_sound()
            self.assertEqual(self.carol.heard(), set())
        self.hangs_up()

    def _from_carol(self, method: str) -> Request:
        phone: SoundPhone = self.carol
        contact = (self.rang.get("Contact") or "").strip("<>")
        request = phone.make(method, contact, [("Contact", f"<{phone.contact}>"), SDP_TYPE], phone.sdp(),
                             to=self.rang.get("From"), call_id=self.rang.get("Call-ID"))
        request.set("From", f"{self.rang.get('To')};tag=carol")
        request.set_values("Route", self.rang.values("Record-Route"))
        return request
