"""Every torture message of RFC 4475 and RFC 5118 over UDP and TCP to a running registrar: the answer the RFCs ask for.

After each of them the server answers as if nothing had been, and has logged no failure.
"""

import json
import tempfile
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote

from twisted.trial.unittest import SynchronousTestCase

from rollcall.sip.headers import parse_name_addr, parse_via
from rollcall.sip.message import Request, Response, parse_message
from tests.interop.capture import Capture
from tests.interop.case import TROUBLE
from tests.interop.phone import Phone, Silence
from tests.interop.process import LOOPBACK, free_ports
from tests.interop.registrar_process import RegistrarProcess
from tests.interop.torture import (
    ALSO,
    DOMAINS,
    J_USER,
    NULLS,
    OVER_TCP,
    OVER_UDP,
    USER,
    WATSON,
    Answered,
    Arrives,
    Closed,
    Outcome,
    as_sent,
    body,
    untouchable,
    values,
)
from tests.vectors.expectations import EXPECTATIONS, RFC4475, Expectation

OPEN = """
[auth]
required = false

[limits]
first_request_seconds = 5
"""

# Call-IDs of intmeth and mpart01, whose fields are valid, but beyond tshark's grammar.
TOO_MUCH_FOR_TSHARK = ("intmeth.word", "3d9485ad0c49859b")


class TortureCase(SynchronousTestCase):
    """One registrar for a class. tshark reads all that it sends, and its log is read after each message."""

    transport: ClassVar[str] = "UDP"
    sections: ClassVar[str] = OPEN
    registrar: ClassVar[RegistrarProcess]
    _folder: ClassVar["tempfile.TemporaryDirectory[str]"]
    _capture: ClassVar[Capture]

    @classmethod
    def setUpClass(cls) -> None:
        cls._folder = tempfile.TemporaryDirectory()
        folder = Path(cls._folder.name)
        route, v6 = free_ports(2)
        also = ALSO.format(name="route", port=route, host=LOOPBACK, named=5080)
        also += ALSO.format(name="v6", port=v6, host="2001:db8::10", named=5070)
        cls.registrar = RegistrarProcess(folder, (), DOMAINS + cls.sections + also, "example.org", ("udp", "tcp"))
        cls._capture = Capture([*cls.registrar.ports.items(), ("udp", route), ("udp", v6)], folder)
        cls._capture.__enter__()
        cls.registrar.start()

    @classmethod
    def tearDownClass(cls) -> None:
        cls.registrar.stop()
        cls._capture.__exit__(None)
        theirs = " || ".join(f'frame contains "{call_id}"' for call_id in TOO_MUCH_FOR_TSHARK)
        excused = {number for (number,) in cls._capture.rows(theirs, "frame.number")}
        faults = [fault for fault in cls._capture.faults() if fault.frame not in excused]
        cls._folder.cleanup()
        assert faults == [], f"tshark does not like what we sent: {faults}"

    def setUp(self) -> None:
        self._log_before = len(self.registrar.process.text())
        self.addCleanup(self._judge_log)
        self.caller = self.phone(self.transport)

    def phone(self, transport: str) -> Phone:
        phone = Phone(transport, (LOOPBACK, self.registrar.ports["udp"]), "tester", "example.net")
        self.addCleanup(phone.close)
        return phone

    def _judge_log(self) -> None:
        new = self.registrar.process.text()[self._log_before :]
        trouble = [line for line in new.splitlines() if any(word in line for word in (*TROUBLE, "Z error "))]
        self.assertEqual(trouble, [], new)

    # --- what a message meets

    def bind(self, aor: str) -> Phone:
        """Return a phone that is registered for `aor` as long as the test runs."""
        callee = self.phone("UDP")
        self.register(callee, aor, ("Contact", f"<sip:callee@{LOOPBACK}:{callee.port}>"))
        self.addCleanup(self.forget, aor)
        return callee

    def forget(self, aor: str) -> None:
        """Remove whatever is bound to `aor`."""
        self.register(self.phone("UDP"), aor, ("Contact", "*"), ("Expires", "0"))

    def register(self, phone: Phone, aor: str, *headers: tuple[str, str]) -> Response:
        """Send a REGISTER for `aor` that has to succeed, and return the answer."""
        answer = phone.ask(phone.make("REGISTER", f"sip:{aor.partition('@')[2]}", headers, to=f"<{aor}>"))
        self.assertEqual(answer.status, 200)
        return answer

    def bound(self, aor: str) -> list[str]:
        """Return the contacts of `aor`, as the admin site shows them."""
        shown: list[dict[str, Any]] = json.loads(self.registrar.get(f"/v1/contacts?aor={quote(aor)}"))["contacts"]
        return [contact["contact"] for contact in shown]

    # --- what becomes of it

    def meet(self, name: str, outcome: Outcome) -> None:
        """Send a message, see the outcome, and see that the server is none the worse."""
        if isinstance(outcome, Arrives):
            self.assert_arrives(as_sent(name), outcome.aor)
        elif isinstance(outcome, Closed):
            self.assert_closed(as_sent(name), outcome.status)
            self.caller = self.phone(self.transport)
        elif isinstance(outcome, Answered):
            self.assert_answered(as_sent(name), outcome.statuses)
            if outcome.bound:
                self.addCleanup(self.forget, outcome.bound)
                self.assertNotEqual(self.bound(outcome.bound), [])
        else:
            self.caller.send_bytes(as_sent(name))
        self.assert_alive()

    def assert_alive(self) -> None:
        """The server answers the caller's OPTIONS, and says nothing else before that."""
        self.assert_heard_nothing(self.caller)

    def assert_heard_nothing(self, phone: Phone) -> None:
        """What `phone` hears next is the answer to an OPTIONS that it sends now."""
        options = phone.make("OPTIONS", "sip:example.com")
        phone.send(options)
        response = phone.receive()
        self.assertEqual(response.get("Call-ID"), options.get("Call-ID"), response)
        assert isinstance(response, Response), response
        self.assertEqual(response.status, 200)

    def assert_answered(self, data: bytes, statuses: tuple[int, ...] = (200,)) -> list[Response]:
        """The server itself answers what is in `data`; return its answers."""
        self.caller.send_bytes(data)
        answers = [self.caller.final() for _ in statuses]
        self.assertEqual(tuple(answer.status for answer in answers), statuses, answers)
        # RFC 3261 §8.2.6.2. One with two Call-IDs has one of them in its answer.
        for name in (b"call-id", b"cseq"):
            given = answers[0].get(name.decode())
            self.assertIn((given or "").encode(), values(data, name) or [b""])
        return answers

    def assert_closed(self, data: bytes, status: int | None) -> None:
        """The server closes the connection, after an answer if there is a status."""
        self.caller.send_bytes(data)
        answers = []
        with self.assertRaises(Silence) as caught:
            while True:
                answers.append(self.caller.response().status)
        self.assertIn("closed the connection", str(caught.exception))
        self.assertEqual(answers[:1], [] if status is None else [status])

    def assert_arrives(self, data: bytes, aor: str) -> None:
        """The phone of `aor` gets `data` as it was, and its sender gets the phone's answer."""
        callee = self.bind(aor)
        self.caller.send_bytes(data)
        raw = callee.receive_bytes()
        sent, received = parse_message(data), parse_message(raw)
        assert isinstance(sent, Request) and isinstance(received, Request)
        self.assert_intact(data, raw)
        self.assertEqual(
            raw.partition(b"\r\n")[0], f"{sent.method} sip:callee@{LOOPBACK}:{callee.port} SIP/2.0".encode()
        )
        answer = callee.answer(received, 486 if sent.method == "INVITE" else 200)
        response = self.caller.final()
        self.assertEqual((response.status, response.get("To")), (answer.status, answer.get("To")))
        self.assertEqual(response.get("Call-ID"), sent.get("Call-ID"))
        self.assertEqual(hops(response), hops(sent))
        if sent.method == "INVITE":
            self.caller.acknowledge(sent, response)
            self.assertEqual(next_new(callee, received).method, "ACK")

    def assert_intact(self, data: bytes, raw: bytes) -> None:
        """A forwarded request differs from what was sent in nothing but what a proxy has to change."""
        self.assertEqual(untouchable(raw), untouchable(data))
        self.assertEqual(body(raw), body(data))
        self.assertEqual(values(raw, b"content-length"), [b"%d" % len(body(data))])
        sent, received = parse_message(data), parse_message(raw)
        self.assertEqual(hops(received)[1:], hops(sent))
        self.assertEqual(values(raw, b"route"), [])
        ours = len(values(raw, b"record-route")) - len(values(data, b"record-route"))
        self.assertEqual(values(raw, b"record-route")[ours:], values(data, b"record-route"))
        left = [b"%d" % (int(number) - 1) for number in values(data, b"max-forwards")]
        self.assertEqual(values(raw, b"max-forwards"), left or [b"70"])


def hops(message: Request | Response) -> list[tuple[str, str, str | None]]:
    """Return who is named by the Vias of a message: transport, sent-by, branch."""
    vias = [parse_via(value) for value in message.values("Via")]
    return [(via.transport, via.sent_by, via.branch) for via in vias]


def next_new(callee: Phone, known: Request) -> Request:
    """Return the next request that is not `known` once more: over UDP a slow answer means that it comes again."""
    while (request := callee.request()).method == known.method:
        pass
    return request


class UdpTests(TortureCase):
    transport = "UDP"

    def test_same_branch(self) -> None:
        """Requests of a client whose branch is the bare cookie are told apart by other fields (RFC 4475 §3.2.1)."""
        callee = self.bind(USER)
        data = as_sent("badbranch")
        for call_id in (b"one", b"two"):
            self.caller.send_bytes(data.replace(b"badbranch.sadonfo23i420jv0as0derf3j3n", call_id))
            callee.answer(callee.request(), 200)
            self.assertEqual(self.caller.final().get("Call-ID"), call_id.decode())


class TcpTests(TortureCase):
    transport = "TCP"


class DetailTests(TortureCase):
    def test_escaped_user(self) -> None:
        """An escape in an address-of-record is the character that it stands for (RFC 4475 §3.1.1.3)."""
        self.addCleanup(self.forget, USER)
        (written,) = values(as_sent("esc01"), b"to")
        self.assertEqual(written, b"sip:%75se%72@example.com")
        self.register(self.caller, written.decode(), ("Contact", "<sip:there@host5.example.net>"))
        self.assertEqual(self.bound(USER), ["sip:there@host5.example.net"])

    def test_extra_octets(self) -> None:
        """What follows the body in a datagram reaches nobody, whatever it looks like (RFC 4475 §3.1.1.8)."""
        self.addCleanup(self.forget, J_USER)
        callee = self.bind("sip:joe@example.com")
        self.assert_answered(as_sent("dblreq"))
        self.assert_alive()
        self.assert_heard_nothing(callee)

    def test_two_contacts_with_nulls(self) -> None:
        """%00 and %00%00 are two contacts, of a user whose name goes on behind the NUL (RFC 4475 §3.1.1.4)."""
        self.addCleanup(self.forget, NULLS)
        (answer,) = self.assert_answered(as_sent("escnull"))
        contacts = ["sip:%00@host5.example.com", "sip:%00%00@host5.example.com"]
        told = [parse_name_addr(value).uri for value in answer.values("Contact")]
        self.assertEqual((told, self.bound(NULLS)), (contacts, contacts))

    def test_contact_parameter(self) -> None:
        """A parameter of a Contact without <> is reported, now and later, outside of the URI (RFC 4475 §3.3.12)."""
        self.addCleanup(self.forget, WATSON)
        (answer,) = self.assert_answered(as_sent("cparam01"))
        for response in (answer, self.register(self.caller, WATSON)):
            self.assertIn("<sip:+19725552222@gw1.example.net>;", f"{response.get('Contact')};")

    def test_uri_parameter(self) -> None:
        """A parameter within <> stays part of the URI (RFC 4475 §3.3.13)."""
        self.addCleanup(self.forget, WATSON)
        (answer,) = self.assert_answered(as_sent("cparam02"))
        for response in (answer, self.register(self.caller, WATSON)):
            self.assertIn("<sip:+19725552222@gw1.example.net;unknownparam>", response.get("Contact") or "")

    def test_escaped_header(self) -> None:
        """Headers within a contact's URI are kept (RFC 4475 §3.3.14)."""
        self.addCleanup(self.forget, USER)
        (answer,) = self.assert_answered(as_sent("regescrt"))
        for response in (answer, self.register(self.caller, USER)):
            self.assertIn("<sip:user@example.com?Route=%3Csip:sip.example.com%3E>", response.get("Contact") or "")

    def test_unsupported_extensions(self) -> None:
        """A proxy names the extensions in Proxy-Require that it does not know (RFC 4475 §3.3.5)."""
        (answer,) = self.assert_answered(as_sent("bext01"), (420,))
        named = {value.lower() for value in answer.values("Unsupported")}
        self.assertEqual(named, {"noproxiessupportthis", "nordoanyproxiessupportthis"})

    def test_unknown_method(self) -> None:
        """The methods that the server understands are listed when it is asked for another (RFC 4475 §3.1.1.2)."""
        (answer,) = self.assert_answered(as_sent("esc02"), (501,))
        self.assertLessEqual({"REGISTER", "INVITE", "OPTIONS"}, set(answer.values("Allow")))

    def test_responses_go_nowhere(self) -> None:
        """A response that answers nothing is not passed on to whom its second Via names (RFC 4475 §3.3.10)."""
        target = self.phone("UDP")
        named = f"{LOOPBACK}:{target.port}".encode()
        self.caller.send_bytes(as_sent("bcast").replace(b"255.255.255.255", named))
        self.assert_alive()
        self.assert_heard_nothing(target)


class ChallengeTests(TortureCase):
    sections = ""

    def test_unknown_scheme(self) -> None:
        """Credentials of an unknown scheme are answered with a challenge of one we understand (RFC 4475 §3.3.7)."""
        (answer,) = self.assert_answered(as_sent("regaut01"), (401,))
        self.assertIn("Digest", (answer.get("WWW-Authenticate") or "").split())

    def test_everything(self) -> None:
        """With passwords, what is malformed is refused as without; whatever is not is asked who it is from.

        Contacts are read only of those who may register.
        """
        for row in EXPECTATIONS:
            outcome = OVER_UDP[row.name]
            if isinstance(outcome, Arrives) or row.name == "port-ambiguous":
                self.assert_answered(as_sent(row.name), (407,))
            elif isinstance(outcome, Answered):
                asked = outcome.bound or row.name in ("regaut01", "regbadct")
                self.assert_answered(as_sent(row.name), (401,) if asked else outcome.statuses)
            else:
                self.caller.send_bytes(as_sent(row.name))
            self.assert_alive()


class TableTests(SynchronousTestCase):
    def test_complete(self) -> None:
        """Each message has its outcome, and each answer is one that its RFC allows."""
        for table in (OVER_UDP, OVER_TCP):
            self.assertEqual([row.name for row in EXPECTATIONS], list(table))
        for row in EXPECTATIONS:
            outcome = OVER_UDP[row.name]
            if isinstance(outcome, Answered):
                self.assertLessEqual(set(outcome.statuses), row.answers, row.name)
            else:
                self.assertEqual(isinstance(outcome, Arrives), row.request, row.name)


def add_tests(case: type[TortureCase], outcomes: dict[str, Outcome]) -> None:
    """Give `case` a test for each message, with what its RFC says of it."""
    for row in EXPECTATIONS:
        outcome = outcomes[row.name]

        def test(self: TortureCase, name: str = row.name, outcome: Outcome = outcome) -> None:
            self.meet(name, outcome)

        test.__name__ = f"test_{row.name.replace('-', '_')}"
        test.__qualname__ = f"{case.__name__}.{test.__name__}"
        test.__doc__ = f"{says(row)} {outcome.note}".strip()
        setattr(case, test.__name__, test)


def says(row: Expectation) -> str:
    """Return what the RFC says of a message, with its place."""
    return f"RFC {4475 if row in RFC4475 else 5118} §{row.section}: {row.quote}"


add_tests(UdpTests, OVER_UDP)
add_tests(TcpTests, OVER_TCP)
