"""Flow tokens: made, resolved, forged, rotated, foreign."""

import re
from base64 import urlsafe_b64decode

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from rollcall.net.flow import Flow
from rollcall.net.stream import StreamFlow
from rollcall.net.tokens import (
    MAC_BYTES,
    NO_FLOW,
    BadToken,
    Connection,
    DatagramPeer,
    FlowElsewhere,
    FlowGone,
    FlowTokens,
    Named,
)
from rollcall.sip.uri import parse_sip_uri
from tests.rollcall.net.fakes import Wire
from tests.rollcall.net.test_datagram import a_port
from tests.rollcall.net.test_remote import Net
from tests.rollcall.net.test_stream import StreamNet

KEY, OLD_KEY = b"k" * 32, b"o" * 32

# RFC 3261 §25.1: what needs no escape in a user part, less what base64url does not use.
SAFE = re.compile(r"[A-Za-z0-9_-]+")


class FlowTokensCase(SynchronousTestCase):
    """A connection, a listener for datagrams, and tokens for both."""

    def setUp(self) -> None:
        self.net = StreamNet()
        self.wire = Wire()
        self.flow: StreamFlow = self.net.accept(self.wire)
        self.port = a_port(self.net)
        self.tokens = self.tokens_of()

    def tokens_of(
        self, node: str = "node-1", epoch: int = 1_700_000_000_123, keys: tuple[bytes, ...] = (KEY,)
    ) -> FlowTokens:
        def datagram(listener: str, host: str, port: int) -> Flow | None:
            return self.port.flow_to(host, port) if listener == "main" else None

        return FlowTokens(keys, node, epoch, self.net.connections.find, datagram)


class FlowTokensTests(FlowTokensCase):
    def test_connections(self) -> None:
        """A connection's token resolves to it while it is open."""
        token = self.tokens.token(self.flow)
        self.assertIs(self.tokens.resolve(token), self.flow)
        self.wire.end()
        failure = self.assertRaises(FlowGone, self.tokens.resolve, token)
        self.assertEqual(failure.name, Connection("node-1", 1_700_000_000_123, self.flow.id))

    def test_closing_connections(self) -> None:
        """A connection that is about to end counts as gone."""
        token = self.tokens.token(self.flow)
        self.flow.close("enough")
        self.assertRaises(FlowGone, self.tokens.resolve, token)

    def test_datagrams(self) -> None:
        """A datagram peer's token carries its address, whatever the family."""
        for host in ("192.0.2.1", "2001:db8::1", "fe80::1%eth0"):
            flow = self.port.flow_to(host, 40000)
            self.assertEqual(self.tokens.resolve(self.tokens.token(flow)), flow)

    def test_datagrams_survive_a_restart(self) -> None:
        """A datagram flow has no state: its token is good in another epoch of the node."""
        flow = self.port.flow_to("192.0.2.1", 40000)
        self.assertEqual(self.tokens_of(epoch=7).resolve(self.tokens.token(flow)), flow)

    def test_datagrams_of_a_lost_listener(self) -> None:
        """A token of a listener that is no longer configured is a flow that is gone."""
        flow = a_port(self.net, name="former").flow_to("192.0.2.1", 40000)
        failure = self.assertRaises(FlowGone, self.tokens.resolve, self.tokens.token(flow))
        self.assertEqual(failure.name, DatagramPeer("node-1", "former", "192.0.2.1", 40000))

    def test_no_flow(self) -> None:
        """A token can say that there is no flow; it is signed like any other."""
        token = self.tokens.token(None)
        self.assertIs(self.tokens.resolve(token), NO_FLOW)
        self.assertRaises(BadToken, self.tokens_of(keys=(OLD_KEY,)).resolve, token)

    def test_context(self) -> None:
        """A token made for one context is not good for another, or for none."""
        token = self.tokens.token(self.flow, b"call-1")
        self.assertIs(self.tokens.resolve(token, b"call-1"), self.flow)
        self.assertRaises(BadToken, self.tokens.resolve, token, b"call-2")
        self.assertRaises(BadToken, self.tokens.resolve, token)

    def test_context_and_body_do_not_mix(self) -> None:
        """Octets cannot be moved from the token to its context."""
        token = self.tokens.token(None, b"")
        self.assertRaises(BadToken, self.tokens.resolve, token[:-1], b"N")

    def test_another_epoch(self) -> None:
        """A connection of an earlier life of this node is gone, though a new one has its id."""
        token = self.tokens_of(epoch=5).token(self.flow)
        failure = self.assertRaises(FlowGone, self.tokens.resolve, token)
        self.assertEqual(failure.name, Connection("node-1", 5, self.flow.id))
        self.assertNotIsInstance(failure, FlowElsewhere)

    def test_another_node(self) -> None:
        """A genuine token of another node says whose it is, so that the request can go there."""
        there = self.tokens_of(node="nœud-2", epoch=5)
        failure = self.assertRaises(FlowElsewhere, self.tokens.resolve, there.token(self.flow))
        self.assertEqual(failure.name, Connection("nœud-2", 5, self.flow.id))
        datagram = there.token(self.port.flow_to("192.0.2.1", 40000))
        failure = self.assertRaises(FlowElsewhere, self.tokens.resolve, datagram)
        self.assertEqual(failure.name, DatagramPeer("nœud-2", "main", "192.0.2.1", 40000))

    def test_rotated_keys(self) -> None:
        """The first key signs, all verify: a key leaves only when its tokens are of no more use."""
        old = self.tokens_of(keys=(OLD_KEY,)).token(self.flow)
        both = self.tokens_of(keys=(KEY, OLD_KEY))
        self.assertIs(both.resolve(old), self.flow)
        self.assertIs(self.tokens.resolve(both.token(self.flow)), self.flow)
        self.assertRaises(BadToken, self.tokens.resolve, old)

    def test_weak_keys(self) -> None:
        """No key, or a short one, is refused."""
        self.assertRaises(ValueError, self.tokens_of, keys=())
        self.assertRaises(ValueError, self.tokens_of, keys=(KEY, b"k" * 15))
        self.tokens_of(keys=(b"k" * 16,))

    def test_every_bit_counts(self) -> None:
        """A token changed in any digit, cut or lengthened is refused."""
        token = self.tokens.token(self.flow)
        for at in range(len(token)):
            for other in "A_z0":
                if token[at] != other:
                    self.assertRaises(BadToken, self.tokens.resolve, token[:at] + other + token[at + 1 :])
            self.assertRaises(BadToken, self.tokens.resolve, token[:at])
            self.assertRaises(BadToken, self.tokens.resolve, token[:at] + "!" + token[at:])
        for tail in ("A", "AA", "AAAA", "=", "====", "\n"):
            self.assertRaises(BadToken, self.tokens.resolve, token + tail)

    def test_fit_for_a_uri(self) -> None:
        """Tokens need no escape in the user part of a SIP URI, and stay short."""
        for flow in (self.flow, self.port.flow_to("2001:db8:1:2:3:4:5:6", 65535), None):
            token = self.tokens.token(flow)
            self.assertTrue(SAFE.fullmatch(token), token)
            self.assertLess(len(token), 80)
            self.assertEqual(parse_sip_uri(f"sip:{token}@edge.example.com;lr").user, token)

    @given(st.text() | st.from_regex(SAFE))
    def test_noise(self, token: str) -> None:
        """Nothing but BadToken comes of text that is no token."""
        self.assertRaises(BadToken, self.tokens.resolve, token)


class PhoneTests(FlowTokensCase):
    """Whose connection it is stands in its token, for nobody but us."""

    phone = b"\1\2\3\4alice@example.com"

    def test_read(self) -> None:
        """Any node reads whose connection a token names, and which it is."""
        token = self.tokens.token(self.flow, b"call-1", self.phone)
        elsewhere = self.tokens_of(node="node-2", epoch=9)
        self.assertEqual(elsewhere.read(token, b"call-1"),
                         Named(Connection("node-1", 1_700_000_000_123, self.flow.id), self.phone))
        self.assertRaises(BadToken, elsewhere.read, token, b"call-2")
        self.assertTrue(SAFE.fullmatch(token), token)

    def test_resolved(self) -> None:
        """It resolves to its connection like any other."""
        self.assertIs(self.tokens.resolve(self.tokens.token(self.flow, b"", self.phone)), self.flow)

    @given(st.binary(min_size=4, max_size=255))
    def test_hidden(self, phone: bytes) -> None:
        """Nothing of it can be seen in the token, and two calls of one phone show nothing in common."""
        name = Connection("node-1", 5, 7)
        tokens = [self.tokens.token(name, context, phone) for context in (b"call-1", b"call-2")]
        bodies = [urlsafe_b64decode(token + "=" * (-len(token) % 4))[MAC_BYTES:] for token in tokens]
        self.assertNotEqual(*bodies)
        for token, context, body in zip(tokens, (b"call-1", b"call-2"), bodies, strict=True):
            self.assertNotIn(phone, body)
            self.assertEqual(self.tokens.read(token, context), Named(name, phone))

    def test_every_bit_counts(self) -> None:
        """One that was changed in any digit is refused."""
        token = self.tokens.token(self.flow, b"", self.phone)
        for at in range(len(token)):
            for other in "A_z0":
                if token[at] != other:
                    self.assertRaises(BadToken, self.tokens.read, token[:at] + other + token[at + 1 :])

    def test_rotated_keys(self) -> None:
        """What an older key has hidden can be read as long as that key is known."""
        old = self.tokens_of(keys=(OLD_KEY,)).token(self.flow, b"", self.phone)
        self.assertEqual(self.tokens_of(keys=(KEY, OLD_KEY)).read(old).phone, self.phone)
        self.assertRaises(BadToken, self.tokens.read, old)

    def test_too_long(self) -> None:
        """A name that fits no field is left out; so is that of a datagram peer, whose flow cannot break."""
        self.assertEqual(self.tokens.read(self.tokens.token(self.flow, b"", b"a" * 256)).phone, b"")
        datagrams = self.port.flow_to("192.0.2.1", 40000)
        self.assertEqual(self.tokens.read(self.tokens.token(datagrams, b"", self.phone)),
                         Named(DatagramPeer("node-1", "main", "192.0.2.1", 40000)))

    def test_with_workers(self) -> None:
        """With workers a token says more of its connection, and whose it is all the same."""
        net = Net()
        tokens = FlowTokens([KEY], "n-1", 1, lambda number: None, lambda *peer: None, net)
        token = tokens.token(net.remote, b"", self.phone)
        self.assertEqual(tokens.read(token), Named(Connection("n-2", 5, 7, "TCP", "tcp"), self.phone))
        self.assertIs(tokens.resolve(token), net.remote)
