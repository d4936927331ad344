"""Bindings that live on a connection: they end with it, and a connection that lost its last one is closed."""

import attrs

from registrar.bindings import Binding
from registrar.records import record_key
from rollcall.sip.message import Response
from tests.flows import MemoryFlow
from tests.registrar.examples import PHONE, a_bound
from tests.registrar.joined import EPOCH, NODE, Client, HeldLocation
from tests.registrar.test_registering import A, B, RegisteringCase

C = "sip:alice@192.0.2.22"


class ClosedFlowTests(RegisteringCase):
    def test_ends_with_its_connection(self) -> None:
        """The end of a connection unbinds what was bound over it, and nothing else."""
        other = self.registrar.client("alice", port=49153)
        datagrams = self.registrar.client("alice", "UDP", host="192.0.2.30")
        self.alice.register(A)
        other.register(B)
        datagrams.register(C)
        self.registrar.lose(self.alice.flow)
        self.assertEqual(self.registrar.bound("alice"), [B, C])
        self.registrar.lose(other.flow)
        self.assertEqual(self.registrar.bound("alice"), [C])
        self.assertEqual(self.kinds(), {"new": 3, "unbound": 2})

    def test_several_contacts(self) -> None:
        """All contacts of one connection go with it."""
        self.alice.register(A, B)
        self.registrar.lose(self.alice.flow)
        self.assertEqual((self.registrar.bound("alice"), self.kinds()["unbound"]), ([], 2))

    def test_several_addresses_on_one_connection(self) -> None:
        """A connection that serves several users takes all of them with it (RFC 5626 §7: "regardless of AOR")."""
        bob = Client(self.registrar, "bob", self.alice.flow)
        self.alice.register(A)
        bob.register("sip:bob@192.0.2.20")
        self.alice.register(A)
        self.registrar.lose(self.alice.flow)
        self.assertEqual((self.registrar.bound("alice"), self.registrar.bound("bob")), ([], []))
        self.assertIsNone(self.alice.flow.bound)

    def test_one_failure_keeps_no_other(self) -> None:
        """A store that breaks while it unbinds one user still unbinds the others of the connection."""
        bob = Client(self.registrar, "bob", self.alice.flow)
        self.alice.register(A)
        bob.register("sip:bob@192.0.2.20")
        location = self.registrar.location
        calls: list[str] = []

        async def unbind(aor: str, node: str, epoch: int, flow_id: int) -> tuple[Binding, ...]:
            calls.append(aor)
            if len(calls) == 1:
                raise ZeroDivisionError
            return await HeldLocation.unbind(location, aor, node, epoch, flow_id)

        self.patch(location, "unbind", unbind)
        self.registrar.lose(self.alice.flow)
        self.assertEqual(len(self.registrar.bound("alice") + self.registrar.bound("bob")), 1)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_told_twice(self) -> None:
        """A connection ends once."""
        self.alice.register(A)
        self.registrar.lose(self.alice.flow)
        self.registrar.lose(self.alice.flow)
        self.assertEqual(self.kinds()["unbound"], 1)

    def test_closed_while_saving(self) -> None:
        """A connection that ends while the store still writes leaves no binding behind."""
        self.alice.register(expires=None)
        self.registrar.location.holds = True
        self.alice.send(self.alice.a_register(A))
        self.registrar.location.let_pass()
        self.registrar.lose(self.alice.flow)
        self.assertEqual(self.registrar.location.let_pass(), ["save"])
        self.assertEqual((self.registrar.bound("alice"), self.alice.flow.bound), ([], None))
        self.assertEqual((self.kinds()["new"], self.kinds()["unbound"]), (1, 1))

    def test_closed_before_loading(self) -> None:
        """The same when it ends before the store has even read."""
        self.alice.register(expires=None)
        self.registrar.location.holds = True
        self.alice.send(self.alice.a_register(A))
        self.registrar.lose(self.alice.flow)
        self.registrar.location.let_pass()
        self.registrar.location.let_pass()
        self.assertEqual((self.registrar.bound("alice"), self.alice.flow.bound), ([], None))

    def test_refreshed_elsewhere_before_the_end(self) -> None:
        """A phone whose old connection ends after it has registered the same contact over a new one stays bound."""
        self.alice.register(A, instance=PHONE)
        old = self.alice.move()
        self.alice.register(A, instance=PHONE)
        self.registrar.lose(old)
        self.assertEqual((self.registrar.bound("alice"), self.kinds().get("unbound")), ([A], None))

    def test_binding_of_an_earlier_life(self) -> None:
        """A flow of this process unbinds nothing that was bound to the same number in another life or node."""
        self.alice.register(A)
        foreign = [a_bound(B, self.alice.flow.id, expires_at=9e9), a_bound(C, self.alice.flow.id, expires_at=9e9)]
        self.add("alice", _of(foreign[0], NODE, EPOCH + 1), _of(foreign[1], "n2", EPOCH))
        self.registrar.lose(self.alice.flow)
        self.assertEqual(self.registrar.bound("alice"), [B, C])

    def test_same_number_elsewhere(self) -> None:
        """A binding on a flow of the same number, in another life or node, is not on ours."""
        self.add("alice", _of(a_bound(B, self.alice.flow.id, expires_at=9e9), NODE, EPOCH + 1),
                 _of(a_bound(C, self.alice.flow.id, expires_at=9e9), "n2", EPOCH))
        self.alice.register(expires=None)
        self.assertIsNone(self.alice.flow.bound)

    def add(self, name: str, *bindings: Binding) -> None:
        """Put bindings beside those of a user."""
        aor = f"sip:{name}@example.com"
        snapshot = self.registrar.location.peek(aor)
        self.registrar.location.put(aor, snapshot.followed_by((*snapshot.bindings, *bindings)))


class ReplacedFlowTests(RegisteringCase):
    def come_back(self, contact: str = B) -> MemoryFlow:
        """Register over a new connection; return the old one."""
        old = self.alice.move()
        self.assertEqual(self.alice.register(contact, instance=PHONE).status, 200)
        return old

    def test_old_connection_is_closed(self) -> None:
        """A phone that comes back over a new connection leaves its old one without use: it is closed."""
        self.alice.register(A, instance=PHONE)
        old = self.come_back()
        self.assertEqual((old.is_open, old.close_reason), (False, f"{self.alice.aor} is not bound to it any more"))
        self.assertTrue(self.alice.flow.is_open)
        key = record_key(self.alice.aor)
        self.assertEqual((old.bound, self.alice.flow.bound, self.registrar.bound("alice")), (None, key, [B]))

    def test_conversation_on_the_old_one(self) -> None:
        """A connection over which a request still waits for its answer stays open, and unbound."""
        self.alice.register(A, instance=PHONE)
        bob = self.registrar.client("bob", port=49160)
        bob.send(bob.request("INVITE", self.alice.aor))
        bob.take_challenge(bob.flow.take_response())
        bob.send(bob.request("INVITE", self.alice.aor, cseq=2, headers=(
            ("Proxy-Authorization", bob.credentials("INVITE", self.alice.aor)),)))
        self.assertEqual(bob.statuses(), [100])
        old = self.come_back()
        self.assertTrue(old.is_open)
        self.assertIsNone(old.bound)
        (invite,) = old.take()
        assert not isinstance(invite, Response)
        self.assertEqual(invite.method, "INVITE")

    def test_another_user_on_the_old_one(self) -> None:
        """A connection that also serves another user stays open for him."""
        self.alice.register(A, instance=PHONE)
        bob = Client(self.registrar, "bob", self.alice.flow)
        bob.register("sip:bob@192.0.2.20")
        old = self.come_back()
        self.assertEqual((old.is_open, old.bound), (True, {record_key(bob.aor)}))
        self.registrar.lose(old)
        self.assertEqual((self.registrar.bound("bob"), self.registrar.bound("alice")), ([], [B]))

    def test_another_contact_on_the_old_one(self) -> None:
        """A connection that still has another contact of the same user stays open."""
        self.alice.register(A, instance=PHONE)
        self.alice.register(C)
        old = self.come_back()
        self.assertTrue(old.is_open)
        self.registrar.lose(old)
        self.assertEqual(self.registrar.bound("alice"), [B])

    def test_refresh_over_the_same_one(self) -> None:
        """A refresh over the same connection closes nothing."""
        self.alice.register(A, instance=PHONE)
        self.alice.register(B, instance=PHONE)
        self.assertTrue(self.alice.flow.is_open)

    def test_from_connection_to_datagrams(self) -> None:
        """A phone that comes back by UDP leaves its connection; one that leaves UDP has none to close."""
        self.alice.register(A, instance=PHONE)
        old, datagrams = self.alice.flow, self.registrar.flow("UDP", host="192.0.2.30")
        # In a datagram a nonce counts that came in one.
        self.alice.flow, self.alice.challenge = datagrams, {}
        self.alice.register(B, instance=PHONE)
        self.assertEqual((old.is_open, datagrams.bound), (False, None))
        self.alice.flow = self.registrar.flow()
        self.alice.register(A, instance=PHONE)
        self.assertTrue(datagrams.is_open)

    def test_gone_already(self) -> None:
        """An old connection that is not here, or is another node's, is let be."""
        self.alice.register(A, instance=PHONE)
        aor = self.alice.aor
        for node, epoch in ((NODE, EPOCH + 1), ("n2", EPOCH)):
            bystander = self.registrar.client("bob", port=49160)
            moved = _of(a_bound(A, bystander.flow.id, instance=PHONE, expires_at=9e9), node, epoch)
            snapshot = self.registrar.location.peek(aor)
            self.registrar.location.put(aor, snapshot.followed_by((moved,)))
            self.assertEqual(self.alice.register(B, instance=PHONE).status, 200)
            self.assertTrue(bystander.flow.is_open)


class UnregisterTests(RegisteringCase):
    def test_nothing_is_left(self) -> None:
        """A phone that unregisters leaves nothing with its connection, which stays open."""
        for contact in (A, "*"):
            self.alice.register(A)
            self.assertEqual(self.alice.flow.bound, record_key(self.alice.aor))
            self.alice.register(contact, expires=0)
            self.assertEqual((self.alice.flow.bound, self.alice.flow.is_open), (None, True))

    def test_one_of_two_contacts(self) -> None:
        """A phone that takes one of its two contacts away is still bound to its connection."""
        self.alice.register(A, B)
        self.alice.register(A, expires=0)
        self.assertEqual(self.alice.flow.bound, record_key(self.alice.aor))
        self.registrar.lose(self.alice.flow)
        self.assertEqual(self.registrar.bound("alice"), [])

    def test_one_of_two_users(self) -> None:
        """The other user of a connection stays bound to it."""
        bob = Client(self.registrar, "bob", self.alice.flow)
        self.alice.register(A)
        bob.register("sip:bob@192.0.2.20")
        self.alice.register("*", expires=0)
        self.assertEqual(self.alice.flow.bound, {record_key(bob.aor)})
        bob.register("*", expires=0)
        self.assertIsNone(bob.flow.bound)

    def test_over_another_connection(self) -> None:
        """Contacts that are taken away over another connection leave theirs without use: it is closed."""
        self.alice.register(A)
        old = self.alice.move()
        self.alice.register("*", expires=0)
        self.assertEqual((old.is_open, old.bound, self.alice.flow.is_open), (False, None, True))

    def test_a_fetch_changes_nothing(self) -> None:
        """A fetch over a second connection binds nothing to it and takes nothing from the first."""
        self.alice.register(A)
        first = self.alice.move()
        self.alice.register(expires=None)
        key = record_key(self.alice.aor)
        self.assertEqual((first.bound, first.is_open, self.alice.flow.bound), (key, True, None))


def _of(binding: Binding, node: str, epoch: int) -> Binding:
    """Return the binding as another node, or another life of this one, made it."""
    return attrs.evolve(binding, source=attrs.evolve(binding.source, node=node, epoch=epoch))
