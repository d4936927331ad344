"""Tests of the way out: what a forwarded copy looks like, and how its next hop is found (RFC 3261 §16.6)."""

from collections.abc import Coroutine
from typing import Any, TypeVar, cast

import attrs
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from registrar.records import Source
from registrar.routing import ByUri, OverDatagrams, OverFlow
from registrar.sending import Attempt, Forwarded, Sending, Undeliverable
from rollcall.net.flow import Flow
from rollcall.net.remote import NOWHERE
from rollcall.net.resolver import Resolver
from rollcall.net.tokens import NO_FLOW, BadToken, NoFlow
from rollcall.net.transports import Transports
from rollcall.sip.forwarding import is_loose, loop_mark, worker_of
from rollcall.sip.headers import parse_name_addr
from rollcall.sip.message import Request
from rollcall.sip.targets import Target
from rollcall.sip.uri import SipUri, parse_sip_uri
from tests.flows import LISTENERS, MemoryFlow, a_flow, a_request, top_branch, top_via
from tests.layers import Layer, RecordingClient
from tests.registrar.network import Network
from tests.rollcall.net.test_remote import Net

CALL_ID = b"call-1@192.0.2.10"
BOB = "sip:bob@192.0.2.20:49152"

Result = TypeVar("Result")


class SendingCase(SynchronousTestCase):
    """A caller's flow, a callee's flow, and the real Sending between them."""

    def setUp(self) -> None:
        self.layer = Layer()
        self.network = Network(self.layer)
        self.sending = self.network.sending
        self.caller = a_flow("TCP", port=49000)
        self.callee = a_flow("TCP", "192.0.2.20", 49152)
        for flow in (self.caller, self.callee):
            self.network.transports.flows[flow.id] = flow

    def forwarded(self, request: Request, from_phone: bool = True, source: Flow | None = None) -> Forwarded:
        """Return what the proxy makes of `request` before it goes out."""
        return Forwarded(request, source or self.caller, loop_mark(request), from_phone, CALL_ID, 60)

    def sent(self, request: Request, attempt: Attempt | None = None, flow: MemoryFlow | None = None,
             **changes: Any) -> Request:
        """Send `request` and return what the callee gets."""
        flow = flow or self.callee
        forwarded = attrs.evolve(self.forwarded(request), **changes)
        client = self.sending.send(forwarded, attempt or Attempt(BOB, flow), flow, RecordingClient())
        client.abandon()
        return flow.take_request()

    def result(self, coroutine: Coroutine[Deferred[Any], Any, Result]) -> Result:
        """Return what a coroutine gives that has nothing to wait for."""
        return self.successResultOf(Deferred.fromCoroutine(coroutine))

    def undeliverable(self, coroutine: Coroutine[Deferred[Any], Any, object]) -> str:
        """Return why `coroutine` found no way."""
        return str(self.failureResultOf(Deferred.fromCoroutine(coroutine), Undeliverable).value)


class CopyTests(SendingCase):
    """RFC 3261 §16.6 steps 1 to 8."""

    def test_untouched_fields(self) -> None:
        """All that a proxy has no business with stays as it was, in its order, unknown and odd fields too."""
        headers = (
            ("X-Unknown", "  odd ; value"), ("Subject", "lunch"), ("Date", "nonsense"), ("Contact", "<sip:alice@x>"),
            ("Content-Type", "application/sdp"), ("x-unknown", "again"),
        )
        request = a_request(headers=headers, body=b"v=0\r\n\0\xff")
        copy = self.sent(request)
        known = ("via", "max-forwards", "max-breadth", "record-route")
        self.assertEqual(
            [field[1:] for field in copy.fields if field[0] not in known],
            [(name, value.strip()) for _, name, value in request.fields if name not in ("Via", "Max-Forwards")],
        )
        self.assertEqual(copy.body, request.body)

    def test_the_request_itself_is_not_touched(self) -> None:
        """Each branch begins with the same request (step 1)."""
        request = a_request(headers=(("Route", "<sip:p.example.com>"),))
        before = request.copy()
        self.sent(request, Attempt(BOB, ByUri(("<sip:edge.example.net;lr>",))))
        self.assertEqual(request, before)

    def test_request_uri(self) -> None:
        """The Request-URI becomes the target's, without what may not stand in one (step 2, §19.1.1)."""
        for uri, expected in (
            (BOB, BOB),
            ("sip:bob@x;transport=tcp;ob?Subject=hi", "sip:bob@x;transport=tcp;ob"),
            ("sip:bob@x;method=INVITE;lr", "sip:bob@x;lr"),
            ("tel:+4930123456", "tel:+4930123456"),
        ):
            self.assertEqual(self.sent(a_request(), Attempt(uri, self.callee)).uri, expected)

    def test_max_forwards(self) -> None:
        """Max-Forwards goes down by one, or is 70 when there was none (step 3)."""
        self.assertEqual(self.sent(a_request(max_forwards=10)).get("Max-Forwards"), "9")
        self.assertEqual(self.sent(a_request(max_forwards=None)).get_all("Max-Forwards"), ["70"])

    def test_max_breadth(self) -> None:
        """Each copy says how far it may be forked, once, whatever the request said (RFC 5393 §5.3.3)."""
        request = a_request(headers=(("Max-Breadth", "70"),))
        self.assertEqual(self.sent(request, breadth=30).get_all("Max-Breadth"), ["30"])
        self.assertEqual(self.sent(a_request(), breadth=60).get_all("Max-Breadth"), ["60"])

    def test_via(self) -> None:
        """Our Via is on top, with the name and the transport of the callee's side, and the loop mark (step 8)."""
        request = a_request()
        for transport in LISTENERS:
            flow = a_flow(transport, "192.0.2.20")
            copy = self.sent(request, flow=flow)
            via = top_via(copy)
            self.assertEqual((via.transport, via.sent_by), (transport, f"192.0.2.1:{LISTENERS[transport].port}"))
            self.assertEqual(copy.values("Via")[1:], request.values("Via"))
            self.assertEqual(top_branch(copy).rpartition(".")[2], loop_mark(request))

    def test_branches_differ(self) -> None:
        """Each attempt has a branch of its own (step 8)."""
        request = a_request()
        self.assertNotEqual(top_branch(self.sent(request)), top_branch(self.sent(request)))

    def test_connection_that_we_opened(self) -> None:
        """Over a connection that no listener accepted we have the name of our listener of that transport."""
        flow = a_flow("TLS", accepted=False)
        self.assertEqual(top_via(self.sent(a_request(), flow=flow)).sent_by, "192.0.2.1:5061")

    def test_path(self) -> None:
        """A Path goes ahead of the Route there is (step 6)."""
        request = a_request(headers=(("Route", "<sip:later.example.com;lr>"),))
        path = ("<sip:edge.example.net;lr>", "<sip:token@inner.example.net;lr;ob>")
        self.assertEqual(
            self.sent(request, Attempt(BOB, ByUri(path))).values("Route"), [*path, "<sip:later.example.com;lr>"])

    def test_strict_router(self) -> None:
        """A next hop that routes strictly gets its own URI in the Request-URI, ours at the end of Route (step 6)."""
        copy = self.sent(a_request(headers=(("Route", "<sip:old.example.com>, <sip:p.example.com;lr>"),)),
                         Attempt(BOB, ByUri()))
        self.assertEqual(copy.uri, "sip:old.example.com")
        self.assertEqual(copy.values("Route"), ["<sip:p.example.com;lr>", f"<{BOB}>"])


class RecordRouteTests(SendingCase):
    """RFC 3261 §16.6 step 4, RFC 5626 §5.3."""

    def recorded(self, copy: Request) -> list[SipUri]:
        """Return our Record-Route values, from the top."""
        values = copy.values("Record-Route")
        self.assertTrue(all(is_loose(value) for value in values))
        return [parse_sip_uri(parse_name_addr(value).uri) for value in values]

    def named(self, uri: SipUri, call_id: bytes = CALL_ID) -> Flow | NoFlow:
        """Return the flow that a value names."""
        assert uri.user is not None
        return self.network.tokens.resolve(uri.user, call_id)

    def test_both_sides(self) -> None:
        """The callee's side is on top, the caller's below it: each names its flow, host and transport."""
        tls_caller = a_flow("TLS")
        self.network.transports.flows[tls_caller.id] = tls_caller
        outward, inward = self.recorded(self.sent(a_request(), source=tls_caller))
        self.assertEqual((self.named(outward), self.named(inward)), (self.callee, tls_caller))
        self.assertEqual((outward.port, outward.param("transport")), (5060, "tcp"))
        self.assertEqual((inward.port, inward.param("transport")), (5061, "tls"))

    def test_bound_to_the_call(self) -> None:
        """A token is worth nothing in another call."""
        outward, _ = self.recorded(self.sent(a_request()))
        self.assertRaises(BadToken, self.named, outward, b"another call")

    def test_datagrams(self) -> None:
        """A phone on datagrams is named by its address and our listener."""
        flow = self.network.transports.datagram_flow("udp", "192.0.2.20", 49152)
        assert isinstance(flow, MemoryFlow)
        outward, _ = self.recorded(self.sent(a_request(), flow=flow))
        self.assertEqual((self.named(outward), outward.param("transport")), (flow, None))

    def test_through_a_proxy(self) -> None:
        """A caller behind another proxy is not our peer: its side names no flow."""
        outward, inward = self.recorded(self.sent(a_request(), from_phone=False))
        self.assertEqual((self.named(outward), self.named(inward)), (self.callee, NO_FLOW))

    def test_found_by_its_uri(self) -> None:
        """A callee that was found by its URI will be found so again."""
        outward, inward = self.recorded(self.sent(a_request(), Attempt("sip:bob@pstn.example", ByUri())))
        self.assertEqual((self.named(outward), self.named(inward)), (NO_FLOW, self.caller))

    def test_above_those_of_others(self) -> None:
        """Ours come before what others recorded."""
        copy = self.sent(a_request(headers=(("Record-Route", "<sip:p.example.com;lr>"),)))
        self.assertEqual(copy.values("Record-Route")[2:], ["<sip:p.example.com;lr>"])

    def test_methods(self) -> None:
        """Whatever may begin a dialog is recorded, unknown methods too; what never does is not."""
        for method in ("INVITE", "SUBSCRIBE", "REFER", "NOTIFY", "NEWMETHOD"):
            self.assertEqual(len(self.sent(a_request(method)).values("Record-Route")), 2, method)
        for method in ("BYE", "MESSAGE", "OPTIONS", "INFO", "UPDATE", "PRACK", "PUBLISH", "REGISTER"):
            self.assertEqual(self.sent(a_request(method)).values("Record-Route"), [], method)

    def test_sips(self) -> None:
        """For a sips Request-URI both values are sips: "MUST be a SIPS URI"."""
        flow = a_flow("TLS", "192.0.2.20")
        copy = self.sent(a_request(), Attempt("sips:bob@192.0.2.20", flow), flow)
        self.assertEqual({uri.scheme for uri in self.recorded(copy)}, {"sips"})


class HeldTests(SendingCase):
    def test_connection(self) -> None:
        """A binding's connection is found by its id while it is open."""
        self.assertIs(self.sending.held(OverFlow(self.callee.id)), self.callee)
        self.callee.close("gone")
        self.assertIsNone(self.sending.held(OverFlow(self.callee.id)))
        self.assertIsNone(self.sending.held(OverFlow(999_999)))

    def test_datagrams(self) -> None:
        """A phone on datagrams is reached from the listener that it knows, while there is one of that name."""
        flow = self.sending.held(OverDatagrams("udp", "192.0.2.20", 49152))
        assert flow is not None
        self.assertEqual((flow.peer, flow.listener), (("192.0.2.20", 49152), LISTENERS["UDP"]))
        self.assertIsNone(self.sending.held(OverDatagrams("another", "192.0.2.20", 49152)))


class WorkerTests(SendingCase):
    """One of several workers: n-1 in epoch 1, beside n-2 in epoch 5."""

    def setUp(self) -> None:
        super().setUp()
        self.net = Net()
        transports, tokens = cast(Transports, self.network.transports), self.network.tokens
        self.sending = Sending(transports, cast(Resolver, None), self.layer.transactions, tokens, self.net)

    def hop(self, node: str, epoch: int, flow_id: int) -> OverFlow:
        """Return the way to a connection of a worker."""
        return OverFlow(flow_id, Source("TCP", *NOWHERE, "tcp", node, epoch, flow_id))

    def test_own_connection(self) -> None:
        """A connection of this worker is found while it is open; one of an earlier life is gone, whatever its id."""
        self.assertIs(self.sending.held(self.hop("n-1", 1, self.callee.id)), self.callee)
        self.assertIsNone(self.sending.held(self.hop("n-1", 0, self.callee.id)))
        self.assertIsNone(self.sending.held(self.hop("n-1", 1, 999_999)))

    def test_other_workers_connection(self) -> None:
        """A connection of another worker is found by who knows the workers, never among our own."""
        self.assertIs(self.sending.held(self.hop("n-2", 5, 7)), self.net.remote)
        self.assertIsNone(self.sending.held(self.hop("n-2", 5, self.callee.id)))

    def test_branch(self) -> None:
        """The branch of what goes out names this worker, so that every other one knows whose the answer is."""
        self.assertEqual(worker_of(top_branch(self.sent(a_request()))), 1)


class TargetsTests(SendingCase):
    """RFC 3261 §16.6 step 7, RFC 3263."""

    UDP, TCP, TLS = (Target(transport, "192.0.2.30", 5060) for transport in ("UDP", "TCP", "TLS"))

    def targets(self, request: Request, attempt: Attempt) -> list[Target]:
        return list(self.result(self.sending.targets(self.forwarded(request), attempt)))

    def asked(self, request: Request, attempt: Attempt) -> str:
        """Return what the resolver was asked for."""
        Deferred.fromCoroutine(self.sending.targets(self.forwarded(request), attempt)).addErrback(lambda _: None)
        return self.network.resolver.asked.pop()

    def test_request_uri(self) -> None:
        """Without a Route the Request-URI says where to."""
        self.network.resolver.known["sip:bob@pstn.example"] = [self.UDP, self.TCP]
        self.assertEqual(self.targets(a_request(), Attempt("sip:bob@pstn.example", ByUri())), [self.UDP, self.TCP])

    def test_first_route(self) -> None:
        """The topmost Route does when there is one, a Path before that."""
        request = a_request(headers=(("Route", "<sip:p.example.com;lr>, <sip:q.example.com;lr>"),))
        self.assertEqual(self.asked(request, Attempt(BOB, ByUri())), "sip:p.example.com;lr")
        path = ("<sip:edge.example.net;lr>", "<sip:inner.example.net;lr>")
        self.assertEqual(self.asked(request, Attempt(BOB, ByUri(path))), "sip:edge.example.net;lr")

    def test_sips(self) -> None:
        """A sips Request-URI is only ever sent over TLS, whatever the resolver knows."""
        self.network.resolver.known["sips:bob@pstn.example"] = [self.UDP, self.TCP, self.TLS]
        self.assertEqual(self.targets(a_request(), Attempt("sips:bob@pstn.example", ByUri())), [self.TLS])

    def test_sips_by_another_route(self) -> None:
        """For a sips Request-URI the next hop is looked for "as if the input URI were a SIPS URI"."""
        request = a_request(headers=(("Route", "<sip:p.example.com;lr>"),))
        self.assertEqual(self.asked(request, Attempt("sips:bob@x", ByUri())), "sips:p.example.com;lr")
        path = Attempt("sips:bob@x", ByUri(("<sip:edge.example.net;lr>",)))
        self.assertEqual(self.asked(a_request(), path), "sips:edge.example.net;lr")

    def test_unresolvable(self) -> None:
        """A name without an address, another scheme and a malformed URI lead nowhere."""
        for uri in ("sip:bob@nowhere.example", "tel:+4930123456", "sip:"):
            attempt = Attempt(uri, ByUri())
            self.assertTrue(self.undeliverable(self.sending.targets(self.forwarded(a_request()), attempt)))

    def test_inside_of_us(self) -> None:
        """Nobody elsewhere has us speak to our own machine, by whatever name; of several addresses the others count."""
        inside = Target("TCP", "127.0.0.1", 6379)
        self.network.resolver.known["sip:cache.example"] = [inside]
        self.network.resolver.known["sip:both.example"] = [inside, self.TCP]
        forwarded = self.forwarded(a_request())
        refused = self.undeliverable(self.sending.targets(forwarded, Attempt("sip:cache.example", ByUri())))
        self.assertIn(f"no address that {self.caller.peer[0]} may have us speak to", refused)
        self.assertEqual(self.targets(a_request(), Attempt("sip:both.example", ByUri())), [self.TCP])

    def test_who_named_the_place(self) -> None:
        """A contact is reached as the phone may that registered it, whoever calls."""
        inside = Target("TCP", "127.0.0.1", 5070)
        self.network.resolver.known["sip:gateway.example"] = [inside]
        local = Attempt("sip:gateway.example", ByUri(), asked_from="127.0.0.1")
        self.assertEqual(self.targets(a_request(), local), [inside])

    def test_large(self) -> None:
        """The resolver is told when a request may not fit a datagram (§18.1.1)."""
        self.network.resolver.known["sip:bob@pstn.example"] = [self.UDP]
        for body in (b"", b"x" * 1300):
            self.targets(a_request(body=body), Attempt("sip:bob@pstn.example", ByUri()))
        self.assertEqual(self.network.resolver.large, [False, True])


class ConnectTests(SendingCase):
    def test_connects(self) -> None:
        """A target becomes a flow."""
        self.network.transports.reachable["TCP", "192.0.2.30", 5060] = self.callee
        self.assertIs(self.result(self.sending.connect(Target("TCP", "192.0.2.30", 5060))), self.callee)

    def test_fails(self) -> None:
        """A target that takes no connection is no way to deliver anything, and it is said why."""
        why = self.undeliverable(self.sending.connect(Target("TCP", "192.0.2.30", 5060)))
        self.assertIn("192.0.2.30", why)


class PassOnTests(SendingCase):
    """RFC 3261 §16.11, as an ACK of a 2xx goes."""

    def ack(self, branch: str = "z9hG4bK-ack") -> Request:
        return a_request("ACK", BOB, branch=branch, callee="<sip:bob@example.com>;tag=bob")

    def pass_on(self, request: Request, attempt: Attempt) -> None:
        self.result(self.sending.pass_on(self.forwarded(request), attempt))

    def test_over_a_flow(self) -> None:
        """It leaves over the dialog's flow, without a transaction."""
        self.pass_on(self.ack(), Attempt(BOB, self.callee))
        copy = self.callee.take_request()
        self.assertEqual((copy.start_line, copy.get("Max-Forwards")), (f"ACK {BOB} SIP/2.0", "69"))
        self.assertEqual(self.layer.left(), (0, 0, 0))

    def test_by_uri(self) -> None:
        """It leaves for its Request-URI when the dialog names no flow."""
        (gateway,) = self.network.server("bob@pstn.example", ("TCP", "192.0.2.30", 5060))
        self.pass_on(self.ack(), Attempt("sip:bob@pstn.example", ByUri()))
        self.assertEqual(gateway.heard(), ["ACK"])

    def test_branch_follows_from_the_one_it_came_with(self) -> None:
        """A repeated ACK has the same branch again, another ACK another one: "invariant on retransmission"."""
        branches = []
        for branch in ("z9hG4bK-a", "z9hG4bK-a", "z9hG4bK-b"):
            self.pass_on(self.ack(branch), Attempt(BOB, self.callee))
            branches.append(top_branch(self.callee.take_request()))
        self.assertEqual(branches[0], branches[1])
        self.assertNotEqual(branches[0], branches[2])
        self.assertTrue(all(branch.startswith("z9hG4bK") for branch in branches))

    def test_closed_flow(self) -> None:
        """Over a flow that has ended nothing is delivered."""
        self.callee.close("gone")
        self.assertTrue(self.undeliverable(
            self.sending.pass_on(self.forwarded(self.ack()), Attempt(BOB, self.callee))))

    def test_unresolvable(self) -> None:
        """Nor to a name without an address."""
        self.assertTrue(self.undeliverable(
            self.sending.pass_on(self.forwarded(self.ack()), Attempt("sip:bob@nowhere.example", ByUri()))))
