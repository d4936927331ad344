"""Tests of the way out through another node, which has the phone's connection (RFC 5626 §5.3)."""

from registrar.routing import OverFlow, OverMember
from registrar.sending import Attempt
from rollcall.cluster.nodes import Node
from rollcall.net.flow import ConnectFailed, Flow
from rollcall.net.tokens import Connection, DatagramPeer, Named
from rollcall.sip.forwarding import is_loose
from rollcall.sip.headers import parse_name_addr
from rollcall.sip.uri import parse_sip_uri
from tests.flows import LISTENERS, MemoryFlow, a_request
from tests.registrar.network import Network
from tests.registrar.test_sending import BOB, CALL_ID, SendingCase
from tests.rollcall.net.test_member_transactions import InternalFlow


class Others:
    """A Cluster and its MemberFlows: n2 in its life 5, reached over a connection when there is one."""

    def __init__(self) -> None:
        self.connection: Flow | None = MemoryFlow("TCP", ("2001:db8::2", 5070), LISTENERS["TCP"])
        self.asked: list[tuple[str, int, str, int]] = []

    def is_living(self, node: str, epoch: int) -> bool:
        """See Cluster."""
        return (node, epoch) == ("n2", 5)

    def ended_at(self, node: str, epoch: int) -> float | None:
        """See Cluster."""
        return None

    def node(self, name: str) -> Node | None:
        """See Cluster."""
        return Node(node="n2", epoch=5, host="2001:db8::2", port=5070) if name == "n2" else None

    async def flow(self, node: str, epoch: int, host: str, port: int) -> Flow:
        """See MemberFlows."""
        self.asked.append((node, epoch, host, port))
        if self.connection is None:
            raise ConnectFailed("nobody there")
        return self.connection


class MemberTests(SendingCase):
    """The way to a phone whose connection n2 has."""

    def setUp(self) -> None:
        super().setUp()
        self.others = Others()
        self.network = Network(self.layer, cluster=self.others, members=self.others)
        self.sending = self.network.sending

    def test_connection(self) -> None:
        """The node is spoken to where its lease says that it is."""
        for flow in (Connection("n2", 5, 7), DatagramPeer("n2", "udp", "192.0.2.20", 5060)):
            self.assertIs(self.result(self.sending.member(OverMember(flow))), self.others.connection)
        self.assertEqual(self.others.asked, [("n2", 5, "2001:db8::2", 5070)] * 2)

    def test_ended(self) -> None:
        """There is no way to a node or a life that has ended, nor to one that cannot be spoken to."""
        for flow in (Connection("n2", 4, 7), Connection("n3", 5, 7)):
            self.assertIn("ended", self.undeliverable(self.sending.member(OverMember(flow))))
        self.others.connection = None
        self.assertIn("nobody", self.undeliverable(self.sending.member(OverMember(Connection("n2", 5, 7)))))

    def test_alone(self) -> None:
        """A node that knows no other has no way to any."""
        alone = Network(self.layer).sending
        self.undeliverable(alone.member(OverMember(Connection("n2", 5, 7))))

    def test_copy(self) -> None:
        """The copy has the flow's token as its first Route, for that node; recorded is what its phones are told."""
        hop = OverMember(Connection("n2", 5, 7), "192.0.2.2:5061", "TLS")
        assert isinstance(self.others.connection, MemoryFlow)
        copy = self.sent(a_request(), Attempt(BOB, hop, phone=b"1234bob"), self.others.connection)
        (route,) = copy.values("Route")
        uri = parse_sip_uri(parse_name_addr(route).uri)
        self.assertEqual((uri.host, uri.port, is_loose(route)), ("[2001:db8::2]", 5070, True))
        named = self.network.tokens.read(uri.user or "", CALL_ID)
        self.assertEqual(named, Named(Connection("n2", 5, 7), b"1234bob"))
        top = copy.values("Record-Route")[0]
        self.assertIn("@192.0.2.2:5061;transport=tls;lr>", top)
        self.assertEqual(self.network.tokens.read(parse_sip_uri(parse_name_addr(top).uri).user or "", CALL_ID), named)

    def test_face_that_is_not_known(self) -> None:
        """When it is not known by what name phones know that node, ours will do."""
        assert isinstance(self.others.connection, MemoryFlow)
        for transport, port in (("WS", 5080), ("", 5060)):
            hop = OverMember(Connection("n2", 5, 7), "", transport)
            copy = self.sent(a_request(), Attempt(BOB, hop), self.others.connection)
            self.assertIn(f"@192.0.2.1:{port}", copy.values("Record-Route")[0])

    def test_from_a_member(self) -> None:
        """What another node sends was recorded there."""
        internal = InternalFlow("TCP", ("192.0.2.2", 5070), LISTENERS["TCP"])
        self.assertEqual(self.sent(a_request(), source=internal).values("Record-Route"), [])

    def test_acknowledgement(self) -> None:
        """An ACK goes there without state."""
        forwarded = self.forwarded(a_request("ACK"))
        self.result(self.sending.pass_on(forwarded, Attempt(BOB, OverMember(Connection("n2", 5, 7)))))
        assert isinstance(self.others.connection, MemoryFlow)
        self.assertEqual(self.others.connection.take_request().method, "ACK")
        held = self.network.transports.flows[self.callee.id] = self.callee
        self.result(self.sending.pass_on(forwarded, Attempt(BOB, OverFlow(held.id))))
        self.assertEqual(self.callee.take_request().method, "ACK")
        self.undeliverable(self.sending.pass_on(forwarded, Attempt(BOB, OverFlow(999_999))))
