"""Tests of forks: whom a request rings, which answer goes back, and that every call ends with nothing left."""

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from registrar.forking import Fork
from registrar.routing import ByUri, OverDatagrams, OverFlow, ProxyConfig
from registrar.sending import Attempt, Forwarded
from rollcall.net.flow import ConnectFailed, Flow
from rollcall.net.resolver import Unresolvable
from rollcall.net.transactions import ServerTransaction
from rollcall.sip.forwarding import loop_mark
from rollcall.sip.message import Request, Response
from rollcall.sip.targets import Target
from rollcall.sip.transaction import TransactionConfig, cancellation
from tests.flows import Headers, a_flow, a_request, an_answer, top_branch
from tests.layers import Layer
from tests.registrar.network import Network, Phone

CONFIG = ProxyConfig(timer_c_seconds=185, ring_seconds=20)


class ForkCase(SynchronousTestCase):
    """A caller, phones, and a fork between them; whatever a test does, nothing may be left of it."""

    config = TransactionConfig()

    def setUp(self) -> None:
        self.layer = Layer(self.config)
        self.network = Network(self.layer)
        self.caller = a_flow("UDP")
        self.ended: list[int] = []

    def tearDown(self) -> None:
        """See that the fork has ended once, and that all is released when the last repetitions are over."""
        self.layer.wait(65)
        self.assertEqual(self.layer.left(), (0, 0, 0))
        self.assertEqual([flow.holds for flow in self.network.flows()], [0] * len(self.network.flows()))
        self.assertEqual(len(self.ended), 1)

    def fork(self, request: Request, *groups: list[Phone | Attempt]) -> ServerTransaction:
        """Let `request` come from the caller and go to these phones or ways, group after group."""
        server = self.layer.begin(request, self.caller)
        forwarded = Forwarded(server.request, self.caller, loop_mark(server.request), True, b"call-1", 60)
        attempts = [[way.attempt() if isinstance(way, Phone) else way for way in group] for group in groups]
        Fork(server, forwarded, attempts, self.network.sending, self.layer.transactions, CONFIG, self._end).start()
        return server

    def call(self, *groups: list[Phone | Attempt], headers: Headers = ()) -> ServerTransaction:
        """Call these; the caller hears 100 at once."""
        server = self.fork(a_request("INVITE", headers=headers), *groups)
        self.assertEqual(self.hears(), [100])
        return server

    def message(self, *groups: list[Phone | Attempt]) -> ServerTransaction:
        """Send a MESSAGE to these; nothing is heard at once."""
        server = self.fork(a_request("MESSAGE"), *groups)
        self.assertEqual(self.hears(), [])
        return server

    def hears(self) -> list[int]:
        """Return the statuses that the caller heard since the last look."""
        return [response.status for response in self.responses()]

    def responses(self) -> list[Response]:
        """Return the responses that the caller got since the last look."""
        responses = [message for message in self.caller.take() if isinstance(message, Response)]
        for response in responses:
            self.assertEqual(response.get_all("Via"), ["SIP/2.0/UDP 192.0.2.10:5060;branch=z9hG4bK-one"])
        return responses

    def hangs_up(self, server: ServerTransaction, *reasons: str) -> None:
        """Cancel the call, as the conversation does when the caller's CANCEL has come."""
        headers = tuple(("Reason", reason) for reason in reasons)
        assert server.on_cancel is not None
        server.on_cancel(a_request("CANCEL", headers=headers))

    def acknowledge(self) -> None:
        """Let the caller acknowledge a refusal, which stops its repetitions."""
        self.layer.arrive(a_request("ACK"), self.caller)

    def _end(self, fork: Fork, status: int) -> None:
        self.ended.append(status)


class OnePhoneTests(ForkCase):
    def test_answered(self) -> None:
        """Ringing and the answer pass at once, without our Via and with the phone's tag; a 100 does not pass."""
        bob = self.network.phone("bob")
        self.call([bob])
        self.assertEqual(bob.heard(), ["INVITE"])
        for status, heard in ((100, []), (180, [180]), (183, [183]), (200, [200])):
            bob.answer(status)
            self.assertEqual(self.hears(), heard)
        self.assertEqual(self.ended, [200])

    def test_tag_is_the_phones(self) -> None:
        """A response that is passed on keeps its To tag (§16.7 step 6)."""
        bob = self.network.phone("bob")
        self.call([bob])
        bob.answer(180)
        bob.answer(486)
        self.assertEqual([response.get("To") for response in self.responses()], ["<sip:bob@example.com>;tag=bob"] * 2)

    def test_refused(self) -> None:
        """A refusal is acknowledged to the phone by us and passed to the caller."""
        bob = self.network.phone("bob")
        self.call([bob])
        bob.answer(180)
        bob.answer(486)
        self.assertEqual((bob.heard(), self.hears()), (["INVITE", "ACK"], [180, 486]))
        self.assertEqual(self.ended, [486])

    def test_repeated_answer(self) -> None:
        """Each repetition of a 2xx passes: the caller's ACK may have been lost (RFC 6026 §7)."""
        bob = self.network.phone("bob", "UDP")
        attempt = Attempt("sip:bob@192.0.2.20", bob.flow)
        self.call([attempt])
        bob.answer(200)
        bob.answer(200)
        bob.answer(200)
        self.assertEqual((self.hears(), self.ended), ([200, 200, 200], [200]))

    def test_nothing_provisional_after_the_answer(self) -> None:
        """A 180 that is late does not follow a 200."""
        bob, carol = self.network.phone("bob"), self.network.phone("carol")
        self.call([bob, carol])
        bob.answer(200)
        carol.answer(180)
        carol.answer(487)
        self.assertEqual(self.hears(), [200])

    def test_redirection(self) -> None:
        """A 302 goes back to the caller with its contacts: we do not follow it."""
        bob = self.network.phone("bob")
        self.call([bob])
        bob.answer(302, headers=(("Contact", "<sip:bob@elsewhere.example>"),))
        (response,) = self.responses()
        self.assertEqual((response.status, response.get("Contact")), (302, "<sip:bob@elsewhere.example>"))

    def test_unavailable_becomes_ours(self) -> None:
        """A phone's 503 is not ours: the caller gets 500 (§16.7 step 6)."""
        bob = self.network.phone("bob")
        self.call([bob])
        bob.answer(503, headers=(("Retry-After", "3600"),))
        (response,) = self.responses()
        self.assertEqual((response.status, response.get("Retry-After"), self.ended), (500, None, [500]))

    def test_silence(self) -> None:
        """A phone that says nothing for 64*T1 is as good as a 408 (§16.6 step 7)."""
        bob = self.network.phone("bob")
        self.call([bob])
        self.layer.wait(31.9)
        self.assertEqual(self.hears(), [])
        self.layer.wait(0.2)
        self.assertEqual((self.hears(), bob.heard(), self.ended), ([408], ["INVITE"], [408]))

    def test_datagrams_are_repeated(self) -> None:
        """A phone on datagrams gets the INVITE again until it speaks, always with the same branch."""
        bob = self.network.phone("bob", "UDP")
        self.network.transports.datagrams["udp", "192.0.2.20", 5062] = bob.flow
        self.call([Attempt("sip:bob@192.0.2.20:5062", OverDatagrams("udp", "192.0.2.20", 5062))])
        self.layer.wait(2)
        branches = {top_branch(message) for message in bob.flow.take()}
        self.assertEqual(len(branches), 1)
        self.layer.wait(30.1)
        self.assertEqual(self.hears(), [408])

    def test_closed_when_sending(self) -> None:
        """A connection that breaks as we write counts as 503, and goes back as 500 (§16.9)."""
        bob = self.network.phone("bob")
        bob.flow.close("gone")
        self.fork(a_request("INVITE", callee="<sip:bob@example.com>;tag=bob"), [Attempt("sip:bob@x", bob.flow)])
        self.assertEqual((self.hears(), self.ended), ([100, 500], [500]))

    def test_closed_while_waiting(self) -> None:
        """A connection that ends before the phone has spoken is a 500 at once."""
        bob = self.network.phone("bob")
        self.call([bob])
        self.layer.lose(bob.flow)
        self.assertEqual((self.hears(), self.ended), ([500], [500]))

    def test_flow_gone(self) -> None:
        """A binding whose connection is gone is a phone that is not there: 480, never 430 (RFC 5626 §11.5)."""
        self.fork(a_request(), [Attempt("sip:bob@192.0.2.20", OverFlow(999_999))])
        self.assertEqual((self.hears(), self.ended), ([100, 480], [480]))

    def test_flow_failed_downstream(self) -> None:
        """A 430 of the phone's proxy, with no other flow left, is a 480 for the caller."""
        bob = self.network.phone("bob")
        self.call([bob])
        bob.answer(430)
        self.assertEqual(self.hears(), [480])

    def test_answer_without_our_callers_via(self) -> None:
        """A phone that returns our Via alone has not answered the caller: nothing is forwarded, the call ends."""
        for status in (200, 486):
            self.ended.clear()
            bob = self.network.phone(f"bob{status}")
            server = self.fork(a_request(branch=f"z9hG4bK{status}"), [bob])
            self.caller.take()
            bob.heard()
            for each, passed_on in ((180, []), (status, ["SIP/2.0 502 Bad Gateway"])):
                response = an_answer(bob.requests["INVITE"], each)
                response.set("Via", response.get("Via") or "")
                bob.reply(response)
                self.assertEqual(self.caller.starts(), passed_on)
            self.assertEqual((server.answered, self.ended), (502, [502]))


class ParallelTests(ForkCase):
    def test_all_ring(self) -> None:
        """Phones of one group ring together, each with a branch of its own and one loop mark."""
        phones = [self.network.phone(name) for name in ("desk", "mobile", "home")]
        self.call([*phones])
        self.assertEqual([phone.heard() for phone in phones], [["INVITE"]] * 3)
        branches = [top_branch(phone.requests["INVITE"]) for phone in phones]
        self.assertEqual((len(set(branches)), len({branch.partition(".")[2] for branch in branches})), (3, 1))
        self.assertEqual(phones[1].requests["INVITE"].uri, "sip:mobile@192.0.2.20")
        for phone in phones:
            phone.answer(486)

    def test_first_answer_stops_the_others(self) -> None:
        """A 200 cancels every phone that rings (§16.7 step 10); their 487 goes nowhere."""
        desk, mobile = self.network.phone("desk"), self.network.phone("mobile")
        self.call([desk, mobile])
        desk.answer(180)
        mobile.answer(180)
        desk.answer(200)
        self.assertEqual((desk.heard(), mobile.heard()), (["INVITE"], ["INVITE", "CANCEL"]))
        mobile.answer(200, "CANCEL")
        mobile.answer(487)
        self.assertEqual((self.hears(), self.ended), ([180, 180, 200], [200]))
        self.assertEqual(mobile.heard(), ["ACK"])

    def test_silent_phone_is_cancelled_when_it_speaks(self) -> None:
        """A CANCEL waits for the first word of the phone it is for (§9.1)."""
        desk, mobile = self.network.phone("desk"), self.network.phone("mobile")
        self.call([desk, mobile])
        desk.answer(200)
        self.assertEqual(mobile.heard(), ["INVITE"])
        mobile.answer(100)
        self.assertEqual(mobile.heard(), ["CANCEL"])
        mobile.answer(180)
        self.assertEqual(mobile.heard(), [])
        mobile.answer(200, "CANCEL")
        mobile.answer(487)
        self.assertEqual(self.hears(), [200])

    def test_two_answers(self) -> None:
        """Two phones that pick up at once both reach the caller (§16.7 step 5)."""
        desk, mobile = self.network.phone("desk"), self.network.phone("mobile")
        self.call([desk, mobile])
        mobile.answer(180)
        desk.answer(200)
        mobile.answer(200)
        tags = [response.get("To") for response in self.responses() if response.status == 200]
        self.assertEqual(tags, ["<sip:bob@example.com>;tag=desk", "<sip:bob@example.com>;tag=mobile"])
        self.assertEqual(self.ended, [200])

    def test_best_refusal(self) -> None:
        """Only when all have refused the best refusal goes back (§16.7 step 6)."""
        desk, mobile, home = (self.network.phone(name) for name in ("desk", "mobile", "home"))
        self.call([desk, mobile, home])
        desk.answer(503)
        mobile.answer(404)
        self.assertEqual(self.hears(), [])
        home.answer(486)
        self.assertEqual((self.hears(), self.ended), ([404], [404]))

    def test_challenges_are_merged(self) -> None:
        """A 407 goes back with the challenges of all (§16.7 step 7)."""
        desk, mobile = self.network.phone("desk"), self.network.phone("mobile")
        self.call([desk, mobile])
        desk.answer(407, headers=(("Proxy-Authenticate", 'Digest realm="a", nonce="1"'),))
        mobile.answer(401, headers=(("WWW-Authenticate", 'Digest realm="b", nonce="2"'),))
        (response,) = self.responses()
        self.assertEqual(response.get("Proxy-Authenticate"), 'Digest realm="a", nonce="1"')
        self.assertEqual(response.get("WWW-Authenticate"), 'Digest realm="b", nonce="2"')

    def test_global_refusal(self) -> None:
        """A 603 cancels the others and waits for them; it goes back when they have ended (§16.7 step 5)."""
        desk, mobile, later = (self.network.phone(name) for name in ("desk", "mobile", "later"))
        self.call([desk, mobile], [later])
        mobile.answer(180)
        desk.answer(603)
        self.assertEqual((mobile.heard(), self.hears()), (["INVITE", "CANCEL"], [180]))
        mobile.answer(200, "CANCEL")
        mobile.answer(487)
        self.assertEqual((self.hears(), later.heard(), self.ended), ([603], [], [603]))

    def test_answer_beats_global_refusal(self) -> None:
        """A 200 that crosses the CANCEL wins: "a 6xx response followed by a 2xx … should never be allowed"."""
        desk, mobile = self.network.phone("desk"), self.network.phone("mobile")
        self.call([desk, mobile])
        mobile.answer(180)
        desk.answer(603)
        mobile.answer(200)
        self.assertEqual((self.hears(), self.ended), ([180, 200], [200]))

    def test_one_is_gone(self) -> None:
        """A phone whose connection is gone does not disturb the others."""
        desk = self.network.phone("desk")
        self.call([Attempt("sip:bob@gone", OverFlow(999_999)), desk])
        self.assertEqual(desk.heard(), ["INVITE"])
        desk.answer(486)
        self.assertEqual(self.hears(), [486])

    def test_all_are_gone(self) -> None:
        """When no phone can be reached the caller knows at once."""
        self.fork(a_request(), [Attempt("sip:a@gone", OverFlow(999_998)), Attempt("sip:b@gone", OverFlow(999_999))])
        self.assertEqual(self.hears(), [100, 480])


class SerialTests(ForkCase):
    def test_next_group_after_refusals(self) -> None:
        """When all of a group have refused the next group rings at once."""
        desk, mobile, home = (self.network.phone(name) for name in ("desk", "mobile", "home"))
        self.call([desk, mobile], [home])
        desk.answer(486)
        self.assertEqual(home.heard(), [])
        mobile.answer(480)
        self.assertEqual(home.heard(), ["INVITE"])
        home.answer(200)
        self.assertEqual((self.hears(), self.ended), ([200], [200]))

    def test_best_of_all_groups(self) -> None:
        """The answer is the best of all groups, not that of the last."""
        desk, home = self.network.phone("desk"), self.network.phone("home")
        self.call([desk], [home])
        desk.answer(486)
        home.answer(480)
        self.assertEqual(self.hears(), [486])

    def test_ring_time(self) -> None:
        """A group that rings too long makes way: the next one rings, then the first is cancelled."""
        desk, home = self.network.phone("desk"), self.network.phone("home")
        self.call([desk], [home])
        desk.answer(180)
        self.layer.wait(19.9)
        self.assertEqual((desk.heard(), home.heard()), (["INVITE"], []))
        self.layer.wait(0.2)
        self.assertEqual((desk.heard(), home.heard()), (["CANCEL"], ["INVITE"]))
        desk.answer(200, "CANCEL")
        desk.answer(487)
        self.assertEqual(self.hears(), [180])
        home.answer(200)
        self.assertEqual(self.hears(), [200])

    def test_our_cancel_is_not_the_answer(self) -> None:
        """The 487 that our own CANCEL brought is not what the caller gets in the end."""
        desk, home = self.network.phone("desk"), self.network.phone("home")
        self.call([desk], [home])
        desk.answer(180)
        self.layer.wait(20.1)
        home.answer(480)
        self.assertEqual(self.hears(), [180], "the cancelled phone may still answer")
        desk.answer(487)
        self.assertEqual((self.hears(), self.ended), ([480], [480]))

    def test_last_word_before_the_cancel(self) -> None:
        """A phone that refused by itself as its time was over is heard."""
        desk, home = self.network.phone("desk"), self.network.phone("home")
        self.call([desk], [home])
        desk.answer(180)
        self.layer.wait(20.1)
        desk.answer(486)
        home.answer(480)
        self.assertEqual(self.hears(), [180, 486])

    def test_picked_up_late(self) -> None:
        """A phone that is picked up as our CANCEL is on its way wins, and the next group is cancelled."""
        desk, home = self.network.phone("desk"), self.network.phone("home")
        self.call([desk], [home])
        desk.answer(180)
        self.layer.wait(20.1)
        home.answer(180)
        desk.answer(200)
        self.assertEqual((home.heard(), self.hears()), (["INVITE", "CANCEL"], [180, 180, 200]))
        home.answer(487)

    def test_silent_group(self) -> None:
        """Phones that say nothing make way at the same time; their answer is never waited for beyond 64*T1."""
        desk, home = self.network.phone("desk"), self.network.phone("home")
        self.call([desk], [home])
        self.layer.wait(20.1)
        self.assertEqual(home.heard(), ["INVITE"])
        home.answer(404)
        self.assertEqual(self.hears(), [])
        self.layer.wait(12)
        self.assertEqual((self.hears(), desk.heard()), ([404], ["INVITE"]))

    def test_three_groups(self) -> None:
        """Groups follow one another until one is answered; the last may ring on."""
        phones = [self.network.phone(name) for name in ("desk", "mobile", "home")]
        self.call([phones[0]], [phones[1]], [phones[2]])
        for _ in range(2):
            for phone in phones:
                if "INVITE" in phone.heard():
                    phone.answer(180)
            self.layer.wait(20.1)
        for phone in phones[:2]:
            phone.answer(487)
        phones[2].answer(180)
        self.layer.wait(100)
        self.assertEqual((phones[2].heard(), self.hears()), (["INVITE"], [180, 180, 180]))
        phones[2].answer(200)
        self.assertEqual(self.ended, [200])

    def test_ring_time_is_for_each_group(self) -> None:
        """A group that rings because the one before refused has its whole time, not what was left of the other's."""
        phones = [self.network.phone(name) for name in ("desk", "mobile", "home")]
        self.call([phones[0]], [phones[1]], [phones[2]])
        self.layer.wait(15)
        phones[0].answer(486)
        phones[1].answer(180)
        self.layer.wait(19.9)
        self.assertEqual(phones[2].heard(), [])
        self.layer.wait(0.2)
        self.assertEqual(phones[2].heard(), ["INVITE"])
        phones[1].answer(487)
        phones[2].answer(200)

    def test_gone_group(self) -> None:
        """A group of phones that are gone costs no time."""
        home = self.network.phone("home")
        self.call([Attempt("sip:a@gone", OverFlow(999_999))], [Attempt("sip:b@gone", OverFlow(999_998))], [home])
        self.assertEqual(home.heard(), ["INVITE"])
        home.answer(486)
        self.assertEqual(self.hears(), [486])

    def test_global_refusal_ends_it(self) -> None:
        """After a 6xx no new branch is made."""
        desk, home = self.network.phone("desk"), self.network.phone("home")
        self.call([desk], [home])
        desk.answer(600)
        self.layer.wait(30)
        self.assertEqual((home.heard(), set(self.hears())), ([], {600}))


class CancelTests(ForkCase):
    """RFC 3261 §9, §16.10."""

    def test_ringing(self) -> None:
        """The caller hangs up: the phone gets CANCEL with the branch of its INVITE, its 487 goes back."""
        bob = self.network.phone("bob")
        server = self.call([bob])
        bob.answer(180)
        self.hangs_up(server)
        self.assertEqual(bob.heard(), ["INVITE", "CANCEL"])
        cancel, invite = bob.requests["CANCEL"], bob.requests["INVITE"]
        self.assertEqual(cancel.get_all("Via"), invite.get_all("Via")[:1])
        self.assertEqual(cancel.uri, invite.uri)
        bob.answer(200, "CANCEL")
        self.assertEqual(self.hears(), [180])
        bob.answer(487)
        self.assertEqual((self.hears(), bob.heard(), self.ended), ([487], ["ACK"], [487]))

    def test_reason_of_the_caller(self) -> None:
        """The Reason that the caller gives for its CANCEL goes on to the phone (RFC 3326 §2)."""
        mobile = self.network.phone("mobile")
        server = self.call([mobile])
        mobile.answer(180)
        self.hangs_up(server, 'Q.850;cause=16;text="Terminated"')
        self.assertEqual(self.reasons_told_to(mobile), ['Q.850;cause=16;text="Terminated"'])

    def test_answered_elsewhere(self) -> None:
        """A phone that stops ringing because another one answered is told so, and shows no missed call."""
        desk, mobile = self.network.phone("desk"), self.network.phone("mobile")
        self.call([desk, mobile])
        mobile.answer(180)
        desk.answer(200)
        self.assertEqual(self.reasons_told_to(mobile), ['SIP;cause=200;text="Call completed elsewhere"'])

    def test_refused_elsewhere(self) -> None:
        """A phone that stops ringing because the user declined at another one is told the status."""
        desk, mobile = self.network.phone("desk"), self.network.phone("mobile")
        self.call([desk, mobile])
        mobile.answer(180)
        desk.answer(603)
        self.assertEqual(self.reasons_told_to(mobile), ["SIP;cause=603"])

    def reasons_told_to(self, phone: Phone) -> list[str]:
        """Let a cancelled phone end its call; return the Reasons that its CANCEL gave."""
        self.assertEqual(phone.heard(), ["INVITE", "CANCEL"])
        reasons = phone.requests["CANCEL"].get_all("Reason")
        phone.answer(200, "CANCEL")
        phone.answer(487)
        return reasons

    def test_before_the_phone_spoke(self) -> None:
        """Before any provisional "the CANCEL request MUST NOT be sent": it follows the first one."""
        bob = self.network.phone("bob")
        server = self.call([bob])
        self.hangs_up(server)
        self.assertEqual(bob.heard(), ["INVITE"])
        bob.answer(180)
        self.assertEqual(bob.heard(), ["CANCEL"])
        bob.answer(200, "CANCEL")
        bob.answer(487)
        self.assertEqual((self.hears(), self.ended), ([180, 487], [487]))

    def test_phone_never_spoke(self) -> None:
        """A phone that never speaks is not cancelled; after 64*T1 the caller gets its 487."""
        bob = self.network.phone("bob")
        server = self.call([bob])
        self.layer.wait(2)
        self.hangs_up(server)
        self.layer.wait(29.9)
        self.assertEqual(self.hears(), [])
        self.layer.wait(0.2)
        self.assertEqual((self.hears(), bob.heard()), ([487], ["INVITE"]))

    def test_phone_ignores_the_cancel(self) -> None:
        """64*T1 after a CANCEL without effect the call is considered cancelled (§9.1), ringing or not."""
        bob = self.network.phone("bob")
        server = self.call([bob])
        bob.answer(180)
        self.hangs_up(server)
        self.layer.wait(10)
        bob.answer(180)
        self.layer.wait(21.9)
        self.assertEqual(self.hears(), [180, 180])
        self.layer.wait(0.2)
        self.assertEqual((self.hears(), self.ended), ([487], [487]))

    def test_phone_ignores_a_cancel_that_waited(self) -> None:
        """The same holds when the CANCEL had to wait for the phone's first word."""
        bob = self.network.phone("bob")
        server = self.call([bob])
        self.hangs_up(server)
        bob.answer(180)
        self.layer.wait(32.1)
        self.assertEqual(self.hears(), [180, 487])

    def test_phone_is_gone(self) -> None:
        """When the connection of the ringing phone has ended there is nobody to cancel: 487 at once."""
        bob = self.network.phone("bob")
        server = self.call([bob])
        bob.answer(180)
        self.layer.lose(bob.flow)
        self.assertEqual(self.hears(), [180])
        self.hangs_up(server)
        self.assertEqual((self.hears(), self.ended), ([487], [487]))

    def test_crosses_the_answer(self) -> None:
        """A 200 that crosses the CANCEL is passed on: the caller hangs up by BYE then."""
        bob = self.network.phone("bob")
        server = self.call([bob])
        bob.answer(180)
        self.hangs_up(server)
        bob.answer(200)
        bob.answer(481, "CANCEL")
        self.assertEqual((self.hears(), self.ended), ([180, 200], [200]))

    def test_after_the_answer(self) -> None:
        """An answered call has nobody who cancels."""
        bob = self.network.phone("bob")
        server = self.call([bob])
        bob.answer(200)
        self.assertIsNone(server.on_cancel)

    def test_twice(self) -> None:
        """A caller who hangs up twice changes nothing by it."""
        bob = self.network.phone("bob")
        server = self.call([bob])
        bob.answer(180)
        self.hangs_up(server)
        self.hangs_up(server)
        self.assertEqual(bob.heard(), ["INVITE", "CANCEL"])
        bob.answer(487)
        self.assertEqual(self.hears(), [180, 487])

    def test_all_phones(self) -> None:
        """All phones that ring are cancelled, and no further group is rung."""
        desk, mobile, home = (self.network.phone(name) for name in ("desk", "mobile", "home"))
        server = self.call([desk, mobile], [home])
        desk.answer(180)
        mobile.answer(180)
        self.hangs_up(server)
        desk.answer(487)
        self.assertEqual(self.hears(), [180, 180])
        mobile.answer(487)
        self.layer.wait(0.4)
        self.assertEqual((self.hears(), home.heard()), ([487], []))

    def test_while_looking_up(self) -> None:
        """Before any lookup has finished there is nobody to cancel: 487 at once, and nothing is ever sent."""
        found: Deferred[list[Target]] = Deferred()
        (gateway,) = self.network.server("bob@pstn.example", ("TCP", "192.0.2.30", 5060))
        self.network.resolver.known["sip:bob@pstn.example"] = found
        server = self.call([Attempt("sip:bob@pstn.example", ByUri())])
        self.hangs_up(server)
        self.assertEqual((self.hears(), self.ended), ([487], [487]))
        found.callback([Target("TCP", "192.0.2.30", 5060)])
        self.assertEqual((gateway.heard(), self.network.transports.connected), ([], []))

    def test_while_connecting(self) -> None:
        """The same while a connection is being opened."""
        opened: Deferred[Flow] = Deferred()
        (gateway,) = self.network.server("bob@pstn.example", ("TCP", "192.0.2.30", 5060))
        self.network.transports.reachable["TCP", "192.0.2.30", 5060] = opened
        server = self.call([Attempt("sip:bob@pstn.example", ByUri())])
        self.hangs_up(server)
        self.assertEqual(self.hears(), [487])
        opened.callback(gateway.flow)
        self.assertEqual(gateway.heard(), [])

    def test_while_going_on(self) -> None:
        """The first gateway rang and failed, the second is being connected to: 487 at once, and nothing is sent."""
        opened: Deferred[Flow] = Deferred()
        one, two = self.network.server(
            "bob@pstn.example", ("TCP", "192.0.2.30", 5060), ("TCP", "192.0.2.31", 5060)
        )
        self.network.transports.reachable["TCP", "192.0.2.31", 5060] = opened
        server = self.call([Attempt("sip:bob@pstn.example", ByUri())])
        one.answer(180)
        one.answer(503)
        self.hangs_up(server)
        self.assertEqual((self.hears(), self.ended), ([180, 487], [487]))
        opened.callback(two.flow)
        self.assertEqual(two.heard(), [])

    def test_second_gateway(self) -> None:
        """The second gateway is cancelled after its own first word, whatever the first one said before."""
        one, two = self.network.server(
            "bob@pstn.example", ("TCP", "192.0.2.30", 5060), ("TCP", "192.0.2.31", 5060)
        )
        server = self.call([Attempt("sip:bob@pstn.example", ByUri())])
        one.answer(180)
        one.answer(503)
        self.hangs_up(server)
        self.assertEqual(two.heard(), ["INVITE"])
        two.answer(180)
        self.assertEqual(two.heard(), ["CANCEL"])
        two.answer(487)
        self.assertEqual((self.hears(), one.heard()), ([180, 180, 487], ["INVITE", "ACK"]))

    def test_no_other_way_after_a_cancel(self) -> None:
        """Once cancelled, a 503 or 430 sends the call nowhere else."""
        for status in (503, 430):
            self.ended.clear()
            other = self.network.phone(f"other{status}")
            gateways = self.network.server(
                f"bob@{status}.example", ("TCP", "192.0.2.30", status), ("TCP", "192.0.2.31", status)
            )
            request = a_request(branch=f"z9hG4bK{status}")
            server = self.fork(request, [Attempt(f"sip:bob@{status}.example", ByUri(), (other.attempt(),))])
            gateways[0].answer(180)
            self.hangs_up(server)
            gateways[0].answer(status)
            self.assertEqual((gateways[1].heard(), other.heard(), len(self.ended)), ([], [], 1))
        self.caller.written.clear()


class OtherWaysTests(ForkCase):
    def flows_of_bob(self) -> tuple[Phone, Phone, Phone]:
        """Return three connections of one phone."""
        return self.network.phone("bob1"), self.network.phone("bob2"), self.network.phone("bob3")

    def test_next_flow_after_430(self) -> None:
        """A 430 goes to the phone's next flow (RFC 5626 §7), and the caller never hears of it."""
        one, two, three = self.flows_of_bob()
        self.call([one.attempt(two.attempt(), three.attempt())])
        one.answer(430)
        self.assertEqual((one.heard(), two.heard(), three.heard()), (["INVITE", "ACK"], ["INVITE"], []))
        two.answer(430)
        self.assertEqual(three.heard(), ["INVITE"])
        three.answer(200)
        self.assertEqual((self.hears(), self.ended), ([200], [200]))

    def test_next_flow_when_one_is_gone(self) -> None:
        """A flow that is not there any more, or breaks, is passed over at once."""
        one, two, three = self.flows_of_bob()
        one.flow.close("gone")
        two_gone = Attempt("sip:bob2@192.0.2.20", OverFlow(999_999))
        self.call([one.attempt(two_gone, two.attempt(), three.attempt())])
        self.assertEqual(two.heard(), ["INVITE"])
        self.layer.lose(two.flow)
        self.assertEqual(three.heard(), ["INVITE"])
        three.answer(486)
        self.assertEqual(self.hears(), [486])

    def test_next_flow_after_silence(self) -> None:
        """A flow on which nobody speaks for 64*T1 is followed by the next."""
        one, two, _ = self.flows_of_bob()
        self.call([one.attempt(two.attempt())])
        self.layer.wait(32.1)
        self.assertEqual(two.heard(), ["INVITE"])
        two.answer(200)
        self.assertEqual(self.hears(), [200])

    def test_refusal_holds_for_all_flows(self) -> None:
        """Any other refusal is the phone's answer: "The targeted instance has already provided its response"."""
        one, two, _ = self.flows_of_bob()
        self.call([one.attempt(two.attempt())])
        one.answer(486)
        self.assertEqual((self.hears(), two.heard()), ([486], []))

    def test_503_without_addresses_holds(self) -> None:
        """A phone's own 503 does not send the call to its other flow."""
        one, two, _ = self.flows_of_bob()
        self.call([one.attempt(two.attempt())])
        one.answer(503)
        self.assertEqual((self.hears(), two.heard()), ([500], []))

    def test_all_flows_failed(self) -> None:
        """When the last flow is gone too, the phone is not there."""
        one, two, _ = self.flows_of_bob()
        self.call([one.attempt(two.attempt())])
        one.answer(430)
        two.answer(430)
        self.assertEqual(self.hears(), [480])

    def test_second_flow_is_cancelled_after_its_own_word(self) -> None:
        """What the first flow heard is no reason to CANCEL on the second before it spoke."""
        one, two, _ = self.flows_of_bob()
        server = self.call([one.attempt(two.attempt())])
        one.answer(100)
        one.answer(430)
        self.hangs_up(server)
        self.assertEqual(two.heard(), ["INVITE"])
        two.answer(180)
        self.assertEqual(two.heard(), ["CANCEL"])
        two.answer(487)


class ByUriTests(ForkCase):
    """RFC 3263 §4.3: one address after another."""

    NAME = "bob@pstn.example"
    WAY = Attempt(f"sip:{NAME}", ByUri())

    def gateways(self) -> list[Phone]:
        """Return two gateways that the name resolves to."""
        return self.network.server(self.NAME, ("TCP", "192.0.2.30", 5060), ("UDP", "192.0.2.31", 5060))

    def test_first_address(self) -> None:
        """The best address is tried; the others are not when it answers."""
        one, two = self.gateways()
        self.call([self.WAY])
        self.assertEqual((one.heard(), one.requests["INVITE"].uri), (["INVITE"], self.WAY.uri))
        one.answer(404)
        self.assertEqual((self.hears(), two.heard()), ([404], []))

    def test_next_after_503(self) -> None:
        """A 503 goes to the next address, with another branch."""
        one, two = self.gateways()
        self.call([self.WAY])
        one.answer(503)
        self.assertEqual((one.heard(), two.heard(), self.hears()), (["INVITE", "ACK"], ["INVITE"], []))
        self.assertNotEqual(top_branch(one.requests["INVITE"]), top_branch(two.requests["INVITE"]))
        two.answer(200)
        self.assertEqual(self.hears(), [200])

    def test_next_when_unreachable(self) -> None:
        """An address that takes no connection is passed over."""
        one, two = self.gateways()
        one.flow.close("refused")
        self.call([self.WAY])
        self.assertEqual(two.heard(), ["INVITE"])
        two.answer(486)

    def test_next_when_the_connection_breaks(self) -> None:
        """A connection that breaks before an answer sends the request to the next address."""
        one, two = self.gateways()
        self.call([self.WAY])
        self.layer.lose(one.flow)
        self.assertEqual(two.heard(), ["INVITE"])
        two.answer(486)
        self.assertEqual(self.hears(), [486])

    def test_next_after_silence(self) -> None:
        """So does an address that stays silent for 64*T1."""
        one, two = self.gateways()
        self.call([self.WAY])
        self.layer.wait(32.1)
        self.assertEqual((one.heard(), two.heard()), (["INVITE"], ["INVITE"]))
        two.answer(200)
        self.assertEqual(self.hears(), [200])

    def test_all_failed(self) -> None:
        """When the last address gives 503 too, the caller gets 500."""
        one, two = self.gateways()
        self.call([self.WAY])
        one.answer(503)
        two.answer(503)
        self.assertEqual((self.hears(), self.ended), ([500], [500]))

    def test_unresolvable(self) -> None:
        """A name without an address is unreachable: 500."""
        self.fork(a_request(), [self.WAY])
        self.assertEqual(self.hears(), [100, 500])

    def test_lookup_fails_later(self) -> None:
        """So is one whose lookup fails after a while, without harm to phones that ring meanwhile."""
        found: Deferred[list[Target]] = Deferred()
        self.network.resolver.known[f"sip:{self.NAME}"] = found
        desk = self.network.phone("desk")
        self.call([self.WAY, desk])
        desk.answer(180)
        found.errback(Unresolvable("no such name", temporary=False))
        self.assertEqual(self.hears(), [180])
        desk.answer(486)
        self.assertEqual(self.hears(), [486])

    def test_connection_fails_later(self) -> None:
        """A connection that fails after a while leads to the next address."""
        _, two = self.gateways()
        opened: Deferred[Flow] = Deferred()
        self.network.transports.reachable["TCP", "192.0.2.30", 5060] = opened
        self.call([self.WAY])
        self.assertEqual(two.heard(), [])
        opened.errback(ConnectFailed("refused"))
        self.assertEqual(two.heard(), ["INVITE"])
        two.answer(486)

    def test_lookup_breaks(self) -> None:
        """A lookup that breaks in a way nobody expected ends its branch with 500."""
        found: Deferred[list[Target]] = Deferred()
        self.network.resolver.known[f"sip:{self.NAME}"] = found
        self.call([self.WAY])
        found.errback(ZeroDivisionError("a mistake of ours"))
        self.assertEqual(self.hears(), [500])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_answered_meanwhile(self) -> None:
        """A lookup that ends after another phone has answered leads nowhere."""
        found: Deferred[list[Target]] = Deferred()
        one, _ = self.gateways()
        self.network.resolver.known[f"sip:{self.NAME}"] = found
        desk = self.network.phone("desk")
        self.call([self.WAY, desk])
        desk.answer(200)
        found.callback([Target("TCP", "192.0.2.30", 5060)])
        self.assertEqual((one.heard(), self.hears()), ([], [200]))


class TimerCTests(ForkCase):
    """RFC 3261 §16.6 step 11, §16.7 step 2, §16.8."""

    def test_rings_too_long(self) -> None:
        """A phone that rings 185 s without a word is cancelled; the caller, who did not cancel, gets 408."""
        bob = self.network.phone("bob")
        self.call([bob])
        bob.answer(180)
        self.layer.wait(184.9)
        self.assertEqual(bob.heard(), ["INVITE"])
        self.layer.wait(0.2)
        self.assertEqual((bob.heard(), self.hears()), (["CANCEL"], [180]))
        bob.answer(200, "CANCEL")
        bob.answer(487)
        self.assertEqual((self.hears(), self.ended), ([408], [408]))

    def test_every_word_counts(self) -> None:
        """Each 101 to 199 resets timer C, a 100 does not."""
        bob = self.network.phone("bob")
        self.call([bob])
        bob.answer(180)
        self.layer.wait(100)
        bob.answer(183)
        self.layer.wait(100)
        bob.answer(100)
        self.layer.wait(84.9)
        self.assertEqual(bob.heard(), ["INVITE"])
        self.layer.wait(0.2)
        self.assertEqual(bob.heard(), ["CANCEL"])
        bob.answer(487)

    def test_only_a_100(self) -> None:
        """A phone that said no more than 100 is cancelled too."""
        bob = self.network.phone("bob")
        self.call([bob])
        bob.answer(100)
        self.layer.wait(185.1)
        self.assertEqual(bob.heard(), ["INVITE", "CANCEL"])
        bob.answer(487)
        self.assertEqual(self.hears(), [408])

    def test_phone_vanished(self) -> None:
        """A phone that rings on and on, and takes no CANCEL, is given up 64*T1 later."""
        bob = self.network.phone("bob")
        self.call([bob])
        bob.answer(180)
        self.layer.wait(185 + 31.9)
        self.assertEqual(self.hears(), [180])
        self.layer.wait(0.2)
        self.assertEqual(self.hears(), [408])

    def test_each_address_has_its_own(self) -> None:
        """Timer C "MUST be set for each client transaction": the second gateway may ring as long as the first."""
        one, two = self.network.server("bob@pstn.example", ("TCP", "192.0.2.30", 5060), ("TCP", "192.0.2.31", 5060))
        self.call([Attempt("sip:bob@pstn.example", ByUri())])
        one.answer(180)
        self.layer.wait(180)
        one.answer(503)
        two.answer(180)
        self.layer.wait(180)
        self.assertEqual(two.heard(), ["INVITE"])
        two.answer(200)

    def test_picked_up_after_timer_c(self) -> None:
        """A phone that is picked up as timer C's CANCEL is on its way still has the call."""
        bob = self.network.phone("bob")
        self.call([bob])
        bob.answer(180)
        self.layer.wait(185.1)
        bob.answer(200)
        self.assertEqual(self.hears(), [180, 200])


class SlowNetworkTests(ForkCase):
    """A T1 so long that timer C is over before timer B."""

    config = TransactionConfig(t1_seconds=4.0)

    def tearDown(self) -> None:
        """Wait longer, as all timers are longer."""
        self.layer.wait(256)
        super().tearDown()

    def test_timer_c_without_a_word(self) -> None:
        """Without any provisional, timer C is as good as a 408, and no CANCEL is sent (§16.8)."""
        bob = self.network.phone("bob")
        self.call([bob])
        self.layer.wait(185.1)
        self.assertEqual((self.hears(), bob.heard(), self.ended), ([408], ["INVITE"], [408]))


class OtherMethodsTests(ForkCase):
    """What is no INVITE: RFC 3261 §16, RFC 4320."""

    def test_answered(self) -> None:
        """The first success goes back; that of another phone does not."""
        desk, mobile = self.network.phone("desk"), self.network.phone("mobile")
        self.message([desk, mobile])
        desk.answer(202, "MESSAGE")
        mobile.answer(200, "MESSAGE")
        self.assertEqual((self.hears(), self.ended), ([202], [202]))

    def test_never_cancelled(self) -> None:
        """Nothing but an INVITE is cancelled (§9.1), and the caller cannot cancel either."""
        desk, mobile = self.network.phone("desk"), self.network.phone("mobile")
        server = self.message([desk, mobile])
        self.assertIsNone(server.on_cancel)
        mobile.answer(100, "MESSAGE")
        desk.answer(200, "MESSAGE")
        self.assertEqual(mobile.heard(), ["MESSAGE"])
        mobile.answer(200, "MESSAGE")
        self.assertEqual(self.hears(), [200])

    def test_refused(self) -> None:
        """The best refusal goes back."""
        desk, mobile = self.network.phone("desk"), self.network.phone("mobile")
        self.message([desk, mobile])
        desk.answer(480, "MESSAGE")
        mobile.answer(415, "MESSAGE")
        self.assertEqual(self.hears(), [415])

    def test_groups(self) -> None:
        """Groups follow one another when all of one have refused; they have no ring time."""
        desk, home = self.network.phone("desk"), self.network.phone("home")
        self.message([desk], [home])
        desk.answer(100, "MESSAGE")
        self.layer.wait(21)
        self.assertEqual(home.heard(), [])
        desk.answer(480, "MESSAGE")
        home.answer(200, "MESSAGE")
        self.assertEqual(self.hears(), [100, 200])

    def test_global_refusal(self) -> None:
        """A 6xx ends it: the next group gets nothing."""
        desk, home = self.network.phone("desk"), self.network.phone("home")
        self.message([desk], [home])
        desk.answer(603, "MESSAGE")
        self.assertEqual((self.hears(), home.heard()), ([603], []))

    def test_silence_is_silence(self) -> None:
        """A request that nobody answers in time gets no 408 (RFC 4320 §4.2)."""
        desk = self.network.phone("desk")
        self.message([desk])
        self.layer.wait(40)
        self.assertEqual((self.hears(), self.ended), ([100], [408]))

    def test_no_408_of_others(self) -> None:
        """A 408 that a phone sent against the rules is not passed on."""
        desk = self.network.phone("desk")
        self.message([desk])
        desk.answer(408, "MESSAGE")
        self.assertEqual((self.hears(), self.ended), ([], [408]))
        self.assertEqual(len(self.layer.transactions), 0)

    def test_trying_when_it_takes_long(self) -> None:
        """A 100 goes out when the caller's timer E has grown to T2, not before (RFC 4320 §4.1)."""
        desk = self.network.phone("desk")
        self.message([desk])
        self.layer.wait(3.4)
        self.assertEqual(self.hears(), [])
        self.layer.wait(0.2)
        self.assertEqual(self.hears(), [100])
        desk.answer(200, "MESSAGE")
        self.assertEqual(self.hears(), [200])

    def test_trying_counts_from_the_request(self) -> None:
        """Time that the look-up of the callee took counts."""
        desk = self.network.phone("desk")
        server = self.layer.begin(a_request("MESSAGE"), self.caller)
        self.layer.wait(2)
        forwarded = Forwarded(server.request, self.caller, loop_mark(server.request), True, b"call-1", 60)
        groups = [[desk.attempt()]]
        Fork(server, forwarded, groups, self.network.sending, self.layer.transactions, CONFIG, self._end).start()
        self.layer.wait(1.4)
        self.assertEqual(self.hears(), [])
        self.layer.wait(0.2)
        self.assertEqual(self.hears(), [100])
        desk.answer(200, "MESSAGE")

    def test_no_other_provisional(self) -> None:
        """ "MUST NOT send any provisional response with a Status-Code other than 100" (RFC 4320 §4.1)."""
        desk = self.network.phone("desk")
        self.message([desk])
        for status in (100, 180, 183):
            desk.answer(status, "MESSAGE")
        self.assertEqual(self.hears(), [])
        desk.answer(200, "MESSAGE")
        self.assertEqual(self.hears(), [200])

    def test_next_address(self) -> None:
        """A 503 or a broken connection leads to the next address here as well."""
        one, two, three = self.network.server(
            "bob@pstn.example", *[("TCP", f"192.0.2.{host}", 5060) for host in (30, 31, 32)]
        )
        self.message([Attempt("sip:bob@pstn.example", ByUri())])
        one.answer(503, "MESSAGE")
        self.layer.lose(two.flow)
        self.assertEqual(three.heard(), ["MESSAGE"])
        three.answer(200, "MESSAGE")
        self.assertEqual(self.hears(), [200])

    def test_within_a_dialog(self) -> None:
        """A BYE over the dialog's flow passes, and so does its answer."""
        bob = self.network.phone("bob")
        self.fork(a_request("BYE", callee="<sip:bob@example.com>;tag=bob"), [Attempt("sip:bob@x", bob.flow)])
        bob.answer(200, "BYE")
        self.assertEqual(self.hears(), [200])


class CallerIsGoneTests(ForkCase):
    def test_call_goes_on(self) -> None:
        """When the caller's flow is broken, answers are dropped and the phones are not cancelled (§16.9)."""
        bob = self.network.phone("bob")
        self.caller.close("gone")
        self.fork(a_request(), [bob])
        bob.answer(180)
        self.assertEqual(bob.heard(), ["INVITE"])
        bob.answer(200)
        self.assertEqual((self.caller.written, self.ended), ([], [200]))

    def test_real_cancel(self) -> None:
        """A CANCEL that comes over the network finds the call that it is for."""
        bob = self.network.phone("bob")
        server = self.call([bob])
        bob.answer(180)
        cancel = self.layer.begin(cancellation(a_request()), self.caller)
        self.assertIs(self.layer.transactions.cancelled_by(cancel.request, cancel.via), server)
        cancel.refuse(200)
        self.hangs_up(server)
        bob.answer(487)
        self.acknowledge()
        self.assertEqual([message.start_line for message in self.caller.take()],
                         ["SIP/2.0 180 Ringing", "SIP/2.0 200 OK", "SIP/2.0 487 Request Terminated"])
