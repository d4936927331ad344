"""Tests of calls from INVITE to BYE, from the bytes that come to the bytes that go (RFC 3261 §12, §16.12)."""


from rollcall.sip.headers import parse_name_addr
from rollcall.sip.message import Request, Response
from rollcall.sip.transaction import cancellation
from tests.flows import Headers, a_flow, a_request, an_answer
from tests.registrar.calls import BOB, BOBS_TAG, CALLER, ProxyCase
from tests.registrar.examples import PHONE


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

    def call_out(self, headers: Headers = ()) -> Response:
        """Let Alice call a number at another domain; return the 200 that she gets."""
        headers = (("Contact", "<sip:alice@192.0.2.20>"), *headers)
        request = a_request("INVITE", "sip:+4930@pstn.example", headers=headers)
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

    def test_asserted_names(self) -> None:
        """A phone's word for who it is, beside the From that its password proved, goes no further (RFC 3325 §5)."""
        asserted = ("P-Asserted-Identity", "P-Preferred-Identity", "Remote-Party-ID")
        self.call_out(tuple((name, "<sip:boss@example.com>") for name in asserted))
        self.assertEqual([self.gateway.requests["INVITE"].get(name) for name in asserted], [None] * 3)

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
