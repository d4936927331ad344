"""The flow contract over each transport, and what is special to some."""

from rollcall.net.config import EngineConfig
from rollcall.net.flow import FlowClosed
from tests.rollcall.net import flow_contract
from tests.rollcall.net.fakes import OK
from tests.rollcall.net.peers import DatagramPeer, Peer, StreamPeer, WebSocketPeer


class UdpTests(flow_contract.FlowContract):
    transport = "UDP"

    def make_peer(self) -> Peer:
        return DatagramPeer()

    async def test_shutdown(self) -> None:
        """A datagram flow is closed when its listener is."""
        flow = await self.a_flow(await self.connected())
        await self.transports.stopService()
        self.assertFalse(flow.is_open)
        self.assertRaises(FlowClosed, flow.write, OK)

    async def test_largest_datagram(self) -> None:
        """The largest datagram that IP can carry is received whole, and one larger is refused (RFC 3261 §18.1.1)."""
        peer = await self.connected()
        flow = await self.a_flow(peer)
        peer.send(b"x" * 65507)
        self.assertEqual(len((await self.user.messages.get())[0]), 65507)
        flow.write(b"x" * 65507)
        self.assertEqual(len(await peer.inbox.get()), 65507)
        self.assertRaises(FlowClosed, flow.write, b"x" * 65508)


class TcpTests(flow_contract.ConnectionContract):
    transport = "TCP"

    def make_peer(self) -> Peer:
        return StreamPeer()


class TwistedTcpTests(TcpTests):
    engine = EngineConfig(enabled=False)


class TlsTests(flow_contract.ConnectionContract):
    transport = "TLS"

    def make_peer(self) -> Peer:
        return StreamPeer(tls=True)


class WsTests(flow_contract.ConnectionContract):
    transport = "WS"

    def make_peer(self) -> Peer:
        return WebSocketPeer()


class WssTests(flow_contract.ConnectionContract):
    transport = "WSS"

    def make_peer(self) -> Peer:
        return WebSocketPeer(tls=True)
