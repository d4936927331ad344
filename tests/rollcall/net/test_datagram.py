"""UDP: what comes in a datagram, and what goes out in one."""

from errno import EAGAIN, EHOSTUNREACH, EMSGSIZE
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from rollcall.net.datagram import DatagramFlow, DatagramPort
from rollcall.net.flow import FlowClosed
from rollcall.net.stun import BINDING_REQUEST, HEADER, MAGIC_COOKIE, answer
from tests.rollcall.net.fakes import OK, OPTIONS, FailingUser, Net, a_listener

PEER = ("192.0.2.1", 40000)
BINDING = HEADER.pack(BINDING_REQUEST, 0, MAGIC_COOKIE, b"transaction!")


class FakeSocket:
    """Keeps datagrams, or fails."""

    def __init__(self) -> None:
        self.sent: list[tuple[bytes, tuple[str, int]]] = []
        self.error: OSError | None = None
        self.closed = False

    def sendto(self, data: bytes, peer: tuple[str, int]) -> int:
        if self.error is not None:
            raise self.error
        self.sent.append((data, peer))
        return len(data)

    def close(self) -> None:
        self.closed = True


def a_port(net: Net, name: str = "main", bound: Any = None) -> DatagramPort:
    """Return a UDP listener without a socket of the system's."""
    fitting: Any = bound or FakeSocket()
    return DatagramPort(fitting, a_listener("UDP", name), net.connections)


class DatagramPortTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.net = Net()
        self.socket = FakeSocket()
        self.port = a_port(self.net, bound=self.socket)

    def test_message(self) -> None:
        """A datagram is a message from the flow of its source."""
        self.port.datagramReceived(OPTIONS, PEER)
        self.assertEqual(self.net.user.messages, [(OPTIONS, self.port.flow_to(*PEER))])

    def test_leading_line_ends(self) -> None:
        """Line ends before a message are skipped (RFC 3261 §7.5)."""
        self.port.datagramReceived(b"\r\n\r\n" + OPTIONS, PEER)
        self.assertEqual(self.net.user.data, [OPTIONS])

    def test_blank_datagrams(self) -> None:
        """Blank datagrams keep a NAT's mapping alive; nobody hears of them and nothing is answered."""
        blanks = (b"", b"\r\n", b"\r\n\r\n", b"\0", b"\0\0\0\0", b"\r\n" * 50, b"\n", b"\0\0\r\n")
        for blank in blanks:
            self.port.datagramReceived(blank, PEER)
        self.assertEqual(self.net.user.messages, [])
        self.assertEqual(self.socket.sent, [])
        self.assertEqual(self.net.tallies.datagrams_ignored, len(blanks))

    def test_noise(self) -> None:
        """A datagram of other control characters is no SIP."""
        self.port.datagramReceived(b"\x02\x03 something", PEER)
        self.port.datagramReceived(b"\r\n\x03 something", PEER)
        self.assertEqual(self.net.user.messages, [])

    def test_stun(self) -> None:
        """A STUN Binding request is answered from the same socket (RFC 5626 §8)."""
        self.port.datagramReceived(BINDING, PEER)
        self.assertEqual(self.socket.sent, [(answer(BINDING, PEER), PEER)])
        self.assertEqual(self.net.user.messages, [])
        self.assertEqual(self.net.tallies.pings_answered, 1)

    def test_other_stun(self) -> None:
        """STUN that wants no answer is ignored."""
        self.port.datagramReceived(HEADER.pack(0x0101, 0, MAGIC_COOKIE, b"transaction!"), PEER)
        self.assertEqual((self.socket.sent, self.net.user.messages), ([], []))

    def test_stun_to_nowhere(self) -> None:
        """An answer to a keepalive that cannot be sent is nobody's trouble."""
        self.socket.error = OSError(EHOSTUNREACH, "No route to host")
        self.port.datagramReceived(BINDING, PEER)
        self.assertEqual(self.net.tallies.datagrams_unsent, 1)

    def test_failing_user(self) -> None:
        """A message that makes the user fail is logged and does not end the listener."""
        port = a_port(Net(user=FailingUser()))
        port.datagramReceived(OPTIONS, PEER)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        self.assertTrue(port.is_open)

    def test_stopped(self) -> None:
        """A stopped listener closes its socket, and its flows are closed."""
        flow = self.port.flow_to(*PEER)
        self.port.stopProtocol()
        self.assertTrue(self.socket.closed)
        self.assertFalse(flow.is_open)
        self.assertRaises(FlowClosed, flow.write, OK)


class DatagramFlowTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.net = Net()
        self.socket = FakeSocket()
        self.port = a_port(self.net, bound=self.socket)
        self.flow = self.port.flow_to(*PEER)

    def test_what_a_flow_says(self) -> None:
        """A datagram flow has no id, is neither reliable nor secure, and belongs to its listener."""
        self.assertEqual((self.flow.id, self.flow.transport, self.flow.peer), (0, "UDP", PEER))
        self.assertEqual((self.flow.reliable, self.flow.secure, self.flow.is_open), (False, False, True))
        self.assertEqual(self.flow.local, ("192.0.2.99", 5060))
        self.assertIs(self.flow.listener, self.port.listener)
        self.assertIsNone(self.flow.bound)
        self.assertIn("192.0.2.1:40000", repr(self.flow))

    def test_equality(self) -> None:
        """Flows are the same when peer and listener are."""
        same = self.port.flow_to(*PEER)
        self.assertEqual(self.flow, same)
        self.assertEqual(hash(self.flow), hash(same))
        self.assertNotEqual(self.flow, self.port.flow_to("192.0.2.1", 40001))
        self.assertNotEqual(self.flow, a_port(self.net).flow_to(*PEER))
        self.assertNotEqual(self.flow, PEER)

    def test_write(self) -> None:
        """A message leaves from the socket that the flow is of."""
        self.flow.write(OK)
        self.assertEqual(self.socket.sent, [(OK, PEER)])

    def test_full_socket(self) -> None:
        """What the kernel has no room for is lost, as datagrams are."""
        self.socket.error = OSError(EAGAIN, "Resource temporarily unavailable")
        self.flow.write(OK)
        self.assertEqual(self.net.tallies.datagrams_unsent, 1)

    def test_unreachable(self) -> None:
        """What cannot be sent at all is told to who wrote it (RFC 3261 §18.4)."""
        for number, text in ((EHOSTUNREACH, "No route to host"), (EMSGSIZE, "Message too long")):
            self.socket.error = OSError(number, text)
            self.assertEqual(str(self.assertRaises(FlowClosed, self.flow.write, OK)), text)

    def test_has_no_end(self) -> None:
        """Closing and confirming mean nothing to a datagram flow."""
        self.flow.close("enough")
        self.flow.confirm()
        self.assertTrue(self.flow.is_open)
        self.assertTrue(self.flow.confirmed)

    def test_light(self) -> None:
        """A flow is made for each datagram: it has no dictionary."""
        self.assertFalse(hasattr(self.flow, "__dict__"))
        self.assertIsInstance(self.flow, DatagramFlow)
