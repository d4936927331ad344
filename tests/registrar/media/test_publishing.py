"""PUBLISH for vq-rtcpxr: which phones' reports are taken, and what others are told (RFC 6035, RFC 3903)."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from registrar.auth import AuthConfig, Authentication, StoreUnavailable, Subscriber
from registrar.media.publishing import Publishing, PublishingParts
from rollcall.media.reports import PhoneReport
from rollcall.net.flow import Flow
from rollcall.net.transactions import ServerTransaction
from rollcall.sip.message import Request, Response
from tests.registrar.joined import DOMAIN, RETRY_AFTER, Client, Registrar

COLLECTOR = "sip:collector@example.com"
BODY = b"VQSessionReport: CallTerm\r\nCallID: c1\r\nLocalMetrics:\r\nPacketLoss:NLR=5.0 JDR=2.0\r\nDelay:RTD=80\r\n"
EVENT = ("Event", "vq-rtcpxr")
TYPE = ("Content-Type", "application/vq-rtcpxr")


class PublishingCase(SynchronousTestCase):
    """A registrar that takes reports, and alice's phone."""

    with_passwords = True

    def setUp(self) -> None:
        self.registrar = Registrar(with_passwords=self.with_passwords)
        self.told: list[PhoneReport] = []
        self.is_down = False
        authentication = None
        if self.with_passwords:
            authentication = Authentication.with_secrets(self.find, [b"a secret for nonces"], AuthConfig())
        self.publishing = Publishing(PublishingParts(
            domains=self.registrar.domains, authentication=authentication, default_realm=DOMAIN, tell=self.told.append,
            node_of_call=lambda call_id: {"c1": "media1"}.get(call_id, ""), retry_after=lambda: RETRY_AFTER,
            now=self.registrar.clock.seconds))
        self.registrar.layer.transactions.user = self
        self.phone = self.registrar.client("alice", "TCP")

    async def find(self, username: str, domain: str) -> Subscriber | None:
        """Return a subscriber, unless the store is away."""
        if self.is_down:
            raise StoreUnavailable("away")
        return await self.registrar.subscribers.find(username, domain)

    def request_received(self, request: Request, transaction: ServerTransaction) -> None:
        """Hand a report to who takes it, as the registrar does, and all else on."""
        if request.method == "PUBLISH" and self.publishing.wants(request):
            self.publishing.receive(request, transaction)
        else:
            self.registrar.requests.request_received(request, transaction)

    def ack_received(self, request: Request, flow: Flow) -> None:
        """Nobody sends one."""
        self.fail(f"an ACK from {flow.peer}: {request.uri}")

    def publish(self, *headers: tuple[str, str], uri: str = COLLECTOR, body: bytes = BODY, phone: Client | None = None,
                **changes: Any) -> Response:
        """Publish and return the final answer, that to the password if one was asked for."""
        phone = phone or self.phone
        headers = headers or (EVENT, TYPE)
        for _ in range(2):
            fields = [*headers, *([("Authorization", phone.credentials("PUBLISH", uri))] if phone.challenge else [])]
            phone.cseq += 1
            callee = changes.pop("callee", f"<{uri}>")
            phone.send(phone.request("PUBLISH", uri, headers=tuple(fields), body=body, callee=callee, **changes))
            answer = phone.flow.take_response()
            if answer.status != 401 or phone.challenge:
                break
            phone.take_challenge(answer)
        return answer


class PublishingTests(PublishingCase):
    def test_registered_phone(self) -> None:
        """A phone is believed over the connection that it registered on, without another password."""
        self.assertEqual(self.phone.register("sip:alice@192.0.2.20:49152;transport=tcp").status, 200)
        self.phone.challenge = {}
        answer = self.publish(EVENT, TYPE, ("Expires", "600"))
        self.assertEqual((answer.status, answer.get("Expires"), self.phone.challenge), (200, "600", {}))
        self.assertRegex(answer.get("SIP-ETag") or "", "^[0-9a-f]{16}$")
        self.assertEqual(self.told, [PhoneReport(
            at=self.registrar.clock.seconds(), source="192.0.2.20", call_id="c1", node="media1", loss=0.05,
            discarded=0.02, rtt_ms=80.0)])
        self.assertEqual(self.publishing.outcomes, {"taken": 1})

    def test_datagrams(self) -> None:
        """Over datagrams, where nobody is connected, a phone proves its password."""
        phone = self.registrar.client("alice", "UDP")
        self.assertEqual(self.publish(phone=phone).status, 200)
        self.assertTrue(phone.challenge)
        self.assertEqual(len(self.told), 1)

    def test_wrong_password(self) -> None:
        """Whoever does not know a password is not listened to."""
        self.phone.password = "wrong"
        self.assertEqual(self.publish().status, 401)
        self.assertEqual((self.told, self.publishing.outcomes), ([], {"refused": 2}))

    def test_store_is_away(self) -> None:
        """While nobody's password can be looked up, phones shall come later."""
        self.assertEqual(self.publish().status, 200)
        self.is_down = True
        answer = self.publish()
        self.assertEqual((answer.status, answer.get("Retry-After")), (503, str(RETRY_AFTER)))
        self.assertEqual(self.publishing.outcomes, {"refused": 1, "taken": 1, "unavailable": 1})


class ConversationTests(PublishingCase):
    with_passwords = False

    def passed_on(self, *headers: tuple[str, str], **changes: Any) -> bool:
        """Say whether a PUBLISH goes the way of all other requests."""
        self.publish(*headers, **changes)
        return not self.publishing.outcomes

    def test_expires(self) -> None:
        """A phone that names no time, or a long one, is told an hour."""
        self.assertEqual(self.publish().get("Expires"), "3600")
        self.assertEqual(self.publish(EVENT, TYPE, ("Expires", "86400")).get("Expires"), "3600")

    def test_refreshes(self) -> None:
        """A phone that refreshes what it published is told that all is well; there is nothing to keep."""
        etag = self.publish().get("SIP-ETag") or ""
        answer = self.publish(EVENT, ("SIP-If-Match", etag), ("Expires", "60"), body=b"")
        self.assertEqual((answer.status, answer.get("Expires")), (200, "60"))
        self.assertNotEqual(answer.get("SIP-ETag"), etag)
        self.assertEqual(len(self.told), 1)

    def test_domain(self) -> None:
        """A report may go to the domain, or to any name in it."""
        for uri in ("sip:example.com", "sip:alice@example.org", "sip:192.0.2.1:5060;transport=tcp"):
            self.assertEqual(self.publish(uri=uri).status, 200, uri)

    def test_routes(self) -> None:
        """A Route through us is as good as none; one that leads elsewhere is followed."""
        self.assertEqual(self.publish(EVENT, TYPE, ("Route", "<sip:example.com;lr>")).status, 200)
        self.publishing.outcomes.clear()
        self.assertTrue(self.passed_on(EVENT, TYPE, ("Route", "<sip:example.com;lr>, <sip:192.0.2.99;lr>")))

    def test_what_is_not_for_us(self) -> None:
        """Other events, other domains, a GRUU, and what is said within a dialog go their usual way."""
        self.assertTrue(self.passed_on(("Event", "presence")))
        self.assertTrue(self.passed_on(TYPE))
        for changes in ({"uri": "sip:collector@elsewhere.example"}, {"uri": "sip:alice@example.com;gr=x"},
                        {"uri": "tel:+15551234"}, {"callee": f"<{COLLECTOR}>;tag=x"}):
            self.assertTrue(self.passed_on(EVENT, TYPE, **changes), changes)
        self.assertEqual(self.told, [])

    def test_other_bodies(self) -> None:
        """A body of another type is refused with the one that would do; a broken one, or none, as well."""
        answer = self.publish(EVENT, ("Content-Type", "application/pidf+xml"))
        self.assertEqual((answer.status, answer.get("Accept")), (415, "application/vq-rtcpxr"))
        for body in (b"", b"VQSessionReport\r\n", b"<presence/>"):
            self.assertEqual(self.publish(body=body).status, 400, body)
        self.assertEqual(self.publish(EVENT, TYPE, ("Expires", "soon")).status, 400)
        self.assertEqual((self.told, self.publishing.outcomes), ([], {"refused": 1, "malformed": 4}))

    def test_members(self) -> None:
        """Nodes send each other no reports, so that what comes from one is refused."""
        self.phone.flow.member = "n2"
        self.assertEqual(self.publish().status, 403)

    @settings(max_examples=100, deadline=None)
    @given(st.binary(max_size=200))
    def test_anything(self, body: bytes) -> None:
        """Whatever a phone publishes, it gets an answer."""
        for whole in (body, BODY + body):
            self.assertIn(self.publish(body=whole).status, (200, 400))
