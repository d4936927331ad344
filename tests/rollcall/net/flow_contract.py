"""What every flow does, whatever carries it: over real sockets. test_flows.py runs it for each transport."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from twisted.internet import reactor as the_reactor
from twisted.internet.defer import DeferredQueue
from twisted.trial.unittest import TestCase

from rollcall.net.config import EngineConfig, ListenerConfig, NetConfig, TlsConfig
from rollcall.net.flow import Flow, FlowClosed, Listener, PackedAddress
from rollcall.net.tokens import NO_FLOW, FlowGone, FlowTokens
from rollcall.net.transports import Transports
from rollcall.net.wheel import TimerWheel
from rollcall.sip.framing import FramingError
from rollcall.sip.scanner import UsualRegister
from tests.rollcall.net.certificates import an_authority
from tests.rollcall.net.fakes import OK, OPTIONS
from tests.rollcall.net.peers import Peer

reactor: Any = the_reactor

# A message that no text can carry.
BINARY = OPTIONS.replace(b"body", b"\xff\x00\r\n")


class QueueingUser:
    """Lets a test wait for what comes."""

    def __init__(self) -> None:
        self.messages: DeferredQueue[tuple[bytes, Flow]] = DeferredQueue()
        self.closed: DeferredQueue[tuple[Flow, str]] = DeferredQueue()

    def message_received(self, data: bytes, flow: Flow) -> None:
        self.messages.put((data, flow))

    def short_way(self, register: UsualRegister, flow: Flow, now: float) -> bytes | None:
        return None

    def datagram_short_way(
        self, register: UsualRegister, listener: Listener, address: PackedAddress, now: float
    ) -> bytes | None:
        return None

    def framing_failed(self, error: FramingError, flow: Flow) -> None:
        raise AssertionError(error)

    def flow_closed(self, flow: Flow, reason: str) -> None:
        self.closed.put((flow, reason))


class FlowContract(TestCase):
    """For datagrams and connections alike. A subclass says which transport it is, and makes clients of it."""

    transport: str
    engine = EngineConfig()
    timeout = 20

    def make_peer(self) -> Peer:
        """Return a client that is not yet connected."""
        raise NotImplementedError

    def setUp(self) -> None:
        self.user = QueueingUser()
        self.wheel = TimerWheel(reactor)
        transport: Any = self.transport.lower()
        listener = ListenerConfig(
            name="main", transport=transport, host="127.0.0.1", port=0, advertise_host="sip.example.com"
        )
        folder = Path(self.enterContext(TemporaryDirectory()))
        shown = an_authority(folder).issue("sip.example.com")
        config = NetConfig(listeners=(listener,), tls=TlsConfig(certificates=(shown,)), engine=self.engine)
        self.transports = Transports(reactor, self.wheel, self.user, config)
        self.transports.startService()
        self.addCleanup(self.transports.stopService)

    async def connected(self) -> Peer:
        peer: Peer = self.make_peer()
        await peer.connect(reactor, self.transports.listeners["main"].local)
        self.addCleanup(self.left, peer)
        return peer

    async def left(self, peer: Peer) -> None:
        if not peer.gone.called:
            peer.leave()
        await peer.gone

    async def a_flow(self, peer: Peer) -> Flow:
        """Return the flow that a message of this peer comes over."""
        peer.send(OPTIONS)
        data, flow = await self.user.messages.get()
        self.assertEqual(data, OPTIONS)
        return flow

    # --- every transport

    async def test_says_what_it_is(self) -> None:
        """A flow tells its transport, both ends, and the listener that took it."""
        peer = await self.connected()
        flow = await self.a_flow(peer)
        listener = self.transports.listeners["main"]
        self.assertEqual(flow.transport, self.transport)
        self.assertEqual(flow.peer, peer.local)
        self.assertEqual(flow.local, listener.local)
        self.assertIs(flow.listener, listener)
        self.assertEqual((listener.host, listener.port), ("sip.example.com", listener.local[1]))
        self.assertEqual(flow.reliable, self.transport != "UDP")
        self.assertEqual(flow.secure, self.transport in ("TLS", "WSS"))
        self.assertTrue(flow.is_open)
        self.assertEqual((flow.bound, flow.holds), (None, 0))

    async def test_both_ways(self) -> None:
        """Messages arrive whole and in order, in both directions, text or not."""
        peer = await self.connected()
        large = OPTIONS.replace(b"Content-Length: 4", b"Content-Length: 20000").replace(b"body", b"x" * 20000)
        flow = await self.a_flow(peer)
        for message in (BINARY, large, OPTIONS):
            peer.send(message)
            data, same = await self.user.messages.get()
            self.assertEqual(data, message)
            self.assertEqual(same, flow)
            self.assertEqual(hash(same), hash(flow))
            flow.write(message)
            self.assertEqual(await peer.inbox.get(), message)

    async def test_several_at_once(self) -> None:
        """Messages written at once are told apart."""
        peer = await self.connected()
        flow = await self.a_flow(peer)
        for _ in range(10):
            flow.write(OK)
            peer.send(OPTIONS)
        for _ in range(10):
            self.assertEqual(await peer.inbox.get(), OK)
            self.assertEqual((await self.user.messages.get())[0], OPTIONS)

    async def test_keepalive(self) -> None:
        """The transport's keepalive is answered, and no message to the user (RFC 5626 §5.4)."""
        peer = await self.connected()
        await self.a_flow(peer)
        peer.ping()
        await peer.pongs.get()
        peer.send(BINARY)
        self.assertEqual((await self.user.messages.get())[0], BINARY)
        self.assertEqual(self.transports.tallies.pings_answered, 1)

    async def test_peers_differ(self) -> None:
        """Two peers have two flows, and each gets what is written to its own."""
        first, second = await self.connected(), await self.connected()
        one, two = await self.a_flow(first), await self.a_flow(second)
        self.assertNotEqual(one, two)
        two.write(OK)
        one.write(BINARY)
        self.assertEqual(await first.inbox.get(), BINARY)
        self.assertEqual(await second.inbox.get(), OK)

    async def test_token(self) -> None:
        """A flow is found by its token."""
        peer = await self.connected()
        flow = await self.a_flow(peer)
        tokens = self.tokens()
        found = tokens.resolve(tokens.token(flow))
        assert found is not NO_FLOW
        self.assertEqual(found, flow)
        found.write(OK)
        self.assertEqual(await peer.inbox.get(), OK)

    def tokens(self) -> FlowTokens:
        return FlowTokens([b"k" * 32], "node", 1, self.transports.flow, self.transports.datagram_flow)


class ConnectionContract(FlowContract):
    """What connections do besides: they begin and end."""

    async def test_known(self) -> None:
        """A connection has an id, by which it is found, and is counted."""
        flow = await self.a_flow(await self.connected())
        self.assertGreater(flow.id, 0)
        self.assertIs(self.transports.flow(flow.id), flow)
        self.assertEqual(self.transports.flow_counts(), {self.transport: 1})

    async def test_confirmed(self) -> None:
        """Once confirmed, an idle connection has no timer."""
        flow = await self.a_flow(await self.connected())
        self.assertFalse(flow.confirmed)
        self.assertEqual(len(self.wheel), 1)
        flow.confirm()
        self.assertTrue(flow.confirmed)
        self.assertEqual(len(self.wheel), 0)

    async def test_we_close(self) -> None:
        """A closed flow delivers what was written, then ends; the user hears of it once, later."""
        peer = await self.connected()
        flow = await self.a_flow(peer)
        token = self.tokens().token(flow)
        flow.write(OK)
        flow.close("enough")
        self.assertFalse(flow.is_open)
        self.assertRaises(FlowClosed, flow.write, OK)
        self.assertRaises(FlowGone, self.tokens().resolve, token)
        self.assertIsNone(self.transports.flow(flow.id))
        self.assertEqual(self.user.closed.pending, [])
        self.assertEqual(await peer.inbox.get(), OK)
        await peer.gone
        self.assertEqual(await self.user.closed.get(), (flow, "enough"))
        flow.close("again")
        self.assertEqual(self.user.closed.pending, [])
        self.assertEqual(self.transports.flow_counts(), {self.transport: 0})
        self.assertEqual(len(self.wheel), 0)

    async def test_peer_leaves(self) -> None:
        """When the peer ends the connection the user hears of it once."""
        peer = await self.connected()
        flow = await self.a_flow(peer)
        peer.leave()
        closed, reason = await self.user.closed.get()
        self.assertIs(closed, flow)
        self.assertTrue(reason)
        self.assertFalse(flow.is_open)
        self.assertRaises(FlowClosed, flow.write, OK)

    async def test_shutdown(self) -> None:
        """Stopping the transports ends every flow, and waits for it."""
        peer = await self.connected()
        flow = await self.a_flow(peer)
        await self.transports.stopService()
        self.assertEqual(await self.user.closed.get(), (flow, "shutting down"))
        self.assertEqual(self.transports.listeners, {})
        self.assertEqual(len(self.wheel), 0)
