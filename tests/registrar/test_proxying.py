"""Tests of requests for somebody else: which are forwarded, to whom, and what the others are told (RFC 3261 §16)."""

import attrs

from registrar.gruu import GruuMaker
from registrar.records import Source
from rollcall.sip.forwarding import loop_mark, new_branch
from rollcall.sip.message import Request
from tests.flows import a_request
from tests.registrar.calls import ALIAS, BOB, ProxyCase
from tests.registrar.examples import NOW, PHONE, TABLET, a_binding, a_bound
from tests.registrar.joined import RETRY_AFTER


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

    def test_options_while_draining(self) -> None:
        """While we are drained OPTIONS says that somebody else should be asked; a phone's own are forwarded as ever."""
        self.registrar.is_draining = True
        (answer,) = self.ask(a_request("OPTIONS", "sip:example.com"))
        self.assertEqual((answer.status, answer.get("Retry-After")), (503, str(RETRY_AFTER)))
        self.assertEqual(self.ask(a_request("OPTIONS", branch="z9hG4bK-2")), [])
        self.assertEqual(self.bob.heard(), ["OPTIONS"])

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
