"""Calls between phones of different nodes, and of phones that lose their node: real registrars, Redis and sockets."""

from time import monotonic

from tests.cluster.case import ClusterCase
from tests.cluster.handset import Handset, Talk

RECONNECT_WAIT = 3.0


class OwnerCase(ClusterCase):
    """Handsets, each of another user."""

    users = 40
    sections = f"[cluster]\nreconnect_wait = {RECONNECT_WAIT}\n"
    _next_user = 0

    def handset(self, node: int, transport: str = "TCP") -> Handset:
        """Return a phone that has registered with a node."""
        user = self.lab.users[OwnerCase._next_user]
        OwnerCase._next_user += 1
        made = Handset(self.lab, user, node, transport)
        self.addCleanup(made.lose)
        return made

    def call(self, caller: Handset, callee: Handset) -> Talk:
        """Return an established call."""
        talk = Talk(caller, callee)
        talk.begin()
        talk.ring()
        talk.answer()
        return talk


class CallsTests(OwnerCase):
    """All nodes live."""

    def test_both_directions(self) -> None:
        """Calls pass between any two nodes, over any transport, with re-INVITEs and BYEs from either end."""
        ways = ((0, "TCP", 1, "TCP"), (1, "TCP", 2, "TLS"), (2, "UDP", 0, "TCP"), (0, "TLS", 1, "UDP"),
                (1, "UDP", 1, "TCP"))
        for number, (near, one, far, other) in enumerate(ways):
            alice, bob = self.handset(near, one), self.handset(far, other)
            talk = self.call(alice, bob)
            for method in ("INVITE", "INFO"):
                talk.exchange(method, alice)
                talk.exchange(method, bob)
            talk.exchange("BYE", (alice, bob)[number % 2])
            back = self.call(bob, alice)
            back.exchange("BYE", (alice, bob)[number % 2])

    def test_cancelled(self) -> None:
        """A CANCEL ends the ringing at another node's phone."""
        alice, bob = self.handset(0), self.handset(1)
        talk = Talk(alice, bob)
        talk.begin()
        talk.ring()
        talk.cancel()
        self.assertEqual(alice.phone.final().get("CSeq"), f"{(talk.invite.get('CSeq') or '').split()[0]} CANCEL")
        bob.phone.answer(bob.hears("CANCEL"), 200)
        bob.phone.answer(talk.received, 487)
        bob.hears("ACK")
        refusal = alice.phone.final()
        self.assertEqual(refusal.status, 487)
        alice.phone.acknowledge(talk.invite, refusal)

    def test_busy(self) -> None:
        """A refusal comes back from another node's phone, which gets its ACK."""
        alice, bob = self.handset(0), self.handset(2)
        talk = Talk(alice, bob)
        talk.begin()
        talk.ring()
        bob.phone.answer(talk.received, 486)
        bob.hears("ACK")
        refusal = alice.phone.final()
        self.assertEqual(refusal.status, 486)
        alice.phone.acknowledge(talk.invite, refusal)

    def test_moves_during_its_call(self) -> None:
        """A phone that changes its node and port stays in its call, and so does one whose peer has done so."""
        alice, bob = self.handset(0), self.handset(1)
        talk = self.call(alice, bob)
        for alices, bobs in ((0, 2), (1, 2), (2, 0)):
            alice.move(alices)
            bob.move(bobs)
            talk.exchange("INVITE", alice)
            talk.exchange("INFO", bob)
        talk.exchange("BYE", bob)

    def test_request_for_a_phone_on_its_way(self) -> None:
        """What is sent while the other phone is on its way reaches it."""
        alice, bob = self.handset(0), self.handset(1)
        talk = self.call(alice, bob)
        bob.lose()
        talk.send("BYE", alice)
        bob.move(2)
        talk.take("BYE", bob)
        self.assertEqual(alice.phone.final().status, 200)

    def test_reconnects_in_time(self) -> None:
        """A call for a phone whose connection was just lost is delivered as soon as it is back at another node."""
        alice, bob = self.handset(0), self.handset(1)
        bob.lose()
        talk = Talk(alice, bob)
        talk.begin()
        self.assertEqual(alice.phone.response().status, 100)
        bob.move(2)
        began = monotonic()
        talk.ring()
        self.figure(f"an INVITE that waited reached the phone {(monotonic() - began) * 1000:.0f} ms after it was back")
        talk.answer()
        talk.exchange("BYE", alice)

    def test_stays_away(self) -> None:
        """When the phone does not come back the call ends as 480, after reconnect_wait at most."""
        alice, bob = self.handset(0), self.handset(1)
        bob.lose()
        began = monotonic()
        talk = Talk(alice, bob)
        talk.begin()
        refusal = alice.phone.final()
        waited = monotonic() - began
        self.assertEqual(refusal.status, 480)
        alice.phone.acknowledge(talk.invite, refusal)
        self.assertLess(abs(waited - RECONNECT_WAIT), 1.0)
        self.assertIn("stayed_away", self.lab.registrars[0].log())


class DeathTests(OwnerCase):
    """A node is killed; each test starts it again."""

    def kill(self, number: int) -> None:
        """Kill a node; it is there again when the test is over."""
        self.lab.registrars[number].kill()
        self.addCleanup(self.lab.registrars[number].start)

    def test_of_the_caller(self) -> None:
        """Established calls go on when the caller's node is killed, and either side can end them."""
        calls = []
        for _ in range(2):
            alice, bob = self.handset(0), self.handset(1)
            calls.append(self.call(alice, bob))
        self.kill(0)
        for talk in calls:
            talk.caller.move(2)
        calls[0].exchange("INVITE", calls[0].caller)
        calls[0].exchange("BYE", calls[0].callee)
        calls[1].exchange("INVITE", calls[1].callee)
        calls[1].exchange("BYE", calls[1].caller)

    def test_while_it_rings(self) -> None:
        """When the node of a ringing phone is killed, the phone rings again once it is back, and is answered."""
        alice, bob = self.handset(0), self.handset(1)
        talk = Talk(alice, bob)
        talk.begin()
        talk.ring()
        self.kill(1)
        bob.move(2)
        talk.ring()
        talk.answer()
        talk.exchange("BYE", bob)

    def test_with_a_caller(self) -> None:
        """When the node of the caller is killed before the answer, the phone rings no longer."""
        alice, bob = self.handset(2), self.handset(1)
        talk = Talk(alice, bob)
        talk.begin()
        talk.ring()
        self.kill(2)
        bob.phone.answer(bob.hears("CANCEL"), 200)
        bob.phone.answer(talk.received, 487)
        bob.hears("ACK")

    def test_called_before_it_is_known(self) -> None:
        """A call in the very moment of a node's death waits for its phone, too."""
        alice, bob = self.handset(0), self.handset(1)
        self.kill(1)
        talk = Talk(alice, bob)
        talk.begin()
        self.assertEqual(alice.phone.response().status, 100)
        bob.move(0)
        talk.ring()
        talk.answer()
        talk.exchange("BYE", alice)
