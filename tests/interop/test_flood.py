"""A flood from one address: it is told to wait, while phones at other addresses and calls in progress are served."""

from prometheus_client.parser import text_string_to_metric_families

from rollcall.sip.message import Response
from tests.interop.phone import Phone
from tests.interop.script import DOMAIN
from tests.interop.sipp_case import EVERYBODY, EXACT, SippCase

MOST = 20
# Windows of a day: no test comes across the end of one.
LIMITS = f"[admission]\nrequests_per_source = {MOST}\nwindow_seconds = 86400\n"
FLOOD = 100


class FloodTests(SippCase):
    """Each test has addresses of its own, so that no flood is another test's."""

    sections = EVERYBODY + EXACT + LIMITS

    def phone_at(self, host: str, user: str, transport: str = "UDP") -> Phone:
        """Return a phone at this address."""
        server = "127.0.0.1", self.registrar.ports[transport.lower()]
        phone = Phone(transport, server, user, DOMAIN, local_host=host)
        self.addCleanup(phone.close)
        return phone

    def flood(self, phone: Phone, number: int = FLOOD) -> list[Response]:
        """Return the answers to so many REGISTERs, all of which were sent before the first was read."""
        for _ in range(number):
            fields = (("Contact", f"<{phone.contact}>"), ("Expires", "600"))
            phone.send(phone.make("REGISTER", f"sip:{DOMAIN}", fields, to=f"<sip:{phone.user}@{DOMAIN}>"))
        return [phone.final() for _ in range(number)]

    def refused(self) -> dict[tuple[str, ...], float]:
        """Return what the metrics say of refused requests."""
        return {tuple(sample.labels.values()): sample.value
                for family in text_string_to_metric_families(self.registrar.get("/metrics"))
                for sample in family.samples if sample.name == "rollcall_admission_refused_total"}

    def check_flood(self, host: str, other: str, transport: str) -> None:
        """Let a phone at `host` flood, and one at `other` come in the middle."""
        before = self.refused()["beginning", "requests_per_source"]
        flooder = self.phone_at(host, "mallory", transport)
        phone = self.phone_at(other, "alice", transport)
        answers = self.flood(flooder, FLOOD // 2)
        self.assertEqual(phone.register().status, 200)
        answers += self.flood(flooder, FLOOD // 2)
        # A 200 waits for the disk, a 503 for nothing.
        self.assertEqual(sorted(answer.status for answer in answers), [200] * MOST + [503] * (FLOOD - MOST))
        waits = [int(answer.get("Retry-After") or "0") for answer in answers if answer.status == 503]
        self.assertTrue(all(15 <= wait <= 30 for wait in waits), waits)
        self.assertGreater(len(set(waits)), 3, "all come back together")
        self.assertEqual(self.refused()["beginning", "requests_per_source"] - before, FLOOD - MOST)
        self.registrar.process.wait_for_text(f" refused: admission.requests_per_source is {MOST} in 86400.0 s")

    def test_datagrams(self) -> None:
        """A flood of datagrams gets 503 with times to wait that differ; another address is served meanwhile."""
        self.check_flood("127.0.0.11", "127.0.0.12", "UDP")

    def test_connection(self) -> None:
        """So does a flood over a connection, which stays open."""
        self.check_flood("127.0.0.21", "127.0.0.22", "TCP")

    def test_call_in_progress(self) -> None:
        """A call between phones at the flooder's own address is answered and ended as if nothing was."""
        alice, bob = self.phone_at("127.0.0.31", "al"), self.phone_at("127.0.0.31", "bo")
        self.assertEqual(bob.register().status, 200)
        invite = alice.make("INVITE", f"sip:bo@{DOMAIN}", (("Contact", f"<{alice.contact}>"),))
        alice.send(invite)
        ringing = bob.request()
        self.assertIn(503, [answer.status for answer in self.flood(self.phone_at("127.0.0.31", "mallory"))])
        bob.answer(ringing, 200)
        answered = alice.final()
        self.assertEqual(answered.status, 200)
        alice.send(alice.within("ACK", invite, answered, cseq=1))
        self.assertEqual(bob.request().method, "ACK")
        alice.send(alice.within("BYE", invite, answered))
        bye = bob.request()
        self.assertEqual(bye.method, "BYE")
        bob.answer(bye, 200)
        self.assertEqual(alice.final().status, 200)
