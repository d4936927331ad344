"""The short way above a store that keeps later: the phone hears when its binding is kept, not before."""

from twisted.trial.unittest import SynchronousTestCase

from rollcall.sip.message import Response
from tests.registrar.examples import EXACT
from tests.registrar.joined import Client, LaterLocation, Registrar

CONTACT = "sip:alice@192.0.2.20:49152"


class LaterCase(SynchronousTestCase):
    """Alice's REGISTERs wait until the test settles them."""

    transport = "TCP"

    def setUp(self) -> None:
        """Have a phone whose User-Agent is known, so that it takes the short way."""
        self.registrar = Registrar(bindings=EXACT, with_passwords=False, location=LaterLocation)
        self.alice = self.registrar.client("alice", self.transport)

    def send(self, client: Client | None = None) -> bytes:
        """Send the next REGISTER of a phone, and return it."""
        client = client or self.alice
        data = client.a_register(CONTACT).serialise()
        client.receive(data)
        return data

    def settle(self, is_kept: bool = True) -> list[int]:
        """Say what became of what waits, and return what the phone hears."""
        self.assertEqual(self.alice.statuses(), [], "an answer came before anything was kept")
        location = self.registrar.location
        assert isinstance(location, LaterLocation)
        self.assertTrue(location.kept_later, "nothing waits")
        location.settle(is_kept)
        return self.alice.statuses()


class ConnectionTests(LaterCase):
    def test_answered_when_kept(self) -> None:
        """A first binding and a refresh are answered 200 as soon as they are kept, and counted then."""
        self.send()
        self.assertEqual(self.registrar.bound("alice"), [])
        self.assertEqual(self.settle(), [200])
        self.send()
        self.assertEqual((self.settle(), self.registrar.bound("alice")), ([200], [CONTACT]))
        counted = self.registrar.counts("rollcall_registrations_total")
        self.assertEqual(counted, {("new", "TCP"): 1, ("refreshed", "TCP"): 1})

    def test_what_could_not_be_kept_takes_the_whole_way(self) -> None:
        """When the record was another one, the request is decided again on what is stored."""
        self.send()
        self.assertEqual(self.settle(is_kept=False), [200])
        self.assertEqual((self.registrar.bound("alice"), self.registrar.location.saves), ([CONTACT], 1))

    def test_a_store_that_is_down(self) -> None:
        """The whole way says 503 when nothing can be kept at all."""
        self.send()
        self.registrar.location.down = True
        self.assertEqual(self.settle(is_kept=False), [503])

    def test_a_connection_that_ends_meanwhile(self) -> None:
        """A binding that is kept after its connection has ended is removed again."""
        self.send()
        self.registrar.lose(self.alice.flow)
        location = self.registrar.location
        assert isinstance(location, LaterLocation)
        location.settle(True)
        self.assertEqual(self.registrar.bound("alice"), [])

    def test_the_end_of_the_connection_unbinds(self) -> None:
        """What was kept later ends with its connection as any binding."""
        self.send()
        self.settle()
        self.registrar.lose(self.alice.flow)
        self.assertEqual(self.registrar.bound("alice"), [])

    def test_draining(self) -> None:
        """A node that is drained refreshes what is bound over open connections, and sends others elsewhere."""
        self.send()
        self.settle()
        self.registrar.is_draining = True
        self.send()
        self.assertEqual(self.settle(), [200])
        bob = self.registrar.client("bob", port=49200)
        bob.receive(bob.a_register("sip:bob@192.0.2.20").serialise())
        (answer,) = bob.flow.take()
        assert isinstance(answer, Response)
        self.assertEqual((answer.status, answer.get("Retry-After")), (503, "17"))
        self.assertEqual(self.registrar.bound("bob"), [])


class DatagramTests(LaterCase):
    transport = "UDP"

    def test_answered_when_kept(self) -> None:
        """The answer to a datagram goes back where it came from."""
        self.send()
        self.assertEqual(self.settle(), [200])

    def test_repeated_while_it_waits(self) -> None:
        """A datagram that is repeated meanwhile is no second request: there is one answer."""
        data = self.send()
        self.alice.receive(data)
        self.assertEqual(self.settle(), [200])
        self.alice.receive(data)
        self.assertEqual((self.alice.statuses(), self.registrar.location.saves), ([200], 1))

    def test_draining(self) -> None:
        """A phone without a connection is sent elsewhere with its next refresh, and may still say goodbye."""
        self.send()
        self.settle()
        self.registrar.is_draining = True
        self.assertEqual(self.alice.register(CONTACT, expires=0).status, 200)
        self.assertEqual(self.alice.register(CONTACT).status, 503)


class PasswordTests(SynchronousTestCase):
    """A phone that has proved its password has done so, whichever way its request takes in the end."""

    def register(self, settle: bool) -> list[int]:
        """Register with a password over the short way, say what became of the record, and return the answers."""
        registrar = Registrar(bindings=EXACT, location=LaterLocation)
        alice = registrar.client("alice")
        alice.receive(alice.a_register(CONTACT).serialise())
        alice.take_challenge(alice.flow.take_response())
        location = registrar.location
        assert isinstance(location, LaterLocation)
        for _ in range(3):
            alice.receive(alice.a_register(CONTACT).serialise())
            self.assertTrue(location.kept_later, "it took the whole way at once")
            location.settle(settle)
        return alice.statuses()

    def test_kept(self) -> None:
        """It is answered 200 when its binding is kept."""
        self.assertEqual(self.register(settle=True), [200, 200, 200])

    def test_not_kept(self) -> None:
        """The whole way does not take it for a replay of itself."""
        self.assertEqual(self.register(settle=False), [200, 200, 200])
