"""Tests of client transactions over flows, and of both kinds in any order of events (RFC 3261 §17.1)."""

from hypothesis import given, settings
from hypothesis import strategies as st

from rollcall.net.flow import Flow
from rollcall.net.transactions import ClientTransaction, ServerTransaction
from rollcall.sip.message import Response, response_to
from rollcall.sip.transaction import State, TransactionConfig, cancellation
from tests.flows import MemoryFlow, a_flow, a_request, an_answer
from tests.layers import NOTHING, Layer, LayerCase, RecordingClient

BRANCH = "z9hG4bK-ours"
STEPS = st.lists(st.sampled_from([100, 180, 200, 202, 302, 486, 603, "wait", "repeat", "lose", "abandon"]), max_size=12)


class ClientCase(LayerCase):
    """A layer and a user that sends through it."""

    def setUp(self) -> None:
        super().setUp()
        self.user = RecordingClient()

    def send(self, method: str, flow: MemoryFlow, branch: str = BRANCH) -> ClientTransaction:
        """Send a request of ours."""
        request = a_request(method, branch=branch, sent_by="192.0.2.1:5060", transport=flow.transport)
        return self.layer.transactions.send(request, branch, flow, self.user)

    def answer(self, client: ClientTransaction, *statuses: int, tag: str = "bob") -> None:
        """Let the peer answer."""
        flow = client.flow
        assert isinstance(flow, MemoryFlow)
        for status in statuses:
            self.layer.answer(an_answer(client.request, status, tag=tag), flow)


class InviteClientTests(ClientCase):
    """RFC 3261 §17.1.1 with RFC 6026."""

    def test_paced_by_a_until_b(self) -> None:
        """An INVITE is sent again with pauses that double: "seven requests" in 64*T1, then its user is told."""
        self.send("INVITE", self.phone)
        self.assertEqual(self.layer.moments(self.phone, 31.9), [0.0, 0.5, 1.5, 3.5, 7.5, 15.5, 31.5])
        self.assertEqual(self.user.failures, [])
        self.layer.wait(10)
        self.assertEqual((self.user.failures, self.phone.starts()), (["time-out"], []))
        self.assert_released()

    def test_the_same_bytes_again(self) -> None:
        """A retransmission is "the message previously sent", byte for byte."""
        self.send("INVITE", self.phone)
        self.layer.wait(1)
        first, second = self.phone.written
        self.assertEqual(first, second)

    def test_own_t1(self) -> None:
        """All pauses scale with T1."""
        self.layer = Layer(TransactionConfig(t1_seconds=0.25))
        self.send("INVITE", self.phone)
        self.assertEqual(self.layer.moments(self.phone, 20), [0.0, 0.25, 0.75, 1.75, 3.75, 7.75, 15.75])
        self.assertEqual(self.user.failures, ["time-out"])

    def test_sent_once_over_connection(self) -> None:
        """Over a reliable transport it is sent once, and timer B still ends it."""
        self.send("INVITE", self.tcp_phone)
        self.assertEqual(self.layer.moments(self.tcp_phone, 31.9), [0.0])
        self.layer.wait(0.2)
        self.assertEqual(self.user.failures, ["time-out"])
        self.assert_released()

    def test_ringing_stops_the_pacing(self) -> None:
        """After a provisional response nothing is sent again and no timer runs: ringing may take its time."""
        client = self.send("INVITE", self.phone)
        self.answer(client, 100, 180, 180)
        self.assertEqual((self.user.statuses, len(self.layer.wheel)), ([100, 180, 180], 0))
        self.assertEqual(self.layer.moments(self.phone, 60), [0.0])
        self.assertEqual(self.user.failures, [])
        self.assertTrue(client.pending)

    def test_refusal_is_acknowledged(self) -> None:
        """A refusal is passed up once; each repetition gets the ACK again, until timer D."""
        client = self.send("INVITE", self.phone)
        self.answer(client, 486, 486, 486)
        self.assertEqual((self.user.statuses, client.pending), ([486], False))
        self.assertEqual(self.phone.starts(), ["INVITE sip:bob@example.com"] + ["ACK sip:bob@example.com"] * 3)
        self.layer.wait(31.9)
        self.answer(client, 486)
        self.assertEqual(self.phone.starts(), ["ACK sip:bob@example.com"])
        self.layer.wait(0.2)
        self.assert_released()

    def test_refusal_while_ringing(self) -> None:
        """A phone that rang may refuse."""
        client = self.send("INVITE", self.phone)
        self.answer(client, 180, 603)
        self.assertEqual(self.user.statuses, [180, 603])
        self.assertEqual(self.phone.starts()[-1], "ACK sip:bob@example.com")

    def test_refusal_over_connection(self) -> None:
        """Over a reliable transport too the ACK is sent; timer D is zero, so that is the end."""
        client = self.send("INVITE", self.tcp_phone)
        self.answer(client, 486)
        self.assertEqual(self.tcp_phone.starts(), ["INVITE sip:bob@example.com", "ACK sip:bob@example.com"])
        self.assertEqual(self.user.statuses, [486])
        self.assert_released()

    def test_every_success_is_passed_up(self) -> None:
        """Every 2xx within 64*T1 goes to the user: repetitions, and those of other phones (RFC 6026 §7.2)."""
        for flow in (self.phone, self.tcp_phone):
            self.user.statuses.clear()
            client = self.send("INVITE", flow)
            self.answer(client, 180, 200)
            self.answer(client, 200, tag="bobs-other-phone")
            self.layer.wait(31.9)
            self.answer(client, 200)
            self.assertEqual(self.user.statuses, [180, 200, 200, 200])
            self.assertEqual(flow.starts(), ["INVITE sip:bob@example.com"], "a 2xx is not acknowledged by us")
            self.layer.wait(0.2)
            self.assert_released()

    def test_success_at_once(self) -> None:
        """A 2xx may come without any ringing."""
        client = self.send("INVITE", self.phone)
        self.answer(client, 200)
        self.assertEqual((self.user.statuses, client.state), ([200], State.ACCEPTED))
        self.assertEqual(self.layer.moments(self.phone, 33), [0.0])
        self.assert_released()

    def test_late_success_is_dropped(self) -> None:
        """A 2xx after timer M matches nothing and "MUST NOT" be forwarded (RFC 6026 §7.3)."""
        client = self.send("INVITE", self.phone)
        self.answer(client, 200)
        self.layer.wait(32.1)
        self.answer(client, 200)
        self.assertEqual(self.user.statuses, [200])

    def test_nothing_but_successes_after_a_success(self) -> None:
        """Neither ringing nor a refusal is heard after a 2xx, and none is acknowledged."""
        client = self.send("INVITE", self.phone)
        self.answer(client, 200, 180, 486)
        self.assertEqual((self.user.statuses, len(self.phone.take())), ([200], 1))

    def test_success_after_a_refusal_is_not_heard(self) -> None:
        """In Completed a 2xx has no row: what was refused stays refused."""
        client = self.send("INVITE", self.phone)
        self.answer(client, 486, 200)
        self.assertEqual(self.user.statuses, [486])


class OtherClientTests(ClientCase):
    """RFC 3261 §17.1.2."""

    def test_paced_by_e_until_f(self) -> None:
        """A request is sent after 500 ms, 1 s, 2 s, then every 4 s; its user is told after 64*T1."""
        self.send("MESSAGE", self.phone)
        self.assertEqual(
            self.layer.moments(self.phone, 31.9), [0.0, 0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5, 31.5]
        )
        self.layer.wait(10)
        self.assertEqual((self.user.failures, self.phone.starts()), (["time-out"], []))
        self.assert_released()

    def test_sent_once_over_connection(self) -> None:
        """Over a reliable transport it is sent once, and timer F ends it."""
        self.send("MESSAGE", self.tcp_phone)
        self.assertEqual(self.layer.moments(self.tcp_phone, 31.9), [0.0])
        self.layer.wait(0.2)
        self.assertEqual(self.user.failures, ["time-out"])
        self.assert_released()

    def test_provisional_slows_it_to_t2(self) -> None:
        """After a 1xx it is sent every T2, so that the final response is not lost; timer F goes on."""
        client = self.send("MESSAGE", self.phone)
        self.layer.wait(0.25)
        self.answer(client, 100)
        self.assertEqual(self.user.statuses, [100])
        self.assertEqual(
            self.layer.moments(self.phone, 31.6), [0.0, 0.25, 4.25, 8.25, 12.25, 16.25, 20.25, 24.25, 28.25]
        )
        self.layer.wait(0.2)
        self.assertEqual(self.user.failures, ["time-out"])
        self.assert_released()

    def test_one_final_answer(self) -> None:
        """One final response is passed up; repetitions are absorbed for T4, without an ACK."""
        client = self.send("MESSAGE", self.phone)
        self.answer(client, 202, 202, 404, 100)
        self.assertEqual((self.user.statuses, self.phone.starts()), ([202], ["MESSAGE sip:bob@example.com"]))
        self.assertEqual(self.layer.moments(self.phone, 4.9), [])
        self.assertEqual(len(self.layer.transactions), 1)
        self.layer.wait(0.2)
        self.assert_released()

    def test_ends_with_the_answer_over_connection(self) -> None:
        """Over a reliable transport timer K is zero: the answer is the end."""
        client = self.send("MESSAGE", self.tcp_phone)
        self.answer(client, 100, 404)
        self.assertEqual(self.user.statuses, [100, 404])
        self.assert_released()


class ClientMatchingTests(ClientCase):
    """RFC 3261 §17.1.3."""

    def test_by_branch(self) -> None:
        """Each of two requests gets the response of its own branch."""
        one, two = self.send("INVITE", self.phone, "z9hG4bKa"), self.send("INVITE", self.phone, "z9hG4bKb")
        self.answer(two, 200)
        self.assertEqual((one.state, two.state), (State.CALLING, State.ACCEPTED))

    def test_by_method(self) -> None:
        """The 200 to a CANCEL, which has the branch of the INVITE, does not answer the INVITE."""
        invite = self.send("INVITE", self.phone)
        other = RecordingClient()
        cancel = self.layer.transactions.send(cancellation(invite.request), BRANCH, self.phone, other)
        self.answer(invite, 180)
        self.answer(cancel, 200)
        self.assertEqual((self.user.statuses, other.statuses), ([180], [200]))

    def test_over_another_flow(self) -> None:
        """The branch alone decides: an answer may come over another connection (§18.2.2)."""
        client = self.send("INVITE", self.tcp_phone)
        self.layer.answer(an_answer(client.request, 200), self.phone)
        self.assertEqual(self.user.statuses, [200])

    def test_stray(self) -> None:
        """A response to nothing that we sent is dropped without a word (RFC 6026 §7.3)."""
        for status in (100, 200, 486):
            self.layer.answer(an_answer(a_request(), status), self.phone)
        self.assertEqual((self.phone.starts(), self.layer.left()), ([], NOTHING))

    def test_handed_over(self) -> None:
        """A response to nobody here is offered to whoever may know its branch, one to somebody here is not."""
        offered: list[tuple[str, int]] = []

        def hand_over(branch: str, response: Response, flow: Flow) -> bool:
            offered.append((branch, response.status))
            return True

        self.layer.transactions.hand_over = hand_over
        client = self.send("OPTIONS", self.phone)
        self.layer.answer(an_answer(a_request(branch="z9hG4bK2-other"), 180), self.phone)
        self.answer(client, 200)
        self.assertEqual((offered, self.user.statuses), ([("z9hG4bK2-other", 180)], [200]))

    def test_unreadable(self) -> None:
        """A response whose Via or CSeq cannot be read is dropped."""
        for name, value in (("Via", "nonsense"), ("CSeq", "one INVITE"), ("Via", "")):
            response = an_answer(a_request(branch=BRANCH), 200)
            response.set(name, value)
            self.layer.answer(response, self.phone)
        self.layer.answer(Response.new(200), self.phone)
        self.assertEqual(self.user.statuses, [])

    def test_odd_via_of_others(self) -> None:
        """Only the topmost Via is read: what others wrote below it is theirs (RFC 5393 §4.2.4)."""
        client = self.send("INVITE", self.phone)
        response = an_answer(client.request, 180)
        response.add("Via", 'SIP/2.0/UDP odd;x="never closed')
        self.layer.answer(response, self.phone)
        self.assertEqual(self.user.statuses, [180])


class BrokenFlowTests(ClientCase):
    """RFC 3261 §17.1.4, §18.4."""

    def test_closed_before_sending(self) -> None:
        """A request that cannot be written fails at once, and once."""
        for flow in (self.phone, self.tcp_phone):
            flow.close("gone")
            for method in ("INVITE", "MESSAGE"):
                self.user.failures.clear()
                client = self.send(method, flow)
                self.assertEqual((self.user.failures, client.pending), (["broken flow"], False))
        self.assert_released()

    def test_closed_while_waiting(self) -> None:
        """The end of a connection fails what waits for an answer on it, and nothing on other flows."""
        elsewhere = RecordingClient()
        request = a_request(branch="z9hG4bKelsewhere")
        other = self.layer.transactions.send(request, "z9hG4bKelsewhere", self.phone, elsewhere)
        self.send("INVITE", self.tcp_phone, "z9hG4bKa")
        self.send("MESSAGE", self.tcp_phone, "z9hG4bKb")
        self.answer(self.send("MESSAGE", self.tcp_phone, "z9hG4bKc"), 100)
        self.layer.lose(self.tcp_phone)
        self.layer.lose(self.tcp_phone)
        self.assertEqual((self.user.failures, elsewhere.failures), (["broken flow"] * 3, []))
        self.assertEqual((len(self.layer.transactions), self.tcp_phone.holds), (1, 0))
        other.abandon()
        self.assert_released()

    def test_ringing_phone_may_come_back(self) -> None:
        """A phone that rings when its connection breaks may answer over a new one (§18.2.2); its INVITE waits."""
        client = self.send("INVITE", self.tcp_phone)
        self.answer(client, 180)
        self.layer.lose(self.tcp_phone)
        self.assertEqual(self.user.failures, [])
        self.layer.answer(an_answer(client.request, 200), a_flow("TCP", port=49152))
        self.assertEqual(self.user.statuses, [180, 200])
        self.layer.wait(32.1)
        self.assert_released()

    def test_refusal_from_a_phone_that_came_back(self) -> None:
        """A refusal is passed up even when no flow is left for its ACK."""
        client = self.send("INVITE", self.tcp_phone)
        self.answer(client, 180)
        self.layer.lose(self.tcp_phone)
        self.layer.answer(an_answer(client.request, 486), a_flow("TCP", port=49152))
        self.assertEqual((self.user.statuses, self.user.failures), ([180, 486], []))
        self.assert_released()

    def test_unreachable_at_a_repetition(self) -> None:
        """A datagram that the kernel refuses, as after an ICMP error, fails the request at that moment."""
        self.send("MESSAGE", self.phone)
        self.phone.close("host unreachable")
        self.layer.wait(0.4)
        self.assertEqual(self.user.failures, [])
        self.layer.wait(0.2)
        self.assertEqual(self.user.failures, ["broken flow"])
        self.assert_released()

    def test_after_the_answer(self) -> None:
        """A flow that breaks after the final response fails nothing any more."""
        self.answer(self.send("INVITE", self.phone, "z9hG4bKa"), 200)
        self.answer(self.send("MESSAGE", self.phone, "z9hG4bKb"), 200)
        self.layer.lose(self.phone)
        self.assertEqual(self.user.failures, [])
        self.layer.wait(32.1)
        self.assert_released()

    def test_abandoned(self) -> None:
        """An abandoned request tells nobody anything, whatever comes later."""
        client = self.send("INVITE", self.phone)
        client.abandon()
        self.assert_released()
        self.answer(client, 200)
        self.layer.lose(self.phone)
        self.layer.wait(40)
        self.assertEqual((self.user.statuses, self.user.failures), ([], []))

    def test_unfinished(self) -> None:
        """A request is unfinished until its final answer, however long its transaction lasts afterwards."""
        transactions = self.layer.transactions
        client = self.send("INVITE", self.phone)
        server = self.layer.begin(a_request("INVITE", branch="z9hG4bK-in"), self.phone)
        self.answer(client, 180)
        self.answer_to(server, 180)
        self.assertEqual((transactions.unfinished, transactions.waited_on), (2, {self.phone}))
        self.answer(client, 486)
        self.assertEqual((transactions.unfinished, transactions.waited_on), (1, {self.phone}))
        self.answer_to(server, 486)
        self.assertEqual((transactions.unfinished, transactions.waited_on, len(transactions)), (0, set(), 2))

    def test_holds(self) -> None:
        """A flow is held as long as a request of ours may need it, and is free again afterwards."""
        client = self.send("INVITE", self.tcp_phone)
        self.assertEqual(self.tcp_phone.holds, 1)
        self.answer(client, 180, 200)
        self.assertEqual(self.tcp_phone.holds, 1)
        self.layer.wait(32.1)
        self.assertEqual(self.tcp_phone.holds, 0)


class AnyOrderTests(LayerCase):
    """Whatever the order of events, the promises hold and all is released."""

    @settings(max_examples=60, deadline=None)
    @given(method=st.sampled_from(["INVITE", "MESSAGE"]), transport=st.sampled_from(["UDP", "TCP"]), steps=STEPS)
    def test_client(self, method: str, transport: str, steps: list[int | str]) -> None:
        """A client hears one end at most: a refusal, successes (one, unless it is an INVITE), or one failure."""
        layer, flow, user = Layer(), a_flow(transport), RecordingClient()
        client = layer.transactions.send(a_request(method, branch=BRANCH), BRANCH, flow, user)
        for step in steps:
            self._step(layer, flow, client, step)
        finals = [status for status in user.statuses if status >= 200]
        refusals = [status for status in finals if status >= 300]
        self.assertLessEqual(len(user.failures) + len(refusals) + bool(len(finals) - len(refusals)), 1)
        if method == "MESSAGE":
            self.assertLessEqual(len(finals), 1)
        self.assertEqual(user.statuses, sorted(user.statuses, key=lambda status: status >= 200))
        if client.state is State.PROCEEDING and method == "INVITE":
            client.abandon()
        layer.wait(64)
        self.assertEqual((layer.left(), flow.holds), (NOTHING, 0))

    @settings(max_examples=60, deadline=None)
    @given(method=st.sampled_from(["INVITE", "MESSAGE"]), transport=st.sampled_from(["UDP", "TCP"]), steps=STEPS)
    def test_server(self, method: str, transport: str, steps: list[int | str]) -> None:
        """A peer gets one final status at most, but for successes to an INVITE, and nothing provisional after it."""
        layer, flow = Layer(), a_flow(transport)
        server = layer.begin(a_request(method), flow)
        for step in steps:
            self._step(layer, flow, server, step)
        statuses = [message.status for message in flow.take() if isinstance(message, Response)]
        finals = {status for status in statuses if status >= 200}
        if method == "MESSAGE" or not finals <= {200, 202}:
            self.assertLessEqual(len(finals), 1)
        self.assertEqual(statuses, sorted(statuses, key=lambda status: status >= 200))
        if not server.answered:
            server.abandon()
        layer.wait(64)
        self.assertEqual(layer.left(), NOTHING)

    def _step(
        self, layer: Layer, flow: MemoryFlow, transaction: ClientTransaction | ServerTransaction, step: int | str
    ) -> None:
        if step == "wait":
            layer.wait(1.7)
        elif step == "lose":
            layer.lose(flow)
        elif step == "abandon":
            transaction.abandon()
        elif step == "repeat":
            if isinstance(transaction, ServerTransaction) and transaction.state is not State.TERMINATED:
                layer.arrive(transaction.request, flow)
        elif isinstance(step, int):
            response = response_to(transaction.request, step, to_tag="bob")
            if isinstance(transaction, ServerTransaction):
                transaction.respond(response)
            else:
                layer.answer(response, flow)
