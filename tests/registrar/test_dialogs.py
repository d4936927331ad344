"""Tests of calls that go on when a phone has moved to another connection or node in their midst (RFC 5626 §5.3)."""

from registrar.owners import LONGEST_CALL_SECONDS, phone_name
from rollcall.sip.headers import parse_name_addr
from rollcall.sip.uri import parse_sip_uri
from tests.flows import a_request, an_answer
from tests.registrar.examples import NOW, PHONE, TABLET
from tests.registrar.nodes import Call, NodePhone, NodesCase


class MovedTests(NodesCase):
    """Alice on n1 and Bob on n2 talk."""

    def setUp(self) -> None:
        super().setUp()
        self.alice = self.nodes.phone("alice", "n1", instance=PHONE)
        self.bob = self.nodes.phone("bob", "n2", instance=TABLET)
        self.call = self.established(self.alice, self.bob)

    def move(self, phone: NodePhone, node: str) -> None:
        """Let a phone lose its connection and register with another node, from another port."""
        if phone.node not in self.nodes.dead:
            phone.lose()
        phone.register(node)

    def test_callee(self) -> None:
        """What is for Bob follows him to another node; he keeps the address that the dialog knows."""
        before = self.bob.contact
        self.move(self.bob, "n3")
        self.exchange(self.call, "INFO", self.alice, self.bob)
        self.assertEqual(self.bob.requests["INFO"].uri, before)
        self.exchange(self.call, "BYE", self.bob, self.alice)

    def test_caller(self) -> None:
        """What is for Alice follows her, who has begun the call."""
        self.move(self.alice, "n3")
        self.exchange(self.call, "INVITE", self.bob, self.alice)
        self.exchange(self.call, "BYE", self.alice, self.bob)

    def test_to_the_node_of_the_other(self) -> None:
        """Both may hang on one node in the end."""
        self.move(self.alice, "n2")
        self.exchange(self.call, "UPDATE", self.bob, self.alice)
        self.exchange(self.call, "BYE", self.alice, self.bob)

    def test_both(self) -> None:
        """Both may move, again and again."""
        for alices, bobs in (("n2", "n3"), ("n3", "n1"), ("n1", "n1")):
            self.move(self.alice, alices)
            self.move(self.bob, bobs)
            self.exchange(self.call, "INVITE", self.alice, self.bob)
            self.exchange(self.call, "UPDATE", self.bob, self.alice)

    def test_node_of_the_caller_ends(self) -> None:
        """When a node is killed its phones' calls go on, from both sides."""
        self.nodes.kill("n1")
        self.move(self.alice, "n3")
        self.exchange(self.call, "INFO", self.bob, self.alice)
        self.exchange(self.call, "BYE", self.alice, self.bob)

    def test_node_of_the_callee_ends(self) -> None:
        """The same for who was called."""
        self.nodes.kill("n2")
        self.move(self.bob, "n1")
        self.exchange(self.call, "INFO", self.bob, self.alice)
        self.exchange(self.call, "BYE", self.alice, self.bob)

    def test_before_the_lease_ends(self) -> None:
        """Whoever comes back before anybody knows that its node has ended is found as well."""
        self.nodes.kill("n2", lease_ends=False)
        self.move(self.bob, "n3")
        self.exchange(self.call, "BYE", self.alice, self.bob)
        self.nodes.end_lease("n2")

    def test_on_its_way(self) -> None:
        """What comes while the phone is on its way waits for it, whatever its method."""
        for number, method in enumerate(("INFO", "INVITE", "BYE")):
            self.bob.lose()
            self.alice.flow.take()
            self.alice.send(self.call.request(method, self.alice))
            self.nodes.wait(3)
            self.assertEqual([status for status in self.alice.answers() if status > 100], [], method)
            self.bob.register(f"n{number + 1}")
            self.nodes.wait(0.5)
            self.assertEqual(self.bob.heard(), [method])
            self.bob.answer(200, method)
            self.assertEqual(self.alice.answers()[-1], 200)

    def test_stays_away(self) -> None:
        """A phone that does not come back is 480 when the time is over, and from then on at once."""
        self.bob.lose()
        self.alice.flow.take()
        self.alice.send(self.call.request("BYE", self.alice))
        self.nodes.wait(9)
        self.assertEqual([status for status in self.alice.answers() if status > 100], [])
        self.nodes.wait(1.5)
        self.assertEqual(self.alice.answers(), [480])
        self.alice.send(self.call.request("BYE", self.alice))
        self.wait_a_turn()
        self.assertEqual(self.alice.answers(), [480])

    def test_lost_to_its_own_node(self) -> None:
        """The node that had the connection says 430 at once when that was long ago (RFC 5626 §5.3.1)."""
        self.bob.lose()
        self.nodes.wait(11)
        self.alice.connect("n2")
        self.alice.send(self.call.request("BYE", self.alice))
        self.assertEqual(self.alice.answers(), [430])

    def test_flow_lost_while_it_is_asked(self) -> None:
        """A request whose answer the phone owes when its connection breaks goes to it again over the next."""
        self.alice.flow.take()
        self.alice.send(self.call.request("INFO", self.alice))
        self.assertEqual(self.bob.heard(), ["INFO"])
        self.move(self.bob, "n3")
        self.nodes.wait(0.5)
        self.assertEqual(self.bob.heard(), ["INFO"])
        self.bob.answer(200, "INFO")
        self.assertEqual(self.alice.answers(), [200])

    def test_another_phone_of_the_user(self) -> None:
        """Another phone of Bob is never taken for the one that talks: his comes back, or nobody is asked."""
        other = self.nodes.phone("bob2", "n1", user="bob", instance="urn:x:other")
        self.bob.lose()
        self.alice.flow.take()
        self.alice.send(self.call.request("BYE", self.alice))
        self.nodes.wait(2)
        self.bob.register("n3")
        self.nodes.wait(0.5)
        self.assertEqual((other.heard(), self.bob.heard()), ([], ["BYE"]))
        self.bob.answer(200, "BYE")
        self.assertEqual(self.alice.answers(), [200])


    def test_beside_one_that_is_dead(self) -> None:
        """That another phone of Bob was lost long ago says nothing of this one."""
        self.nodes.phone("bob2", "n3", user="bob", instance="urn:x:other")
        self.nodes.kill("n3")
        self.nodes.wait(11)
        self.bob.lose()
        self.alice.flow.take()
        self.alice.send(self.call.request("BYE", self.alice))
        self.nodes.wait(2)
        self.bob.register("n1")
        self.wait_a_turn()
        self.assertEqual(self.bob.heard(), ["BYE"])
        self.bob.answer(200, "BYE")

    def test_others_do_not_follow(self) -> None:
        """Who has only heard of the call, a subscriber or not, does not reach a phone that has moved."""
        eve = NodePhone(self.nodes, "eve")
        eve.connect("n1")
        self.move(self.bob, "n3")
        for other in (self.nodes.phone("carol", "n2"), eve):
            other.send(self.call.request("MESSAGE", self.alice))
            self.assertIn(other.answers()[-1], (430, 480))
        self.assertEqual(self.bob.heard(), [])

    def test_after_the_longest_call(self) -> None:
        """Nobody follows a phone for ever."""
        self.nodes.clock.advance(LONGEST_CALL_SECONDS + 60)
        self.exchange(self.call, "INFO", self.alice, self.bob)
        self.move(self.bob, "n3")
        self.alice.flow.take()
        self.alice.send(self.call.request("INFO", self.alice))
        self.wait_a_turn()
        self.assertEqual((self.alice.answers(), self.bob.heard()), ([480], []))

    def test_node_that_is_not_known_yet(self) -> None:
        """What is for a phone of a node that has just begun waits until that node's lease is here."""
        self.nodes.unknown.add("n2")
        self.alice.flow.take()
        self.alice.send(self.call.request("BYE", self.alice))
        self.nodes.wait(1)
        self.assertEqual((self.alice.answers(), self.bob.heard()), ([], []))
        self.nodes.unknown.clear()
        self.nodes.wait(1)
        self.assertEqual(self.bob.heard(), ["BYE"])
        self.bob.answer(200, "BYE")
        self.assertEqual(self.alice.answers(), [200])

    def test_moved_before_a_request(self) -> None:
        """The ACK of a re-INVITE goes where the INVITE went: to the node that has the phone by now."""
        self.move(self.bob, "n3")
        self.exchange(self.call, "INVITE", self.alice, self.bob)
        self.alice.send(self.call.request("ACK", self.alice, cseq=2))
        self.assertEqual(self.bob.heard(), ["ACK"])


class TrunkTests(NodesCase):
    """One connection for several users."""

    def test_moves(self) -> None:
        """What is for the caller goes to where that user of the trunk is bound now."""
        trunk, bob = self.nodes.phone("alice", "n1"), self.nodes.phone("bob", "n2")
        trunk.register_as_well("carol")
        call = self.established(trunk, bob)
        trunk.lose()
        trunk.register("n3")
        self.exchange(call, "BYE", bob, trunk)

    def test_neither_of_them(self) -> None:
        """Who calls as none of its users is not found again."""
        trunk, bob = self.nodes.phone("alice", "n1"), self.nodes.phone("bob", "n2")
        trunk.register_as_well("carol")
        for number, host in enumerate(("example.com", "elsewhere.example")):
            call = Call(trunk, bob, f"call-{number}")
            call.caller_name = f"<sip:dave@{host}>;tag=alice"
            call.invite()
            self.assertEqual(bob.heard(), ["INVITE"])
            inward = parse_sip_uri(parse_name_addr(bob.requests["INVITE"].values("Record-Route")[1]).uri).user or ""
            named = self.nodes["n2"].network.tokens.read(inward, f"call-{number}\0alice".encode())
            self.assertEqual(named.phone, b"")
            bob.answer(486)
            self.assertEqual(bob.heard(), ["ACK"])


class AckTests(NodesCase):
    """The ACK of a 200 has no answer, and is never sent twice by us."""

    def setUp(self) -> None:
        super().setUp()
        self.alice, self.bob = self.nodes.phone("alice", "n1"), self.nodes.phone("bob", "n1", instance=PHONE)
        self.call = Call(self.alice, self.bob)
        self.call.invite()
        self.call.answer()
        self.bob.heard()

    def test_moved(self) -> None:
        """It goes to where the phone is now."""
        self.bob.lose()
        self.bob.register("n2")
        self.call.acknowledge()
        self.assertEqual(self.bob.heard(), ["ACK"])

    def test_on_its_way(self) -> None:
        """It waits for a phone on its way."""
        self.bob.lose()
        self.call.acknowledge()
        self.nodes.wait(2)
        self.bob.register("n3")
        self.nodes.wait(0.5)
        self.assertEqual(self.bob.heard(), ["ACK"])

    def test_stays_away(self) -> None:
        """It is dropped when the phone stays away."""
        self.bob.lose()
        self.call.acknowledge()
        self.nodes.wait(11)
        self.assertEqual(self.alice.answers(), [])


class RelayTests(NodesCase):
    """Alice talks to a gateway; who may use such a dialog's Routes is her phone alone."""

    def setUp(self) -> None:
        super().setUp()
        self.alice = self.nodes.phone("alice", "n1", instance=PHONE)
        (self.gateway,) = self.nodes["n3"].network.server("9@pstn.example", ("TCP", "192.0.2.30", 5060))
        tokens, context = self.nodes["n1"].network.tokens, b"call-1@phone\0alice"
        inward = tokens.token(self.alice.flow, context, phone_name(b"alice@example.com", PHONE, NOW))
        outward = tokens.token(None, context)
        routes = [f"<sip:{token}@192.0.2.1:5060;transport=tcp;lr>" for token in (inward, outward)]
        self.bye = a_request("BYE", "sip:9@pstn.example", callee="<sip:9@pstn.example>;tag=g", cseq=7,
                             call_id="call-1@phone", headers=tuple(("Route", route) for route in routes))

    def test_phone_that_has_moved(self) -> None:
        """Alice goes on over another node without her password: her phone's new connection is bound to her as well."""
        self.nodes.kill("n1")
        self.alice.register("n3")
        self.alice.flow.take()
        self.alice.send(self.bye)
        self.assertEqual(self.gateway.heard(), ["BYE"])
        self.nodes["n3"].layer.answer(an_answer(self.gateway.requests["BYE"], 200), self.gateway.flow)
        self.assertEqual(self.alice.answers(), [200])

    def test_others(self) -> None:
        """Nobody else does, a subscriber or not; n3 relays nothing for them."""
        self.nodes.kill("n1")
        eve = NodePhone(self.nodes, "eve")
        eve.connect("n3")
        for other in (self.nodes.phone("bob", "n3"), eve):
            self.bye.set("Via", f"SIP/2.0/TCP 192.0.2.10:5060;branch=z9hG4bK-{other.name}")
            other.send(self.bye)
            self.assertEqual(other.answers(), [403])
        self.assertEqual(self.gateway.heard(), [])
