"""Tests of server transactions over flows: matching, pacing, and what is passed up (RFC 3261 §17.2)."""


from rollcall.sip.message import Request
from rollcall.sip.transaction import State, cancellation
from tests.flows import a_request, an_answer, top_via
from tests.layers import NOTHING, Layer, LayerCase


class InviteServerTests(LayerCase):
    """RFC 3261 §17.2.1 with RFC 6026."""

    def ack(self, tag: str = "bob", branch: str = "z9hG4bK-one") -> Request:
        return a_request("ACK", branch=branch, callee=f"<sip:bob@example.com>;tag={tag}")

    def test_silent_until_answered(self) -> None:
        """An INVITE that comes again while nobody has answered is neither passed up nor answered."""
        server = self.layer.begin(a_request(), self.phone)
        self.assertIsNone(self.layer.arrive(a_request(), self.phone))
        self.assertEqual((self.phone.starts(), server.state), ([], State.PROCEEDING))
        self.answer_to(server, 200)

    def test_repeats_last_provisional(self) -> None:
        """An INVITE that comes again gets "the most recent provisional response"."""
        server = self.layer.begin(a_request(), self.phone)
        server.refuse(100)
        self.answer_to(server, 180)
        self.assertEqual(self.phone.starts(), ["SIP/2.0 100 Trying", "SIP/2.0 180 Ringing"])
        self.layer.arrive(a_request(), self.phone)
        self.assertEqual(self.phone.starts(), ["SIP/2.0 180 Ringing"])

    def test_refusal_is_paced_by_g_until_h(self) -> None:
        """A refusal over datagrams is repeated after 0.5, 1, 2, 4, 4, … s; without an ACK it ends after 64*T1."""
        server = self.layer.begin(a_request(), self.phone)
        self.answer_to(server, 486)
        self.assertEqual(
            self.layer.moments(self.phone, 40), [0.0, 0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5, 31.5]
        )
        self.assert_released()

    def test_refusal_over_connection_is_sent_once(self) -> None:
        """Over a reliable transport timer G is not set, and timer H still ends the wait for the ACK."""
        server = self.layer.begin(a_request(transport="TCP"), self.tcp_phone)
        self.answer_to(server, 486)
        self.assertEqual(self.layer.moments(self.tcp_phone, 31.9), [0.0])
        self.assertEqual(len(self.layer.transactions), 1)
        self.layer.wait(0.2)
        self.assert_released()

    def test_turned_away_once(self) -> None:
        """Who is turned away is told once, and again only when he asks again; his ACK is nobody's (§26.3.2.4)."""
        server = self.layer.begin(a_request(), self.phone)
        server.turn_away(407)
        self.assertEqual((len(self.layer.transactions), self.layer.moments(self.phone, 8)), (0, [0.0]))
        self.assertIsNone(self.layer.arrive(a_request(), self.phone))
        self.assertEqual(self.phone.starts(), ["SIP/2.0 407 Proxy Authentication Required"])
        self.layer.arrive(self.ack(), self.phone)
        self.assertEqual((self.layer.user.acks, self.phone.starts()), ([], []))
        self.layer.wait(64)
        self.assert_released()

    def test_turned_away_over_connection(self) -> None:
        """Over a connection nothing at all is kept of who is turned away."""
        server = self.layer.begin(a_request(transport="TCP"), self.tcp_phone)
        server.turn_away(403, "Relaying Denied")
        self.assertEqual((self.tcp_phone.starts(), self.layer.left()), (["SIP/2.0 403 Relaying Denied"], NOTHING))

    def test_turned_away_after_a_word(self) -> None:
        """Once something was said the caller repeats nothing, so that a refusal has to be repeated until its ACK."""
        server = self.layer.begin(a_request(), self.phone)
        server.refuse(100)
        server.turn_away(503)
        self.assertEqual((server.state, self.layer.moments(self.phone, 1)), (State.COMPLETED, [0.0, 0.0, 0.5]))
        self.layer.wait(32)
        self.assert_released()

    def test_repeated_invite_gets_refusal_again(self) -> None:
        """In Completed an INVITE that comes again gets the response again, and the pace of timer G stays."""
        server = self.layer.begin(a_request(), self.phone)
        self.answer_to(server, 486)
        self.layer.wait(0.25)
        self.layer.arrive(a_request(), self.phone)
        self.layer.arrive(a_request(), self.phone)
        self.assertEqual(self.phone.starts(), ["SIP/2.0 486 Busy Here"] * 3)
        self.assertEqual(self.layer.moments(self.phone, 4), [0.25, 1.25, 3.25])
        self.layer.wait(32)
        self.assert_released()

    def test_ack_of_refusal_is_absorbed(self) -> None:
        """The ACK ends the repetitions and is not passed up; more of them are absorbed for T4."""
        server = self.layer.begin(a_request(), self.phone)
        self.answer_to(server, 486)
        self.layer.arrive(self.ack(), self.phone)
        self.assertEqual(server.state, State.CONFIRMED)
        self.layer.arrive(self.ack(), self.phone)
        self.layer.arrive(a_request(), self.phone)
        self.assertEqual(self.layer.moments(self.phone, 4.9), [0.0])
        self.assertEqual((self.layer.user.acks, len(self.layer.user.received)), ([], 1))
        self.layer.wait(0.2)
        self.assert_released()

    def test_ack_over_connection_ends_it(self) -> None:
        """Over a reliable transport timer I is zero: the ACK ends the transaction at once."""
        server = self.layer.begin(a_request(transport="TCP"), self.tcp_phone)
        self.answer_to(server, 486)
        self.layer.arrive(a_request("ACK", transport="TCP"), self.tcp_phone)
        self.assert_released()
        self.assertEqual(self.layer.user.acks, [])

    def test_ack_before_an_answer_is_ignored(self) -> None:
        """An ACK to an INVITE that still rings changes nothing."""
        server = self.layer.begin(a_request(), self.phone)
        self.layer.arrive(self.ack(), self.phone)
        self.assertEqual((server.state, self.layer.user.acks), (State.PROCEEDING, []))

    def test_success_is_not_repeated_by_us(self) -> None:
        """A 2xx is sent once; repeating it is for the phone that made it (RFC 6026 §7.1)."""
        for flow, transport in ((self.phone, "UDP"), (self.tcp_phone, "TCP")):
            server = self.layer.begin(a_request(transport=transport, branch=f"z9hG4bK{transport}"), flow)
            self.answer_to(server, 200)
            self.assertEqual(self.layer.moments(flow, 31.9), [0.0])
            self.assertEqual(len(self.layer.transactions), 1)
            self.layer.wait(0.2)
            self.assert_released()

    def test_every_success_is_sent(self) -> None:
        """While Accepted each 2xx that the user passes is sent: a repetition, or one of another phone (RFC 6026)."""
        server = self.layer.begin(a_request(), self.phone)
        for tag in ("bob", "bob", "bobs-other-phone"):
            server.respond(an_answer(server.request, 200, tag=tag))
        tags = [message.get("To") for message in self.phone.take()]
        self.assertEqual(tags, [f"<sip:bob@example.com>;tag={tag}" for tag in ("bob", "bob", "bobs-other-phone")])
        self.layer.wait(32.1)
        self.assert_released()

    def test_accepted_absorbs_invites(self) -> None:
        """An INVITE that comes again after the 2xx is no new call, and is not answered (RFC 6026 §7.1)."""
        server = self.layer.begin(a_request(), self.phone)
        self.answer_to(server, 200)
        self.phone.take()
        self.assertIsNone(self.layer.arrive(a_request(), self.phone))
        self.assertEqual(self.phone.starts(), [])

    def test_ack_of_success_is_passed_up(self) -> None:
        """The ACK of a 2xx has a branch of its own; it goes to the user with its flow."""
        server = self.layer.begin(a_request(), self.phone)
        self.answer_to(server, 200)
        self.layer.arrive(self.ack(branch="z9hG4bK-two"), self.phone)
        ((ack, flow),) = self.layer.user.acks
        self.assertEqual((ack.method, flow), ("ACK", self.phone))

    def test_ack_of_success_with_the_old_branch(self) -> None:
        """ "Any ACKs received … while in the Accepted state MUST be passed directly to the TU" (RFC 6026 §7.1)."""
        server = self.layer.begin(a_request(), self.phone)
        self.answer_to(server, 200)
        self.layer.arrive(self.ack(), self.phone)
        self.assertEqual(len(self.layer.user.acks), 1)

    def test_nothing_after_a_refusal(self) -> None:
        """Neither a provisional nor another final response follows a refusal."""
        server = self.layer.begin(a_request(), self.phone)
        for status in (486, 180, 404, 200):
            self.answer_to(server, status)
        self.assertEqual(self.phone.starts(), ["SIP/2.0 486 Busy Here"])
        self.assertEqual((server.answered, self.layer.answered), (486, [("INVITE", 486)]))

    def test_nothing_but_successes_after_a_success(self) -> None:
        """After a 2xx neither ringing nor a refusal is sent."""
        server = self.layer.begin(a_request(), self.phone)
        for status in (200, 180, 486):
            self.answer_to(server, status)
        self.assertEqual(self.phone.starts(), ["SIP/2.0 200 OK"])
        self.assertEqual(self.layer.answered, [("INVITE", 200)])

    def test_broken_flow_keeps_the_transaction(self) -> None:
        """It "MUST NOT discard transaction state based only on … a transport error" (RFC 6026 §7.1): timers end it."""
        for status in (200, 486):
            server = self.layer.begin(a_request(transport="TCP", branch=f"z9hG4bK{status}"), self.tcp_phone)
            self.tcp_phone.close("gone")
            self.answer_to(server, 180)
            self.answer_to(server, status)
            self.assertEqual(len(self.layer.transactions), 1)
            self.layer.wait(32.1)
            self.assert_released()


class OtherServerTests(LayerCase):
    """RFC 3261 §17.2.2."""

    def test_repetitions_are_discarded_in_trying(self) -> None:
        """Before any answer "further request retransmissions are discarded"."""
        server = self.layer.begin(a_request("MESSAGE"), self.phone)
        self.assertIsNone(self.layer.arrive(a_request("MESSAGE"), self.phone))
        self.assertEqual((self.phone.starts(), server.state), ([], State.TRYING))

    def test_repeats_last_answer(self) -> None:
        """A request that comes again gets the last answer again, provisional or final."""
        server = self.layer.begin(a_request("MESSAGE"), self.phone)
        for status, line in ((100, "SIP/2.0 100 Trying"), (202, "SIP/2.0 202 Accepted")):
            self.answer_to(server, status)
            self.layer.arrive(a_request("MESSAGE"), self.phone)
            self.assertEqual(self.phone.starts(), [line, line])

    def test_ends_by_timer_j(self) -> None:
        """Over datagrams its answer, and nothing else, is remembered for 64*T1 at least and twice that at most."""
        server = self.layer.begin(a_request("MESSAGE"), self.phone)
        self.answer_to(server, 404)
        self.assertEqual(self.layer.moments(self.phone, 31.9), [0.0])
        self.assertEqual((len(self.layer.transactions), len(self.layer.transactions.answers)), (0, 1))
        self.assertIsNone(self.layer.arrive(a_request("MESSAGE"), self.phone))
        self.assertEqual(self.phone.starts(), ["SIP/2.0 404 Not Found"])
        self.layer.wait(32.3)
        self.assertEqual(len(self.layer.transactions.answers), 0)
        self.assert_released()

    def test_unreachable_when_asked_again(self) -> None:
        """A repeated request whose flow cannot be written to any more does no harm."""
        server = self.layer.begin(a_request("MESSAGE"), self.phone)
        self.answer_to(server, 404)
        self.phone.close("unreachable")
        self.assertIsNone(self.layer.arrive(a_request("MESSAGE"), self.phone))

    def test_holds_its_flow_until_it_ends(self) -> None:
        """Whoever waits for an answer needs the connection that it comes over, and no longer than that."""
        server = self.layer.begin(a_request("MESSAGE", transport="TCP"), self.tcp_phone)
        self.assertEqual(self.tcp_phone.holds, 1)
        self.answer_to(server, 200)
        self.assertEqual(self.tcp_phone.holds, 0)

    def test_ends_with_the_answer_over_connection(self) -> None:
        """Over a reliable transport timer J is zero: the answer is the end."""
        server = self.layer.begin(a_request("MESSAGE", transport="TCP"), self.tcp_phone)
        self.answer_to(server, 200)
        self.assertEqual(self.tcp_phone.starts(), ["SIP/2.0 200 OK"])
        self.assert_released()

    def test_one_final_answer(self) -> None:
        """ "Any other final responses passed by the TU … MUST be discarded"."""
        server = self.layer.begin(a_request("MESSAGE"), self.phone)
        for status in (200, 200, 404, 100):
            self.answer_to(server, status)
        self.assertEqual(self.phone.starts(), ["SIP/2.0 200 OK"])
        self.assertEqual(self.layer.answered, [("MESSAGE", 200)])

    def test_broken_flow_ends_it(self) -> None:
        """When the answer cannot be written the transaction ends (figure 8)."""
        server = self.layer.begin(a_request("MESSAGE"), self.phone)
        self.phone.close("unreachable")
        self.answer_to(server, 200)
        self.assert_released()

    def test_abandoned(self) -> None:
        """An abandoned request is forgotten without an answer (RFC 4320 §4.2), and a later answer goes nowhere."""
        server = self.layer.begin(a_request("MESSAGE"), self.phone)
        server.abandon()
        self.assert_released()
        self.answer_to(server, 200)
        self.assertEqual(self.phone.starts(), [])


class RefuseTests(LayerCase):
    """Answers of our own (RFC 3261 §8.2.6)."""

    def test_copies_what_must_be(self) -> None:
        """Via, From, Call-ID and CSeq come back as they were, To with a tag of ours, and then our headers."""
        server = self.layer.begin(a_request(), self.phone)
        server.refuse(405, "Not Here", (("Allow", "BYE"),))
        answer = self.phone.take_response()
        self.assertEqual(answer.start_line, "SIP/2.0 405 Not Here")
        for name in ("Via", "From", "Call-ID", "CSeq"):
            self.assertEqual(answer.get_all(name), server.request.get_all(name))
        self.assertEqual((answer.get("To"), answer.get("Allow")), ("<sip:bob@example.com>;tag=ours1", "BYE"))

    def test_no_tag_in_trying(self) -> None:
        """A 100 opens no dialog: it has no tag of ours."""
        self.layer.begin(a_request(), self.phone).refuse(100)
        self.assertEqual(self.phone.take_response().get("To"), "<sip:bob@example.com>")

    def test_keeps_the_tag_of_a_dialog(self) -> None:
        """A request within a dialog keeps its To tag in the answer."""
        self.layer.begin(a_request("BYE", callee="<sip:bob@example.com>;tag=bob"), self.phone).refuse(481)
        self.assertEqual(self.phone.take_response().get("To"), "<sip:bob@example.com>;tag=bob")

    def test_forgets_who_cancels(self) -> None:
        """Once an INVITE is answered a CANCEL has nobody to tell."""
        server = self.layer.begin(a_request(), self.phone)
        server.on_cancel = lambda cancel: None
        server.refuse(100)
        self.assertIsNotNone(server.on_cancel)
        server.refuse(404)
        self.assertIsNone(server.on_cancel)


class ServerMatchingTests(LayerCase):
    """RFC 3261 §17.2.3."""

    def is_new(self, request: Request, after: Request) -> bool:
        """Tell whether `request` begins a transaction when `after` has."""
        layer = Layer()
        layer.begin(after, self.phone)
        return layer.arrive(request, self.phone) is not None

    def test_by_branch(self) -> None:
        """Another branch is another request, even if all else is the same."""
        self.assertFalse(self.is_new(a_request(), after=a_request()))
        self.assertTrue(self.is_new(a_request(branch="z9hG4bK-two"), after=a_request()))

    def test_the_rest_makes_no_difference(self) -> None:
        """With the magic cookie neither Request-URI nor tags nor Call-ID are compared."""
        again = a_request(uri="sip:carol@example.com", call_id="other", cseq=9, caller="<sip:x@example.com>;tag=x")
        self.assertFalse(self.is_new(again, after=a_request()))

    def test_by_sent_by(self) -> None:
        """Two clients may choose one branch: sent-by tells them apart, in whatever case it is written."""
        request = a_request(sent_by="phone.example.com:5060")
        self.assertFalse(self.is_new(a_request(sent_by="PHONE.example.com:5060"), after=request))
        self.assertTrue(self.is_new(a_request(sent_by="phone.example.com:5062"), after=request))
        self.assertTrue(self.is_new(a_request(sent_by="other.example.com:5060"), after=request))

    def test_by_method(self) -> None:
        """A CANCEL has the branch of its INVITE and is a transaction of its own."""
        self.assertTrue(self.is_new(cancellation(a_request()), after=a_request()))

    def test_cancel_finds_its_invite(self) -> None:
        """A CANCEL names the INVITE of its branch and sent-by, and no other (§9.2)."""
        invite = self.layer.begin(a_request(), self.phone)
        other = self.layer.begin(a_request(branch="z9hG4bK-two"), self.phone)
        for request, found in (
            (a_request(), invite),
            (a_request(branch="z9hG4bK-two"), other),
            (a_request(branch="z9hG4bK-three"), None),
            (a_request(sent_by="192.0.2.11:5060"), None),
        ):
            cancel = cancellation(request)
            self.assertIs(self.layer.transactions.cancelled_by(cancel, top_via(cancel)), found)

    def test_cancel_does_not_find_other_requests(self) -> None:
        """A CANCEL with the branch of a MESSAGE finds nothing: only an INVITE is cancelled."""
        self.layer.begin(a_request("MESSAGE"), self.phone)
        cancel = cancellation(a_request("MESSAGE"))
        self.assertIsNone(self.layer.transactions.cancelled_by(cancel, top_via(cancel)))

    def test_ack_without_a_transaction(self) -> None:
        """An ACK that belongs to no INVITE here is passed up and begins nothing."""
        self.assertIsNone(self.layer.arrive(a_request("ACK"), self.phone))
        self.assertEqual((len(self.layer.user.acks), self.layer.left()), (1, NOTHING))

    def test_old_clients(self) -> None:
        """Without a branch behind the cookie Request-URI, tags, Call-ID, CSeq and Via are compared, as in RFC 2543."""
        for branch in (None, "7", "z9hG4bK"):
            old = a_request(branch=branch)
            self.assertFalse(self.is_new(a_request(branch=branch), after=old))
            for other in (
                a_request(branch=branch, uri="sip:carol@example.com"),
                a_request(branch=branch, caller="<sip:alice@example.com>;tag=other"),
                a_request(branch=branch, call_id="call-2@192.0.2.10"),
                a_request(branch=branch, cseq=2),
                a_request(branch=branch, sent_by="192.0.2.11:5060"),
                a_request("MESSAGE", branch=branch),
            ):
                self.assertTrue(self.is_new(other, after=old), other)

    def test_ack_of_old_clients(self) -> None:
        """Their ACK is matched by "CSeq number (not the method)", although To has got a tag since."""
        server = self.layer.begin(a_request(branch=None), self.phone)
        self.answer_to(server, 486)
        self.layer.arrive(a_request("ACK", branch=None, callee="<sip:bob@example.com>;tag=bob"), self.phone)
        self.assertEqual((server.state, self.layer.user.acks), (State.CONFIRMED, []))

    def test_cancel_of_old_clients(self) -> None:
        """Their CANCEL finds the INVITE too, with the `received` that we wrote into its Via."""
        old = a_request(branch=None, sent_by="phone.example.com")
        server = self.layer.begin(old, self.phone)
        cancel = self.layer.begin(cancellation(old), self.phone)
        self.assertIs(self.layer.transactions.cancelled_by(cancel.request, cancel.via), server)
