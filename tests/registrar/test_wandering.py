"""Calls in which everything moves: whatever happens to phones and nodes, each request reaches the phone it is for."""

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.registrar.examples import PHONE, TABLET
from tests.registrar.nodes import Call, NodePhone, Nodes, NodesCase

NAMES = ("n1", "n2", "n3")
STEPS = st.lists(
    st.tuples(st.sampled_from(("ask", "ask", "move", "lose and ask", "part", "kill", "kill unseen")), st.booleans(),
              st.sampled_from(NAMES), st.sampled_from(("INVITE", "INFO", "UPDATE", "MESSAGE"))),
    max_size=16)


class WanderingTests(NodesCase):
    """Alice and Bob talk, and neither of them stays where he is."""

    @settings(max_examples=80, deadline=None)
    @given(steps=STEPS, instances=st.tuples(st.sampled_from((PHONE, None)), st.sampled_from((TABLET, None))))
    def test_every_request_arrives(self, steps: list[tuple[str, bool, str, str]],
                                   instances: tuple[str | None, str | None]) -> None:
        """Phones move and lose their connections, nodes lose each other, one is killed: no request is lost for that."""
        self.nodes = Nodes()
        alice, bob = (self.nodes.phone(name, node, instance=instance)
                      for name, node, instance in zip(("alice", "bob"), NAMES, instances, strict=False))
        call = self.established(alice, bob)
        for step, is_alice, node, method in steps:
            one, other = (alice, bob) if is_alice else (bob, alice)
            if step == "ask":
                self.ask(call, method, one, other)
            elif step == "move":
                self.move(one, node)
            elif step == "lose and ask":
                other.lose()
                self.ask(call, method, one, other, node)
            elif step == "part":
                self.part(one, node)
            elif not self.nodes.dead:
                self.kill(node, step == "kill", alice, bob)

    def ask(self, call: Call, method: str, one: NodePhone, other: NodePhone, back_at: str = "") -> None:
        """Let one side send a request, and see that the other, which may come back after that, answers it."""
        one.flow.take()
        one.send(call.request(method, one))
        if back_at:
            self.nodes.wait(2)
            other.register(self.living(back_at))
        # A node that could not be spoken to is tried again after two seconds.
        self.nodes.wait(2.5)
        self.assertEqual(other.heard(), [method])
        other.answer(200, method)
        self.assertEqual(one.answers()[-1:], [200])
        if method == "INVITE":
            one.send(call.request("ACK", one, cseq=call.last_cseq(one)))
            self.wait_a_turn()
            self.assertEqual(other.heard(), ["ACK"])

    def move(self, phone: NodePhone, node: str) -> None:
        """Let a phone lose its connection and register elsewhere."""
        if phone.node not in self.nodes.dead:
            phone.lose()
        phone.register(self.living(node))

    def part(self, phone: NodePhone, node: str) -> None:
        """Let two living nodes lose each other for a moment."""
        if phone.node != node and not {phone.node, node} & self.nodes.dead:
            self.nodes.between(phone.node, node)
            self.nodes.part(phone.node, node)

    def kill(self, node: str, is_seen: bool, *phones: NodePhone) -> None:
        """Kill a node; its phones come back elsewhere, before or after its lease has ended."""
        self.nodes.kill(node, lease_ends=is_seen)
        for phone in phones:
            if phone.node == node:
                phone.register(self.living(node))
        if not is_seen:
            self.nodes.wait(1)
            self.nodes.end_lease(node)

    def living(self, node: str) -> str:
        """Return this node, or the next one when it is dead."""
        return node if node not in self.nodes.dead else NAMES[(NAMES.index(node) + 1) % len(NAMES)]
