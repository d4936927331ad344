"""Bindings that ended with their node: they count no more, and go with the next change of their record."""

from attrs import evolve

from registrar.bindings import Binding
from registrar.records import BindingConfig
from tests.registrar.examples import PHONE, a_bound
from tests.registrar.joined import Registrar, done
from tests.registrar.test_registering import A, B, RegisteringCase


class EndedNodeTests(RegisteringCase):
    def setUp(self) -> None:
        """Have a phone bound on another node, which ends."""
        super().setUp()
        self.registrar = Registrar(bindings=BindingConfig(max_contacts=1), with_passwords=False)
        self.alice = self.registrar.client("alice")

    def bind_elsewhere(self, **changes: object) -> Binding:
        """Bind a phone on a node that has ended, and return its binding."""
        bound = a_bound(B, 7, **changes)
        there = evolve(bound, source=evolve(bound.source, node="n2", epoch=5))
        location = self.registrar.location
        done(location.save(self.alice.aor, location.peek(self.alice.aor).followed_by((there,))))
        self.registrar.ended.add(("n2", 5))
        return there

    def test_it_counts_no_more(self) -> None:
        """A phone that comes back may register although its old contact is still stored, and hears of its own."""
        self.bind_elsewhere()
        answer = self.alice.register(A)
        self.assertEqual((answer.status, len(answer.get_all("Contact"))), (200, 1))
        self.assertEqual(self.registrar.bound("alice"), [A])

    def test_it_counts_while_its_node_lives(self) -> None:
        """The contact of a node that lives takes its place among those that there may be."""
        self.bind_elsewhere()
        self.registrar.ended.clear()
        self.assertEqual(self.alice.register(A).status, 403)

    def test_asking_changes_nothing(self) -> None:
        """Who only asks what is bound is not told of it, and does not remove it."""
        self.bind_elsewhere()
        answer = self.alice.register(expires=None)
        self.assertEqual((answer.status, answer.get_all("Contact")), (200, []))
        self.assertEqual(self.registrar.bound("alice"), [B])

    def test_the_same_phone_comes_back(self) -> None:
        """An instance keeps the generation of its temporary GRUUs when it comes back with the same Call-ID."""
        there = self.bind_elsewhere(instance=PHONE, params=(("+sip.instance", f'"<{PHONE}>"'),), generation=41,
                                    call_id=self.alice.call_id, cseq=0)
        self.assertEqual(self.alice.register(A, instance=PHONE).status, 200)
        (binding,) = self.registrar.location.peek(self.alice.aor).bindings
        self.assertEqual((binding.generation, binding.source.node), (there.generation, "n1"))
