"""Tests of forks: whom a request rings at a time and in turn, and which answer goes back."""


from registrar.routing import OverDatagrams, OverFlow
from registrar.sending import Attempt
from rollcall.sip.transaction import cancellation
from tests.flows import a_request, an_answer, top_branch
from tests.registrar.forks import ForkCase


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
