"""A call of two phones that send RTP through a media node, as tests lead it: each message in its place."""

from twisted.trial.unittest import SynchronousTestCase

from rollcall.sip.message import Request, Response
from tests.interop.media_case import SDP_TYPE, SoundPhone, talk

BOTH = [{"bob"}, {"alice"}]


class Talking(SynchronousTestCase):
    """Alice and Bob, whose sound goes through the node at `host`."""

    alice: SoundPhone
    bob: SoundPhone

    @property
    def host(self) -> str:
        """The address of the node that their call goes through."""
        raise NotImplementedError

    def wait_no_calls(self) -> None:
        """Return once no node has a call."""
        raise NotImplementedError

    def call(self, body: bytes | None = None) -> Response:
        """Have a call that stands, acknowledged; what each says is heard at the first node."""
        self.invite = self.alice.invite("bob", body)
        self.invited = self.bob.request()
        self.assertEqual(self.bob.hears_of(self.invited), self.host)
        self.bob.takes(self.invited)
        self.ok = self.alice.final()
        self.assertEqual((self.ok.status, self.alice.hears_of(self.ok)), (200, self.host))
        self.alice.send(self.alice.within("ACK", self.invite, self.ok, 1))
        self.assertEqual(self.bob.request().method, "ACK")
        return self.ok

    def from_alice(self, method: str, cseq: int, body: bytes = b"") -> Request:
        """Return a request of Alice within the call."""
        request = self.alice.within(method, self.invite, self.ok, cseq)
        return self._with(request, self.alice, body)

    def from_bob(self, method: str, cseq: int, body: bytes = b"") -> Request:
        """Return a request of Bob within the call."""
        contact = (self.invited.get("Contact") or "").strip("<>")
        request = self.bob.make(method, contact, to=self.invited.get("From"), call_id=self.invited.get("Call-ID"),
                                cseq=cseq)
        request.set("From", f"{self.invited.get('To')};tag=bob")
        request.set_values("Route", self.invited.values("Record-Route"))
        return self._with(request, self.bob, body)

    def _with(self, request: Request, phone: SoundPhone, body: bytes) -> Request:
        if request.method in ("INVITE", "UPDATE"):
            request.add("Contact", f"<{phone.contact}>")
        if body:
            request.add(*SDP_TYPE)
            request.body = body
        return request

    def offers(self, request: Request, asker: SoundPhone, asked: SoundPhone, answer: bytes | None = None) -> Response:
        """Have an offer within the call taken; both send where they are told."""
        asker.send(request)
        came = asked.request()
        self.assertEqual(asked.hears_of(came), self.host)
        asked.takes(came, 200, answer)
        final = asker.final()
        self.assertEqual((final.status, asker.hears_of(final)), (200, self.host))
        return final

    def check_sound(self) -> None:
        """See that both hear each other, and nobody else."""
        self.assertEqual(talk(self.alice, self.bob), BOTH)

    def hangs_up(self) -> None:
        """Have Alice end the call, of which no node knows anything then."""
        self.alice.send(self.from_alice("BYE", 90))
        self.bob.answer(self.bob.request(), 200, tag="bob")
        self.assertEqual(self.alice.final().status, 200)
        self.wait_no_calls()
