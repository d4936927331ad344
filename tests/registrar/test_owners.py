"""Tests of calls between phones of different nodes, each request from one flow to the other (RFC 5626 §5.3)."""

from base64 import urlsafe_b64decode

from twisted.trial.unittest import SynchronousTestCase

from registrar.owners import OneNode, living, phone_name, record_of, same_phone, way_to
from registrar.routing import ByUri, OverDatagrams, OverFlow
from registrar.sending import dialog_context
from rollcall.net.tokens import Connection
from rollcall.sip.headers import parse_name_addr
from rollcall.sip.transaction import cancellation
from rollcall.sip.uri import parse_sip_uri
from tests.flows import a_request
from tests.registrar.examples import NOW, PHONE, TABLET, a_binding, a_bound, over_tcp
from tests.registrar.nodes import Call, NodePhone, NodesCase


def hosts(values: list[str]) -> list[str]:
    """Return "host:port" of each Record-Route value."""
    uris = [parse_sip_uri(parse_name_addr(value).uri) for value in values]
    return [f"{uri.host}:{uri.port}" for uri in uris]


class TwoNodesTests(NodesCase):
    """Alice's phone hangs on n1, Bob's on n2."""

    def setUp(self) -> None:
        super().setUp()
        self.alice, self.bob = self.nodes.phone("alice", "n1"), self.nodes.phone("bob", "n2")

    def test_invite(self) -> None:
        """An INVITE reaches the phone by way of its own node, with two hops of ours and no Route left in it."""
        call = Call(self.alice, self.bob)
        call.invite()
        self.assertEqual((self.alice.answers(), self.bob.heard()), ([100], ["INVITE"]))
        invite = self.bob.requests["INVITE"]
        self.assertEqual((len(invite.values("Via")), invite.get("Route"), invite.get("Max-Forwards")), (3, None, "68"))
        self.assertEqual(invite.uri, self.bob.contact)
        call.answer()
        call.acknowledge()
        self.assertEqual(self.bob.heard(), ["ACK"])

    def test_recorded_once(self) -> None:
        """There is one pair of Record-Route values, and each names its phone's own node."""
        self.established(self.alice, self.bob)
        values = self.bob.requests["INVITE"].values("Record-Route")
        self.assertEqual(hosts(values), ["192.0.2.2:5060", "192.0.2.1:5060"])

    def test_requests_within_the_dialog(self) -> None:
        """Whatever belongs to the dialog passes, from both ends, and its answer comes back."""
        call = self.established(self.alice, self.bob)
        for method in ("INVITE", "UPDATE", "INFO", "REFER", "NOTIFY", "MESSAGE", "BYE"):
            for sender, receiver in ((self.alice, self.bob), (self.bob, self.alice)):
                self.exchange(call, method, sender, receiver)

    def test_before_the_answer(self) -> None:
        """The dialog is there with the first reliable 1xx: its PRACK passes (RFC 3262)."""
        call = Call(self.alice, self.bob)
        call.invite(headers=(("Supported", "100rel"),))
        call.answer(183)
        self.exchange(call, "PRACK", self.alice, self.bob)
        call.answer()

    def test_refused(self) -> None:
        """A refusal comes back, and is acknowledged on each hop by whoever got it there."""
        call = Call(self.alice, self.bob)
        call.invite()
        self.assertEqual(self.bob.heard(), ["INVITE"])
        self.bob.answer(486)
        self.assertEqual(self.alice.answers(), [100, 486])
        self.assertEqual(self.bob.heard(), ["ACK"])
        self.assertEqual(self.nodes.between("n1", "n2").sent, [f"INVITE {self.bob.contact}", f"ACK {self.bob.contact}"])

    def test_cancelled(self) -> None:
        """A CANCEL reaches the ringing phone, hop by hop."""
        call = Call(self.alice, self.bob)
        call.invite()
        self.assertEqual(self.bob.heard(), ["INVITE"])
        self.bob.answer(180)
        self.alice.send(cancellation(call.invite_sent))
        self.assertEqual(self.bob.heard(), ["CANCEL"])
        self.bob.answer(487)
        self.nodes.settle()
        self.assertEqual(self.alice.answers(), [100, 180, 200, 487])

    def test_by_a_third_node(self) -> None:
        """A phone may speak to any node in a dialog: what is signed is taken by all of them."""
        call = self.established(self.alice, self.bob)
        self.alice.connect("n3")
        self.exchange(call, "INFO", self.alice, self.bob)
        self.bob.connect("n3")
        self.alice.connect("n3")
        self.bob.send(call.request("BYE", self.bob))
        self.assertEqual(self.nodes.between("n3", "n1").sent, [f"BYE {self.alice.contact}"])

    def test_counted_once(self) -> None:
        """A call is counted by the node that it came to, not by that which has the phone."""
        self.established(self.alice, self.bob)
        counts = [self.nodes[name].counts("rollcall_calls_total") for name in ("n1", "n2")]
        self.assertEqual(counts, [{("200",): 1}, {}])

    def test_websocket(self) -> None:
        """A phone on a WebSocket is told the name and transport by which it knows its own node."""
        browser = self.nodes.phone("carol", "n2", "WS")
        call = self.established(self.alice, browser)
        top = browser.requests["INVITE"].values("Record-Route")[0]
        self.assertTrue(top.endswith("@192.0.2.2:5080;transport=ws;lr>"), top)
        self.exchange(call, "BYE", browser, self.alice)

    def test_many_nodes(self) -> None:
        """A call rings phones of all nodes; once one has answered the others are cancelled."""
        phones = [NodePhone(self.nodes, f"bob{node}", user="bob", instance=f"urn:x:{node}") for node in "123"]
        for number, phone in enumerate(phones, 1):
            phone.register(f"n{number}")
        Call(self.alice, phones[2]).invite()
        self.assertEqual([phone.heard() for phone in phones], [["INVITE"]] * 3)
        for phone in phones:
            phone.answer(180)
        phones[2].answer(200)
        self.nodes.settle()
        self.assertEqual([phone.heard() for phone in phones], [["CANCEL"], ["CANCEL"], []])
        for phone in phones[:2]:
            phone.answer(487)
        self.assertEqual(self.alice.answers()[-1], 200)


class DatagramTests(NodesCase):
    """Bob's phone speaks UDP to n2, whose socket it knows."""

    def setUp(self) -> None:
        super().setUp()
        self.alice, self.bob = self.nodes.phone("alice", "n1"), self.nodes.phone("bob", "n2", "UDP")

    def test_from_the_socket_that_it_knows(self) -> None:
        """A call from another node leaves from the socket of the node that it registered with."""
        call = self.established(self.alice, self.bob)
        self.exchange(call, "BYE", self.bob, self.alice)

    def test_node_is_gone(self) -> None:
        """When that node has ended, any node speaks to it from its own socket, in calls as well."""
        call = self.established(self.alice, self.bob)
        self.nodes.kill("n2")
        self.bob.node = "n1"
        flow = self.nodes["n1"].network.transports.datagram_flow("udp", *self.bob.flow.peer)
        self.bob.flow = flow  # type: ignore[assignment]
        self.exchange(call, "BYE", self.alice, self.bob)
        again = Call(self.alice, self.bob, "call-2")
        again.invite()
        self.assertEqual(self.bob.heard(), ["INVITE"])
        again.answer()


class BoundsTests(NodesCase):
    """What nodes do for each other, and what not."""

    def setUp(self) -> None:
        super().setUp()
        self.alice, self.bob = self.nodes.phone("alice", "n1"), self.nodes.phone("bob", "n2")
        self.wire = self.nodes.between("n2", "n1")

    def token(self, name: Connection, context: bytes = dialog_context(a_request(), "alice")) -> str:
        """Return a Route value with the token of a flow, made for `a_request`."""
        return f"<sip:{self.nodes['n3'].network.tokens.token(name, context)}@198.51.100.2:5070;transport=tcp;lr>"

    def from_member(self, *routes: str, uri: str = "sip:bob@example.com") -> list[str]:
        """Let n1 send an INVITE with these Routes to n2; return what n2 says to that."""
        request = a_request(uri=uri, headers=tuple(("Route", route) for route in routes))
        self.nodes["n2"].requests.message_received(request.serialise(), self.wire)
        self.nodes.wire.clear()
        said, self.wire.sent = self.wire.sent, []
        return said

    def test_never_to_a_third(self) -> None:
        """What another node sends is for a flow that is here; nothing is sent on, whatever token or record says."""
        there = self.nodes.phone("carol", "n3")
        for name in (Connection("n3", 1, there.flow.id), Connection("n2", 1, 999_999), Connection("n2", 7, 1)):
            self.assertEqual(self.from_member(self.token(name))[-1], "SIP/2.0 430 Flow Failed", name)
            self.nodes.wait(40)
        self.assertEqual((there.heard(), self.nodes.between("n2", "n3").sent), ([], []))

    def test_without_a_token(self) -> None:
        """Another node has no right but to speak to our flows: without a token, or with a forged one, it is 403."""
        foreign = self.token(Connection("n2", 1, self.bob.flow.id), b"another call")
        for routes in ((), ("<sip:AAAA@192.0.2.2;lr>",), (foreign,), (self.token(None),)):  # type: ignore[arg-type]
            self.assertIn("403", self.from_member(*routes)[-1], routes)
            self.nodes.wait(40)
        self.assertEqual(self.bob.heard(), [])

    def test_first_route_alone(self) -> None:
        """The first Route says where it goes: nothing behind it, and nothing that a phone made its Contact of."""
        carol = self.nodes.phone("carol", "n2")
        bobs, carols = (self.token(Connection("n2", 1, phone.flow.id)) for phone in (self.bob, carol))
        uri = parse_name_addr(bobs).uri
        self.from_member(carols, bobs, "<sip:junk@192.0.2.2:5060;lr>", uri=uri)
        self.assertEqual((self.bob.heard(), carol.heard()), ([], ["INVITE"]))
        invite = carol.requests["INVITE"]
        self.assertEqual((invite.uri, invite.values("Route")), (uri, [bobs, "<sip:junk@192.0.2.2:5060;lr>"]))
        carol.answer(486)
        self.nodes.wire.clear()

    def test_stale_record(self) -> None:
        """A record that names a flow which is gone ends as 480: one more node is asked, and no other."""
        self.nodes["n2"].network.transports.flows.clear()
        Call(self.alice, self.bob).invite()
        self.nodes.wait(11)
        self.assertEqual(self.alice.answers(), [100, 480])
        self.assertEqual(self.nodes.between("n1", "n2").sent.count(f"INVITE {self.bob.contact}"), 1)
        self.assertEqual(self.nodes.between("n2", "n3").sent, [])

    def test_number_of_another_flow(self) -> None:
        """A connection of another node is never taken for the one of ours that has the same number."""
        sending, number = self.nodes["n1"].network.sending, self.alice.flow.id
        self.assertIs(sending.held(OverFlow(number, over_tcp(number, "n1", 1))), self.alice.flow)
        self.assertIsNone(sending.held(OverFlow(number, over_tcp(number, "n2", 1))))
        self.assertIsNone(sending.held(OverFlow(number, over_tcp(number, "n1", 2))))

    def test_asserted_names(self) -> None:
        """What the first node let pass, the second one does not take off."""
        Call(self.alice, self.bob).invite(headers=(("P-Asserted-Identity", "<sip:alice@example.com>"),))
        self.bob.heard()
        self.assertEqual(self.bob.requests["INVITE"].get("P-Asserted-Identity"), "<sip:alice@example.com>")
        self.bob.answer(486)

    def test_callers_node_ends_while_it_rings(self) -> None:
        """When the node that the call came through is gone, nobody is left to ring for."""
        Call(self.alice, self.bob).invite()
        self.assertEqual(self.bob.heard(), ["INVITE"])
        self.bob.answer(180)
        self.nodes.kill("n1")
        self.assertEqual(self.bob.heard(), ["CANCEL"])
        self.bob.answer(487)

    def test_hidden_names(self) -> None:
        """The caller's address-of-record can be read in no token, however it is decoded."""
        self.established(self.alice, self.bob)
        inward = parse_sip_uri(parse_name_addr(self.bob.requests["INVITE"].values("Record-Route")[1]).uri).user or ""
        self.assertNotIn(b"alice", urlsafe_b64decode(inward + "=" * (-len(inward) % 4)))
        named = self.nodes["n3"].network.tokens.read(inward, b"call-1@phone\0alice")
        self.assertEqual(record_of(named.phone), b"alice@example.com")


class DecisionTests(SynchronousTestCase):
    """The pure rules."""

    def test_one_node(self) -> None:
        """Who knows no other node reaches every binding himself, as it says."""
        bound, datagrams = a_bound("sip:a@192.0.2.4", 7), a_binding("sip:a@192.0.2.4:5062")
        self.assertEqual(way_to(bound, "n9", OneNode()), OverFlow(7))
        self.assertEqual(way_to(datagrams, "n9", OneNode()), OverDatagrams("udp", "192.0.2.4", 5062))
        self.assertEqual(way_to(a_binding("sip:a@192.0.2.4", path=("<sip:edge;lr>",)), "n9", OneNode()),
                         ByUri(("<sip:edge;lr>",)))
        self.assertEqual(living((bound, datagrams), OneNode()), (bound, datagrams))

    def test_same_instance(self) -> None:
        """A phone with an instance is known by it, whatever address it has now; another's address is not its own."""
        name = phone_name(b"alice@example.com", PHONE, NOW)
        moved = a_binding("sip:alice@192.0.2.9", instance=PHONE)
        other = a_binding("sip:alice@192.0.2.4", instance=TABLET)
        self.assertEqual(same_phone(name, "sip:alice@192.0.2.4", (moved, other)), [moved])
        self.assertEqual(same_phone(name, "sip:alice@192.0.2.4", (other,)), [])

    def test_same_contact(self) -> None:
        """One without is known by its contact, parameters apart, or is the only one there is."""
        name = phone_name(b"alice@example.com", None, NOW)
        first, second = a_binding("sip:alice@192.0.2.9;ob"), a_binding("sip:alice@192.0.2.4")
        self.assertEqual(same_phone(name, "sip:alice@192.0.2.9", (first, second)), [first])
        self.assertEqual(same_phone(name, "sip:alice@192.0.2.1", (first, second)), [])
        self.assertEqual(same_phone(name, "tel:+49", (first,)), [first])
        strange = a_binding("nonsense:")
        self.assertEqual(same_phone(name, "sip:alice@192.0.2.1", (strange,)), [strange])
