"""Tests of what a proxy does to a message on its way (RFC 3261 §16, §18.2; RFC 3581; RFC 5393)."""

from collections.abc import Callable

from twisted.trial.unittest import SynchronousTestCase

from rollcall.sip.errors import ParseError
from rollcall.sip.forwarding import (
    answer_port,
    has_looped,
    is_loose,
    loop_mark,
    make_strict,
    max_breadth,
    max_forwards,
    new_branch,
    push_routes,
    record_route,
    same_host,
    spend_hop,
    stamp_source,
    take_own_routes,
    worker_of,
)
from rollcall.sip.headers import parse_name_addr, parse_via
from rollcall.sip.message import Request
from rollcall.sip.transaction import acknowledge, cancellation
from rollcall.sip.uri import SipUri, parse_sip_uri
from tests.flows import a_request, an_answer

BRANCH = "z9hG4bKkjshdyff"


def with_via(*values: str) -> Request:
    """Return a request whose Via fields are these."""
    request = a_request()
    request.set_values("Via", values)
    return request


def with_routes(*routes: str, uri: str = "sip:bob@example.com") -> Request:
    """Return a request with these Route fields."""
    return a_request("BYE", uri, headers=tuple(("Route", route) for route in routes))


def named(*hosts: str) -> Callable[[SipUri], bool]:
    """Return what tells whether a URI names one of `hosts`."""
    return lambda uri: uri.host in hosts


class StampSourceTests(SynchronousTestCase):
    """RFC 3261 §18.2.1, RFC 3581 §4."""

    def stamped(self, via: str, host: str, port: int) -> str | None:
        """Return the topmost Via as it stands in the request afterwards."""
        request = with_via(via)
        top = parse_via(via)
        stamp_source(request, top, host, port)
        self.assertEqual(top, parse_via(request.get("Via") or ""))
        return request.get("Via")

    def test_example_of_rfc_3581(self) -> None:
        """The request of RFC 3581 §6 gets received=192.0.2.1 and rport=9988."""
        via = self.stamped(f"SIP/2.0/UDP 10.1.1.1:4540;rport;branch={BRANCH}", "192.0.2.1", 9988)
        self.assertEqual(parse_via(via or "").params, {"rport": "9988", "branch": BRANCH, "received": "192.0.2.1"})

    def test_rport_brings_received(self) -> None:
        """With rport received is added "even if it is identical to the value of the sent-by component"."""
        via = self.stamped(f"SIP/2.0/UDP 192.0.2.1:5060;rport;branch={BRANCH}", "192.0.2.1", 5060)
        self.assertEqual(parse_via(via or "").params["received"], "192.0.2.1")

    def test_unchanged(self) -> None:
        """A sent-by that is the source address is left alone, to the letter."""
        for via, host in (
            (f"SIP/2.0/UDP 192.0.2.1 ;branch={BRANCH}", "192.0.2.1"),
            (f"SIP / 2.0 / UDP [2001:DB8::0:1]:5060;branch={BRANCH}", "2001:db8::1"),
        ):
            self.assertEqual(self.stamped(via, host, 7000), via)

    def test_other_source(self) -> None:
        """A name, or an address that is not the source, brings received, and no rport that nobody asked for."""
        for sent_by in ("pc33.atlanta.com", "10.1.1.1:5060"):
            via = self.stamped(f"SIP/2.0/UDP {sent_by};branch={BRANCH}", "192.0.2.1", 9988)
            self.assertEqual(parse_via(via or "").params, {"branch": BRANCH, "received": "192.0.2.1"})

    def test_ipv6_received(self) -> None:
        """An IPv6 source is written without brackets, as the grammar has it (RFC 5118 §4.5)."""
        via = self.stamped(f"SIP/2.0/TCP phone.example.com;branch={BRANCH}", "2001:db8::9", 5060)
        self.assertIn(";received=2001:db8::9", via or "")

    def test_forged(self) -> None:
        """What a client claims in received and rport is overwritten with the truth."""
        via = self.stamped(f"SIP/2.0/UDP 10.1.1.1;received=198.51.100.7;rport=1;branch={BRANCH}", "192.0.2.1", 9988)
        params = parse_via(via or "").params
        self.assertEqual((params["received"], params["rport"]), ("192.0.2.1", "9988"))

    def test_others_are_untouched(self) -> None:
        """The Vias below, on the same line or not, stay as they are, even malformed ones."""
        below = f'SIP/2.0/TCP  p1.example.com ;branch="x" , SIP/2.0/UDP p2;branch={BRANCH}2'
        last = 'SIP/2.0/UDP odd;x="never closed'
        top = f"SIP/2.0/UDP 10.1.1.1;rport;branch={BRANCH}"
        request = with_via(f"{top}, {below}", last)
        stamp_source(request, parse_via(top), "192.0.2.1", 9988)
        first, second = request.get_all("Via")
        self.assertEqual((first[first.index(","):], second), (f", {below}", last))
        self.assertEqual(parse_via(request.first_value("Via") or "").params["received"], "192.0.2.1")


class AnswerPortTests(SynchronousTestCase):
    """RFC 3261 §18.2.2, RFC 3581 §4."""

    def port(self, sent_by: str, host: str, port: int) -> int:
        return answer_port(parse_via(f"SIP/2.0/UDP {sent_by}"), host, port)

    def test_rport(self) -> None:
        """Whoever asks by rport is answered where it spoke from."""
        self.assertEqual(self.port("192.0.2.1:5060;rport", "192.0.2.1", 9988), 9988)
        self.assertEqual(self.port("10.1.1.1:4540;rport=9988;received=192.0.2.1", "192.0.2.1", 9988), 9988)

    def test_sent_by(self) -> None:
        """Without rport the answer goes to the port of sent-by, 5060 when it names none."""
        self.assertEqual(self.port("192.0.2.1:5062", "192.0.2.1", 9988), 5062)
        self.assertEqual(self.port("192.0.2.1", "192.0.2.1", 9988), 5060)
        self.assertEqual(self.port("[2001:db8::1]:5062", "2001:DB8:0::1", 9988), 5062)

    def test_behind_a_nat_without_rport(self) -> None:
        """A phone whose sent-by is not its source is behind a NAT that only knows the source port."""
        self.assertEqual(self.port("10.1.1.1:5060", "192.0.2.1", 9988), 9988)
        self.assertEqual(self.port("phone.invalid:5060", "192.0.2.1", 9988), 9988)


class SameHostTests(SynchronousTestCase):
    def test_addresses(self) -> None:
        """Addresses are compared as such, names never equal one."""
        self.assertTrue(same_host("192.0.2.1", "192.0.2.1"))
        self.assertTrue(same_host("[2001:DB8::1]", "2001:db8:0:0::1"))
        self.assertFalse(same_host("192.0.2.1", "192.0.2.2"))
        self.assertFalse(same_host("example.com", "192.0.2.1"))
        self.assertFalse(same_host("192.0.2.1", "2001:db8::1"))


class LoopTests(SynchronousTestCase):
    """RFC 5393 §4.2."""

    def test_method_makes_no_difference(self) -> None:
        """CANCEL and ACK have the mark of their INVITE (§4.2.1: "MUST NOT vary with the request method")."""
        invite = a_request()
        mark = loop_mark(invite)
        self.assertEqual(loop_mark(cancellation(invite)), mark)
        self.assertEqual(loop_mark(acknowledge(invite, an_answer(invite, 486))), mark)

    def test_cseq_with_a_tab(self) -> None:
        """The method stays out of the mark even when a tab stands before it."""
        invite, message = a_request(), a_request()
        invite.set("CSeq", "1\tINVITE")
        message.set("CSeq", "1 \t MESSAGE")
        self.assertEqual(loop_mark(invite), loop_mark(message))

    def test_tags_and_via_make_no_difference(self) -> None:
        """What changes on the way of a request that loops is not in the mark."""
        again = with_via("SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKother", "SIP/2.0/UDP 192.0.2.10;branch=z9hG4bK-one")
        again.set("Max-Forwards", "12")
        self.assertEqual(loop_mark(again), loop_mark(a_request()))

    def test_what_decides_the_way_does(self) -> None:
        """Another Request-URI, Route, Proxy-Require, Call-ID or CSeq number makes another mark (§4.2.1, §4.2.4)."""
        base = a_request()
        marks = {
            loop_mark(base),
            loop_mark(a_request(uri="sip:carol@example.com")),
            loop_mark(a_request(call_id="call-2@192.0.2.10")),
            loop_mark(a_request(cseq=2)),
            loop_mark(base, ["<sip:p1.example.com;lr>"]),
            loop_mark(base, ["<sip:p1.example.com;lr>", "<sip:p2.example.com;lr>"]),
            loop_mark(a_request(headers=(("Proxy-Require", "privacy"),))),
        }
        self.assertEqual(len(marks), 7)

    def test_branch_is_unique_and_carries_the_mark(self) -> None:
        """A branch begins with the cookie, differs each time, and ends with the mark (§4.2.1: "separable")."""
        mark = loop_mark(a_request())
        branches = {new_branch(mark) for _ in range(50)}
        self.assertEqual(len(branches), 50)
        for branch in branches:
            self.assertTrue(branch.startswith("z9hG4bK") and branch.endswith(f".{mark}"), branch)
            self.assertEqual(parse_via(f"SIP/2.0/UDP h;branch={branch}").branch, branch)

    def test_branch_names_its_worker(self) -> None:
        """A branch can begin with the number of the worker that made it; what others write names none."""
        mark = loop_mark(a_request())
        branch = new_branch(mark, 12)
        self.assertTrue(branch.startswith("z9hG4bK12-") and branch.endswith(f".{mark}"), branch)
        self.assertEqual((worker_of(branch), worker_of(new_branch(mark))), (12, 0))
        for other in ("z9hG4bK-one", "z9hG4bK12", "z9hG4bKa-1", "z9hG4bK999999-1", "z9hG4bK\u0661-1", ""):
            self.assertEqual(worker_of(other), 0)

    def forwarded(self, request: Request, sent_by: str, uri: str | None = None) -> Request:
        """Return `request` as it looks after our proxy sent it on to `uri`."""
        copy = request.copy()
        copy.prepend("Via", f"SIP/2.0/UDP {sent_by};branch={new_branch(loop_mark(request))}")
        copy.uri = uri or copy.uri
        return copy

    def is_loop(self, request: Request) -> bool:
        return has_looped(request, loop_mark(request), lambda sent_by: sent_by == "proxy.example.com:5060")

    def test_loop(self) -> None:
        """A request that comes back as we received it has looped, whoever handled it in between."""
        once = self.forwarded(a_request(), "Proxy.example.com:5060")
        twice = self.forwarded(once, "other.example.com:5060")
        self.assertTrue(self.is_loop(once))
        self.assertTrue(self.is_loop(twice))

    def test_spiral(self) -> None:
        """A request that comes back with another Request-URI is a spiral and goes on."""
        spiral = self.forwarded(a_request(), "proxy.example.com:5060", "sip:carol@example.com")
        self.assertFalse(self.is_loop(spiral))

    def test_loop_after_a_spiral(self) -> None:
        """When the spiral comes round to a Request-URI that we had before, it is a loop."""
        spiral = self.forwarded(a_request(), "proxy.example.com:5060", "sip:carol@example.com")
        loop = self.forwarded(spiral, "proxy.example.com:5060", "sip:bob@example.com")
        self.assertTrue(self.is_loop(loop))

    def test_others_are_not_judged(self) -> None:
        """Another proxy may have branches that look like ours."""
        self.assertFalse(self.is_loop(self.forwarded(a_request(), "other.example.com:5060")))

    def test_odd_vias(self) -> None:
        """A Via of others that we cannot read is no reason to fail (§4.2.4)."""
        request = a_request()
        mark = loop_mark(request)
        request.add("Via", f"SIP/2.0 nonsense {mark}")
        request.add("Via", f"SIP/2.0/UDP proxy.example.com:5060;x={mark}")
        self.assertFalse(self.is_loop(request))


class MaxForwardsTests(SynchronousTestCase):
    """RFC 3261 §16.3 step 3, §16.6 step 3."""

    def test_read(self) -> None:
        """It is a number, or None when the request does not say."""
        self.assertEqual(max_forwards(a_request(max_forwards=0)), 0)
        self.assertEqual(max_forwards(a_request(max_forwards=70)), 70)
        self.assertIsNone(max_forwards(a_request(max_forwards=None)))

    def test_counted_down(self) -> None:
        """It goes down by one; where there is none 70 is put."""
        for before, after in ((70, "69"), (1, "0"), (None, "70")):
            request = a_request(max_forwards=before)
            spend_hop(request)
            self.assertEqual(request.get_all("Max-Forwards"), [after])

    def test_out_of_range(self) -> None:
        """More than 255 counts as 255, however many digits it has (§20.22)."""
        for text in ("256", "300", "9" * 5000):
            request = a_request(max_forwards=None, headers=(("Max-Forwards", text),))
            self.assertEqual(max_forwards(request), 255)

    def test_malformed(self) -> None:
        """What is no number is a malformed request."""
        for text in ("", "-1", "seventy", "1.0", "٣"):
            request = a_request(max_forwards=None, headers=(("Max-Forwards", text),))
            self.assertEqual(self.assertRaises(ParseError, max_forwards, request).status, 400)


class MaxBreadthTests(SynchronousTestCase):
    """RFC 5393 §5.3.3."""

    def test_read(self) -> None:
        """It is what the request says, at most our own bound, which also holds for one that does not say."""
        for text, breadth in (("5", 5), ("60", 60), ("61", 60), ("0", 0), ("9" * 5000, 60)):
            self.assertEqual(max_breadth(a_request(headers=(("Max-Breadth", text),)), 60), breadth)
        self.assertEqual(max_breadth(a_request(), 60), 60)

    def test_malformed(self) -> None:
        """What is no number is a malformed request."""
        for text in ("", "-1", "1;x", "٣"):
            request = a_request(headers=(("Max-Breadth", text),))
            self.assertEqual(self.assertRaises(ParseError, max_breadth, request, 60).status, 400)


class RouteTests(SynchronousTestCase):
    """RFC 3261 §16.4, §16.6 step 6, §16.12.1."""

    def test_strict_router_on_the_way(self) -> None:
        """The BYE of RFC 3261 §16.12.1.2 looks at each hop as it is printed there."""
        bye = with_routes(
            "<sip:p4.domain.com;lr>", "<sip:p3.middle.com>", "<sip:p2.example.com;lr>", "<sip:p1.example.com;lr>",
            uri="sip:caller@u1.example.com",
        )
        # P4 takes itself off and makes the request what P3, a strict router, understands.
        self.assertEqual([str(uri) for uri in take_own_routes(bye, named("p4.domain.com"))], ["sip:p4.domain.com;lr"])
        self.assertTrue(make_strict(bye))
        self.assertEqual(bye.uri, "sip:p3.middle.com")
        self.assertEqual(
            bye.get_all("Route"),
            ["<sip:p2.example.com;lr>", "<sip:p1.example.com;lr>", "<sip:caller@u1.example.com>"],
        )
        # P3 puts the next hop into the Request-URI, as RFC 2543 had it.
        bye.uri = parse_name_addr(bye.get_all("Route")[0]).uri
        bye.remove_first_value("Route")
        # P2 finds its own Record-Route value there.
        self.assertEqual([str(uri) for uri in take_own_routes(bye, named("p2.example.com"))], ["sip:p2.example.com;lr"])
        self.assertEqual(bye.uri, "sip:caller@u1.example.com")
        self.assertEqual(bye.get_all("Route"), ["<sip:p1.example.com;lr>"])
        self.assertFalse(make_strict(bye))
        # P1 takes itself off; nothing is left.
        self.assertEqual(len(take_own_routes(bye, named("p1.example.com"))), 1)
        self.assertEqual((bye.uri, bye.get_all("Route")), ("sip:caller@u1.example.com", []))

    def test_both_of_our_values(self) -> None:
        """Our Record-Route has two values, one for each side: both are taken off, the topmost first."""
        bye = with_routes("<sip:one@proxy.example.com;lr>, <sip:two@proxy.example.com;transport=tcp;lr>")
        taken = take_own_routes(bye, named("proxy.example.com"))
        self.assertEqual([uri.user for uri in taken], ["one", "two"])
        self.assertIsNone(bye.get("Route"))

    def test_both_of_our_values_after_a_strict_router(self) -> None:
        """One of them in the Request-URI and one in Route are both ours."""
        bye = with_routes(
            "<sip:two@proxy.example.com;lr>", "<sip:bob@192.0.2.20>", uri="sip:one@proxy.example.com;lr"
        )
        taken = take_own_routes(bye, named("proxy.example.com"))
        self.assertEqual([uri.user for uri in taken], ["one", "two"])
        self.assertEqual((bye.uri, bye.get("Route")), ("sip:bob@192.0.2.20", None))

    def test_only_those_on_top(self) -> None:
        """Behind another's Route ours is for later."""
        routes = ["<sip:other.example.com;lr>", "<sip:proxy.example.com;lr>"]
        bye = with_routes(*routes)
        self.assertEqual(take_own_routes(bye, named("proxy.example.com")), [])
        self.assertEqual(bye.get_all("Route"), routes)

    def test_request_uri_without_lr(self) -> None:
        """A Request-URI that names us without lr is no Record-Route value of ours: nothing is replaced."""
        bye = with_routes("<sip:other.example.com;lr>", uri="sip:bob@proxy.example.com")
        self.assertEqual(take_own_routes(bye, named("proxy.example.com")), [])
        self.assertEqual(bye.uri, "sip:bob@proxy.example.com")

    def test_request_uri_with_lr_and_no_route(self) -> None:
        """Without a Route there is nothing to replace the Request-URI with."""
        bye = with_routes(uri="sip:one@proxy.example.com;lr")
        self.assertEqual(take_own_routes(bye, named("proxy.example.com")), [])

    def test_lr_with_a_value(self) -> None:
        """Some phones write lr=on or lr=true; it still says loose routing."""
        bye = with_routes("<sip:bob@192.0.2.20>", uri="sip:one@proxy.example.com;lr=on")
        self.assertEqual(len(take_own_routes(bye, named("proxy.example.com"))), 1)
        self.assertEqual(bye.uri, "sip:bob@192.0.2.20")
        self.assertTrue(is_loose("<sip:p.example.com;lr=true>"))

    def test_other_schemes(self) -> None:
        """A tel: Request-URI or Route is not ours and loses nothing."""
        bye = with_routes("<tel:+4930123456>", uri="tel:+4930123456")
        self.assertEqual(take_own_routes(bye, named("proxy.example.com")), [])
        self.assertFalse(is_loose("<tel:+4930123456>"))

    def test_malformed_route(self) -> None:
        """A Route that cannot be read is a malformed request."""
        for route in ("nonsense", "<sip:p.example.com", "<sip:@@>"):
            error = self.assertRaises(ParseError, take_own_routes, with_routes(route), named("proxy.example.com"))
            self.assertEqual(error.status, 400)

    def test_display_name_and_quotes(self) -> None:
        """A Route may have a display name, and commas in it."""
        bye = with_routes('"Proxy, ours" <sip:proxy.example.com;lr>;p=1, <sip:next.example.com;lr>')
        self.assertEqual(len(take_own_routes(bye, named("proxy.example.com"))), 1)
        self.assertEqual(bye.get_all("Route"), ["<sip:next.example.com;lr>"])

    def test_push(self) -> None:
        """A Path goes ahead of the Routes there are, in its order (§16.6 step 6)."""
        bye = with_routes("<sip:last.example.com;lr>")
        push_routes(bye, ["<sip:first.example.com;lr>", "<sip:second.example.com;lr>"])
        self.assertEqual(
            bye.get_all("Route"),
            ["<sip:first.example.com;lr>", "<sip:second.example.com;lr>", "<sip:last.example.com;lr>"],
        )

    def test_push_nothing(self) -> None:
        """Without any Route none appears."""
        bye = with_routes()
        push_routes(bye, [])
        self.assertIsNone(bye.get("Route"))

    def test_loose_next_hop(self) -> None:
        """A loose router next changes nothing, nor does the lack of a Route."""
        for bye in (with_routes("<sip:next.example.com;lr>"), with_routes()):
            before = bye.copy()
            self.assertFalse(make_strict(bye))
            self.assertEqual(bye, before)


class RecordRouteTests(SynchronousTestCase):
    """RFC 3261 §16.6 step 4."""

    def test_values(self) -> None:
        """A value names us, the transport of that side, and the flow; it always has lr."""
        for transport, secure, expected in (
            ("UDP", False, "<sip:token@192.0.2.1:5060;lr>"),
            ("TCP", False, "<sip:token@192.0.2.1:5060;transport=tcp;lr>"),
            ("TLS", False, "<sip:token@192.0.2.1:5060;transport=tls;lr>"),
            ("WS", False, "<sip:token@192.0.2.1:5060;transport=ws;lr>"),
            ("WSS", False, "<sip:token@192.0.2.1:5060;transport=ws;lr>"),
            ("TLS", True, "<sips:token@192.0.2.1:5060;lr>"),
            ("WSS", True, "<sips:token@192.0.2.1:5060;transport=ws;lr>"),
        ):
            self.assertEqual(record_route("token", "192.0.2.1:5060", transport, secure), expected)

    def test_readable(self) -> None:
        """What we write we recognise: a loose Route with our host, port and token, IPv6 too."""
        value = record_route("a-_Z09", "[2001:db8::1]:5061", "TLS", False)
        uri = parse_sip_uri(parse_name_addr(value).uri)
        self.assertEqual((uri.user, uri.host, uri.port), ("a-_Z09", "[2001:db8::1]", 5061))
        self.assertTrue(is_loose(value))
