"""How rtpengines are asked: cookies, asking again, refusals, and ways that end."""

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from rollcall.media.bencode import decode, encode
from rollcall.media.ng import MAX_WAYS, RESEND_SECONDS, NgClient, NgRefused, NgUnreachable
from rollcall.media.ng_ways import Destination, WayUser

NODE = "192.0.2.7:22222"


class ScriptedWay:
    """Keeps what is sent."""

    def __init__(self, destination: Destination, user: WayUser, is_open: bool) -> None:
        self.destination = destination
        self.user = user
        self.is_open = is_open
        self.is_closed = False
        self.sent: list[bytes] = []

    def send(self, data: bytes) -> None:
        self.sent.append(data)

    def close(self) -> None:
        self.is_closed = True

    def cookie(self, place: int = -1) -> bytes:
        return self.sent[place].partition(b" ")[0]

    def reply(self, value: Any, place: int = -1) -> None:
        self.user.received(self.cookie(place) + b" " + encode(value))


class NgCase(SynchronousTestCase):
    """A client whose sockets are scripted."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.ways: list[ScriptedWay] = []
        self.opens_at_once = True
        self.client = NgClient(self.clock, self.open_way)

    def open_way(self, reactor: Any, destination: Destination, user: WayUser) -> ScriptedWay:
        self.ways.append(ScriptedWay(destination, user, self.opens_at_once))
        return self.ways[-1]

    def ask(self, command: str = "ping", address: str = NODE, seconds: float = 1.0, **arguments: Any) -> Deferred[Any]:
        return Deferred.fromCoroutine(self.client.ask(address, command, arguments, seconds))

    def refusal(self, **reply: Any) -> NgRefused:
        asked = self.ask("offer")
        self.ways[-1].reply(reply)
        refused = self.failureResultOf(asked, NgRefused).value
        assert isinstance(refused, NgRefused)
        return refused


class NgClientTests(NgCase):
    def test_question_and_answer(self) -> None:
        """A question is a random cookie and a dictionary with the command; its reply comes back as it is."""
        asked = self.ask("offer", sdp="v=0\r\n", flags=["a", "b"])
        cookie, _, question = self.ways[0].sent[0].partition(b" ")
        self.assertEqual(len(cookie), 16)
        self.assertEqual(decode(question), {"command": b"offer", "flags": [b"a", b"b"], "sdp": b"v=0\r\n"})
        self.ways[0].reply({"result": "ok", "sdp": "v=1\r\n"})
        self.assertEqual(self.successResultOf(asked), {"result": b"ok", "sdp": b"v=1\r\n"})
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_cookies_differ(self) -> None:
        """No cookie comes twice: rtpengine would answer it with the old reply."""
        for _ in range(50):
            self.ask()
        self.assertEqual(len({self.ways[0].cookie(place) for place in range(50)}), 50)

    def test_one_socket_for_each_address(self) -> None:
        """All that one node is asked leaves over one socket, IPv6 in brackets, and TCP over another."""
        for address in (NODE, NODE, "[2001:db8::7]:2223"):
            self.ask(address=address)
        Deferred.fromCoroutine(self.client.ask(NODE, "ping", {}, 1.0, is_tcp=True))
        self.assertEqual([way.destination for way in self.ways], [
            Destination("192.0.2.7", 22222), Destination("2001:db8::7", 2223), Destination("192.0.2.7", 22222, True)])

    def test_asked_again_until_answered(self) -> None:
        """The same datagram is sent again after 0.1 s, then 0.2 s later and so on, and never after the answer."""
        asked = self.ask()
        for wait in (RESEND_SECONDS, 2 * RESEND_SECONDS):
            self.clock.advance(wait)
        sent = self.ways[0].sent
        self.assertEqual(sent, [sent[0]] * 3)
        self.ways[0].reply({"result": "pong"})
        self.successResultOf(asked)
        self.clock.advance(10)
        self.assertEqual(len(sent), 3)

    def test_over_tcp_once(self) -> None:
        """A stream loses nothing, so nothing is sent twice."""
        asked = Deferred.fromCoroutine(self.client.ask(NODE, "ping", {}, 1.0, is_tcp=True))
        self.clock.advance(0.9)
        self.assertEqual(len(self.ways[0].sent), 1)
        self.clock.advance(0.1)
        self.failureResultOf(asked, NgUnreachable)

    def test_nobody_answers(self) -> None:
        """At the end of its time a question fails; the socket is closed, and the next question opens one."""
        asked = self.ask(seconds=0.5)
        self.clock.pump([0.1] * 4)
        self.assertNoResult(asked)
        self.clock.advance(0.1)
        self.failureResultOf(asked, NgUnreachable)
        self.assertTrue(self.ways[0].is_closed)
        self.ask()
        self.assertEqual(len(self.ways), 2)

    def test_late_answers_of_others_are_waited_for(self) -> None:
        """A question that ran out of time does not take those with it that still have some."""
        short, long = self.ask(seconds=0.5), self.ask(seconds=2.0)
        self.clock.pump([0.25] * 3)
        self.failureResultOf(short, NgUnreachable)
        self.ways[0].reply({"result": "pong"}, place=1)
        self.successResultOf(long)

    def test_nobody_listens(self) -> None:
        """When the kernel says that nobody listens, all who wait know it at once."""
        first, second = self.ask(), self.ask()
        self.ways[0].user.failed("Connection refused")
        for asked in (first, second):
            self.assertEqual(str(self.failureResultOf(asked, NgUnreachable).value), "Connection refused")
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_no_way_at_all(self) -> None:
        """A socket that cannot be opened is a node that cannot be reached."""

        def refuse(reactor: Any, destination: Destination, user: WayUser) -> ScriptedWay:
            raise OSError(101, "Network is unreachable")

        client = NgClient(self.clock, refuse)
        asked = Deferred.fromCoroutine(client.ask(NODE, "ping", {}, 1.0))
        self.assertEqual(str(self.failureResultOf(asked, NgUnreachable).value), "Network is unreachable")

    def test_sent_when_open(self) -> None:
        """What is asked while a connection is being made is sent once there is one."""
        self.opens_at_once = False
        self.ask()
        self.assertEqual(self.ways[0].sent, [])
        self.ways[0].is_open = True
        self.ways[0].user.opened()
        self.assertEqual(len(self.ways[0].sent), 1)

    def test_foreign_cookies_are_ignored(self) -> None:
        """A reply to a question that nobody asked, or that was answered, changes nothing."""
        asked = self.ask()
        self.ways[0].user.received(b"0123456789abcdef d6:result2:oke")
        self.ways[0].user.received(b"")
        self.assertNoResult(asked)
        self.ways[0].reply({"result": "pong"})
        self.ways[0].reply({"result": "pong"})
        self.successResultOf(asked)

    def test_malformed_replies(self) -> None:
        """A reply that is no dictionary ends its question."""
        for reply in (b"li1ee", b"d6:result", b"\0\0"):
            asked = self.ask()
            self.ways[0].user.received(self.ways[0].cookie() + b" " + reply)
            self.failureResultOf(asked, NgUnreachable)

    def test_given_up(self) -> None:
        """Whoever cancels waits no more, and nothing is sent again for him."""
        asked = self.ask()
        asked.addErrback(lambda _: None)
        asked.cancel()
        self.clock.advance(5)
        self.assertEqual(len(self.ways[0].sent), 1)
        self.ways[0].reply({"result": "pong"})

    def test_closing(self) -> None:
        """Closing ends what waits and every socket; it may be asked again."""
        asked = self.ask()
        self.client.close()
        self.failureResultOf(asked, NgUnreachable)
        self.assertTrue(self.ways[0].is_closed)
        self.ask()
        self.assertEqual(len(self.ways), 2)

    def test_sockets_are_bounded(self) -> None:
        """Of many nodes the one that was asked longest ago loses its socket; with all busy nobody new is asked."""
        for number in range(MAX_WAYS):
            self.ask(address=f"[2001:db8::{number:x}]:2223")
        self.failureResultOf(self.ask(), NgUnreachable)
        self.ways[5].reply({"result": "pong"})
        self.ask()
        self.assertEqual([place for place, way in enumerate(self.ways) if way.is_closed], [5])


class RefusalTests(NgCase):
    def test_full(self) -> None:
        """A load limit says that the node has no room, with its message as the reason; so does a lack of ports."""
        limited = self.refusal(result="load limit", message="Parallel session limit reached")
        self.assertEqual((limited.reason, limited.is_full), ("Parallel session limit reached", True))
        self.assertTrue(self.refusal(**{"result": "error", "error-reason": "Ran out of ports"}).is_full)

    def test_refused(self) -> None:
        """Other errors say why, and not that the node is full."""
        refused = self.refusal(**{"result": "error", "error-reason": "Unknown call-id"})
        self.assertEqual((refused.reason, refused.is_full), ("Unknown call-id", False))
        self.assertEqual(self.refusal().reason, "no result")
