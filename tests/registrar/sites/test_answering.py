"""What nodes of other sites are told of this one."""

import msgspec
from attrs import evolve
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from registrar.location.contract import Snapshot
from registrar.records import Binding, record_key
from registrar.sites import answering
from registrar.sites.answering import Answering
from registrar.sites.words import Question, question_request, read_nodes, read_record
from rollcall.cluster.nodes import Node
from rollcall.sip.message import Response
from tests.layers import Layer
from tests.registrar.examples import ALICE, NOW, OVER_UDP, a_binding, a_bound, over_tcp
from tests.registrar.joined import HeldLocation
from tests.registrar.sites.test_words import a_member_flow, a_node

GONE_AT = NOW - 5


class OneLiving:
    """A Cluster in which n1 lives, in its first life."""

    def is_living(self, node: str, epoch: int) -> bool:
        """See Cluster."""
        return (node, epoch) == ("n1", 1)

    def ended_at(self, node: str, epoch: int) -> float | None:
        """See Cluster."""
        return None if self.is_living(node, epoch) else GONE_AT

    def node(self, name: str) -> Node | None:
        """See Cluster."""
        return a_node("n1", epoch=1) if name == "n1" else None


class AnsweringTests(SynchronousTestCase):
    """A node of fra asks us, who are n1."""

    def setUp(self) -> None:
        clock = Clock()
        clock.advance(NOW)
        self.layer = Layer(clock=clock)
        self.location = HeldLocation(self.layer)
        self.answering = Answering(("n1", 1), lambda: (a_node("n1"), a_node("n2")), OneLiving(), self.location,
                                   clock.seconds)

    def ask(self, question: Question = Question(record_key(ALICE)), body: bytes = b"") -> Response | None:  # noqa: B008
        """Return the answer to a question, if there is one yet."""
        flow = a_member_flow()
        request, _ = question_request(question, "ams", flow, 0)
        request.body = body or request.body
        server = self.layer.arrive(request, flow)
        assert server is not None
        self.assertTrue(self.answering.wants(server.request, flow))
        self.answering.receive(server.request, server)
        answers = [message for message in flow.take() if isinstance(message, Response)]
        return answers[0] if answers else None

    def told(self, *bindings: Binding) -> Snapshot:
        """Return what is told of a record with these bindings."""
        version = self.location.peek(ALICE).version
        self.location.put(ALICE, Snapshot(version + 1, bindings))
        answer = self.ask()
        assert answer is not None
        self.assertEqual(answer.status, 200)
        return read_record(answer.body)

    def outcomes(self) -> dict[str, int]:
        """Return what was told."""
        return {outcome: number for outcome, number in self.answering.outcomes.items() if number}

    def test_nodes(self) -> None:
        """Who lives here is told whole."""
        answer = self.ask(Question())
        assert answer is not None
        self.assertEqual([node.node for node in read_nodes(answer.body)], ["n1", "n2"])
        self.assertEqual(self.outcomes(), {"nodes": 1})

    def test_found(self) -> None:
        """What can be reached is told: connections of nodes that live, and what has not lapsed."""
        here = a_bound(ALICE, 7)
        gone = a_binding("sip:a@192.0.2.8", source=over_tcp(8, "n2"), connection_bound=True)
        lapsed = a_binding("sip:a@192.0.2.9", expires_at=NOW - 1)
        self.assertEqual(self.told(here, gone, lapsed).bindings, (here,))
        self.assertEqual(self.outcomes(), {"found": 1})

    def test_adopted(self) -> None:
        """A phone that uses UDP, and whose node is gone, is told of as one of ours: we speak to it, too."""
        binding = a_binding(source=evolve(OVER_UDP, node="n2", epoch=5))
        told = self.told(binding).bindings
        self.assertEqual(told, (evolve(binding, source=evolve(OVER_UDP, node="n1", epoch=1)),))

    def test_nobody(self) -> None:
        """Nothing is told of who is not there, but when he was lost."""
        answer = self.ask()
        assert answer is not None
        self.assertEqual(read_record(answer.body), Snapshot())
        gone = a_binding(source=over_tcp(8, "n2"), connection_bound=True)
        self.assertEqual(self.told(gone), Snapshot(1, (), GONE_AT))
        self.patch(self.location, "peek", lambda aor: Snapshot(7, (), NOW - 2))
        answer = self.ask()
        assert answer is not None
        self.assertEqual(read_record(answer.body), Snapshot(1, (), NOW - 2))
        self.assertEqual(self.outcomes(), {"nobody": 3})

    def test_redis_away(self) -> None:
        """While bindings cannot be read nobody is told that there are none."""
        self.location.down = True
        answer = self.ask()
        assert answer is not None
        self.assertEqual((answer.status, self.outcomes()), (503, {"unavailable": 1}))

    def test_malformed(self) -> None:
        """Who asks for something else is told that it is not understood."""
        for body in (b"{", msgspec.json.encode({"aor": 7})):
            answer = self.ask(body=body)
            assert answer is not None
            self.assertEqual(answer.status, 400)
        self.assertEqual(self.outcomes(), {"malformed": 2})

    def test_too_many(self) -> None:
        """No more questions wait for bindings than may; the next one is refused, and answered later again."""
        self.patch(answering, "MOST_AT_A_TIME", 2)
        self.location.holds = True
        self.assertEqual([self.ask(), self.ask()], [None, None])
        answer = self.ask()
        assert answer is not None
        self.assertEqual(answer.status, 503)
        self.location.holds = False
        self.location.let_pass()
        self.assertEqual(self.outcomes(), {"too_many": 1, "nobody": 2})
        self.assertIsNotNone(self.ask())
