"""One connection to a server of Redis: what leaves, what comes back, and what is done when nothing does."""

from typing import Any

from twisted.internet.defer import CancelledError
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from rollcall.cluster.connection import SECOND_LOOK_SECONDS, Connection, Subscriber, pack, packed
from rollcall.cluster.redis import RedisRefused, RedisUnavailable, Script


class ConnectionCase(SynchronousTestCase):
    """A connection with a time-out of one second."""

    kind: type[Connection] = Connection

    def setUp(self) -> None:
        self.clock = Clock()
        self.connection = self.kind(self.clock, 1.0)
        self.transport = StringTransport()
        self.connection.makeConnection(self.transport)
        self.ends: list[str] = []
        self.connection.ended = self.ends.append
        self.answers: list[Any] = []

    def send(self, *words: bytes | int | str) -> None:
        """Ask something; the answer goes to `answers`."""
        self.connection.send((self.answers.append, None, b"", words, 0))

    def hears(self, data: bytes) -> None:
        """Let something come."""
        self.connection.dataReceived(data)

    def lost(self) -> None:
        """Let the connection be lost."""
        self.connection.connectionLost(Failure(ConnectionDone()))


class AskingTests(ConnectionCase):
    """Commands and answers."""

    def test_together(self) -> None:
        """What is asked in one turn leaves at its end, in one piece; a script by its name."""
        script = Script(b"return 1")
        self.send("GET", b"key")
        self.connection.send((self.answers.append, script, b"key", (7, b"x"), 0))
        self.assertEqual(self.transport.value(), b"")
        self.clock.advance(0)
        named = (b"EVALSHA", b"e0e1f9fabfc9d4800c877a703b823ac0578ff8db", b"1", b"key", 7, b"x")
        self.assertEqual(self.transport.value(), pack(("GET", b"key")) + pack(named))
        self.assertEqual(self.connection.commands, 2)

    def test_in_order(self) -> None:
        """Answers of all kinds are given in order, however they are cut."""
        for number in range(5):
            self.send("ECHO", number)
        self.clock.advance(0)
        for byte in b":1\r\n$3\r\nab\n\r\n$-1\r\n*2\r\n+OK\r\n:2\r\n-ERR no \xff\r\n":
            self.hears(bytes([byte]))
        self.assertEqual(self.answers[:4], [1, b"ab\n", None, [b"OK", 2]])
        self.assertIsInstance(self.answers[4], RedisRefused)
        self.assertEqual(str(self.answers[4]), "ERR no \N{REPLACEMENT CHARACTER}")

    def test_asked_within_an_answer(self) -> None:
        """Who gets an answer may ask again at once."""
        self.connection.send((lambda answer: self.send("AGAIN"), None, b"", ("FIRST",), 0))
        self.clock.advance(0)
        self.hears(b"+OK\r\n")
        self.assertEqual(len(self.connection.waiting), 1)
        self.clock.advance(0)
        self.hears(b":5\r\n")
        self.assertEqual(self.answers, [5])

    def test_nobody_asked(self) -> None:
        """An answer that nobody has asked for ends the connection: order is lost."""
        self.hears(b"+OK\r\n")
        self.assertTrue(self.transport.disconnecting or self.transport.disconnected)

    def test_nonsense(self) -> None:
        """What is not the protocol of Redis ends the connection, and who waits is told."""
        self.send("PING")
        self.clock.advance(0)
        self.hears(b"HTTP/1.1 400 Bad Request\r\n")
        self.lost()
        self.assertIsInstance(self.answers[0], RedisUnavailable)
        self.assertIn("not the protocol of Redis", str(self.answers[0]))

    def test_lost(self) -> None:
        """When the connection is lost all that wait are told, after who looks after it; later ones fail at once."""
        self.send("GET", "a")
        self.clock.advance(0)
        self.send("GET", "b")
        order: list[str] = []
        self.connection.ended = lambda why: order.append(f"ended with {len(self.answers)} told")
        self.lost()
        self.assertEqual([type(answer) for answer in self.answers], [RedisUnavailable, RedisUnavailable])
        self.assertEqual(order, ["ended with 0 told"])
        self.failureResultOf(self.connection.ask("PING"), RedisUnavailable)
        self.clock.advance(10)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_given_up(self) -> None:
        """Who has given up waiting does not disturb the order."""
        first, second = self.connection.ask("GET", "a"), self.connection.ask("GET", "b")
        first.cancel()
        self.failureResultOf(first, CancelledError)
        self.clock.advance(0)
        self.hears(b":1\r\n:2\r\n")
        self.assertEqual(self.successResultOf(second), 2)

    def test_scripts(self) -> None:
        """A script is sent as its digest with its key and arguments, one or several, whatever bytes these are."""
        script, answered = Script(b"return 1"), self.answers.append
        for words in ((b"",), (b"a\r\n$1",), (bytes(300),), (5,), ("five",), (), (b"a", 7), (b"a", b"b")):
            expected = pack((b"EVALSHA", script.sha, b"1", b"loc:k", *words))
            self.assertEqual(packed((answered, script, b"loc:k", words, 0)), expected)


class TimeoutTests(ConnectionCase):
    """How long an answer may take."""

    def test_oldest(self) -> None:
        """The oldest command without an answer decides, to the moment."""
        self.send("A")
        self.clock.advance(0)
        self.clock.advance(0.6)
        self.send("B")
        self.clock.advance(0)
        self.hears(b"+OK\r\n")
        self.clock.advance(0.6)
        self.assertFalse(self.transport.disconnected)
        self.clock.advance(0.39)
        self.assertFalse(self.transport.disconnected)
        self.clock.advance(0.02)
        self.clock.advance(SECOND_LOOK_SECONDS)
        self.assertTrue(self.transport.disconnected)
        self.lost()
        self.assertEqual(self.ends, ["no answer in 1 s"])

    def test_we_are_late(self) -> None:
        """A turn of ours that takes too long is not the server's fault: what has come meanwhile is read first."""
        self.send("A")
        self.clock.advance(0)
        self.clock.advance(3.0)
        self.assertFalse(self.transport.disconnected)
        self.hears(b"+OK\r\n")
        self.clock.advance(SECOND_LOOK_SECONDS)
        self.assertFalse(self.transport.disconnected)
        self.assertEqual(self.answers, [b"OK"])

    def test_busy(self) -> None:
        """A server that answers everything within its time is never given up, however much waits all the time."""
        self.send("A")
        self.clock.advance(0)
        for _ in range(20):
            self.send("B")
            self.clock.advance(0)
            self.clock.advance(0.4)
            self.hears(b"+OK\r\n")
        self.assertFalse(self.transport.disconnected)
        self.assertEqual(len(self.answers), 20)

    def test_idle(self) -> None:
        """Without a command there is nothing to wait for."""
        self.send("A")
        self.clock.advance(0)
        self.hears(b"+OK\r\n")
        self.clock.advance(5)
        self.assertFalse(self.transport.disconnected)
        self.assertEqual(self.clock.getDelayedCalls(), [])


class SubscriberTests(ConnectionCase):
    """A connection that listens."""

    kind = Subscriber

    def test_messages(self) -> None:
        """Messages come between answers, and are none."""
        heard: list[Any] = []
        assert isinstance(self.connection, Subscriber)
        self.connection.heard = heard.append
        self.send("SUBSCRIBE", "news")
        self.clock.advance(0)
        self.hears(b"*3\r\n$9\r\nsubscribe\r\n$4\r\nnews\r\n:1\r\n*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n*1\r\n$1\r\nk\r\n")
        self.send("PING")
        self.clock.advance(0)
        self.hears(b"*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n*-1\r\n*2\r\n$4\r\npong\r\n$0\r\n\r\n")
        self.assertEqual(heard, [[b"k"], None])
        self.assertEqual(self.answers, [[b"subscribe", b"news", 1], [b"pong", b""]])
