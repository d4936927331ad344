"""UDP under load: how much is read in a turn of the reactor, and when the next one comes."""

from errno import ECONNREFUSED
from socket import socket

from rollcall.net import batches
from tests.rollcall.net.fakes import OPTIONS
from tests.rollcall.net.test_datagram import NOW, PortTestCase, a_register


class TurnTests(PortTestCase):
    def test_bound(self) -> None:
        """A turn takes so many datagrams; the others wait for the next, because the reactor has more to do."""
        self.listen(self.user, max_datagrams_per_turn=70, coalesce_ms=0)
        self.receive(*(a_register(str(number)) for number in range(150)))
        self.assertEqual(len(self.sent()), 70)
        self.turn()
        self.turn()
        self.assertEqual(len(self.sent()), 80)

    def test_bound_in_time(self) -> None:
        """A turn that has taken its time leaves the rest for the next, whatever its number."""
        self.listen(self.user, max_turn_ms=5, coalesce_ms=0)
        self.user.told = lambda data, flow: setattr(self.reactor, "rightNow", self.reactor.rightNow + 0.001)
        self.receive(*[OPTIONS] * 100)
        self.assertEqual(len(self.user.data), batches.SLOTS)
        self.turn()
        self.assertEqual(len(self.user.data), 100)

    def test_load(self) -> None:
        """Under load datagrams are looked for by the clock, until there are none."""
        self.listen(self.user, coalesce_ms=2)
        self.receive(a_register("1"))
        self.receive(a_register("2"))
        self.assertEqual(self.reactor.readers, [])
        self.peer.sendto(a_register("3"), self.socket.getsockname())
        self.reactor.advance(0.0021)
        self.assertEqual(self.sent(), [b"short 1", b"short 2", b"short 3"])
        self.assertEqual(self.user.short[-1][3], NOW + 0.0021)
        self.reactor.advance(0.0021)
        self.assertEqual(len(self.reactor.readers), 1)

    def test_full_turns_under_load(self) -> None:
        """Where a turn had to leave something, the next comes as soon as others had theirs."""
        self.listen(self.user, max_datagrams_per_turn=10)
        for _ in range(2):
            self.receive(*[a_register()] * 15)
        self.reactor.pump([0, 0, 0])
        self.assertEqual(len(self.sent()), 30)

    def test_errors_are_bounded(self) -> None:
        """A socket that does nothing but complain does not hold the reactor."""
        calls: list[int] = []

        def complain(bound: socket, most: int) -> None:
            calls.append(most)
            raise OSError(ECONNREFUSED, "Connection refused")

        self.listen(self.user, max_datagrams_per_turn=5)
        self.patch(batches, "receive", complain)
        self.turn()
        self.assertEqual(len(calls), 5)
