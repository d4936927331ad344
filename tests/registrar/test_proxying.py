"""Tests of requests for somebody else, from the bytes that come to the bytes that go (RFC 3261 §16)."""

import attrs
from twisted.trial.unittest import SynchronousTestCase

from registrar.gruu import GruuMaker
from registrar.location.contract import Snapshot
from registrar.records import Binding, Source
from registrar.routing import ProxyConfig
from rollcall.sip.forwarding import loop_mark, new_branch
from rollcall.sip.headers import parse_name_addr
from rollcall.sip.message import Request, Response
from rollcall.sip.transaction import cancellation
from tests.flows import Headers, MemoryFlow, a_flow, a_request, an_answer
from tests.registrar.examples import NOW, PHONE, TABLET, a_binding, a_bound
from tests.registrar.joined import RETRY_AFTER, Registrar
from tests.registrar.network import Phone

ALIAS = "sip.example.com"
BOB = "sip:bob@example.com"
CALLER = "<sip:alice@example.com>;tag=alice"
BOBS_TAG = "<sip:bob@example.com>;tag=bob"


class ProxyCase(SynchronousTestCase):
    """Alice calls Bob, whose phone is bound to its connection, on a node that asks nobody for a password."""

    with_passwords = False
    config = ProxyConfig()

    def setUp(self) -> None:
        self.registrar = Registrar(proxy=self.config, with_passwords=self.with_passwords)
        self.layer, self.network = self.registrar.layer, self.registrar.network
        self.alice, self.bob = self.network.phone("alice"), self.network.phone("bob")
        self.bind(self.bound(self.bob))

    def bind(self, *bindings: Binding, aor: str = BOB) -> None:
        """Have these bindings in the place of those there were."""
        before = self.registrar.location.peek(aor)
        self.registrar.location.put(aor, Snapshot(before.version + 1, bindings))

    def receive(self, message: Request | Response, flow: MemoryFlow) -> None:
        """Let `message` come over `flow`."""
        self.registrar.requests.message_received(message.serialise(), flow)

    def bound(self, phone: Phone, **changes: object) -> Binding:
        """Return the binding of `phone` over its connection."""
        host, port = phone.flow.peer
        return a_bound(f"sip:{phone.name}@{host}:{port};transport=tcp", phone.flow.id, **changes)

    def ask(self, request: Request, flow: MemoryFlow | None = None) -> list[Response]:
        """Let `request` come over Alice's flow or another; return what is answered at once."""
        flow = flow or self.alice.flow
        self.receive(request, flow)
        return self.answers(flow)

    def answers(self, flow: MemoryFlow | None = None) -> list[Response]:
        """Return what was answered over Alice's flow, or another, since the last look."""
        answers = (flow or self.alice.flow).take()
        return [answer for answer in answers if isinstance(answer, Response)]

    def status(self, request: Request) -> int:
        """Return the only answer to `request`."""
        (answer,) = self.ask(request)
        return answer.status

    def assert_released(self) -> None:
        """See that nothing is left when the last repetitions are over."""
        self.assertEqual(self.registrar.end_transactions(), 0)


class ValidationTests(ProxyCase):
    """RFC 3261 §16.3."""

    def test_max_forwards(self) -> None:
        """A request with no hop left is 483, OPTIONS too; one hop is enough."""
        for method in ("INVITE", "MESSAGE", "OPTIONS"):
            self.assertEqual(self.status(a_request(method, max_forwards=0, branch=f"z9hG4bK{method}")), 483)
        self.assertEqual(self.bob.heard(), [])
        self.ask(a_request("MESSAGE", max_forwards=1))
        self.assertEqual(self.bob.heard(), ["MESSAGE"])

    def test_loop(self) -> None:
        """A request that comes back unchanged has looped: 482 (RFC 5393 §4.2.2)."""
        first = a_request("MESSAGE")
        again = first.copy()
        again.prepend("Via", f"SIP/2.0/TCP 192.0.2.1:5060;branch={new_branch(loop_mark(first))}")
        again.prepend("Via", "SIP/2.0/TCP other.example.net;branch=z9hG4bKother")
        self.assertEqual(self.status(again), 482)

    def test_spiral(self) -> None:
        """One that comes back for somebody else goes on."""
        spiral = a_request("MESSAGE", "sip:carol@example.com")
        mark = loop_mark(spiral)
        spiral.uri = BOB
        spiral.prepend("Via", f"SIP/2.0/TCP 192.0.2.1:5060;branch={new_branch(mark)}")
        self.assertEqual(self.ask(spiral), [])
        self.assertEqual(self.bob.heard(), ["MESSAGE"])

    def test_loop_through_bindings(self) -> None:
        """Two subscribers who are bound to one another are a loop, and it is found."""
        self.bind(a_binding(BOB, direct=False), aor="sip:alice@example.com")
        self.bind(a_binding("sip:alice@example.com", direct=False))
        (us,) = self.network.server("alice@example.com", ("TCP", "192.0.2.1", 5060))
        self.network.resolver.known[BOB] = self.network.resolver.known["sip:alice@example.com"]
        self.ask(a_request("MESSAGE"))
        rounds = 0
        while (sent := us.flow.take()) and rounds < 10:
            rounds += 1
            (message,) = sent
            if isinstance(message, Request):
                self.receive(message, us.flow)
            else:
                self.layer.answer(message, us.flow)
        self.assertLess(rounds, 10)
        self.assertEqual([answer.status for answer in self.answers()], [482])

    def test_breadth(self) -> None:
        """Phones share the breadth that the caller allows, at most ours; with 1 they ring one by one (RFC 5393 §5)."""
        desk = self.network.phone("desk")
        self.bind(self.bound(self.bob), self.bound(desk))
        for text, rung, share in (("100", 2, "30"), ("5", 2, "2"), ("1", 1, "1")):
            self.ask(a_request("MESSAGE", branch=f"z9hG4bK{text}", headers=(("Max-Breadth", text),)))
            asked = [phone for phone in (desk, self.bob) if phone.heard() == ["MESSAGE"]]
            self.assertEqual(len(asked), rung)
            self.assertEqual({phone.requests["MESSAGE"].get("Max-Breadth") for phone in asked}, {share})

    def test_no_breadth(self) -> None:
        """A request that may not be forwarded to anybody any more is 440."""
        self.assertEqual(self.status(a_request("MESSAGE", headers=(("Max-Breadth", "0"),))), 440)

    def test_proxy_require(self) -> None:
        """What we are required to know and do not is 420, with its name; ACK is never refused for it."""
        request = a_request("MESSAGE", headers=(("Proxy-Require", "teleport"), ("Proxy-Require", "Foo, path")))
        (answer,) = self.ask(request)
        self.assertEqual((answer.status, answer.get("Unsupported")), (420, "foo, path, teleport"))

    def test_require_is_for_the_callee(self) -> None:
        """Require is between the phones (§20.32)."""
        self.assertEqual(self.ask(a_request("MESSAGE", headers=(("Require", "teleport"),))), [])
        self.assertEqual(self.bob.heard(), ["MESSAGE"])

    def test_scheme(self) -> None:
        """A Request-URI of another scheme is 416."""
        for uri in ("tel:+4930123456", "urn:service:sos", "http://example.com/"):
            self.assertEqual(self.status(a_request("MESSAGE", uri, branch=f"z9hG4bK{uri[:3]}")), 416)

    def test_unknown_method(self) -> None:
        """A method that nobody knows is forwarded: "MUST NOT refuse to proxy a request because …" (§16.3)."""
        self.assertEqual(self.ask(a_request("TELEPORT")), [])
        self.assertEqual(self.bob.heard(), ["TELEPORT"])

    def test_malformed_route(self) -> None:
        """A Route that cannot be read is 400, and a malformed Via of others is none of our business."""
        self.assertEqual(self.status(a_request("MESSAGE", headers=(("Route", "nonsense"),))), 400)


class TargetTests(ProxyCase):
    """RFC 3261 §16.5."""

    def test_bound(self) -> None:
        """A request for a subscriber goes over the connection that his phone registered on."""
        self.assertEqual([answer.status for answer in self.ask(a_request())], [100])
        self.assertEqual(self.bob.heard(), ["INVITE"])
        self.assertEqual(self.bob.requests["INVITE"].uri, "sip:bob@192.0.2.20:49153;transport=tcp")
        self.bob.answer(486)
        self.assertEqual([answer.status for answer in self.answers()], [486])
        self.assertEqual(self.registrar.counts("rollcall_calls_total"), {("486",): 1})

    def test_other_spellings(self) -> None:
        """Escapes, an alias, case, ports and parameters lead to the same subscriber."""
        for number, uri in enumerate(
            ("sip:%62ob@example.com", f"sip:bob@{ALIAS}", "sip:bob@EXAMPLE.COM:5060;user=phone", "sip:bob@example.com.")
        ):
            self.ask(a_request("MESSAGE", uri, branch=f"z9hG4bK{number}"))
            self.assertEqual(self.bob.heard(), ["MESSAGE"], uri)

    def test_nobody(self) -> None:
        """A user who does not exist is 404; one without a phone, or whose binding has lapsed, 480."""
        self.assertEqual(self.status(a_request("MESSAGE", "sip:nobody@example.com", branch="z9hG4bKa")), 404)
        self.assertEqual(self.status(a_request("MESSAGE", "sip:alice@example.com", branch="z9hG4bKb")), 480)
        self.bind(a_binding(expires_at=NOW - 1))
        self.assertEqual(self.status(a_request("MESSAGE", branch="z9hG4bKc")), 480)

    def test_other_domain(self) -> None:
        """Where nobody is asked for a password nothing is relayed to other domains."""
        self.assertEqual(self.status(a_request("MESSAGE", "sip:bob@elsewhere.example")), 403)

    def test_route_elsewhere(self) -> None:
        """A Route that is not ours takes a request away, even one for our own user: that is relaying too."""
        request = a_request("MESSAGE", headers=(("Route", "<sip:elsewhere.example;lr>"),))
        self.assertEqual(self.status(request), 403)
        self.assertEqual(self.bob.heard(), [])

    def test_own_route_without_token(self) -> None:
        """A phone that has us as outbound proxy puts us into Route: it is taken off and means nothing else."""
        for host in ("example.com", "192.0.2.1:5060", "192.0.2.1;transport=tcp"):
            self.ask(a_request("MESSAGE", branch=f"z9hG4bK{host}", headers=(("Route", f"<sip:{host};lr>"),)))
            self.assertEqual(self.bob.heard(), ["MESSAGE"], host)
            self.assertIsNone(self.bob.requests["MESSAGE"].get("Route"))

    def test_forked(self) -> None:
        """All phones of a subscriber ring, those of a higher q before."""
        desk, mobile, home = (self.network.phone(name) for name in ("desk", "mobile", "home"))
        self.bind(self.bound(desk), self.bound(mobile), self.bound(home, q=500))
        self.ask(a_request())
        self.assertEqual((desk.heard(), mobile.heard(), home.heard()), (["INVITE"], ["INVITE"], []))
        desk.answer(486)
        mobile.answer(486)
        self.assertEqual(home.heard(), ["INVITE"])
        home.answer(200)
        self.assertEqual([answer.status for answer in self.answers()], [200])

    def test_one_flow_of_a_phone(self) -> None:
        """A phone with two flows gets one request; the other flow is tried when the first is gone."""
        one, two = self.network.phone("one"), self.network.phone("two")
        self.bind(
            self.bound(one, instance=PHONE, reg_id=1, refreshed_at=NOW + 1),
            self.bound(two, instance=PHONE, reg_id=2))
        self.ask(a_request("MESSAGE"))
        self.assertEqual((one.heard(), two.heard()), (["MESSAGE"], []))
        one.flow.close("gone")
        self.ask(a_request("MESSAGE", branch="z9hG4bK2"))
        self.assertEqual(two.heard(), ["MESSAGE"])

    def test_connection_is_gone(self) -> None:
        """A phone whose connection has just ended is not there: 480."""
        self.bob.flow.close("gone")
        self.assertEqual(self.status(a_request("MESSAGE")), 480)

    def test_behind_a_nat(self) -> None:
        """A phone on datagrams with a private contact is reached where it registered from."""
        source = Source("UDP", "8.8.4.4", 40000, "udp", "n1", 1)
        self.bind(a_binding("sip:bob@10.0.0.7:5060", source=source))
        self.ask(a_request("MESSAGE"))
        sent = self.network.transports.datagrams["udp", "8.8.4.4", 40000].take_request()
        self.assertEqual(sent.uri, "sip:bob@10.0.0.7:5060")

    def test_websocket(self) -> None:
        """A browser's contact that no name server knows is reached over its WebSocket."""
        browser = self.network.phone("browser", "WSS")
        self.bind(a_bound("sip:k2j3@df7jal23ls0d.invalid;transport=ws", browser.flow.id))
        self.ask(a_request())
        self.assertEqual(browser.heard(), ["INVITE"])
        self.assertEqual(browser.requests["INVITE"].uri, "sip:k2j3@df7jal23ls0d.invalid;transport=ws")
        self.assertIn(";transport=ws;lr>", browser.requests["INVITE"].get("Record-Route") or "")

    def test_path(self) -> None:
        """A phone behind its own proxy is reached through it (RFC 3327 §5.4)."""
        path = ("<sip:token@edge.example.org;lr;ob>",)
        (edge,) = self.network.server("token@edge.example.org;lr;ob", ("TCP", "192.0.2.40", 5060))
        self.bind(a_binding("sip:bob@10.0.0.7", path=path, direct=False))
        self.ask(a_request("MESSAGE"))
        self.assertEqual(edge.heard(), ["MESSAGE"])
        self.assertEqual(edge.requests["MESSAGE"].values("Route"), list(path))

    def test_sips(self) -> None:
        """A sips call reaches phones behind TLS only; without one the callee is not there."""
        self.assertEqual(self.status(a_request("MESSAGE", "sips:bob@example.com")), 480)
        secure = self.network.phone("secure", "TLS")
        source = Source("TLS", *secure.flow.peer, "tls", "n1", 1, secure.flow.id)
        self.bind(self.bound(self.bob), attrs.evolve(self.bound(secure), source=source))
        self.ask(a_request("MESSAGE", "sips:bob@example.com", branch="z9hG4bKb"))
        self.assertEqual((secure.heard(), self.bob.heard()), (["MESSAGE"], []))


class GruuTests(ProxyCase):
    """RFC 5627 §5.2, §6."""

    def setUp(self) -> None:
        super().setUp()
        self.tablet = self.network.phone("tablet")
        self.bind(
            self.bound(self.bob, instance=PHONE, generation=3), self.bound(self.tablet, instance=TABLET))

    def test_public(self) -> None:
        """A public GRUU reaches one phone among those of the subscriber, in an alias too."""
        for number, domain in enumerate(("example.com", ALIAS)):
            self.ask(a_request("MESSAGE", f"sip:bob@{domain};gr={TABLET}", branch=f"z9hG4bK{number}"))
            self.assertEqual((self.tablet.heard(), self.bob.heard()), (["MESSAGE"], []))

    def test_temporary(self) -> None:
        """So does a temporary one, until its phone began anew."""
        gruus = GruuMaker([b"a secret for gruus"])
        uri = gruus.temporary(BOB, PHONE, 3)
        self.ask(a_request("MESSAGE", uri, branch="z9hG4bKa"))
        self.assertEqual((self.tablet.heard(), self.bob.heard()), ([], ["MESSAGE"]))
        old = gruus.temporary(BOB, PHONE, 2)
        self.assertEqual(self.status(a_request("MESSAGE", old, branch="z9hG4bKb")), 404)

    def test_forged(self) -> None:
        """One that we did not make is 404."""
        self.assertEqual(self.status(a_request("MESSAGE", "sip:tgruu.AAAA@example.com;gr")), 404)

    def test_phone_is_gone(self) -> None:
        """The GRUU of a phone that is not registered is 480, whoever else is."""
        self.bind(self.bound(self.tablet, instance=TABLET))
        self.assertEqual(self.status(a_request("MESSAGE", f"sip:bob@example.com;gr={PHONE}")), 480)


class OurselvesTests(ProxyCase):
    """Requests for this node itself (RFC 3261 §§8.2, 11.2)."""

    HOSTS = ("example.com", "192.0.2.1:5060", ALIAS)

    def test_options(self) -> None:
        """OPTIONS tells what we can do."""
        for number, host in enumerate(self.HOSTS):
            (answer,) = self.ask(a_request("OPTIONS", f"sip:{host}", branch=f"z9hG4bK{number}"))
            self.assertEqual(answer.status, 200)
            self.assertIn("INVITE", answer.get("Allow") or "")
            self.assertIn("outbound", answer.get("Supported") or "")
            self.assertIn(";tag=", answer.get("To") or "")

    def test_options_for_a_user(self) -> None:
        """OPTIONS for a subscriber is for his phone."""
        self.assertEqual(self.ask(a_request("OPTIONS")), [])
        self.assertEqual(self.bob.heard(), ["OPTIONS"])

    def test_required_extensions(self) -> None:
        """What it requires of us and we do not have is 420."""
        (answer,) = self.ask(a_request("OPTIONS", "sip:example.com", headers=(("Require", "teleport, path"),)))
        self.assertEqual((answer.status, answer.get("Unsupported")), (420, "teleport"))

    def test_ambiguous(self) -> None:
        """A call to a domain without a user is 485 (§16.5)."""
        for method in ("INVITE", "MESSAGE", "SUBSCRIBE"):
            self.assertEqual(self.status(a_request(method, "sip:example.com", branch=f"z9hG4bK{method}")), 485)

    def test_no_dialog(self) -> None:
        """What only comes within a dialog is of none here: 481."""
        for method in ("BYE", "INFO", "UPDATE", "PRACK"):
            self.assertEqual(self.status(a_request(method, "sip:192.0.2.1", branch=f"z9hG4bK{method}")), 481)

    def test_unknown_method(self) -> None:
        """A method that nobody knows is 501, with those that we do (§21.5.2)."""
        (answer,) = self.ask(a_request("TELEPORT", "sip:example.com"))
        self.assertEqual(answer.status, 501)
        self.assertIn("OPTIONS", answer.get("Allow") or "")


class CancelTests(ProxyCase):
    """RFC 3261 §9.2, §16.10."""

    def test_ringing(self) -> None:
        """A CANCEL is answered 200 at once and ends the call with 487."""
        self.ask(a_request())
        self.bob.answer(180)
        answers = self.ask(cancellation(a_request()))
        self.assertEqual([answer.start_line for answer in answers], ["SIP/2.0 180 Ringing", "SIP/2.0 200 OK"])
        self.assertEqual(self.bob.heard(), ["INVITE", "CANCEL"])
        self.bob.answer(487)
        self.assertEqual([answer.status for answer in self.answers()], [487])
        self.assertEqual(self.bob.heard(), ["ACK"])
        self.assert_released()

    def test_nothing_to_cancel(self) -> None:
        """A CANCEL that matches nothing is 481; so is one for another branch or from another client."""
        self.ask(a_request())
        for cancel in (cancellation(a_request(branch="z9hG4bKother")), cancellation(a_request(sent_by="192.0.2.66"))):
            self.assertEqual(self.status(cancel), 481)
        self.assertEqual(self.bob.heard(), ["INVITE"])

    def test_after_the_answer(self) -> None:
        """A CANCEL that comes too late is 200 and has no effect."""
        self.ask(a_request())
        self.bob.answer(200)
        self.answers()
        self.assertEqual(self.status(cancellation(a_request())), 200)
        self.assertEqual(self.bob.heard(), ["INVITE"])

    def test_while_the_store_is_asked(self) -> None:
        """A call that is cancelled before its callee was found is 487, and nobody's phone ever rings."""
        self.registrar.location.holds = True
        self.assertEqual(self.ask(a_request()), [])
        answers = self.ask(cancellation(a_request()))
        self.assertEqual([(answer.status, answer.get("CSeq")) for answer in answers],
                         [(200, "1 CANCEL"), (487, "1 INVITE")])
        self.assertEqual(self.registrar.location.let_pass(), ["load"])
        self.assertEqual((self.answers(), self.bob.heard()), ([], []))


class StoreTests(ProxyCase):
    def test_unavailable(self) -> None:
        """When the bindings cannot be asked for, the answer is 503, with a time to come again."""
        self.registrar.location.down = True
        (answer,) = self.ask(a_request("MESSAGE"))
        self.assertEqual((answer.status, answer.get("Retry-After")), (503, str(RETRY_AFTER)))

    def test_broken(self) -> None:
        """When something breaks that nobody expected, the answer is 500 and the log has the reason."""
        self.registrar.location.holds = True
        self.ask(a_request("MESSAGE"))
        ((_, gate),) = self.registrar.location.waiting
        gate.errback(ZeroDivisionError("a mistake of ours"))
        self.assertEqual([answer.status for answer in self.answers()], [500])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_subscribers_unavailable(self) -> None:
        """When nobody can say whether a user exists, he is not called unknown: 503."""
        self.registrar.subscribers.unavailable = "no connection"
        self.assertEqual(self.status(a_request("MESSAGE", "sip:nobody@example.com")), 503)


def route_set(message: Request | Response, is_caller: bool) -> list[str]:
    """Return the route set that a phone takes from the answer (caller) or the request (callee) (§12.1)."""
    values = message.values("Record-Route")
    return values[::-1] if is_caller else values


class DialogTests(ProxyCase):
    """A call from INVITE to BYE, each phone with the route set that RFC 3261 §12 gives it."""

    def setUp(self) -> None:
        super().setUp()
        contact = ("Contact", "<sip:alice@192.0.2.20:49152;transport=tcp>")
        self.assertEqual([answer.status for answer in self.ask(a_request(headers=(contact,)))], [100])
        self.bob.heard()
        self.invite = self.bob.requests["INVITE"]
        recorded = tuple(("Record-Route", value) for value in self.invite.values("Record-Route"))
        self.bob.answer(200, headers=(("Contact", f"<{self.invite.uri}>"), *recorded))
        (self.ok,) = self.answers()
        self.callers_routes = route_set(self.ok, is_caller=True)
        self.callees_routes = route_set(self.invite, is_caller=False)

    def from_caller(self, method: str, routes: list[str] | None = None, branch: str = "z9hG4bK-in",
                    cseq: int = 2, uri: str | None = None, call_id: str = "call-1@192.0.2.10") -> Request:
        """Return a request of Alice within the dialog."""
        headers: Headers = tuple(("Route", route) for route in (self.callers_routes if routes is None else routes))
        uri = uri or parse_name_addr(self.ok.get("Contact") or "").uri
        return a_request(method, uri, branch=branch, callee=BOBS_TAG, cseq=cseq, headers=headers, call_id=call_id)

    def from_callee(self, method: str) -> Request:
        """Return a request of Bob within the dialog."""
        return a_request(
            method, parse_name_addr(self.invite.get("Contact") or "").uri, branch="z9hG4bK-back",
            caller=BOBS_TAG, callee="<sip:alice@example.com>;tag=alice", call_id=self.invite.get("Call-ID") or "",
            headers=tuple(("Route", route) for route in self.callees_routes))

    def test_ack(self) -> None:
        """The ACK of the 200 reaches Bob over his connection, with nothing of us left in it but our Via."""
        self.receive(self.from_caller("ACK", cseq=1), self.alice.flow)
        self.assertEqual(self.bob.heard(), ["ACK"])
        ack = self.bob.requests["ACK"]
        self.assertEqual((ack.uri, ack.get("Route"), len(ack.values("Via"))), (self.invite.uri, None, 2))
        self.assertEqual(self.alice.flow.take(), [])

    def test_bye_of_the_caller(self) -> None:
        """Alice's BYE reaches Bob, his answer reaches her."""
        self.assertEqual(self.ask(self.from_caller("BYE")), [])
        self.assertEqual(self.bob.heard(), ["BYE"])
        self.bob.answer(200, "BYE")
        self.assertEqual([answer.status for answer in self.answers()], [200])
        self.assert_released()

    def test_bye_of_the_callee(self) -> None:
        """Bob's BYE comes to Alice over her connection, although she never registered."""
        self.receive(self.from_callee("BYE"), self.bob.flow)
        self.assertEqual(self.alice.heard(), ["BYE"])
        self.assertEqual(self.alice.requests["BYE"].uri, "sip:alice@192.0.2.20:49152;transport=tcp")
        self.alice.answer(200, "BYE")
        (answer,) = self.answers(self.bob.flow)
        self.assertEqual(answer.status, 200)

    def test_all_methods(self) -> None:
        """Whatever belongs to a dialog passes, a re-INVITE too."""
        for method in ("INVITE", "UPDATE", "INFO", "PRACK", "REFER", "NOTIFY", "MESSAGE"):
            self.ask(self.from_caller(method, branch=f"z9hG4bK{method}"))
            self.assertEqual(self.bob.heard(), [method])
            self.bob.answer(200, method)
            self.assertEqual([answer.status for answer in self.answers()][-1:], [200])

    def test_over_another_connection(self) -> None:
        """A phone that lost its connection may go on with the dialog over a new one."""
        new = self.network.phone("alice2")
        self.receive(self.from_caller("BYE"), new.flow)
        self.assertEqual(self.bob.heard(), ["BYE"])
        self.bob.answer(200, "BYE")
        self.assertEqual([answer.status for answer in self.answers(new.flow)], [200])

    def test_other_side_is_gone(self) -> None:
        """When Bob's connection has ended, what is for him is 430 (RFC 5626 §5.3.1)."""
        self.bob.flow.close("gone")
        self.assertEqual(self.status(self.from_caller("BYE")), 430)

    def test_forged_token(self) -> None:
        """A token that we did not make, or with one letter changed, is 403."""
        first, last = self.callers_routes
        for number, forged in enumerate(("sip:AAAA@", "sip:bob@")):
            route = forged + last.partition("@")[2]
            request = self.from_caller("BYE", [first, f"<{route}"], branch=f"z9hG4bK{number}")
            self.assertEqual(self.status(request), 403)
        self.assertEqual(self.bob.heard(), [])

    def test_token_of_another_call(self) -> None:
        """A token is good in its call only."""
        self.assertEqual(self.status(self.from_caller("BYE", call_id="another@192.0.2.10")), 403)

    def test_forged_ack(self) -> None:
        """An ACK with a forged token, or with none, is dropped without an answer."""
        for routes in (["<sip:AAAA@192.0.2.1:5060;transport=tcp;lr>"], [], ["nonsense"]):
            self.assertEqual(self.ask(self.from_caller("ACK", routes, cseq=1)), [])
        self.assertEqual(self.bob.heard(), [])

    def test_ack_to_a_flow_that_is_gone(self) -> None:
        """An ACK for a phone that is gone is lost, and nothing breaks."""
        self.bob.flow.close("gone")
        self.assertEqual(self.ask(self.from_caller("ACK", cseq=1)), [])

    def test_strict_router(self) -> None:
        """A strict router before us moves our Record-Route value into the Request-URI (§16.4)."""
        first, last = self.callers_routes
        routes = [last, f"<{self.invite.uri}>"]
        self.ask(self.from_caller("BYE", routes, uri=parse_name_addr(first).uri))
        self.assertEqual(self.bob.heard(), ["BYE"])
        self.assertEqual(self.bob.requests["BYE"].uri, self.invite.uri)

    def test_contact_with_our_name(self) -> None:
        """A phone whose Contact is its address-of-record is still reached over its flow, not by a look-up."""
        other = self.network.phone("other")
        self.bind(self.bound(other))
        self.ask(self.from_caller("BYE", uri=BOB))
        self.assertEqual((self.bob.heard(), other.heard()), (["BYE"], []))

    def test_contact_that_is_a_gruu(self) -> None:
        """A GRUU leads to where its phone is now (RFC 5627 §6.1), within a dialog too."""
        other = self.network.phone("other")
        self.bind(self.bound(other, instance=PHONE))
        self.ask(self.from_caller("BYE", uri=f"sip:bob@example.com;gr={PHONE}"))
        self.assertEqual((self.bob.heard(), other.heard()), ([], ["BYE"]))
        self.assertEqual(other.requests["BYE"].uri, f"sip:other@192.0.2.20:{other.flow.peer[1]};transport=tcp")

    def test_repeated_success(self) -> None:
        """Bob repeats his 200 until the ACK comes; each goes to Alice."""
        self.bob.answer(200)
        self.bob.answer(200)
        self.assertEqual([answer.status for answer in self.answers()], [200, 200])


class RelayTests(ProxyCase):
    """Subscribers call other domains; strangers do not (RFC 3261 §26.3)."""

    with_passwords = True

    def setUp(self) -> None:
        super().setUp()
        (self.gateway,) = self.network.server("+4930@pstn.example", ("TCP", "192.0.2.30", 5060))
        self.other_gateway = self.network.server("+900@pstn.example", ("TCP", "192.0.2.31", 5060))[0]

    def call_out(self) -> Response:
        """Let Alice call a number at another domain; return the 200 that she gets."""
        request = a_request("INVITE", "sip:+4930@pstn.example", headers=(("Contact", "<sip:alice@192.0.2.20>"),))
        (challenged,) = self.ask(request)
        self.assertEqual(challenged.status, 407)
        self.receive(a_request("ACK", "sip:+4930@pstn.example"), self.alice.flow)
        client = self.registrar.client("alice")
        client.take_challenge(challenged)
        proven = request.copy()
        proven.set("Via", "SIP/2.0/TCP 192.0.2.10:5060;branch=z9hG4bK-proven")
        proven.set("Proxy-Authorization", client.credentials("INVITE", request.uri))
        self.assertEqual([answer.status for answer in self.ask(proven)], [100])
        self.assertEqual(self.gateway.heard(), ["INVITE"])
        invite = self.gateway.requests["INVITE"]
        recorded = tuple(("Record-Route", value) for value in invite.values("Record-Route"))
        self.gateway.answer(200, headers=(("Contact", "<sip:+4930@pstn.example>"), *recorded))
        (answer,) = self.answers()
        return answer

    def test_subscriber(self) -> None:
        """A subscriber's call goes out without his password, and his ACK and BYE follow it."""
        ok = self.call_out()
        self.assertIsNone(self.gateway.requests["INVITE"].get("Proxy-Authorization"))
        routes = tuple(("Route", route) for route in route_set(ok, is_caller=True))
        for method in ("ACK", "BYE"):
            self.receive(
                a_request(method, "sip:+4930@pstn.example", branch=f"z9hG4bK{method}", callee="<sip:x@y>;tag=b",
                          headers=routes), self.alice.flow)
            self.assertEqual(self.gateway.heard(), [method])

    def test_gateway_hangs_up(self) -> None:
        """The gateway's BYE comes back to the subscriber's connection without a password."""
        self.call_out()
        invite = self.gateway.requests["INVITE"]
        routes = tuple(("Route", route) for route in route_set(invite, is_caller=False))
        self.receive(
            a_request("BYE", "sip:alice@192.0.2.20", branch="z9hG4bKbye", caller="<sip:x@y>;tag=b",
                      callee="<sip:alice@example.com>;tag=alice", headers=routes), self.gateway.flow)
        self.assertEqual(self.alice.heard(), ["BYE"])

    def test_stranger(self) -> None:
        """A stranger is not relayed."""
        request = a_request("INVITE", "sip:+900@pstn.example", caller="<sip:eve@elsewhere.example>;tag=e")
        self.assertEqual(self.status(request), 407)
        self.assertEqual(self.other_gateway.heard(), [])

    def test_token_is_no_ticket(self) -> None:
        """Whoever once took part in a call cannot use its tokens to call others through us, whatever tags he takes."""
        self.call_out()
        routes = route_set(self.gateway.requests["INVITE"], is_caller=False)
        stranger = self.network.phone("eve")
        branches = (f"z9hG4bK{number}" for number in range(99))
        for tokens in (routes, routes[::-1], routes[:1]):
            for callee in ("<sip:x@y>", "<sip:x@y>;tag=x", "<sip:x@y>;tag=alice"):
                for flow in (self.gateway.flow, stranger.flow):
                    self.receive(
                        a_request("INVITE", "sip:+900@pstn.example", branch=next(branches), callee=callee,
                                  caller="<sip:eve@elsewhere.example>;tag=eve",
                                  headers=tuple(("Route", token) for token in tokens)), flow)
                    self.assertEqual(self.other_gateway.heard(), [], (tokens, callee))

    def test_subscriber_over_another_connection(self) -> None:
        """A subscriber who goes on with such a call over another connection is asked for his password again."""
        ok = self.call_out()
        routes = tuple(("Route", route) for route in route_set(ok, is_caller=True))
        client = self.registrar.client("alice", port=50000)
        bye = client.request("BYE", "sip:+4930@pstn.example", callee="<sip:x@y>;tag=b", caller=CALLER, headers=routes,
                             call_id="call-1@192.0.2.10")
        client.send(bye)
        client.take_challenge(client.flow.take_response())
        self.assertEqual(self.gateway.heard(), [])
        bye.set("Via", "SIP/2.0/TCP 192.0.2.20:50000;branch=z9hG4bK-again")
        bye.set("Proxy-Authorization", client.credentials("BYE", bye.uri))
        client.send(bye)
        self.assertEqual(self.gateway.heard(), ["BYE"])

    def test_challenge_is_counted(self) -> None:
        """What became of credentials is told to those who count."""
        self.call_out()
        self.assertEqual(
            self.registrar.counts("rollcall_authentications_total"), {("missing",): 1, ("accepted",): 1})


class TransportTests(ProxyCase):
    """What the way in has to do with the way out (RFC 3261 §18, RFC 3581)."""

    def test_datagram_without_rport(self) -> None:
        """A caller on datagrams without rport is answered at the port that his Via names."""
        caller = a_flow("UDP", "192.0.2.10", 40000)
        self.receive(a_request("MESSAGE", "sip:nobody@example.com"), caller)
        self.assertEqual(caller.take(), [])
        self.assertEqual(self.network.transports.datagrams["udp", "192.0.2.10", 5060].take_response().status, 404)

    def test_datagram_with_rport(self) -> None:
        """With rport he is answered where he spoke from, and told what that is."""
        caller = a_flow("UDP", "192.0.2.10", 40000)
        self.receive(
            a_request("MESSAGE", "sip:nobody@example.com", via="SIP/2.0/UDP 192.0.2.10;rport;branch=z9hG4bK-one"),
            caller)
        answer = caller.take_response()
        self.assertIn("rport=40000", answer.get("Via") or "")

    def test_malformed(self) -> None:
        """A request that cannot be read is answered as well as it can be, and counted."""
        request = a_request("MESSAGE", headers=(("CSeq", "2 MESSAGE"),))
        self.assertEqual([answer.status for answer in self.ask(request)], [400])
        self.assertEqual(self.registrar.counts("rollcall_malformed_total"), {("400",): 1})

    def test_odd_via_below(self) -> None:
        """A malformed Via that others left below is no reason for silence."""
        request = a_request("MESSAGE")
        request.add("Via", 'SIP/2.0/UDP odd;x="never closed')
        self.receive(request, self.alice.flow)
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_closed_flow(self) -> None:
        """The end of a connection fails what waits on it: the caller gets 500 for a phone that broke off."""
        self.ask(a_request())
        self.registrar.lose(self.bob.flow)
        self.assertEqual([answer.status for answer in self.answers()], [500])

    def test_stray_response(self) -> None:
        """A response to nothing is dropped."""
        self.receive(an_answer(a_request(), 200), self.alice.flow)
        self.assertEqual(self.alice.flow.take(), [])
