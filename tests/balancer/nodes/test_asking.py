"""How nodes are asked: answers of rtpengine as values, those of SIP servers over sockets on loopback."""

from typing import Any

from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import DatagramProtocol, Factory, Protocol
from twisted.trial.unittest import SynchronousTestCase, TestCase

from balancer.nodes.asking import Answer, AskingByKind, AskingByNg, AskingByOptions, Unanswered
from balancer.nodes.config import NodeConfig
from rollcall.media.ng import NgRefused, NgUnreachable
from rollcall.net.flow import ConnectFailed
from rollcall.sip.message import Request, check_request, parse_message, response_to
from tests.balancer.nodes.examples import FS, M1
from tests.balancer.nodes.test_statistics import a_reply
from tests.interop.process import free_ports

reactor: Any = global_reactor


class ScriptedNg:
    """Answers each command as the test says; it is a node's way of asking as well."""

    def __init__(self, **outcomes: Any) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self._outcomes = outcomes

    async def ask(self, address: Any, command: Any, *further: Any) -> Any:
        self.asked.append((address, command, *further))
        outcome = self._outcomes.get(str(command), self._outcomes.get("any"))
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


class ByNgTests(SynchronousTestCase):
    def ask(self, node: NodeConfig = M1, **outcomes: Any) -> "Deferred[Answer]":
        self.ng = ScriptedNg(**{"ping": {"result": b"pong"}} | outcomes)
        client: Any = self.ng
        return Deferred.fromCoroutine(AskingByNg(client).ask(node, 0.5))

    def test_statistics(self) -> None:
        """An rtpengine is asked whether it lives and for its statistics, over what its [[node]] says."""
        answer = self.successResultOf(self.ask(statistics=a_reply()))
        assert answer.load is not None
        self.assertEqual((answer.load.sessions, answer.is_full), (12, False))
        self.assertEqual(self.ng.asked, [
            ("192.0.2.1:22222", "ping", {}, 0.5, False), ("192.0.2.1:22222", "statistics", {}, 0.5, False)])
        self.ask(NodeConfig(id="m1", address="192.0.2.1:22222", transport="tcp"), statistics=a_reply())
        self.assertTrue(all(asked[-1] for asked in self.ng.asked))

    def test_refusals_are_answers(self) -> None:
        """One that refuses a ping lives, and is full when it says so."""
        for refusal, is_full in ((NgRefused("Load limit exceeded", True), True), (NgRefused("no", False), False)):
            self.assertEqual(self.successResultOf(self.ask(ping=refusal)), Answer(is_full=is_full))

    def test_silence(self) -> None:
        """Silence and refused packets are no answers, and told apart."""
        for why, is_refused in (("it did not answer in time", False), ("Connection refused", True)):
            problem = self.failureResultOf(self.ask(ping=NgUnreachable(why)), Unanswered).value
            self.assertEqual((str(problem), problem.is_refused), (why, is_refused))

    def test_statistics_that_cannot_be_had(self) -> None:
        """One that answers pings lives, whether or not its statistics come, and whatever they are."""
        for outcome in (NgUnreachable("it did not answer in time"), NgRefused("no", False), {"result": b"ok"}):
            self.assertEqual(self.successResultOf(self.ask(statistics=outcome)), Answer())

    def test_by_kind(self) -> None:
        """Each node is asked in the way of its kind."""
        ng, options = ScriptedNg(any=Answer()), ScriptedNg(any=Answer(is_full=True))
        asking = AskingByKind(ng, options)
        self.assertFalse(self.successResultOf(Deferred.fromCoroutine(asking.ask(M1, 0.5))).is_full)
        self.assertTrue(self.successResultOf(Deferred.fromCoroutine(asking.ask(FS, 0.5))).is_full)


class SipServer(DatagramProtocol):
    """Answers OPTIONS over UDP as the test says; loses the first `losses` of them."""

    def __init__(self, status: int, losses: int = 0) -> None:
        self.status = status
        self.losses = losses
        self.requests: list[Request] = []

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        answer = self.answer(datagram)
        if answer and self.transport is not None:
            self.transport.write(answer, addr)

    def answer(self, data: bytes) -> bytes:
        """Return the answer to a request, once enough were lost."""
        request = parse_message(data)
        assert isinstance(request, Request)
        check_request(request)
        self.requests.append(request)
        if self.losses >= len(self.requests):
            return b""
        return response_to(request, self.status, to_tag="t").serialise()


class ByOptionsTests(TestCase):
    def setUp(self) -> None:
        self.asking = AskingByOptions(reactor, ("127.0.0.1", "::1"))
        self.addCleanup(self.asking.stop)
        self.port, = free_ports(1)

    def serve(self, status: int = 200, losses: int = 0, host: str = "127.0.0.1") -> SipServer:
        server = SipServer(status, losses)
        listening = reactor.listenUDP(self.port, server, interface=host)
        self.addCleanup(listening.stopListening)
        return server

    def ask(self, seconds: float = 5.0, host: str = "127.0.0.1", **further: Any) -> "Deferred[Answer]":
        node = NodeConfig(**({"id": "fs", "kind": "freeswitch", "address": f"{host}:{self.port}"} | further))
        return Deferred.fromCoroutine(self.asking.ask(node, seconds))

    async def test_alive(self) -> None:
        """Whatever a server answers to OPTIONS, it lives, IPv6 and names included."""
        for host, status in (("127.0.0.1", 200), ("localhost", 404), ("127.0.0.1", 500)):
            server = self.serve(status)
            self.assertEqual(await self.ask(host=host), Answer())
            self.assertEqual((server.requests[0].method, server.requests[0].get("Max-Forwards")), ("OPTIONS", "70"))
            self.port, = free_ports(1)
        self.serve(host="::1")
        self.assertEqual(await self.ask(host="[::1]"), Answer())

    async def test_busy(self) -> None:
        """503 says that it has no room."""
        self.serve(503)
        self.assertEqual(await self.ask(), Answer(is_full=True))

    async def test_lost_packets(self) -> None:
        """A question that is lost is asked again, which is no missed answer."""
        server = self.serve(losses=2)
        self.assertEqual(await self.ask(), Answer())
        self.assertEqual(len({request.first_value("Via") for request in server.requests}), 1)

    async def test_silence(self) -> None:
        """A server that answers too late, or nothing, has not answered; what it says later is not heard."""
        self.serve(losses=100)
        await self.assertFailure(self.ask(seconds=0.15), Unanswered)

    async def test_over_tcp(self) -> None:
        """Over TCP the connection is kept; where nobody listens there is no answer."""
        await self.assertFailure(self.ask(transport="tcp"), Unanswered)
        server, connections = SipServer(200), []

        class Stream(Protocol):
            def connectionMade(self) -> None:
                connections.append(self)

            def dataReceived(self, data: bytes) -> None:
                assert self.transport is not None
                self.transport.write(server.answer(data))

        listening = reactor.listenTCP(self.port, Factory.forProtocol(Stream), interface="127.0.0.1")
        self.addCleanup(listening.stopListening)
        for _ in range(2):
            self.assertEqual(await self.ask(transport="tcp"), Answer())
        self.assertEqual((len(server.requests), len(connections)), (2, 1))

    async def test_no_way(self) -> None:
        """A node of an address family that we do not speak from cannot be reached."""
        asking = AskingByOptions(reactor, ("127.0.0.1",))
        self.addCleanup(asking.stop)
        node = NodeConfig(id="fs", kind="other", address=f"[::1]:{self.port}")
        failed: Deferred[Any] = self.assertFailure(Deferred.fromCoroutine(asking.ask(node, 1.0)), Unanswered)
        self.assertIsInstance((await failed).__cause__, ConnectFailed)
