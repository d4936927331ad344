"""Calls between two sites in memory: whole registrars, each site with bindings of its own."""

from registrar.sites.words import CONTENT_TYPE
from rollcall.net.member_handshake import Life
from rollcall.sip.transaction import cancellation
from tests.flows import a_request
from tests.registrar.examples import PHONE
from tests.registrar.nodes import EPOCH, Call
from tests.registrar.sites.two_sites import TwoSitesCase, refuses


class AcrossTests(TwoSitesCase):
    """Alice is at fra, on n1; Bob is at ams, on n2 or n3."""

    def setUp(self) -> None:
        super().setUp()
        self.alice = self.nodes.phone("alice", "n1")
        self.bob = self.nodes.phone("bob", "n3", instance=PHONE)

    def test_both_ways(self) -> None:
        """A call goes straight to the node that has the phone, and what is said within it finds back either way."""
        for caller, callee in ((self.alice, self.bob), (self.bob, self.alice)):
            call = self.established(caller, callee)
            self.exchange(call, "INFO", caller, callee)
            self.exchange(call, "BYE", callee, caller)
        # For the INVITE, and for the ACK that follows the phone.
        self.assertEqual((self.outcomes("n1"), self.outcomes("n3")), ({"found": 2}, {"found": 2}))

    def test_datagrams(self) -> None:
        """A phone that uses UDP is spoken to by its own node, and by another of its site once that is gone."""
        carol = self.nodes.phone("carol", "n3", "UDP")
        self.established(self.alice, carol)
        self.nodes.kill("n3")
        self.nodes.wait(1.5)
        call = Call(self.alice, carol, "call-2")
        call.invite()
        key = next(key for key in self.nodes["n2"].network.transports.datagrams if key[2] == carol.flow.peer[1])
        self.assertEqual([start.split()[0] for start in self.nodes["n2"].network.transports.datagrams[key].starts()],
                         ["INVITE"])
        self.nodes.wait(64)

    def test_cancelled(self) -> None:
        """A caller that gives up stops the phone of the other site from ringing."""
        call = Call(self.alice, self.bob)
        call.invite()
        self.assertEqual(self.bob.heard(), ["INVITE"])
        self.bob.answer(180)
        self.alice.send(cancellation(call.invite_sent))
        self.assertEqual(self.bob.heard(), ["CANCEL"])
        self.bob.answer(487)
        self.assertEqual(self.alice.answers(), [100, 180, 200, 487])
        self.assertEqual(self.bob.heard(), ["ACK"])

    def test_max_forwards(self) -> None:
        """A request that may not be forwarded once more ends here, and nobody is asked."""
        self.alice.send(a_request("INVITE", transport="TCP", max_forwards=0))
        self.assertEqual(self.alice.answers()[-1:], [483])
        self.assertEqual(self.outcomes(), {})

    def test_moved_within_other_site(self) -> None:
        """A phone that moves to another node of its site during a call is found there by its peer at the other."""
        call = self.established(self.alice, self.bob)
        self.bob.lose()
        self.bob.register("n2")
        self.exchange(call, "BYE", self.alice, self.bob)

    def test_lost_at_other_site(self) -> None:
        """A phone of the other site whose connection was just lost is waited for, and rings when it is back."""
        self.bob.lose()
        call = Call(self.alice, self.bob)
        call.invite()
        self.nodes.wait(2)
        self.assertEqual(self.alice.answers(), [100])
        self.bob.register("n2")
        self.nodes.wait(1.5)
        self.assertEqual(self.bob.heard(), ["INVITE"])
        call.answer()
        call.acknowledge()
        self.assertEqual(self.bob.heard(), ["ACK"])

    def test_media(self) -> None:
        """A call goes through media nodes of the caller's site alone, and those hear what either side says in it."""
        call = self.established(self.alice, self.bob)
        self.exchange(call, "INFO", self.alice, self.bob)
        self.exchange(call, "BYE", self.bob, self.alice)
        media = self.nodes.media
        self.assertEqual(media["n1"].entries, ["INVITE", "ACK", "INFO", "BYE"])
        self.assertEqual((media["n2"].entries, media["n3"].entries), ([], ["ACK", "INFO", "BYE"]))

    def test_here_first(self) -> None:
        """Who is registered at both sites rings at the one where he is called; the other is not asked."""
        here = self.nodes.phone("desk", "n1", user="bob")
        self.established(self.alice, here)
        self.assertEqual((self.outcomes(), self.bob.heard()), ({}, []))

    def test_nobody(self) -> None:
        """Who is nowhere gets the same answer as with one site; he is asked for once in a while, not every time."""
        for number in range(4):
            Call(self.alice, self.bob, f"call-{number}").invite("sip:carol@example.com")
            self.assertEqual(self.alice.answers()[-1:], [404])
        self.assertEqual(self.outcomes(), {"nobody": 1, "remembered": 3})
        self.nodes.wait(4)
        Call(self.alice, self.bob, "call-5").invite("sip:carol@example.com")
        self.assertEqual(self.outcomes()["nobody"], 2)

    def test_foreign_domain(self) -> None:
        """Other sites are asked for our own users alone."""
        Call(self.alice, self.bob).invite("sip:carol@elsewhere.example")
        self.assertEqual(self.outcomes(), {})

    def test_cut(self) -> None:
        """When the link is cut one call waits for an answer, no longer than a question may take; the next do not."""
        self.nodes.is_cut = True
        Call(self.alice, self.bob).invite()
        self.assertEqual(self.alice.answers(), [])
        self.nodes.wait(1)
        self.assertEqual(self.alice.answers()[-1:], [480])
        Call(self.alice, self.bob, "call-2").invite()
        self.assertEqual(self.alice.answers()[-1:], [480])
        self.nodes.wait(4)
        self.assertFalse(self.nodes.links["n1"].states()["ams"].reachable)
        self.nodes.is_cut = False
        self.nodes.wait(2)
        self.assertTrue(self.nodes.links["n1"].states()["ams"].reachable)
        self.established(self.alice, self.bob)

    def test_asked_node_dies(self) -> None:
        """When the node that was asked so far is gone the next one is, within the same call."""
        asked = self.nodes.members["n1"].reached[-1]
        carol = self.nodes.phone("carol", {"n2": "n3", "n3": "n2"}[asked])
        self.nodes.kill(asked, lease_ends=False)
        self.established(self.alice, carol)
        self.nodes.end_lease(asked)

    def test_all_die(self) -> None:
        """A site all of whose members refuse to speak has no nodes any more, at once."""
        for name in ("n2", "n3"):
            self.nodes.kill(name)
        self.nodes.wait(1.5)
        state = self.nodes.links["n1"].states()["ams"]
        self.assertEqual((state.reachable, state.nodes, state.heard_at > 0), (False, (), True))


class LivesTests(TwoSitesCase):
    """Which lives go on, as n1 sees it."""

    def test_lives(self) -> None:
        """A node of the other site lives in the life that it has there, or in a later one; never in an earlier one."""
        cluster = self.nodes.links["n1"].cluster
        lives = [cluster.is_living("n2", epoch) for epoch in (EPOCH - 1, EPOCH, EPOCH + 1)]
        self.assertEqual(lives, [False, True, True])
        self.assertTrue(cluster.is_living("n1", EPOCH))
        self.assertIsNone(cluster.ended_at("n2", EPOCH - 1))

    def test_out_of_reach(self) -> None:
        """What was said within a call is refused at once while the other site cannot be reached, as by a dead node."""
        alice, bob = self.nodes.phone("alice", "n1"), self.nodes.phone("bob", "n3", instance=PHONE)
        call = self.established(alice, bob)
        self.nodes.is_cut = True
        self.nodes.wait(6)
        cluster = self.nodes.links["n1"].cluster
        self.assertEqual((cluster.is_living("n3", EPOCH), cluster.node("n3")), (False, None))
        alice.flow.take()
        alice.send(call.request("BYE", alice))
        self.assertEqual(alice.answers()[-1:], [430])


class StrangersTests(TwoSitesCase):
    """What is not said between members, or by a node that is none of the other site."""

    def test_phone_asks(self) -> None:
        """A phone that asks as a node would gets what every OPTIONS gets, and learns nothing."""
        alice = self.nodes.phone("alice", "n1")
        question = a_request("OPTIONS", "sip:n1@example.com", transport="TCP", body=b"{}",
                             headers=(("Content-Type", CONTENT_TYPE),))
        alice.send(question)
        self.assertEqual(alice.last_answer().body, b"")
        self.assertEqual(self.nodes.links["n1"].answering.outcomes["nodes"],
                         self.nodes.links["n2"].links[0].questions["answered"]
                         + self.nodes.links["n3"].links[0].questions["answered"])

    def test_sent_on(self) -> None:
        """A phone's question that a node sends on to a phone is no question of that node: it reaches the phone."""
        alice, bob = self.nodes.phone("alice", "n1"), self.nodes.phone("bob", "n2")
        call = Call(alice, bob)
        call.invite(method="OPTIONS", headers=(("Content-Type", CONTENT_TYPE),))
        self.assertEqual(bob.heard(), ["OPTIONS"])
        bob.answer(200, "OPTIONS")

    def test_names(self) -> None:
        """A node with the name of one of ours is refused, and so is one of a site that we do not know."""
        nodes = self.nodes
        self.assertEqual(refuses(nodes, "n1", Life("n4", 1, "ams")), "")
        self.assertIn("all nodes need different names", refuses(nodes, "n1", Life("n1", 1, "ams")))
        self.assertIn("site fra has a node", refuses(nodes, "n2", Life("n3", 1, "fra")).replace("ams", "fra"))
        self.assertIn("no [[site]] lon", refuses(nodes, "n1", Life("n4", 1, "lon")))
