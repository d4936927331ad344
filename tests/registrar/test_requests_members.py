"""What another node may ask of us on somebody's behalf, and what nobody may have it ask."""

import re

from rollcall.sip.headers import parse_name_addr
from rollcall.sip.message import Response
from tests.flows import MemoryFlow
from tests.registrar.nodes import Call, NodesCase


class RegisterTests(NodesCase):
    """A phone's request within a call goes on to the callee's node; nobody gets to that node's registrar so."""

    def setUp(self) -> None:
        super().setUp()
        self.alice, self.bob = self.nodes.phone("alice", "n1"), self.nodes.phone("bob", "n2")
        self.call = self.established(self.alice, self.bob)

    def contacts(self, name: str) -> list[str]:
        """Return what is bound to a user."""
        return [binding.contact for binding in self.nodes.location.peek(f"sip:{name}@example.com").bindings]

    def test_within_a_call(self) -> None:
        """A REGISTER that is written as a request of the call registers nobody at the other node."""
        for whom in ("alice", "bob"):
            before = self.contacts(whom)
            request = self.call.request("REGISTER", self.alice, uri="sip:192.0.2.2:5060")
            tag = parse_name_addr(request.get("To") or "").tag
            request.set("To", f"<sip:{whom}@example.com>;tag={tag}")
            request.add("Contact", "<sip:anybody@198.51.100.66>")
            self.alice.send(request)
            self.assertNotIn(200, self.alice.answers())
            self.assertEqual(self.contacts(whom), before)

    def test_through_a_strict_route(self) -> None:
        """Nor does one whose Request-URI is a token, behind which a Route names the domain."""
        request = self.call.request("REGISTER", self.alice)
        routes = request.values("Route")
        request.uri = re.sub("@[^;>]*", "@198.51.100.99", parse_name_addr(routes[0]).uri)
        request.set_values("Route", [*routes[1:], "<sip:example.com>"])
        request.set("To", "<sip:alice@example.com>;tag=bob")
        request.add("Contact", "<sip:alice@198.51.100.66>")
        before = self.contacts("alice")
        self.alice.send(request)
        self.assertNotIn(200, self.alice.answers())
        self.assertEqual(self.contacts("alice"), before)


class CancelTests(NodesCase):
    def test_by_the_callee(self) -> None:
        """Who is called knows the branches on the way, but cannot cancel with them what a node of his host has sent."""
        alice, bob = self.nodes.phone("alice", "n1"), self.nodes.phone("bob", "n2")
        call = Call(alice, bob)
        call.invite()
        bob.heard()
        alice.answers()
        cancel = call.invite_sent.copy()
        cancel.method = "CANCEL"
        cancel.set("CSeq", "1 CANCEL")
        cancel.set_values("Via", bob.requests["INVITE"].values("Via")[1:2])
        neighbour = MemoryFlow("TCP", (self.nodes.address("n1")[0], 40_000), bob.flow.listener)
        self.nodes["n2"].requests.message_received(cancel.serialise(), neighbour)
        self.nodes.settle()
        self.assertEqual([message.status for message in neighbour.take() if isinstance(message, Response)], [481])
        self.assertEqual(alice.answers(), [])
        call.answer()
        call.acknowledge()
