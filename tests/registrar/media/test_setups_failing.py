"""Tests of calls whose media node does not answer, refuses or is not there: what phones see, and who has the call."""

from registrar.media.relaying import MOST_AWAY
from rollcall.media.snapshot import NodeState
from tests.flows import a_request
from tests.registrar.media.scripted import CALL_ID, MediaCase, a_node, address, sdp


class FailingNodeTests(MediaCase):
    """A node that does not do what it should fails no call."""

    def test_dead(self) -> None:
        """A node that does not answer an offer is left for another, and left out by the next calls."""
        self.nodes.dead.add("m1")
        self.call()
        self.bob.heard()
        self.assertEqual(address(self.bob.requests["INVITE"]), "m2")
        (ok,) = self.answers_with(self.bob, 200)
        self.assertEqual((address(ok), self.session.node), ("m2", "m2"))
        self.assertEqual(self.nodes.told(), [
            "m1 offer alice", "m1 delete", "m2 offer alice", "m2 answer alice bob"])
        self.ask(a_request(call_id="call-2", branch="z9hG4bKnext", headers=(("Content-Type", "application/sdp"),),
                           body=sdp("alice")))
        self.assertEqual(self.nodes.told(), ["m2 offer alice"])

    def test_dead_between(self) -> None:
        """A node that dies before the answer is replaced for the caller at once, and its callee is led there later."""
        self.call()
        self.nodes.dead.add("m1")
        (ok,) = self.answers_with(self.bob, 200)
        self.assertEqual((ok.status, address(ok), self.session.node), (200, "m2", "m2"))
        self.assertEqual(self.nodes.told(), [
            "m1 offer alice", "m1 answer alice bob", "m1 delete", "m2 offer alice", "m2 answer alice bob"])
        self.assertEqual(self.stranded, [CALL_ID])

    def test_dead_while_it_rings(self) -> None:
        """Who is stranded when it rings is led elsewhere once the call stands, and once."""
        self.call()
        self.nodes.dead.add("m1")
        (progress,) = self.answers_with(self.bob, 183)
        self.assertEqual((address(progress), self.stranded), ("m2", []))
        self.answers_with(self.bob, 200)
        self.assertEqual(self.stranded, [CALL_ID])

    def test_full(self) -> None:
        """A node that is full is left for another, by this call only."""
        self.nodes.full.add("m1")
        self.call()
        self.bob.heard()
        self.assertEqual(address(self.bob.requests["INVITE"]), "m2")
        self.assertEqual(self.nodes.told(), ["m1 offer alice", "m2 offer alice"])
        self.assertTrue(self.choosing.serves("m1"))

    def test_not_understood(self) -> None:
        """What two nodes do not understand is no offer: 488."""
        self.nodes.puzzled |= {"m1", "m2"}
        self.assertEqual([answer.status for answer in self.call()], [100, 488])
        self.assertEqual(self.bob.heard(), [])

    def test_one_is_puzzled(self) -> None:
        """What one node does not understand another one may."""
        self.nodes.puzzled.add("m1")
        self.call()
        self.bob.heard()
        self.assertEqual(address(self.bob.requests["INVITE"]), "m2")

    def test_none_answers(self) -> None:
        """When no node answers, phones get each other's addresses."""
        self.nodes.dead |= {"m1", "m2"}
        self.call()
        self.bob.heard()
        self.assertEqual(address(self.bob.requests["INVITE"]), "phone")
        (ok,) = self.answers_with(self.bob, 200)
        self.assertEqual((address(ok), len(self.sessions)), ("phone", 0))

    def test_none_is_published(self) -> None:
        """Without any node phones get each other's addresses, and it is counted."""
        self.publish()
        self.call()
        self.bob.heard()
        self.assertEqual((address(self.bob.requests["INVITE"]), self.nodes.told()), ("phone", []))
        self.assertEqual(self.relaying.outcomes["choice no_node"], 1)

    def test_restarted(self) -> None:
        """A node that was started again while the phone rang gets the offer again when there is no other."""
        self.publish(a_node("m1"))
        self.call()
        self.nodes.forget()
        (ok,) = self.answers_with(self.bob, 200)
        self.assertEqual((address(ok), self.stranded), ("m1", [CALL_ID]))
        self.assertEqual(self.nodes.told(), [
            "m1 offer alice", "m1 answer alice bob", "m1 offer alice", "m1 answer alice bob"])

    def test_killing_offers(self) -> None:
        """An offer that no node answers is not tried on all of them."""
        names = [f"m{number}" for number in range(1, 9)]
        self.publish(*(a_node(name) for name in names))
        self.nodes.dead.update(names)
        self.call()
        self.assertEqual(len([line for line in self.nodes.told() if "offer" in line]), MOST_AWAY)
        self.bob.heard()
        self.assertEqual(address(self.bob.requests["INVITE"]), "phone")

    def test_too_long(self) -> None:
        """What would not fit into a datagram is refused, and no node is thought to be away for it."""
        answers = self.call(sdp("alice") + b"a=x\r\n" * 5000)
        self.assertEqual([answer.status for answer in answers], [100, 488])
        self.assertEqual((self.nodes.told(), self.choosing.serves("m1")), ([], True))

    def test_draining(self) -> None:
        """A node that is draining gets no new call."""
        self.publish(a_node("m1", state=NodeState.DRAINING), a_node("m2"))
        self.call()
        self.assertEqual(self.nodes.told(), ["m2 offer alice"])


class RefusingTests(MediaCase):
    """Calls that no node can have are refused, where operators want that."""

    when_none = "refuse"

    def test_none_is_published(self) -> None:
        """A call without a node is 503, with the time after which it may be tried again."""
        self.publish()
        answers = self.call()
        self.assertEqual([(answer.status, answer.get("Retry-After")) for answer in answers], [(503, "17")])
        self.assertEqual(self.bob.heard(), [])

    def test_none_answers(self) -> None:
        """When no node answers, the caller hears that it is not his fault."""
        self.nodes.dead |= {"m1", "m2"}
        self.assertEqual([answer.status for answer in self.call()], [100, 500])
        self.assertEqual((self.bob.heard(), len(self.sessions)), ([], 0))
