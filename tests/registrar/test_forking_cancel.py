"""Tests of forks that end early: the caller hangs up, or timer C does (RFC 3261 §9, §16.8, §16.10)."""

from twisted.internet.defer import Deferred

from registrar.routing import ByUri
from registrar.sending import Attempt
from rollcall.net.flow import Flow
from rollcall.sip.targets import Target
from rollcall.sip.transaction import TransactionConfig
from tests.flows import a_request
from tests.registrar.forks import ForkCase
from tests.registrar.network import Phone


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
