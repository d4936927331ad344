"""All transports together over loopback sockets: listening, connecting, limits, reloads."""

import socket
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from twisted.internet import reactor as the_reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import CertificateOptions
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from rollcall.net.config import KeepaliveConfig, LimitsConfig, ListenerConfig, NetConfig, TlsConfig
from rollcall.net.connections import descriptor_of
from rollcall.net.flow import Address, ConnectFailed, Flow
from rollcall.net.transports import Transports
from rollcall.net.wheel import TimerWheel
from tests.interop.process import free_ports
from tests.rollcall.net.certificates import an_authority
from tests.rollcall.net.fakes import OK, OPTIONS, writes
from tests.rollcall.net.flow_contract import QueueingUser
from tests.rollcall.net.peers import StreamPeer
from tests.rollcall.net.test_proxy_protocol import header

reactor: Any = the_reactor


class Node:
    """Transports with their user."""

    def __init__(
        self, *listeners: ListenerConfig, limits: LimitsConfig | None = None, tls: TlsConfig | None = None
    ) -> None:
        self.user = QueueingUser()
        self.wheel = TimerWheel(reactor)
        config = NetConfig(
            listeners=listeners,
            limits=limits or LimitsConfig(close_seconds=1.0),
            tls=tls or TlsConfig(),
            keepalive=KeepaliveConfig(idle=77),
        )
        self.transports = Transports(reactor, self.wheel, self.user, config)

    def local(self, name: str) -> Address:
        """Return where a listener is bound."""
        return self.transports.listeners[name].local

    def connect(self, transport: str, to: Address, server_name: str | None = None) -> "Deferred[Flow]":
        """Ask for a flow."""
        return Deferred.fromCoroutine(self.transports.connect(transport, *to, server_name))


def listening(transport: Any, host: str = "127.0.0.1", **settings: Any) -> ListenerConfig:
    """Return a listener named after its transport."""
    name = settings.pop("name", transport)
    return ListenerConfig(name=name, transport=transport, host=host, port=settings.pop("port", 0), **settings)


class TransportsTestCase(TestCase):
    """Starts nodes that end with the test."""

    timeout = 20

    def setUp(self) -> None:
        self.folder = Path(self.enterContext(TemporaryDirectory()))
        self.authority = an_authority(self.folder)

    def tls(self, *names: str, **settings: Any) -> TlsConfig:
        shown = (self.authority.issue(*names),) if names else ()
        return TlsConfig(certificates=shown, trust_roots_file=self.authority.file, **settings)

    def start(self, *listeners: ListenerConfig, **settings: Any) -> Node:
        node = Node(*listeners, **settings)
        node.transports.startService()
        self.addCleanup(node.transports.stopService)
        return node

    async def failure(self, connecting: "Deferred[Flow]") -> str:
        try:
            await connecting
        except ConnectFailed as error:
            return str(error)
        raise AssertionError("it connected")


class ListeningTests(TransportsTestCase):
    async def test_nothing_before_the_start(self) -> None:
        """A service that is not started binds nothing."""
        self.assertEqual(Node(listening("tcp")).transports.listeners, {})

    async def test_listeners(self) -> None:
        """Each listener tells where it is bound and what it advertises; TCP and UDP may share a port."""
        (port,) = free_ports()
        node = self.start(
            listening("udp", port=port), listening("tcp", "::1", advertise_host="sip.example.com", advertise_port=5060)
        )
        udp, tcp = node.transports.listeners.values()
        self.assertEqual((udp.name, udp.transport, udp.host), ("udp", "UDP", "127.0.0.1"))
        self.assertEqual((udp.port, udp.local[1]), (port, port))
        self.assertEqual((tcp.host, tcp.port), ("sip.example.com", 5060))
        self.assertEqual(tcp.local[0], "::1")
        self.start(listening("tcp", port=port))

    async def test_taken_port(self) -> None:
        """A port that is taken is an error that names the listener, and nothing stays bound."""
        first = self.start(listening("tcp"))
        port = first.local("tcp")[1]
        second = Node(listening("udp"), listening("tcp", name="phones", port=port))
        error = self.assertRaises(OSError, second.transports.startService)
        self.assertIn(f"listener phones (tcp 127.0.0.1:{port})", str(error))
        self.assertEqual(second.transports.listeners, {})

    async def test_start_again(self) -> None:
        """A stopped service can be started again, on the same port at once."""
        (port,) = free_ports()
        for _ in range(2):
            node = self.start(listening("tcp", port=port), listening("udp", port=port))
            await node.transports.stopService()

    async def test_bad_certificate(self) -> None:
        """Unusable certificates are an error before anything is bound."""
        config = self.tls("sip.example.com")
        config.certificates[0].key_file.write_text("")
        self.assertRaises(ValueError, Node, listening("tls"), tls=config)

    async def test_listener_for(self) -> None:
        """The listener whose address fits is found: the family's, and loopback for loopback."""
        node = self.start(
            listening("udp", "0.0.0.0", name="all"),
            listening("udp", name="loopback"),
            listening("udp", "::1", name="six"),
        )
        table = (("127.0.0.1", "loopback"), ("192.0.2.1", "all"), ("::1", "six"), ("2001:db8::1", "six"), ("", "all"))
        for host, name in table:
            found = node.transports.listener_for("UDP", host)
            self.assertEqual(found and found.name, name, host)
        self.assertIsNone(node.transports.listener_for("TCP"))

    async def test_datagram_flows(self) -> None:
        """A datagram flow is made for a known listener and a numeric host of its family only."""
        node = self.start(listening("udp"), listening("tcp"))
        flow = node.transports.datagram_flow("udp", "127.0.0.1", 5060)
        self.assertEqual(flow and flow.peer, ("127.0.0.1", 5060))
        for name, host in (("tcp", "127.0.0.1"), ("none", "127.0.0.1"), ("udp", "::1"), ("udp", "example.com")):
            self.assertIsNone(node.transports.datagram_flow(name, host, 5060), f"{name} {host}")


class ConnectTests(TransportsTestCase):
    async def test_opens_once(self) -> None:
        """Who asks for the same address at the same time, or later, gets the same connection."""
        server, client = self.start(listening("tcp")), self.start(listening("tcp"))
        to = server.local("tcp")
        first, second = await gatherResults([client.connect("TCP", to), client.connect("TCP", to)])
        self.assertIs(first, second)
        self.assertIs(await client.connect("TCP", to), first)
        self.assertEqual(client.transports.tallies.opened, 1)
        self.assertIs(client.transports.flow(first.id), first)
        self.assertIs(first.listener, client.transports.listeners["tcp"])

    async def test_opens_anew(self) -> None:
        """After a connection ended, or while it ends, a new one is opened."""
        server, client = self.start(listening("tcp")), self.start()
        to = server.local("tcp")
        first = await client.connect("TCP", to)
        first.close("enough")
        second = await client.connect("TCP", to)
        self.assertIsNot(first, second)
        self.assertIs(await client.connect("TCP", to), second)
        self.assertIsNone(second.listener)

    async def test_answers_take_the_way_back(self) -> None:
        """An accepted connection is used for requests to exactly where it came from (RFC 5923 §6)."""
        server, client = self.start(listening("tcp")), self.start()
        outward = await client.connect("TCP", server.local("tcp"))
        outward.write(OPTIONS)
        _, inward = await server.user.messages.get()
        self.assertIs(await server.connect("TCP", inward.peer), inward)
        self.assertIn("refused", await self.failure(server.connect("TLS", inward.peer)))

    async def test_udp(self) -> None:
        """UDP leaves from the listener of the host's family; without one there is no way."""
        server, client = self.start(listening("udp")), self.start(listening("udp"))
        flow = await client.connect("UDP", server.local("udp"))
        flow.write(OPTIONS)
        data, seen = await server.user.messages.get()
        self.assertEqual((data, seen.peer), (OPTIONS, client.local("udp")))
        self.assertIn("no listener", await self.failure(client.connect("UDP", ("::1", 5060))))

    async def test_ipv6(self) -> None:
        """IPv6 hosts are reached, with brackets or without."""
        server, client = (
            self.start(listening("tcp", "::1"), listening("udp", "::1")),
            self.start(listening("udp", "::1")),
        )
        host, port = server.local("tcp")
        flow = await client.connect("TCP", (f"[{host}]", port))
        self.assertEqual(flow.peer, ("::1", port))
        self.assertIs(await client.connect("TCP", (host, port)), flow)
        datagrams = await client.connect("UDP", server.local("udp"))
        datagrams.write(OPTIONS)
        _, seen = await server.user.messages.get()
        self.assertEqual(seen.peer, client.local("udp"))

    async def test_no_way(self) -> None:
        """Names, closed ports and WebSockets are failures that say what was tried."""
        node = self.start(listening("tcp"))
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            port = closed.getsockname()[1]
            self.assertIn(f"TCP 127.0.0.1:{port}", await self.failure(node.connect("TCP", ("127.0.0.1", port))))
        self.assertIn("example.com", await self.failure(node.connect("TCP", ("example.com", 5060))))
        self.assertIn("only clients open", await self.failure(node.connect("WSS", ("127.0.0.1", 443))))
        self.assertIn("only clients open", await self.failure(node.connect("SCTP", ("127.0.0.1", 5060))))

    async def test_watched(self) -> None:
        """The kernel watches both ends: what we accepted and what we opened."""
        server, client = self.start(listening("tcp")), self.start()
        flow: Any = await client.connect("TCP", server.local("tcp"))
        flow.write(OPTIONS)
        inward: Any = (await server.user.messages.get())[1]
        for descriptor in (flow._wire.fileno(), descriptor_of(inward.id)):
            handle = socket.socket(fileno=descriptor)
            self.assertEqual(handle.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE), 77)
            self.assertEqual(handle.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY), 1)
            handle.detach()

    async def test_stopped_while_connecting(self) -> None:
        """Who waits for a connection learns that the service stops."""
        node = self.start()
        with socket.socket() as full:
            full.bind(("127.0.0.1", 0))
            full.listen(0)
            busy = [socket.socket() for _ in range(4)]
            for each in busy:
                self.addCleanup(each.close)
                each.setblocking(False)
                each.connect_ex(full.getsockname())
            connecting = node.connect("TCP", full.getsockname())
            await node.transports.stopService()
            self.assertIn("TCP 127.0.0.1", await self.failure(connecting))


class DrainingTests(TransportsTestCase):
    async def connected(self, server: Node, transport: str = "tcp") -> tuple[Flow, Flow]:
        """Return both ends of a new connection."""
        client = self.start()
        outward = await client.connect(transport.upper(), server.local(transport))
        outward.write(OPTIONS)
        _, inward = await server.user.messages.get()
        return outward, inward

    async def test_no_new_connections(self) -> None:
        """Nobody new is let in, whoever is in stays, and datagrams come as ever."""
        server = self.start(listening("tcp"), listening("udp"), listening("ws"))
        outward, _ = await self.connected(server)
        server.transports.stop_accepting()
        for name in ("tcp", "ws"):
            self.assertIn("refused", await self.failure(self.start().connect("TCP", server.local(name))))
        outward.write(OPTIONS)
        await server.user.messages.get()
        (await self.start(listening("udp")).connect("UDP", server.local("udp"))).write(OPTIONS)
        _, flow = await server.user.messages.get()
        self.assertEqual(flow.transport, "UDP")

    async def test_new_connections_again(self) -> None:
        """Those who would come are let in again, at the same addresses; to do so twice changes nothing."""
        server = self.start(listening("tcp"), listening("udp"), listening("ws"))
        names = "tcp", "udp", "ws"
        before = [server.local(name) for name in names]
        _, inward = await self.connected(server)
        server.transports.stop_accepting()
        await deferLater(reactor, 0.05)
        server.transports.accept_again()
        server.transports.accept_again()
        self.assertEqual([server.local(name) for name in names], before)
        await self.connected(server)
        await self.start().connect("TCP", server.local("ws"))
        self.assertTrue(inward.is_open)
        self.assertIn(inward, server.transports.flows())
        server.transports.stop_accepting()
        self.assertIn("refused", await self.failure(self.start().connect("TCP", server.local("tcp"))))

    async def test_address_taken(self) -> None:
        """When somebody else has the address by then it fails, and can be tried again."""
        server = self.start(listening("tcp"))
        server.transports.stop_accepting()
        with socket.socket() as taken:
            taken.bind(server.local("tcp"))
            taken.listen()
            self.assertRaises(OSError, server.transports.accept_again)
        server.transports.accept_again()
        await self.connected(server)

    async def test_idle_connections(self) -> None:
        """Connections that nobody waits on are closed, so many at a time; the others stay."""
        server = self.start(listening("tcp"))
        inward = [(await self.connected(server))[1] for _ in range(4)]
        inward[2].holds = 1
        self.assertEqual(server.transports.close_idle(2, "enough"), 1)
        self.assertEqual(sum(flow.is_open for flow in inward), 2)
        self.assertEqual(server.transports.close_idle(2, "enough"), 0)
        self.assertEqual([flow.is_open for flow in inward], [False, False, True, False])


class Refusing(Protocol):
    """Speaks SIP where TLS is expected."""

    def connectionMade(self) -> None:
        wire: Any = self.transport
        wire.write(b"SIP/2.0 400 Bad Request\r\n\r\n")


class TlsConnectTests(TransportsTestCase):
    async def test_verified(self) -> None:
        """Over TLS the server has to be who we look for; each name has its own connection."""
        server = self.start(listening("tls"), tls=self.tls("a.example.com", "b.example.com"))
        client = self.start(tls=self.tls())
        to = server.local("tls")
        a = await client.connect("TLS", to, "a.example.com")
        b = await client.connect("TLS", to, "b.example.com")
        self.assertIsNot(a, b)
        self.assertIs(await client.connect("TLS", to, "a.example.com"), a)
        self.assertTrue(a.secure)
        self.assertIn("not for c.example.com", await self.failure(client.connect("TLS", to, "c.example.com")))
        self.assertIn("not for 127.0.0.1", await self.failure(client.connect("TLS", to)))
        self.assertIn("no server name", await self.failure(client.connect("TLS", to, "größe.example.com")))

    async def test_silent_server(self) -> None:
        """A server that never answers the TLS handshake is a failure with its reason."""
        client = self.start(tls=self.tls(), limits=LimitsConfig(handshake_seconds=0.05))
        with socket.create_server(("127.0.0.1", 0)) as silent:
            reason = await self.failure(client.connect("TLS", silent.getsockname(), "a.example.com"))
        self.assertTrue(reason.startswith("TLS 127.0.0.1"), reason)
        self.assertIn("the handshake took too long", reason)

    async def test_no_tls_there(self) -> None:
        """So is a server that speaks something else."""
        client = self.start(tls=self.tls())
        other = reactor.listenTCP(0, Factory.forProtocol(Refusing), interface="127.0.0.1")
        self.addCleanup(other.stopListening)
        address = ("127.0.0.1", other.getHost().port)
        self.assertIn("TLS failed", await self.failure(client.connect("TLS", address, "a.example.com")))

    async def test_reload(self) -> None:
        """After a reload new connections get the new certificate, open ones stay."""
        config = self.tls("old.example.com")
        server, client = self.start(listening("tls"), tls=config), self.start(tls=self.tls())
        old = await client.connect("TLS", server.local("tls"), "old.example.com")
        renewed = self.authority.issue("new.example.com")
        renewed.certificate_file.rename(config.certificates[0].certificate_file)
        self.assertRaises(ValueError, server.transports.reload_certificates)
        self.assertEqual(server.transports.certificates[0].names, ("old.example.com",))
        renewed.key_file.rename(config.certificates[0].key_file)
        server.transports.reload_certificates()
        self.assertEqual(server.transports.certificates[0].names, ("new.example.com",))
        await client.connect("TLS", server.local("tls"), "new.example.com")
        old.write(OPTIONS)
        self.assertEqual((await server.user.messages.get())[0], OPTIONS)


class LimitTests(TransportsTestCase):
    async def test_strangers(self) -> None:
        """A connection that says nothing valid is ended from our side."""
        limits = LimitsConfig(first_request_seconds=0.05)
        server = self.start(listening("tcp"), limits=limits)
        peer = StreamPeer()
        await peer.connect(reactor, server.local("tcp"))
        await peer.gone
        _, reason = await server.user.closed.get()
        self.assertEqual(reason, "no valid request came in time")

    async def test_slow_tls(self) -> None:
        """A client that never begins its TLS handshake is cut off."""
        limits = LimitsConfig(handshake_seconds=0.05)
        server = self.start(listening("tls"), limits=limits, tls=self.tls("a.example.com"))
        peer = StreamPeer()
        await peer.connect(reactor, server.local("tls"))
        await peer.gone
        self.assertEqual(server.transports.tallies.handshakes_failed, 1)

    async def test_slow_reader(self) -> None:
        """A peer that does not read is cut off once its share of memory is used up."""
        server = self.start(listening("tcp"), limits=LimitsConfig(max_write_buffer_bytes=65536))
        peer = StreamPeer()
        await peer.connect(reactor, server.local("tcp"))
        peer.wire.pauseProducing()
        peer.send(OPTIONS)
        _, flow = await server.user.messages.get()
        message = OK.replace(b"Content-Length: 0", b"Content-Length: 65000") + bytes(65000)
        written = 0
        while writes(flow, message):
            written += len(message)
            self.assertLess(written, 20_000_000)
        self.assertEqual(await server.user.closed.get(), (flow, "the peer does not read what we write"))
        peer.wire.abortConnection()
        await peer.gone

    async def test_full(self) -> None:
        """A full listener ends new connections at once."""
        server = self.start(listening("tcp", max_connections=1))
        first, second = StreamPeer(), StreamPeer()
        await first.connect(reactor, server.local("tcp"))
        first.send(OPTIONS)
        await server.user.messages.get()
        await second.connect(reactor, server.local("tcp"))
        await second.gone
        self.assertEqual(server.transports.tallies.refused_full, 1)
        first.leave()
        await first.gone

    async def test_answer_before_the_end(self) -> None:
        """A peer that loses framing gets its answer whole, though it goes on sending."""
        server = self.start(listening("tcp"))

        def answer(error: Any, flow: Flow) -> None:
            flow.write(OK)

        server.user.framing_failed = answer  # type: ignore[method-assign]
        peer = StreamPeer()
        await peer.connect(reactor, server.local("tcp"))
        peer.send(OPTIONS.replace(b"Content-Length: 4", b"Content-Length: 9999999") + bytes(1_000_000))
        self.assertEqual(await peer.inbox.get(), OK)
        await peer.gone


class ProxiedPeer(StreamPeer):
    """A client behind a load balancer: a PROXY header, then TLS."""

    def connectionMade(self) -> None:
        super().connectionMade()
        self.wire.write(header())
        self.wire.startTLS(CertificateOptions(verify=False))


class ProxyTests(TransportsTestCase):
    async def test_header_before_tls(self) -> None:
        """A load balancer's header comes before TLS; the flow's peer is the client."""
        server = self.start(listening("tls", proxy_protocol_from=("127.0.0.0/8",)), tls=self.tls("a.example.com"))
        peer = ProxiedPeer()
        await peer.connect(reactor, server.local("tls"))
        peer.send(OPTIONS)
        data, flow = await server.user.messages.get()
        self.assertEqual((data, flow.peer, flow.local), (OPTIONS, ("192.0.2.1", 40000), ("198.51.100.1", 5060)))
        flow.write(OK)
        self.assertEqual(await peer.inbox.get(), OK)
        peer.leave()
        await peer.gone
        self.assertEqual((await server.user.closed.get())[0], flow)
