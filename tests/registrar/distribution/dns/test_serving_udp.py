"""DNS by UDP over loopback sockets: turns, what cannot be read or sent, and the end."""

from errno import EBADF, ECONNREFUSED
from socket import AF_INET, SOCK_DGRAM, socket
from typing import Any

import dns.message
from twisted.internet.error import ConnectionLost
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from registrar.distribution.dns import serving_udp
from registrar.distribution.dns.answers import Answers
from registrar.distribution.dns.config import DnsConfig
from registrar.distribution.dns.serving_udp import DatagramService
from rollcall.net import batches
from rollcall.net.batches import receive
from tests.registrar.distribution.dns.zones import a_query, a_snapshot
from tests.rollcall.net.test_coalescing import Watching


class DatagramServiceTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = Watching()
        config = DnsConfig(max_datagrams_per_turn=100)
        self.answers = Answers(config, lambda host: False)
        self.answers.publish(a_snapshot())
        bound, self.client = (self.enterContext(socket(AF_INET, SOCK_DGRAM)) for _ in range(2))
        for each in (bound, self.client):
            each.bind(("127.0.0.1", 0))
            each.setblocking(False)
        self.client.connect(bound.getsockname())
        self.service = DatagramService(self.reactor, bound, config, self.answers, "here")
        self.service.start()
        self.addCleanup(self.service.stop)

    def heard(self) -> list[bytes]:
        """Return all that the client has been sent."""
        found = []
        while True:
            try:
                found.append(self.client.recv(65535))
            except BlockingIOError:
                return found

    def turn(self) -> Any:
        """Have the reactor find it readable."""
        reader: Any = self.reactor.readers[0]
        return reader.doRead()

    def test_answer(self) -> None:
        """A query is answered to where it came from."""
        query = a_query()
        self.client.send(query.to_wire())
        self.turn()
        answer, = self.heard()
        self.assertTrue(query.is_response(dns.message.from_wire(answer)))
        self.assertEqual(self.service.queries, 1)

    def test_turns(self) -> None:
        """No more is answered in a turn than may be; the rest waits for the next ones."""
        for _ in range(150):
            self.client.send(a_query().to_wire())
        self.turn()
        self.assertEqual(len(self.heard()), 100)
        self.turn()
        self.assertEqual(len(self.heard()), 50)

    def test_time(self) -> None:
        """A turn that has lasted long enough ends with the batch."""
        for _ in range(100):
            self.client.send(a_query().to_wire())
        began_at = self.reactor.seconds()
        moments = iter([began_at, began_at, began_at + 1.0])
        self.patch(self.reactor, "seconds", lambda: next(moments, began_at + 1.0))
        self.turn()
        self.assertEqual(len(self.heard()), 64)

    def test_noise(self) -> None:
        """What is no query gets nothing, and what cannot be read is an error."""
        for data in (b"", b"x", b"\x12\x34\x01\x00\xff\xff" + bytes(6)):
            self.client.send(data)
        self.turn()
        answer, = self.heard()
        self.assertEqual(answer, b"\x12\x34\x81\x01" + bytes(8))

    def test_failure(self) -> None:
        """A failure while a batch is answered is logged, and the next batch is answered."""
        datagrams = self.answers.datagrams
        self.patch(self.answers, "datagrams", lambda batch, now: 1 / 0)
        self.client.send(a_query().to_wire())
        self.turn()
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.patch(self.answers, "datagrams", datagrams)
        self.client.send(a_query().to_wire())
        self.turn()
        self.assertEqual(len(self.heard()), 1)

    def test_complaints(self) -> None:
        """What routers say of earlier answers is passed over, a broken socket is not."""
        errors = [ECONNREFUSED]

        def failing(bound: socket, most: int) -> Any:
            if errors:
                raise OSError(errors.pop(), "x")
            return receive(bound, most)

        self.patch(batches, "receive", failing)
        self.client.send(a_query().to_wire())
        self.assertIsNone(self.turn())
        self.assertEqual(len(self.heard()), 1)
        errors.append(EBADF)
        self.assertEqual(self.turn().errno, EBADF)
        reader: Any = self.reactor.readers[0]
        reader.connectionLost(Failure(ConnectionLost()))
        self.assertEqual(self.reactor.readers, [])

    def test_unsent(self) -> None:
        """What the system does not take is counted."""
        self.patch(serving_udp, "send", lambda bound, answers: [(0, ECONNREFUSED)])
        self.client.send(a_query().to_wire())
        self.turn()
        self.assertEqual(self.service.unsent, 1)

    def test_stop(self) -> None:
        """A service that was stopped reads no more; twice does no harm."""
        self.service.stop()
        self.service.stop()
        self.assertEqual(self.reactor.readers, [])
