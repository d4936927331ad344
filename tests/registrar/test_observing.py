"""What operators see: the metrics of all that happens, one line for each call, and never a secret."""

import re
from collections.abc import Sequence

from twisted.internet.testing import MemoryReactorClock
from twisted.logger import LogEvent, capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from registrar.observing import watch
from registrar.routing import ProxyConfig
from rollcall.net.config import ListenerConfig, NetConfig
from rollcall.net.transports import Transports
from rollcall.sip.message import Request
from tests.flows import a_request, an_answer
from tests.registrar.joined import PASSWORDS, Client, Registrar

BOB = "sip:bob@example.com"
BOBS_PHONE = "sip:bob@192.0.2.20:49160;transport=tcp"


class ObservingCase(SynchronousTestCase):
    """A registrar without passwords, alice's phone, and bob's, which is registered."""

    def setUp(self) -> None:
        self.registrar = Registrar(with_passwords=False, proxy=ProxyConfig(ring_seconds=20))
        self.alice = self.registrar.client("alice", "UDP")
        self.bob = self.registrar.client("bob", "TCP", port=49160)
        self.bob.register(BOBS_PHONE)

    def call(self, status: int, seconds: float = 0.0, **changes: str) -> None:
        """Let alice call bob, who answers after a while."""
        self.alice.cseq += 1
        changes = {"uri": BOB, **changes}
        self.alice.send(self.alice.request("INVITE", **changes))
        self.registrar.layer.wait(seconds)
        invite = next(message for message in self.bob.flow.take() if isinstance(message, Request))
        self.bob.receive(an_answer(invite, status).serialise())
        self.registrar.end_transactions()
        self.alice.flow.take()
        self.bob.flow.take()


class CountTests(ObservingCase):
    def answers(self) -> dict[tuple[str, ...], float]:
        """Return how often each method was answered with which status; bob's registration is left out."""
        counts = self.registrar.counts("rollcall_answers_total")
        self.assertEqual(counts.pop(("REGISTER", "200")), 1)
        return counts

    def test_answers(self) -> None:
        """Every final answer is counted by method and status, our own and the phones', and no provisional one."""
        self.call(486)
        self.alice.send(self.alice.request("OPTIONS", "sip:example.com"))
        self.alice.send(self.alice.request("CANCEL", BOB))
        self.assertEqual(self.answers(), {("INVITE", "486"): 1, ("OPTIONS", "200"): 1, ("CANCEL", "481"): 1})

    def test_repetitions(self) -> None:
        """A repeated request is answered again and counted once."""
        request = self.alice.request("OPTIONS", "sip:example.com")
        for _ in range(3):
            self.alice.send(request)
        self.assertEqual((self.alice.statuses(), self.answers()), ([200] * 3, {("OPTIONS", "200"): 1}))

    def test_bounded_labels(self) -> None:
        """Whatever methods and statuses the world makes up, their labels are few."""
        for number in range(20):
            self.alice.send(self.alice.request(f"X-{number}", "sip:example.com"))
        for status in (499, 498, 497, 299, 699):
            self.call(status)
        self.assertEqual(self.answers(), {
            ("other", "501"): 20, ("INVITE", "4xx"): 3, ("INVITE", "2xx"): 1, ("INVITE", "6xx"): 1})
        self.assertEqual(self.registrar.counts("rollcall_calls_total"), {("4xx",): 3, ("2xx",): 1, ("6xx",): 1})

    def test_time_to_answer(self) -> None:
        """How long requests wait for their answers is told by method, as long as people let phones ring."""
        self.call(200, seconds=12.5)
        self.assertEqual(self.registrar.counted("rollcall_answer_seconds_sum", method="INVITE"), 12.5)
        bucket = {"method": "INVITE", "le": "30.0"}
        self.assertEqual(self.registrar.counted("rollcall_answer_seconds_bucket", **bucket), 1)
        self.assertEqual(self.registrar.counted("rollcall_answer_seconds_bucket", **{**bucket, "le": "10.0"}), 0)

    def test_registrations(self) -> None:
        """Registrations are counted by transport, and what a lost connection took with it too."""
        self.alice.register("sip:alice@192.0.2.20")
        self.alice.register("sip:alice@192.0.2.20")
        self.registrar.lose(self.bob.flow)
        expected = {("UDP", "new"): 1, ("UDP", "refreshed"): 1, ("TCP", "new"): 1, ("TCP", "unbound"): 1}
        for (transport, kind), number in {**expected, ("TCP", "refreshed"): 0}.items():
            counted = self.registrar.counted("rollcall_registrations_total", transport=transport, kind=kind)
            self.assertEqual(counted, number, (transport, kind))

    def test_outcomes(self) -> None:
        """What became of credentials is counted for those who register and those who call alike."""
        registrar = Registrar()
        alice = registrar.client("alice")
        alice.register("sip:alice@192.0.2.20")
        alice.send(alice.request("MESSAGE", BOB))
        self.assertEqual(alice.statuses(), [407])
        alice.password = "guess"
        alice.register("sip:alice@192.0.2.20")
        self.assertEqual(registrar.counts("rollcall_authentications_total"), {
            ("missing",): 2, ("accepted",): 1, ("bad_password",): 1})

    def test_malformed(self) -> None:
        """What is no SIP is counted by the status it is worth."""
        self.alice.receive(b"hello?\r\n\r\n")
        self.alice.receive(self.alice.request("OPTIONS", BOB).serialise().replace(b"SIP/2.0\r\n", b"SIP/7.0\r\n", 1))
        self.assertEqual(self.registrar.counts("rollcall_malformed_total"), {("400",): 1, ("505",): 1})


class WatchTests(ObservingCase):
    def setUp(self) -> None:
        super().setUp()
        listeners = (ListenerConfig(name="tcp", transport="tcp"),)
        reactor = MemoryReactorClock()
        self.transports = Transports(reactor, self.registrar.layer.wheel, self.registrar.requests,
                                     NetConfig(listeners=listeners))
        watch(self.registrar.metrics, self.registrar.location, self.transports, self.registrar.layer.transactions)

    def test_bindings(self) -> None:
        """Bindings and addresses are what the store has at this moment."""
        alice = self.registrar.client("alice", port=49161)
        alice.register("sip:alice@192.0.2.20", "sip:alice@192.0.2.21")
        self.alice.register("sip:alice@192.0.2.22")
        self.assertEqual(self.registrar.counts("rollcall_bindings"), {("TCP",): 3, ("UDP",): 1})
        self.assertEqual(self.registrar.counted("rollcall_aors"), 2)
        self.registrar.lose(alice.flow)
        self.registrar.lose(self.bob.flow)
        self.assertEqual(self.registrar.counts("rollcall_bindings"), {("UDP",): 1})
        self.assertEqual(self.registrar.counted("rollcall_aors"), 1)
        self.registrar.clock.advance(7200)
        self.assertEqual(self.registrar.counts("rollcall_bindings"), {})
        self.assertEqual(self.registrar.counted("rollcall_aors"), 0)

    def test_transactions(self) -> None:
        """Transactions that wait for something are counted."""
        self.alice.send(self.alice.request("INVITE", BOB, cseq=1))
        self.assertEqual(self.registrar.counted("rollcall_transactions"), 2)
        self.registrar.end_transactions()
        self.assertEqual(self.registrar.counted("rollcall_transactions"), 0)

    def test_sockets(self) -> None:
        """What happened at sockets is told event by event, also what has never happened."""
        self.transports.tallies.slow_readers_closed += 3
        page = self.registrar.metrics.render()
        self.assertIn(b'rollcall_socket_events_total{event="slow_readers_closed"} 3.0', page)
        self.assertIn(b'rollcall_socket_events_total{event="accepted"} 0.0', page)


class CallLogTests(ObservingCase):
    def lines(self, events: Sequence[LogEvent]) -> list[str]:
        """Return the lines about calls."""
        return [text for text in map(formatEvent, events) if text.startswith("call ")]

    def test_one_line_for_each_call(self) -> None:
        """A call is one line: who, whom, what became of it, and when; a MESSAGE is none."""
        with capturedLogs() as events:
            self.call(200, seconds=2.5)
            self.call(486, call_id="other")
            self.alice.send(self.alice.request("MESSAGE", BOB))
            self.bob.receive(an_answer(self.bob.flow.take_request(), 200).serialise())
        self.assertEqual(self.lines(events), [
            "call alice@192.0.2.20: sip:alice@example.com to sip:bob@example.com got 200 after 2.50 s",
            "call other: sip:alice@example.com to sip:bob@example.com got 486 after 0.00 s",
        ])
        self.assertEqual(self.registrar.counts("rollcall_calls_total"), {("200",): 1, ("486",): 1})

    def test_not_forwarded(self) -> None:
        """An INVITE that nobody was rung for is among the answers, not the calls."""
        with capturedLogs() as events:
            self.alice.send(self.alice.request("INVITE", "sip:carol@example.com"))
        self.assertEqual((self.alice.statuses(), self.lines(events)), ([404], []))

    def test_password_in_an_address(self) -> None:
        """The password that may stand in a SIP URI is left out of the line (§19.1.1)."""
        with capturedLogs() as events:
            self.call(486, uri="sip:bob:open@example.com", caller="<sip:alice:sesame@example.com>;tag=1")
            self.call(486, caller="<tel:+15551234>;tag=1")
        self.assertEqual([line.partition(": ")[2] for line in self.lines(events)], [
            "sip:alice@example.com to sip:bob@example.com got 486 after 0.00 s",
            "tel:+15551234 to sip:bob@example.com got 486 after 0.00 s",
        ])


class SecretTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.registrar = Registrar()
        self.alice = self.registrar.client("alice")
        self.sent: list[bytes] = []

    def test_no_secret_is_logged(self) -> None:
        """No password, digest, nonce or token is in any line or traceback, at whatever level."""
        with capturedLogs() as events:
            self.everything(self.alice)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 2)
        said = "\n".join([*map(formatEvent, events), *(repr(event) for event in events), *_tracebacks(events)])
        self.assertIn("sip:alice@example.com", said)
        secrets = self.secrets()
        self.assertGreater(len(secrets), 8)
        self.assertEqual([secret for secret in secrets if secret in said], [])

    def everything(self, alice: Client) -> None:
        """Register, fail to, call, be malformed, and break something, each with credentials."""
        receive = alice.receive

        def keep(data: bytes) -> None:
            self.sent.append(data)
            receive(data)

        self.patch(alice, "receive", keep)
        alice.register("sip:alice@192.0.2.20")
        alice.register("sip:alice@192.0.2.20", to=BOB)
        bob = self.registrar.client("bob", port=49160)
        bob.register(BOBS_PHONE)
        credentials = (("Proxy-Authorization", alice.credentials("INVITE", BOB)),)
        alice.send(alice.request("INVITE", BOB, headers=credentials, cseq=9))
        bob.receive(an_answer(bob.flow.take_request(), 486).serialise())
        again = (("Proxy-Authorization", alice.credentials("INVITE", BOB)),)
        alice.send(alice.request("INVITE", BOB, headers=again, cseq=10, caller="<sip:bob@example.com>;tag=1"))
        alice.receive(alice.a_register("sip:alice@192.0.2.20").serialise().replace(b"response=", b"response"))
        alice.receive(alice.a_register("sip:alice@192.0.2.20").serialise().replace(b"CSeq: ", b"CSeq: x"))
        alice.send(a_request("OPTIONS", BOB, headers=(("Route", "<sip:dG9rZW4@192.0.2.1;lr>"),)))
        alice.flow.written.clear()
        alice.password = "Guess-9"
        alice.register("sip:alice@192.0.2.20")
        alice.password = PASSWORDS["alice"]
        self.patch(self.registrar.location, "takes_at_once", _broken)
        self.patch(self.registrar.location, "load", _broken)
        alice.register("sip:alice@192.0.2.20")
        self.registrar.lose(alice.flow)

    def secrets(self) -> set[str]:
        """Return all that was sent and is nobody's business."""
        text = b"\n".join(self.sent).decode()
        values = re.findall(r'(?:response|nonce)="([^"]{16,})"', text)
        return {*values, *PASSWORDS.values(), "Guess-9", "dG9rZW4"}


def _broken(*_: object) -> None:
    raise ZeroDivisionError


def _tracebacks(events: Sequence[LogEvent]) -> list[str]:
    return [event["log_failure"].getTraceback(detail="verbose") for event in events if "log_failure" in event]
