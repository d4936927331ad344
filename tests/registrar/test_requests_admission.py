"""Requests that are too many: who is refused and how, and who is not."""

from twisted.trial.unittest import SynchronousTestCase

from registrar.admission import AdmissionConfig
from rollcall.sip.framing import FramingError
from rollcall.sip.headers import parse_via
from tests.flows import an_answer
from tests.registrar.joined import RETRY_AFTER, Client, Registrar

BOB = "sip:bob@example.com"
MOST = 5


class AdmissionCase(SynchronousTestCase):
    """A registrar that takes five requests a second from a source, and two phones at different addresses."""

    in_all = 0

    def setUp(self) -> None:
        limits = AdmissionConfig(requests_per_source=MOST, requests=self.in_all)
        self.registrar = Registrar(admission=limits, with_passwords=False)
        self.alice = self.registrar.client("alice", "UDP")
        self.bob = self.registrar.client("bob", host="192.0.2.30", port=49160)

    def tearDown(self) -> None:
        """See that nothing is waited for any more."""
        self.assertEqual(self.registrar.end_transactions(), 0)

    def ask(self, phone: Client) -> list[int]:
        """Return the answers to an OPTIONS of a phone."""
        phone.cseq += 1
        phone.send(phone.request("OPTIONS", "sip:example.com"))
        return phone.statuses()

    def flood(self, phone: Client) -> None:
        """Use up what the phone's source may send in this window."""
        for _ in range(MOST):
            self.assertEqual(self.ask(phone), [200])

    def refused(self) -> dict[tuple[str, ...], float]:
        """Return the metric of what was refused, without what is 0."""
        counts = self.registrar.counts("rollcall_admission_refused_total")
        return {labels: count for labels, count in counts.items() if count}


class PerSourceTests(AdmissionCase):
    def test_who_is_refused(self) -> None:
        """What a source sends beyond its limit gets 503 and a time to wait; other sources are served all the same."""
        self.flood(self.alice)
        for _ in range(3):
            answer = self.alice.register("sip:alice@192.0.2.20")
            self.assertEqual((answer.status, answer.get("Retry-After")), (503, str(RETRY_AFTER)))
        self.assertEqual(self.registrar.bound("alice"), [])
        self.assertEqual(self.bob.register("sip:bob@192.0.2.30").status, 200)
        self.assertEqual(self.refused(), {("beginning", "requests_per_source"): 3})
        self.assertEqual(self.registrar.counted("rollcall_admission_sources"), 2)

    def test_the_next_window(self) -> None:
        """A phone that comes back later is served."""
        self.flood(self.alice)
        self.assertEqual(self.ask(self.alice), [503])
        self.registrar.clock.advance(1)
        self.assertEqual(self.ask(self.alice), [200])

    def test_no_state(self) -> None:
        """A refused request leaves no transaction behind; a datagram that is repeated gets the same answer again."""
        self.flood(self.alice)
        self.registrar.end_transactions()
        self.flood(self.alice)
        before = len(self.registrar.layer.transactions)
        request = self.alice.request("INVITE", BOB)
        self.alice.send(request)
        first = self.alice.flow.take_response()
        self.registrar.clock.advance(1)
        self.alice.send(request)
        self.assertEqual(self.alice.flow.take_response().serialise(), first.serialise())
        self.assertEqual((first.status, len(self.registrar.layer.transactions)), (503, before))

    def test_a_repeat_of_what_was_admitted(self) -> None:
        """A request that is repeated while its source is at the limit is no new one: its answer is repeated, no 503."""
        request = self.alice.request("OPTIONS", "sip:example.com")
        self.alice.send(request)
        for _ in range(MOST - 1):
            self.ask(self.alice)
        self.assertEqual(self.ask(self.alice), [503])
        self.alice.send(request)
        self.assertEqual(self.alice.statuses(), [200])

    def test_malformed(self) -> None:
        """Malformed requests count too, and those beyond the limit get no answer."""
        request = self.alice.request("OPTIONS", "sip:example.com").serialise().replace(b"CSeq: 0 ", b"CSeq: 1 NO")
        for _ in range(MOST + 2):
            self.alice.receive(request)
        self.assertEqual(self.alice.statuses(), [400] * MOST)
        self.assertEqual(self.ask(self.alice), [503])

    def test_without_an_end(self) -> None:
        """A message whose end cannot be told counts as one that is malformed."""
        self.flood(self.bob)
        head = self.bob.request("OPTIONS", "sip:example.com").serialise()
        self.registrar.requests.framing_failed(FramingError("Content-Length out of range", 400, head), self.bob.flow)
        self.assertEqual(self.bob.statuses(), [])
        self.assertEqual(self.refused(), {("beginning", "requests_per_source"): 1})

    def test_responses_are_not_counted(self) -> None:
        """Answers come because we asked: none is refused, however many there are."""
        stray = an_answer(self.alice.request("OPTIONS", BOB), 200).serialise()
        for _ in range(MOST * 2):
            self.alice.receive(stray)
        self.assertEqual(self.ask(self.alice), [200])


class InAllTests(AdmissionCase):
    in_all = 7

    def test_many_sources(self) -> None:
        """What is too much in all is refused whoever sends it, and counted as that."""
        self.flood(self.alice)
        self.assertEqual([self.ask(self.bob) for _ in range(3)], [[200], [200], [503]])
        self.assertEqual(self.ask(self.registrar.client("carol", host="192.0.2.40")), [503])
        self.assertEqual(self.refused(), {("beginning", "requests"): 2})


class CallTests(AdmissionCase):
    def setUp(self) -> None:
        """Let bob's phone ring for alice while another phone at her address floods us."""
        super().setUp()
        self.assertEqual(self.bob.register("sip:bob@192.0.2.30:49160;transport=tcp").status, 200)
        self.invite = self.alice.request("INVITE", BOB)
        self.alice.send(self.invite)
        self.assertEqual(self.alice.statuses(), [100])
        self.assertEqual(self.bob.flow.starts()[0].partition(" ")[0], "INVITE")
        other = self.registrar.client("carol", "UDP", port=50000)
        for _ in range(MOST - 1):
            self.ask(other)
        self.assertEqual(other.register("sip:carol@192.0.2.20:50000").status, 503)

    def cancel(self) -> None:
        """Let alice hang up."""
        via = self.invite.get("Via") or ""
        self.alice.send(self.alice.request("CANCEL", BOB, branch=parse_via(via).branch))

    def test_cancel(self) -> None:
        """A caller can still hang up before it is answered."""
        self.cancel()
        self.assertEqual(self.alice.statuses()[0], 200)

    def test_within_a_dialog(self) -> None:
        """What belongs to a dialog is forwarded, until it is a flood too."""
        for number in range(MOST + 1):
            self.alice.send(self.alice.request("BYE", BOB, callee="<sip:bob@example.com>;tag=bob", cseq=number))
        self.assertEqual(self.alice.statuses(), [503])
        self.assertEqual([start.partition(" ")[0] for start in self.bob.flow.starts()], ["BYE"] * MOST)
        self.assertEqual(self.refused()["in_call", "requests_per_source"], 1)

    def test_ack(self) -> None:
        """An ACK too many is dropped without an answer: there is none to an ACK."""
        for number in range(MOST * 2):
            self.alice.send(self.alice.request("ACK", BOB, callee="<sip:bob@example.com>;tag=bob", cseq=number))
        self.assertEqual(self.alice.statuses(), [])
        self.assertEqual(self.refused()["in_call", "requests_per_source"], MOST)
