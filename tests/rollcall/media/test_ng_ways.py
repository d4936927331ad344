"""Real sockets to an ng port on loopback."""

from typing import Any

from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.protocol import DatagramProtocol, Factory, Protocol
from twisted.trial.unittest import TestCase

from rollcall.media.bencode import encode
from rollcall.media.ng import NgClient, NgUnreachable
from tests.interop.process import free_ports

reactor: Any = global_reactor
LONG = b"x" * 60_000
LONGER = b"y" * 300_000


class DatagramPeer(DatagramProtocol):
    """Answers over UDP; what came from whom is kept."""

    def __init__(self, reply: bytes) -> None:
        self.reply = reply
        self.peers: set[Any] = set()

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        self.peers.add(addr)
        cookie = datagram.partition(b" ")[0]
        assert self.transport is not None
        self.transport.write(cookie + b" " + encode({"result": "ok", "sdp": self.reply}), addr)


class StreamPeer(Protocol):
    """Answers over TCP what was asked in one segment, or with `noise`."""

    noise = b""

    def dataReceived(self, data: bytes) -> None:
        assert self.transport is not None
        if self.noise:
            self.transport.write(self.noise)
            return
        for question in data.split(b"4:pinge")[:-1]:
            cookie = question.partition(b" ")[0]
            self.transport.write(cookie + b" " + encode({"result": "ok", "sdp": LONGER}))


class NgWaysTests(TestCase):
    def setUp(self) -> None:
        self.client = NgClient(reactor)
        self.addCleanup(self.client.close)
        self.port, = free_ports(1)

    def ask(self, host: str = "127.0.0.1", is_tcp: bool = False, seconds: float = 5.0) -> Deferred[Any]:
        return Deferred.fromCoroutine(self.client.ask(f"{host}:{self.port}", "ping", {}, seconds, is_tcp))

    def answer_datagrams(self, host: str = "127.0.0.1", reply: bytes = LONG) -> DatagramPeer:
        peer = DatagramPeer(reply)
        listening = reactor.listenUDP(self.port, peer, interface=host, maxPacketSize=65535)
        self.addCleanup(listening.stopListening)
        return peer

    def answer_streams(self, noise: bytes = b"") -> None:
        factory = Factory.forProtocol(StreamPeer)
        factory.protocol = type("NoisyPeer", (StreamPeer,), {"noise": noise})
        listening = reactor.listenTCP(self.port, factory, interface="127.0.0.1")
        self.addCleanup(listening.stopListening)

    async def test_datagrams(self) -> None:
        """Questions to one node leave from one socket, and a reply may be as long as a datagram can be."""
        peer = self.answer_datagrams()
        replies = await gatherResults([self.ask(), self.ask()])
        self.assertEqual([reply["sdp"] for reply in replies], [LONG, LONG])
        self.assertEqual(len(peer.peers), 1)

    async def test_datagrams_over_ipv6(self) -> None:
        """An address in brackets is one of IPv6."""
        self.answer_datagrams("::1")
        self.assertEqual((await self.ask("[::1]"))["result"], b"ok")

    async def test_by_name(self) -> None:
        """A host's name is looked up."""
        self.answer_datagrams()
        self.assertEqual((await self.ask("localhost"))["result"], b"ok")

    async def test_unknown_name(self) -> None:
        """A name that nobody knows is a node that cannot be reached."""
        await self.assertFailure(self.ask("media.invalid"), NgUnreachable)

    async def test_nobody_listens(self) -> None:
        """A port where nobody listens is known long before the time is over, over UDP, too; and who comes is found."""
        for is_tcp in (False, True):
            asked_at = reactor.seconds()
            await self.assertFailure(self.ask(is_tcp=is_tcp, seconds=60.0), NgUnreachable)
            self.assertLess(reactor.seconds() - asked_at, 30)
        self.answer_datagrams()
        self.assertEqual((await self.ask())["result"], b"ok")

    async def test_streams(self) -> None:
        """Over TCP a reply may be longer than any datagram, and several share segments."""
        self.answer_streams()
        replies = await gatherResults([self.ask(is_tcp=True) for _ in range(3)])
        self.assertEqual([reply["sdp"] for reply in replies], [LONGER] * 3)

    async def test_noise_over_streams(self) -> None:
        """Who does not speak ng is left at once."""
        self.answer_streams(noise=b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await self.assertFailure(self.ask(is_tcp=True), NgUnreachable)
