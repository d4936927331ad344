"""Tests of answers that come to another node than the one that asked."""

from twisted.trial.unittest import SynchronousTestCase

from registrar import strays
from registrar.strays import Strays
from rollcall.cluster.nodes import Node
from rollcall.net.flow import ConnectFailed, Flow, FlowClosed
from rollcall.sip.message import Response, response_to
from tests.flows import LISTENERS, MemoryFlow, a_request
from tests.registrar.examples import PHONE
from tests.registrar.nodes import Call, MemoryCluster, Nodes, NodesCase


class StraysTests(NodesCase):
    """Alice on n1 calls Bob, whose connection to n2 breaks while his phone rings."""

    def setUp(self) -> None:
        super().setUp()
        self.strays: list[tuple[str, int]] = []
        """What was for nobody: at which node, and the status."""
        for name in self.nodes.lives:
            self.join(name)
        self.alice = self.nodes.phone("alice", "n1")
        self.bob = self.nodes.phone("bob", "n2", instance=PHONE)
        self.call = Call(self.alice, self.bob)

    def join(self, name: str, members: MemoryCluster | None = None) -> None:
        """Let a node pass answers on, as the registrar does."""
        cluster = MemoryCluster(self.nodes, name)

        def living() -> list[Node]:
            return [node for each in self.nodes.lives if (node := cluster.node(each)) is not None]

        def otherwise(branch: str, response: Response, flow: Flow) -> bool:
            self.strays.append((name, response.status))
            return False

        hand_over = Strays(name, living, members or cluster, lambda flow: True, otherwise).hand_over
        self.nodes[name].layer.transactions.hand_over = hand_over

    def ring(self) -> None:
        """Let Bob's phone ring, and lose its connection."""
        self.call.invite()
        self.assertEqual(self.bob.heard(), ["INVITE"])
        self.bob.answer(180)
        self.assertEqual(self.alice.answers(), [100, 180])
        self.bob.lose()

    def test_answers_elsewhere(self) -> None:
        """What the phone says over its connection to another node reaches the caller, and the call is one as any."""
        self.ring()
        self.bob.register("n3")
        self.call.answer()
        self.call.acknowledge()
        self.assertEqual(self.bob.heard(), ["ACK"])
        self.exchange(self.call, "BYE", self.alice, self.bob)
        self.assertEqual(self.strays, [])

    def test_answers_to_the_callers_node(self) -> None:
        """That may be the node of the caller, who waits for the answer of the other node."""
        self.ring()
        self.bob.register("n1")
        self.call.answer()
        self.call.acknowledge()
        self.exchange(self.call, "BYE", self.bob, self.alice)

    def test_for_nobody(self) -> None:
        """An answer to what nobody has asked is dropped: where it comes when no node is meant, and by the one that is.
        """
        self.ring()
        self.bob.register("n3")
        invite = self.bob.requests["INVITE"]
        vias = invite.values("Via")
        for sent_by, place in (("192.0.2.77:5060", "n3"), ("192.0.2.2:5060", "")):
            self.strays.clear()
            invite.set_values("Via", [f"SIP/2.0/TCP {sent_by};branch=z9hG4bKmadeup", *vias[1:]])
            self.bob.answer(200)
            self.assertEqual(self.strays, [(place, 200)] if place else [])
        self.assertEqual(self.alice.answers(), [])
        invite.set_values("Via", vias)
        self.call.answer()

    def test_node_is_out_of_reach(self) -> None:
        """When the node cannot be reached, the answer is lost; the phone says it again."""
        self.ring()
        self.bob.register("n3")
        for problem in (ConnectFailed("refused"), FlowClosed("closed")):
            self.join("n3", Unreachable(self.nodes, "n3", problem))
            self.bob.answer(200)
            self.assertEqual(self.alice.answers(), [])
        self.join("n3")
        self.call.answer()


class MeantTests(SynchronousTestCase):
    """Nodes that share an address: that of a load-balancer before them, or of a registrar with workers."""

    def setUp(self) -> None:
        self.asked: list[str] = []
        self.left = 100
        names = [("a-1", "a"), ("a-2", "a"), ("b", ""), ("c", "")]
        self.nodes = [Node(node=name, epoch=1, host="198.51.100.1", port=5070, of=of, faces={"tcp": "192.0.2.9:5060"})
                      for name, of in names]

    async def flow(self, node: str, epoch: int, host: str, port: int) -> Flow:
        """See MemberFlows."""
        self.asked.append(node)
        return MemoryFlow("TCP", (host, port), LISTENERS["TCP"])

    def admits(self, flow: Flow) -> bool:
        """Count an answer, and say whether there may be another one."""
        self.left -= 1
        return self.left >= 0

    def a_phones(self) -> MemoryFlow:
        """Return a connection on which somebody has registered."""
        flow = MemoryFlow("TCP", ("203.0.113.9", 50_000), LISTENERS["TCP"])
        flow.bound = b"bob@example.com"
        return flow

    def meant(self, branch: str, me: str, flow: Flow | None = None) -> list[str]:
        """Return who gets an answer to what has this branch."""
        self.asked.clear()
        ours = Strays(me, lambda: self.nodes, self, self.admits, lambda branch, response, flow: False)
        response = response_to(a_request("INVITE", "sip:bob@example.com"), 200)
        response.set_values("Via", [f"SIP/2.0/TCP 192.0.2.9:5060;branch={branch}"])
        came_over = flow or self.a_phones()
        is_handed_over = ours.hand_over(branch, response, came_over)
        self.assertEqual(is_handed_over, bool(self.asked))
        return self.asked

    def test_workers(self) -> None:
        """The branch says which worker has made it."""
        self.assertEqual(self.meant("z9hG4bK2-abc.def", "b"), ["a-2"])
        self.assertEqual(self.meant("z9hG4bK2-abc.def", "a-2"), [])

    def test_balancer(self) -> None:
        """All who may have asked get it, up to a limit."""
        self.assertEqual(self.meant("z9hG4bKabc.def", "a-1"), ["b", "c"])
        self.patch(strays, "MAX_ASKED", 1)
        self.assertEqual(self.meant("z9hG4bKabc.def", "a-1"), ["b"])

    def test_from_a_stranger(self) -> None:
        """Who has not registered may say what he likes: no other node hears it."""
        flow = self.a_phones()
        flow.bound = None
        self.assertEqual(self.meant("z9hG4bKabc.def", "a-1", flow), [])
        self.assertEqual(self.left, 100)

    def test_without_end(self) -> None:
        """Who has may not say more than he may ask."""
        self.left = 1
        self.assertEqual(self.meant("z9hG4bKabc.def", "a-1"), ["b", "c"])
        self.assertEqual(self.meant("z9hG4bKabc.def", "a-1"), [])

    def test_from_a_member(self) -> None:
        """What another node passed on to us goes no further."""
        flow = self.a_phones()
        self.patch(MemoryFlow, "member", "b")
        self.assertEqual(self.meant("z9hG4bKabc.def", "a-1", flow), [])


class Unreachable(MemoryCluster):
    """The other nodes cannot be reached."""

    def __init__(self, nodes: Nodes, name: str, problem: Exception) -> None:
        super().__init__(nodes, name)
        self.problem = problem

    async def flow(self, node: str, epoch: int, host: str, port: int) -> Flow:
        """See MemberFlows."""
        raise self.problem
