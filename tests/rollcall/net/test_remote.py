"""Connections that other workers have: written to and held through a carrier, and named in flow tokens."""

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from rollcall.net.flow import Address, Flow, FlowClosed
from rollcall.net.remote import NOWHERE, RemoteFlow
from rollcall.net.tokens import FlowElsewhere, FlowGone, FlowTokens
from tests.flows import LISTENERS, MemoryFlow, a_flow

KEY = b"k" * 32


class Net:
    """A Carrier that notes what it is told, and Siblings that have one connection, number 7 of n-2 in epoch 5."""

    node, epoch, index = "n-1", 1, 1

    def __init__(self) -> None:
        self.told: list[object] = []
        self.broken = False
        self.remote = self.a_flow()

    def a_flow(self, **changes: Any) -> RemoteFlow:
        """Return a connection of the other worker."""
        place = {"node": "n-2", "epoch": 5, "flow_id": 7, "transport": "TCP", "listener": LISTENERS["TCP"],
                 "peer": ("192.0.2.9", 4000)}
        return RemoteFlow(self, **{**place, **changes})

    def carry(self, flow: RemoteFlow, data: bytes) -> None:
        """Note a message."""
        if self.broken:
            raise FlowClosed("no way")
        self.told.append(data)

    def hold(self, flow: RemoteFlow, needed: bool) -> None:
        """Note whether it is needed."""
        self.told.append(needed)

    def knows(self, node: str) -> bool:
        """Know one."""
        return node == "n-2"

    def flow(self, node: str, epoch: int, flow_id: int, transport: str, listener: str,
             peer: Address = NOWHERE) -> Flow | None:
        """Return the connection when it is that one."""
        is_it = (node, epoch, flow_id, transport, listener, peer) == ("n-2", 5, 7, "TCP", "tcp", NOWHERE)
        return self.remote if is_it else None


class RemoteFlowTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.net = Net()
        self.flow = self.net.remote

    def test_written(self) -> None:
        """What is written is carried; when it cannot be, or the connection has ended, the flow is closed."""
        self.flow.write(b"one")
        self.assertEqual(self.net.told, [b"one"])
        self.net.broken = True
        self.assertRaises(FlowClosed, self.flow.write, b"two")
        self.net.broken = False
        self.flow.gone()
        self.assertRaises(FlowClosed, self.flow.write, b"three")
        self.assertEqual((self.flow.is_open, self.net.told), (False, [b"one"]))

    def test_held(self) -> None:
        """Whoever has the connection hears when the first conversation here needs it, and when the last has ended."""
        self.flow.holds += 1
        self.flow.holds += 1
        self.assertEqual(self.net.told, [True])
        self.flow.holds -= 1
        self.flow.holds -= 1
        self.assertEqual((self.net.told, self.flow.holds), ([True, False], 0))
        self.flow.gone()
        self.flow.holds += 1
        self.assertEqual(len(self.net.told), 2)

    def test_identity(self) -> None:
        """It is the worker, its life and the number that make a connection what it is."""
        same = self.net.a_flow(peer=NOWHERE, listener=None)
        self.assertEqual((same, hash(same)), (self.flow, hash(self.flow)))
        for change in ({"node": "n-3"}, {"epoch": 6}, {"flow_id": 8}):
            self.assertNotEqual(self.net.a_flow(**change), self.flow)
        self.assertNotEqual(self.flow, a_flow("TCP"))

    def test_properties(self) -> None:
        """It tells of the connection what a Via and a Record-Route need; it cannot be closed from here."""
        secure = self.net.a_flow(transport="TLS", listener=None)
        self.flow.close("no")
        self.flow.confirm()
        self.assertEqual((self.flow.transport, self.flow.id, self.flow.peer), ("TCP", 7, ("192.0.2.9", 4000)))
        self.assertEqual((self.flow.listener, self.flow.local), (LISTENERS["TCP"], LISTENERS["TCP"].local))
        self.assertEqual((self.flow.reliable, self.flow.is_open, self.flow.confirmed), (True, True, True))
        self.assertEqual((self.flow.secure, secure.secure, secure.local), (False, True, NOWHERE))


class TokenTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.net = Net()
        self.here = a_flow("TCP")
        self.ours = self.tokens("n-1", 1)
        self.theirs = self.tokens("n-2", 5)

    def tokens(self, node: str, epoch: int, alone: bool = False) -> FlowTokens:
        """Return the tokens of one worker; alone, it knows no others."""

        def find(flow_id: int) -> Flow | None:
            return self.here if flow_id == self.here.id else None

        def datagram(listener: str, host: str, port: int) -> Flow | None:
            return a_flow("UDP", host, port) if listener == "udp" else None

        return FlowTokens([KEY], node, epoch, find, datagram, None if alone else self.net)

    def test_other_workers_connection(self) -> None:
        """A connection of another worker has the same token whoever makes it, and is found by it."""
        connection = MemoryFlow("TCP", ("192.0.2.9", 4000), LISTENERS["TCP"])
        connection.id = 7
        token = self.theirs.token(connection)
        self.assertEqual(token, self.ours.token(self.net.remote))
        self.assertIs(self.ours.resolve(token), self.net.remote)

    def test_own_connection(self) -> None:
        """A connection that is here is found here, in the same life only."""
        token = self.ours.token(self.here)
        self.assertIs(self.ours.resolve(token), self.here)
        self.assertRaises(FlowGone, self.tokens("n-1", 2).resolve, token)

    def test_ended(self) -> None:
        """A token of a connection that another worker has no more is one of a flow that is gone."""
        token = self.ours.token(self.net.a_flow(epoch=4))
        failure = self.assertRaises(FlowGone, self.ours.resolve, token)
        self.assertNotIsInstance(failure, FlowElsewhere)
        self.net.remote.gone()
        self.assertRaises(FlowGone, self.ours.resolve, self.ours.token(self.net.remote))

    def test_datagrams(self) -> None:
        """A datagram peer is reached by every worker: all have its port."""
        peer = a_flow("UDP", "192.0.2.9", 4000)
        found = self.ours.resolve(self.theirs.token(peer))
        assert isinstance(found, MemoryFlow)
        self.assertEqual(found.peer, peer.peer)

    def test_strangers(self) -> None:
        """Nodes that share nothing but the secret are told apart, and whoever is alone knows no workers."""
        alone = self.tokens("n-1", 1, alone=True)
        for flow in (self.here, a_flow("UDP")):
            self.assertRaises(FlowElsewhere, self.ours.resolve, self.tokens("n-9", 5).token(flow))
            self.assertRaises(FlowElsewhere, alone.resolve, self.theirs.token(flow))
