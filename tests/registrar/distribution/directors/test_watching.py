"""Weights for the kernel's table: who is asked, when somebody is dead, and what is told."""

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from registrar.distribution.directors.check_sip import ALIVE, DEAD, WEIGHT_0
from registrar.distribution.directors.config import RealServerConfig
from registrar.distribution.directors.layout import Layout, Service
from registrar.distribution.directors.watching import AGAIN, Change, Watch, exit_code
from tests.interop.process import free_ports
from tests.registrar.distribution.directors.clusters import BOTH, TCP4, TCP6, a_layout, a_listener


class WatchTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Watch two nodes that answer what `codes` says."""
        config = evolve(BOTH, streams_by="nftables", datagrams_by="none", check_fall=3)
        self.codes = {"node1": ALIVE, "node2": ALIVE}
        self.asked: list[str] = []
        self.watch = Watch(a_layout(config, (TCP4, TCP6)), self.ask)

    def ask(self, layout: Layout, service: Service, node: RealServerConfig) -> int:
        """Answer as `codes` says."""
        self.asked.append(node.name)
        return self.codes[node.name]

    def said(self, **codes: int) -> str:
        """Return the weights after another look, empty when nothing is to be told."""
        self.codes |= codes
        change = self.watch.look()
        self.assertLessEqual(bool(change.said), bool(change.commands))
        return change.said

    def test_changes_alone(self) -> None:
        """The first look tells the configured weights, a further one what has changed."""
        self.assertEqual(self.said(), "node1 100, node2 50")
        self.assertEqual(self.said(), "")
        self.assertEqual(self.said(node1=WEIGHT_0 + 30), "node1 30, node2 50")
        self.assertEqual(self.said(node1=WEIGHT_0), "node1 0, node2 50")
        self.assertEqual(self.said(node1=ALIVE), "node1 100, node2 50")

    def test_told_again(self) -> None:
        """Weights are told again now and then without a word, for somebody may have loaded the table anew."""
        self.codes["node1"] = WEIGHT_0
        first = self.watch.look()
        looks = [self.watch.look() for _ in range(2 * AGAIN + 2)]
        told = [number for number, change in enumerate(looks) if change.commands]
        self.assertEqual(told, [AGAIN, 2 * AGAIN + 1])
        self.assertEqual(looks[AGAIN], Change(first.commands, (), ""))

    def test_dead(self) -> None:
        """Who fails so often in a row is dead: told once, by all addresses; one good answer makes it live."""
        self.watch.look()
        self.codes["node2"] = DEAD
        for _ in range(2):
            self.assertEqual(self.watch.look(), Change("", (), ""))
        change = self.watch.look()
        self.assertEqual(change.dead, ("192.0.2.12", "2001:db8::12"))
        self.assertEqual(change.said, "node1 100, node2 0")
        self.assertEqual(self.watch.look().dead, ())
        self.assertEqual(self.said(node2=ALIVE), "node1 100, node2 50")

    def test_failures_in_a_row(self) -> None:
        """A good answer in between begins the count anew."""
        self.watch.look()
        for code in (DEAD, DEAD, ALIVE, DEAD, DEAD):
            self.assertEqual(self.said(node1=code), "")

    def test_first_look(self) -> None:
        """The first look asks who fails until it is known: the command may be run but once."""
        self.assertEqual(self.said(node1=DEAD), "node1 0, node2 50")
        self.assertEqual((self.asked.count("node1"), self.asked.count("node2")), (3, 1))

    def test_nobody_heard(self) -> None:
        """What could not be told is told again."""
        self.watch.look()
        self.watch.forget()
        self.assertEqual(self.said(), "node1 100, node2 50")

    def test_real_question(self) -> None:
        """A node is asked over its listener, as by check-sip."""
        port = free_ports(1)[0]
        node = RealServerConfig(name="here", addresses=("127.0.0.1",))
        config = evolve(BOTH, addresses=("192.0.2.10",), directors=(), nodes=(node,), streams_by="nftables")
        layout = a_layout(config, (a_listener("tcp", "127.0.0.1", port), a_listener("udp", "192.0.2.10")), agent=())
        stream = layout.spread_by("nftables")[0]
        self.assertEqual(exit_code(layout, stream, node), DEAD)
        change = Watch(layout).look()
        self.assertEqual((change.dead, change.said), (("127.0.0.1",), "here 100"))
