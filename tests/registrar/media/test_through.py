"""Tests of calls that are sent to media nodes which speak SIP themselves."""

from registrar.routing import ByUri
from rollcall.media.snapshot import MediaNode
from rollcall.sip.targets import Target
from tests.flows import LISTENERS, MemoryFlow, a_flow, a_request
from tests.registrar.media.scripted import MediaCase, a_node, address, sdp
from tests.registrar.network import Phone

HOSTS = {"f1": "192.0.2.61", "f2": "192.0.2.62"}


def a_b2bua(name: str, sessions: int = 0) -> MediaNode:
    """Return a FreeSWITCH."""
    return a_node(name, "freeswitch", sessions, address=f"{HOSTS[name]}:5060")


class ThroughCase(MediaCase):
    """The nodes are FreeSWITCHes, of which calls prefer the first."""

    def setUp(self) -> None:
        super().setUp()
        self.publish(a_b2bua("f1"), a_b2bua("f2", sessions=500))
        self.first, self.second = (self._there(host) for host in HOSTS.values())

    def _there(self, host: str) -> Phone:
        self.network.resolver.known[f"sip:{host}:5060"] = [Target("UDP", host, 5060)]
        phone = Phone(self.layer, "node", "UDP", 5060)
        phone.flow = MemoryFlow("UDP", (host, 5060), LISTENERS["UDP"])
        self.network.transports.reachable["UDP", host, 5060] = phone.flow
        return phone


class ThroughTests(ThroughCase):
    """Calls go to nodes, and come back from them."""

    def test_next_hop(self) -> None:
        """The node gets the call as it came, with nothing in it that says where it was sent."""
        self.call()
        self.assertEqual((self.first.heard(), self.bob.heard()), (["INVITE"], []))
        invite = self.first.requests["INVITE"]
        self.assertEqual((invite.uri, invite.get("Route"), address(invite)), ("sip:bob@example.com", None, "phone"))
        self.assertEqual((self.session.node, self.session.kind, self.nodes.told()), ("f1", "freeswitch", []))

    def test_answered(self) -> None:
        """The call counts at its node until it is over."""
        self.call()
        (self.ok,) = self.answers_with(self.first, 200)
        self.assertTrue(self.session.is_answered)
        self.ok.set("Contact", "<sip:conference@192.0.2.61:5060>")
        self.network.resolver.known["sip:conference@192.0.2.61:5060"] = [Target("UDP", HOSTS["f1"], 5060)]
        self.receive(self.from_alice("BYE", callee="node"), self.alice.flow)
        self.answers_with(self.first, 200, b"", "BYE")
        self.assertEqual((len(self.sessions), self.nodes.told()), (0, []))

    def test_refreshed(self) -> None:
        """A call whose phones refresh it lasts as long as they do (RFC 4028)."""
        timer = (("Session-Expires", "600;refresher=uac"),)
        self.call()
        (self.ok,) = self.answers_with(self.first, 200, headers=timer)
        self.ok.set("Contact", "<sip:conference@192.0.2.61:5060>")
        self.network.resolver.known["sip:conference@192.0.2.61:5060"] = [Target("UDP", HOSTS["f1"], 5060)]
        before = self.session.expires_at
        self.registrar.clock.advance(5)
        self.receive(self.from_alice("UPDATE", callee="node"), self.alice.flow)
        self.answers_with(self.first, 200, b"", "UPDATE", timer)
        self.assertEqual(self.session.expires_at, before + 5)

    def test_refused(self) -> None:
        """A call that the node refuses counts nowhere."""
        self.call()
        self.answers_with(self.first, 486, b"")
        self.assertEqual(len(self.sessions), 0)

    def test_full(self) -> None:
        """A node that has no room is left for another, and the call counts there."""
        self.call()
        self.answers_with(self.first, 503, b"")
        self.assertEqual(self.second.heard(), ["INVITE"])
        self.assertEqual(self.session.node, "f2")

    def test_unreachable(self) -> None:
        """So is one that cannot be reached."""
        self.first.flow.close("gone")
        self.call()
        self.assertEqual(self.second.heard(), ["INVITE"])

    def test_comes_back(self) -> None:
        """What a node sends goes to the phone, and to no node again."""
        back = a_request(branch="z9hG4bKback", caller="<sip:alice@example.com>;tag=node", call_id="call-2",
                         headers=(("Content-Type", "application/sdp"),), body=sdp("node"))
        self.receive(back, a_flow("UDP", HOSTS["f1"]))
        self.assertEqual((self.bob.heard(), len(self.sessions)), (["INVITE"], 0))

    def test_way(self) -> None:
        """A next hop that no field names is asked for by its own URI."""
        self.assertEqual(ByUri().at, "")
        self.call()
        self.assertIn("sip:192.0.2.61:5060", self.network.resolver.asked)


class TrustTests(ThroughCase):
    """Callers have to say their passwords, but for nodes."""

    with_passwords = True

    def test_stranger(self) -> None:
        """Who is no node is asked for a password."""
        self.assertEqual([answer.status for answer in self.ask(a_request(), a_flow("UDP", "192.0.2.63"))], [407])

    def test_relays(self) -> None:
        """A node may call other domains, for the caller was allowed to."""
        self.network.server("elsewhere.test", ("UDP", "192.0.2.70", 5060))
        uri = "sip:bob@elsewhere.test"
        self.network.resolver.known[uri] = [Target("UDP", "192.0.2.70", 5060)]
        answers = self.ask(a_request(uri=uri, callee=f"<{uri}>"), a_flow("UDP", HOSTS["f2"]))
        self.assertEqual([answer.status for answer in answers], [100])
