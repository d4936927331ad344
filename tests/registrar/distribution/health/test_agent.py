"""The agent's line, who gets one, and how a connection ends."""

from socket import create_connection
from typing import Any

from twisted.internet import reactor
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.testing import StringTransport
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase, TestCase

from registrar.distribution.health.agent import MOST_WORDS, Agent, line
from registrar.distribution.health.config import HealthConfig
from registrar.distribution.health.standing import State
from tests.interop.process import LOOPBACK, free_ports


class LineTests(SynchronousTestCase):
    def test_lines(self) -> None:
        """Each state is one line in the words of agent-check."""
        self.assertEqual(line(75, State()), b"ready up 75%\n")
        self.assertEqual(line(0, State()), b"ready up 0%\n")
        self.assertEqual(line(0, State(draining=True, not_ready="stopping")), b"drain\n")
        self.assertEqual(line(0, State(not_ready="no Redis")), b"drain\n")
        self.assertEqual(line(0, State(not_ready="starting", has_served=False)), b"down #starting\n")

    def test_reason_is_one_line(self) -> None:
        """A reason cannot become a second line or words of its own, and is told in part when it is long."""
        said = line(0, State(not_ready="é\nready up 100%\r\0" + 500 * "x", has_served=False))
        self.assertEqual((said.count(b"\n"), said[:6], len(said)), (1, b"down #", len("down #\n") + MOST_WORDS))


class AgentTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.agent = Agent(None, HealthConfig(agent_max_connections=2), lambda: 30, State)

    def ask(self, host: str) -> Any:
        kind = IPv6Address if ":" in host else IPv4Address
        return self.agent.buildProtocol(kind("TCP", host, 40000))

    def test_answers_at_once(self) -> None:
        """The line is said and the connection ended before anything was heard."""
        transport = StringTransport()
        self.ask("10.1.2.3").makeConnection(transport)
        self.assertEqual((transport.value(), transport.disconnecting), (b"ready up 30%\n", True))

    def test_strangers(self) -> None:
        """Who asks from elsewhere than the networks of directors gets nothing."""
        asked = [self.ask(host) is not None for host in ("127.0.0.1", "::1", "fd00::5", "203.0.113.5", "2001:db8::1")]
        self.assertEqual((asked, self.agent.refused), ([True, True, True, False, False], 2))

    def test_own_address(self) -> None:
        """Who comes from an address that is listened at stands on this machine, in whatever network that is."""
        agent = Agent(None, HealthConfig(agent=("192.0.2.11:5090", "[2001:db8::11]:5090")), lambda: 30, State)
        near = [agent.buildProtocol(IPv4Address("TCP", "192.0.2.11", 40000)),
                agent.buildProtocol(IPv6Address("TCP", "2001:db8::11", 40000))]
        self.assertNotIn(None, near)
        self.assertIsNone(agent.buildProtocol(IPv4Address("TCP", "192.0.2.12", 40000)))

    def test_bounded(self) -> None:
        """No more connections are there at a time than may be, and the next one is answered when one has ended."""
        first, second = self.ask("127.0.0.1"), self.ask("127.0.0.1")
        for each in (first, second):
            each.makeConnection(StringTransport())
        self.assertIsNone(self.ask("127.0.0.1"))
        first.connectionLost()
        self.assertIsNotNone(self.ask("127.0.0.1"))
        self.assertEqual((self.agent.asked, self.agent.refused), (2, 1))


class RealAgentTests(TestCase):
    """Over real sockets."""

    def setUp(self) -> None:
        (self.port,) = free_ports(1)
        self.places = HealthConfig(agent=(f"{LOOPBACK}:{self.port}",))

    def listen(self, reuse_port: bool) -> Agent:
        agent = Agent(reactor, self.places, lambda: 55, State, reuse_port)
        agent.start()
        self.addCleanup(agent.stop)
        return agent

    def heard(self, said: bytes) -> bytes:
        with create_connection((LOOPBACK, self.port), timeout=5) as asking:
            if said:
                asking.sendall(said)
            return b"".join(iter(lambda: asking.recv(100), b""))

    async def test_heard(self) -> None:
        """Who connects hears the line and the end, whether he says nothing or much (agent-send)."""
        self.listen(False)
        self.assertEqual([await deferToThread(self.heard, said) for said in (b"", b"x\n")], 2 * [b"ready up 55%\n"])

    def test_taken(self) -> None:
        """A place that is taken is named, and leaves nothing listening; workers share one."""
        self.listen(True)
        self.listen(True)
        with self.assertRaisesRegex(OSError, rf"agent {LOOPBACK}:{self.port}"):
            self.listen(False)
