"""What comes over flows: which conversation gets it, where the answer goes, and that no bytes break the server."""

import attrs
from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from registrar.routing import ProxyConfig
from rollcall.sip.framing import FramingError
from rollcall.sip.message import Request, Response
from tests.flows import Headers, a_request, an_answer, top_via
from tests.registrar.examples import EXACT
from tests.registrar.joined import Client, Registrar

BOB = "sip:bob@example.com"


class RequestsCase(SynchronousTestCase):
    """A registrar that asks nobody for a password, alice's phone and bob's, which is registered."""

    def setUp(self) -> None:
        self.registrar = Registrar(with_passwords=False)
        self.location = self.registrar.location
        self.alice = self.registrar.client("alice", "UDP")
        self.bob = self.registrar.client("bob", "TCP", port=49160)
        self.assertEqual(self.bob.register("sip:bob@192.0.2.20:49160;transport=tcp").status, 200)

    def tearDown(self) -> None:
        """See that nothing is waited for any more."""
        self.assertEqual(self.registrar.end_transactions(), 0)

    def malformed(self) -> dict[tuple[str, ...], float]:
        """Return how many malformed messages were worth which status."""
        return self.registrar.counts("rollcall_malformed_total")

    def is_well(self) -> None:
        """See that the server still answers."""
        prober = self.registrar.client("prober", port=50000)
        prober.send(prober.request("OPTIONS", "sip:example.com"))
        self.assertEqual(prober.statuses(), [200])


class ConversationTests(RequestsCase):
    def answers(self, method: str, uri: str, headers: Headers = ()) -> list[int]:
        """Return the statuses that a request is answered with."""
        self.alice.cseq += 1
        self.alice.send(self.alice.request(method, uri, headers=headers))
        return self.alice.statuses()

    def test_options(self) -> None:
        """OPTIONS for the domain, or for our own address, is answered by us."""
        for uri in ("sip:example.com", "sip:192.0.2.1", "sip:192.0.2.1:5060;transport=tcp"):
            self.assertEqual(self.answers("OPTIONS", uri), [200], uri)

    def test_register_goes_by_its_domain(self) -> None:
        """REGISTER for a domain of ours is for the registrar; for others' domains it is to be forwarded."""
        self.assertEqual(self.answers("REGISTER", "sip:example.com"), [200])
        self.assertEqual(self.answers("REGISTER", "sip:elsewhere.example"), [403])
        self.assertEqual(self.answers("REGISTER", "tel:+15551234"), [416])

    def test_call(self) -> None:
        """An INVITE goes to the phone, its answer back, and the ACK after it over the dialog's way."""
        self.alice.send(self.alice.request("INVITE", BOB, cseq=1))
        invite = self.bob.flow.take_request()
        answer = an_answer(invite, 200, headers=tuple(
            ("Record-Route", route) for route in invite.get_all("Record-Route")))
        self.bob.receive(answer.serialise())
        self.assertEqual(self.alice.statuses(), [100, 200])
        routes = tuple(("Route", route) for route in reversed(invite.get_all("Record-Route")))
        self.alice.send(self.alice.request(
            "ACK", "sip:bob@192.0.2.20:49160", cseq=1, headers=routes, callee=f"<{BOB}>;tag=bob"))
        self.assertEqual(self.bob.flow.starts(), ["ACK sip:bob@192.0.2.20:49160"])

    def test_stray_messages(self) -> None:
        """Answers to nothing, and ACKs of nothing, are dropped without a word."""
        self.alice.receive(an_answer(a_request("INVITE"), 200).serialise())
        self.alice.send(a_request("ACK"))
        self.assertEqual(self.alice.flow.written, [])
        self.is_well()

    def test_strangers_time_limit(self) -> None:
        """The first valid request shows that a connection is no stranger's; malformed ones and answers do not."""
        flow = self.registrar.flow("TCP", port=49170)
        requests = self.registrar.requests
        requests.message_received(b"GET / HTTP/1.1\r\n\r\n", flow)
        requests.message_received(an_answer(a_request("OPTIONS"), 200).serialise(), flow)
        self.assertFalse(flow.confirmed)
        requests.message_received(a_request("OPTIONS", "sip:example.com").serialise(), flow)
        self.assertTrue(flow.confirmed)

    def test_end_of_a_connection(self) -> None:
        """A connection that ends takes its bindings with it, and what waited on it fails over to nobody."""
        self.alice.send(self.alice.request("MESSAGE", BOB, cseq=1))
        self.registrar.lose(self.bob.flow)
        self.assertEqual((self.registrar.bound("bob"), self.alice.statuses()), ([], [500]))

    def test_silence_while_stopping(self) -> None:
        """When the server stops, the ends of connections are no news."""
        self.registrar.requests.stop()
        self.registrar.lose(self.bob.flow)
        self.assertEqual(len(self.registrar.bound("bob")), 1)


class CancelTests(RequestsCase):
    def invite(self) -> Request:
        """Let alice call bob; return her INVITE."""
        invite = self.alice.request("INVITE", BOB, cseq=1)
        self.alice.send(invite)
        return invite

    def cancel(self, invite: Request) -> None:
        """Let alice hang up."""
        self.alice.send(self.alice.request("CANCEL", BOB, cseq=1, via=invite.get("Via")))

    def answers(self) -> list[tuple[str, int]]:
        """Return the method and status of each answer that alice got."""
        return [((message.get("CSeq") or "").split()[1], message.status)
                for message in self.alice.flow.take() if isinstance(message, Response)]

    def acknowledge(self, invite: Request) -> None:
        """Let alice acknowledge a refusal, which ends its repetition."""
        self.alice.send(self.alice.request("ACK", BOB, cseq=1, via=invite.get("Via")))

    def test_nothing_to_cancel(self) -> None:
        """A CANCEL that belongs to no INVITE is 481 (§9.2)."""
        self.cancel(self.alice.request("INVITE", BOB))
        self.assertEqual(self.answers(), [("CANCEL", 481)])

    def test_ringing(self) -> None:
        """A CANCEL of a ringing call is 200, the phone is told, and its 487 goes back to the caller."""
        invite = self.invite()
        ringing = self.bob.flow.take_request()
        self.bob.receive(an_answer(ringing, 180).serialise())
        self.assertEqual(self.answers(), [("INVITE", 100), ("INVITE", 180)])
        self.cancel(invite)
        self.assertEqual(self.answers(), [("CANCEL", 200)])
        cancel = self.bob.flow.take_request()
        self.assertEqual((cancel.method, cancel.uri), ("CANCEL", "sip:bob@192.0.2.20:49160;transport=tcp"))
        self.bob.receive(an_answer(cancel, 200).serialise())
        self.bob.receive(an_answer(ringing, 487).serialise())
        self.assertEqual(self.answers(), [("INVITE", 487)])
        self.acknowledge(invite)

    def test_repeated_cancel(self) -> None:
        """A CANCEL that comes again is answered again, and the phone is told once."""
        invite = self.invite()
        self.bob.receive(an_answer(self.bob.flow.take_request(), 180).serialise())
        cancel = self.alice.request("CANCEL", BOB, cseq=1, via=invite.get("Via"))
        self.alice.send(cancel)
        self.alice.send(cancel)
        self.assertEqual([answer for answer in self.answers() if answer[0] == "CANCEL"], [("CANCEL", 200)] * 2)
        self.assertEqual(len(self.bob.flow.take()), 1)

    def test_while_the_store_is_asked(self) -> None:
        """A CANCEL before anybody rings ends the INVITE at once with 487, and nobody will ring."""
        self.location.holds = True
        invite = self.invite()
        self.assertEqual(self.location.waiting[0][0], "load")
        self.cancel(invite)
        self.assertEqual(self.answers(), [("CANCEL", 200), ("INVITE", 487)])
        self.acknowledge(invite)
        self.location.let_pass()
        self.assertEqual((self.bob.flow.written, self.answers()), ([], []))
        self.assertEqual(self.bob.flow.holds, 0)

    def test_while_the_store_fails(self) -> None:
        """The same when the store then has nobody to ring, or no answer: 487 was the last word."""
        self.location.holds = True
        invite = self.invite()
        self.cancel(invite)
        self.assertEqual(self.answers(), [("CANCEL", 200), ("INVITE", 487)])
        self.acknowledge(invite)
        self.location.down = True
        self.location.let_pass()
        self.assertEqual(self.answers(), [])

    def test_answered_already(self) -> None:
        """A CANCEL after the answer is 200 and changes nothing (§9.2)."""
        invite = self.invite()
        self.bob.receive(an_answer(self.bob.flow.take_request(), 486).serialise())
        self.assertEqual(self.answers(), [("INVITE", 100), ("INVITE", 486)])
        self.bob.flow.take()
        self.cancel(invite)
        self.assertEqual((self.answers(), self.bob.flow.take()), ([("CANCEL", 200)], []))
        self.acknowledge(invite)

    def test_of_another_phone(self) -> None:
        """The same branch from another phone means another call: its sent-by differs (§17.2.3)."""
        invite = self.invite()
        branch = top_via(invite).branch
        other = self.registrar.client("carol", "UDP", host="192.0.2.66")
        other.send(other.request("CANCEL", BOB, cseq=1, branch=branch))
        self.assertEqual(other.statuses(), [481])
        self.assertEqual(self.answers(), [("INVITE", 100)])
        self.bob.receive(an_answer(self.bob.flow.take_request(), 486).serialise())
        self.acknowledge(invite)


    def test_from_elsewhere(self) -> None:
        """Whoever knows the caller's Via, as everybody does who is called, cannot hang up in his place (§22.1)."""
        invite = self.invite()
        other = self.registrar.client("carol", "UDP", host="192.0.2.66")
        other.send(other.request("CANCEL", BOB, cseq=1, via=invite.get("Via")))
        self.assertEqual(other.statuses(), [481])
        ringing = self.bob.flow.take_request()
        self.bob.receive(an_answer(ringing, 486).serialise())
        self.assertEqual(self.answers(), [("INVITE", 100), ("INVITE", 486)])
        self.acknowledge(invite)


class StrangerTests(SynchronousTestCase):
    def test_challenged_without_state(self) -> None:
        """An INVITE that proves nothing gets one 407, whose retransmission no made-up address receives (§26.3.2.4)."""
        registrar = Registrar()
        stranger = registrar.client("alice", "UDP")
        stranger.send(stranger.request("INVITE", BOB, cseq=1))
        self.assertEqual((stranger.statuses(), len(registrar.layer.transactions)), ([407], 0))
        registrar.clock.advance(10)
        self.assertEqual(stranger.statuses(), [])


class AnswerPlaceTests(RequestsCase):
    def ask(self, via: str, source: tuple[str, int], transport: str = "UDP") -> dict[tuple[str, int], Response]:
        """Send OPTIONS with this Via from `source`; return each answer by the place that it went to."""
        flow = self.registrar.flow(transport, *source)
        Client(self.registrar, "alice", flow).send(a_request("OPTIONS", "sip:example.com", via=via))
        transports = self.registrar.network.transports
        flows = [*transports.datagrams.values(), *transports.flows.values()]
        return {flow.peer: flow.take_response() for flow in flows if flow.written}

    def answered_at(self, via: str, source: tuple[str, int], transport: str = "UDP") -> tuple[tuple[str, int], str]:
        """Return where the only answer went, and the Via in it."""
        ((place, answer),) = self.ask(via, source, transport).items()
        return place, answer.get("Via") or ""

    def test_rport(self) -> None:
        """A phone that asks for it is told its address and port, and answered there (RFC 3581 §4)."""
        source = ("192.0.2.40", 34567)
        for sent_by in ("10.0.0.5:5060", "192.0.2.40", "192.0.2.40:34567", "phone.example.net"):
            place, via = self.answered_at(f"SIP/2.0/UDP {sent_by};rport;branch=z9hG4bK-{sent_by}", source)
            self.assertEqual(place, source)
            params = top_via(Response.new(200, headers=[("Via", via)])).params
            self.assertEqual((params["received"], params["rport"]), ("192.0.2.40", "34567"))

    def test_received(self) -> None:
        """A Via with another host than the packet's gets "received" (§18.2.1), one with the same host does not."""
        _, via = self.answered_at("SIP/2.0/UDP phone.example.net;branch=z9hG4bK-1", ("192.0.2.40", 5060))
        self.assertEqual(via, "SIP/2.0/UDP phone.example.net;branch=z9hG4bK-1;received=192.0.2.40")
        _, via = self.answered_at("SIP/2.0/UDP 192.0.2.40;branch=z9hG4bK-2", ("192.0.2.40", 5060))
        self.assertEqual(via, "SIP/2.0/UDP 192.0.2.40;branch=z9hG4bK-2")

    def test_listening_on_another_port(self) -> None:
        """A phone without rport that is where its Via says is answered at the port in it (§18.2.2)."""
        for sent_by, port in (("192.0.2.40:5062", 5062), ("192.0.2.40", 5060), ("192.0.2.40:34567", 34567)):
            place, _ = self.answered_at(f"SIP/2.0/UDP {sent_by};branch=z9hG4bK-{sent_by}", ("192.0.2.40", 34567))
            self.assertEqual(place, ("192.0.2.40", port))

    def test_behind_a_nat_without_rport(self) -> None:
        """A phone whose Via names an address that it did not come from is answered where it spoke from."""
        place, _ = self.answered_at("SIP/2.0/UDP 10.0.0.5:5060;branch=z9hG4bK-3", ("192.0.2.40", 34567))
        self.assertEqual(place, ("192.0.2.40", 34567))

    def test_connections(self) -> None:
        """Over a connection the answer takes the same way back, whatever Via says."""
        via = "SIP/2.0/TCP 192.0.2.40:5062;branch=z9hG4bK-4"
        self.assertEqual(self.answered_at(via, ("192.0.2.40", 34567), "TCP"), (("192.0.2.40", 34567), via))

    def test_repetition_from_another_port(self) -> None:
        """A repetition is recognised and answered although the phone speaks from yet another port."""
        via = "SIP/2.0/UDP 192.0.2.40:5062;branch=z9hG4bK-5"
        (first,) = self.ask(via, ("192.0.2.40", 34567)).items()
        (second,) = self.ask(via, ("192.0.2.40", 34568)).items()
        self.assertEqual(first, second)


class MalformedTests(RequestsCase):
    def test_answered_and_counted(self) -> None:
        """What is left of a malformed request is answered with what is wrong, and counted by its status."""
        good = a_request("OPTIONS", "sip:example.com").serialise()
        for data, status in (
            (good.replace(b"SIP/2.0\r\n", b"SIP/3.0\r\n", 1), 505),
            (good.replace(b"CSeq: 1 OPTIONS", b"CSeq: 1 INVITE"), 400),
            (good.replace(b"CSeq: 1", b"CSeq: 99999999999"), 400),
            (good.replace(b"<sip:bob@example.com>", b"<sip:bob@example.com"), 400),
            (good.replace(b"Content-Length: 0", b"Content-Length: 10"), 400),
        ):
            before = self.registrar.counted("rollcall_malformed_total", status=str(status))
            self.alice.receive(data)
            (answer,) = self.alice.flow.written
            self.alice.flow.written.clear()
            self.assertTrue(answer.startswith(b"SIP/2.0 %d " % status), answer)
            self.assertEqual(self.registrar.counted("rollcall_malformed_total", status=str(status)), before + 1)

    def test_not_answered(self) -> None:
        """Noise, malformed answers and malformed ACKs are counted and not answered."""
        good = a_request("ACK").serialise()
        for data in (b"\xff\xfe\x00", b"GET / HTTP/1.1\r\n\r\n", b"SIP/2.0 999 x\r\n\r\n",
                     good.replace(b"CSeq: 1 ACK", b"CSeq: 1 BYE"), good.replace(b"Via: ", b"Vja: ")):
            self.alice.receive(data)
        self.assertEqual(self.alice.flow.written, [])
        self.assertEqual(self.malformed(), {("400",): 5})

    def test_lost_framing(self) -> None:
        """A stream whose next message cannot be found gets an answer to the last one; the transport closes it."""
        head = a_request("OPTIONS", "sip:example.com").serialise().replace(b"Content-Length: 0", b"Content-Length: x")
        self.registrar.requests.framing_failed(FramingError("malformed Content-Length", 400, head), self.bob.flow)
        self.assertEqual((self.bob.statuses(), self.malformed()), ([400], {("400",): 1}))

    def test_nobody_to_answer(self) -> None:
        """A malformed request on a flow that is gone is no failure of ours."""
        self.bob.flow.close("gone")
        self.bob.receive(a_request("OPTIONS").serialise().replace(b"CSeq: 1 OPTIONS", b"CSeq: x"))
        self.bob.send(a_request("OPTIONS", "sip:example.com"))
        self.assertEqual(self.malformed(), {("400",): 1})

    def test_our_mistakes(self) -> None:
        """A mistake of ours goes to the log with its traceback, not to the transport; the server lives on."""
        transactions = self.registrar.layer.transactions
        self.patch(transactions, "request_received", _broken)
        self.alice.send(a_request("OPTIONS", "sip:example.com"))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        del transactions.__dict__["request_received"]
        self.is_well()


GOOD = [
    a_request("REGISTER", "sip:example.com", callee="<sip:alice@example.com>", headers=(
        ("Contact", "<sip:alice@192.0.2.20>;expires=60;q=0.5;+sip.instance=\"<urn:uuid:1>\";reg-id=1"),
        ("Path", "<sip:edge.example.net;lr;ob>"), ("Supported", "path, outbound, gruu"), ("Expires", "60"),
        ("Authorization", 'Digest username="alice", realm="example.com", nonce="x", uri="sip:example.com", '
                          'response="00000000000000000000000000000000", qop=auth, nc=00000001, cnonce="1"'))),
    a_request("INVITE", BOB, headers=(("Route", "<sip:192.0.2.1;lr>"), ("Contact", "<sip:alice@192.0.2.20>"),
                                      ("Proxy-Authorization", 'Digest username="alice"')), body=b"v=0\r\n"),
    a_request("ACK", BOB), a_request("CANCEL", BOB),
    a_request("BYE", BOB, headers=(("Route", "<sip:x@192.0.2.1;lr>"),)),
    a_request("OPTIONS", "sip:example.com", via="SIP/2.0/UDP [2001:db8::1]:5060;rport;branch=z9hG4bK-1"),
    a_request("MESSAGE", "sip:alice@example.com;gr=urn:uuid:1", body=b"hello"),
]
MESSAGES = [message.serialise() for message in (*GOOD, *(an_answer(request, 200) for request in GOOD))]
PIECES = [
    b"", b"\r\n", b"\r", b"\n", b"\0", b"\xff", b" ", b"\t", b";", b",", b":", b"<", b">", b'"', b"\\", b"=", b"@",
    b"%", b"%00", b"%0d%0a", b"*", b"sip:", b"sips:", b"tel:", b"[::1]", b"[", b";lr", b";rport", b";branch=z9hG4bK",
    b"\r\n ", b"Via: x\r\n", b"Contact: *\r\n", b"Expires: 0\r\n", b"Route: <sip:192.0.2.1;lr>\r\n", b"4294967296",
    b"-1", "é".encode(), b"\xc3", b"Max-Forwards: 0\r\n", b"Require: x\r\n", b"To: <sip:a@b>;tag=1\r\n",
]


@st.composite
def changed(draw: st.DrawFn) -> bytes:
    """Return a message with a few places of it taken out, doubled or written over."""
    data = draw(st.sampled_from(MESSAGES))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        end = draw(st.integers(at, min(len(data), at + 30)))
        piece = draw(st.one_of(st.sampled_from(PIECES), st.just(data[at:end] * 2), st.binary(max_size=4)))
        data = data[:at] + piece + data[end:]
    return data


class AnyBytesTests(SynchronousTestCase):
    """Whatever comes, nothing is raised into the transport, nothing breaks inside, and the server goes on."""

    def setUp(self) -> None:
        """Let bob's phone be there for ever; it answers nothing."""
        ages = attrs.evolve(EXACT, max_expires_seconds=2**31)
        self.registrars = [
            Registrar(bindings=ages, proxy=ProxyConfig(strangers="accept")),
            Registrar(bindings=ages, with_passwords=False),
        ]
        for registrar in self.registrars:
            bob = registrar.client("bob", port=49160)
            self.assertEqual(bob.register("sip:bob@192.0.2.20:49160;transport=tcp", expires=2**31).status, 200)

    @settings(max_examples=300, deadline=None)
    @given(st.binary(max_size=200), st.sampled_from(["UDP", "TCP"]))
    @example(b"\r\n\r\n", "UDP")
    @example(b"SIP/2.0 200 OK\r\n\r\n", "TCP")
    def test_noise(self, data: bytes, transport: str) -> None:
        """Bytes of any kind are survived."""
        self.survive(data, transport)

    @settings(max_examples=600, deadline=None)
    @given(changed(), st.sampled_from(["UDP", "TCP"]))
    def test_changed_messages(self, data: bytes, transport: str) -> None:
        """Messages that were right until somebody changed a little are survived."""
        self.survive(data, transport)

    def survive(self, data: bytes, transport: str) -> None:
        """Send `data` twice, then see that nothing waits for ever and OPTIONS is answered."""
        for registrar in self.registrars:
            flow = registrar.flow(transport)
            for _ in range(2):
                registrar.requests.message_received(data, flow)
                registrar.requests.framing_failed(FramingError("no Content-Length", 400, data), flow)
            self.assertEqual({answer[:8] for answer in flow.written if not answer.startswith(b"SIP/2.0 ")}, set())
            self.assertEqual(self.flushLoggedErrors(), [])
            self.assertEqual(registrar.end_transactions(), 0, data)
            registrar.lose(flow)
            prober = registrar.client("prober", "UDP", port=50000)
            prober.send(prober.request("OPTIONS", "sip:example.com"))
            self.assertEqual(prober.statuses(), [200])


def _broken(*_: object) -> None:
    raise ZeroDivisionError
