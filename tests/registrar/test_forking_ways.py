"""Tests of forks that go on: to the next flow of a phone, the next address of a name; and of what is no INVITE."""

from twisted.internet.defer import Deferred

from registrar.forking import Fork
from registrar.routing import ByUri, OverFlow
from registrar.sending import Attempt, Forwarded
from rollcall.net.flow import ConnectFailed, Flow
from rollcall.net.resolver import Unresolvable
from rollcall.sip.forwarding import loop_mark
from rollcall.sip.targets import Target
from tests.flows import a_request, top_branch
from tests.registrar.forks import CONFIG, ForkCase
from tests.registrar.network import Phone


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
