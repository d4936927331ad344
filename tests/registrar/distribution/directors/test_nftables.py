"""What nft is told. That it understands it is tried in tests/cluster/test_director_files.py."""

import re

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from registrar.distribution.directors.layout import CannotRender
from registrar.distribution.directors.nftables import render, wanted, weights
from registrar.distribution.directors.slots import SLOTS
from tests.registrar.distribution.directors.clusters import BOTH, TCP4, TCP6, UDP_OWN, a_layout

CONFIG = evolve(BOTH, streams_by="nftables", datagrams_by="nftables", hash_seed=1)
LAYOUT = a_layout(CONFIG, (TCP4, TCP6, UDP_OWN))


class RenderTests(SynchronousTestCase):
    def test_rules(self) -> None:
        """Each family and protocol has a rule, by the same seed and map."""
        rules = [line.strip() for line in render(LAYOUT).splitlines() if "dnat" in line and "daddr" in line]
        self.assertEqual(rules, [
            f"{kind} daddr {{ {virtual} }} {protocol} dport {{ 5060 }} ct mark set jhash {kind} saddr . {protocol} "
            f"sport mod 1021 seed 0x00000001 dnat {kind} to ct mark map @nodes{family}"
            for kind, virtual, protocol, family in (("ip", "192.0.2.10", "tcp", 4), ("ip", "192.0.2.10", "udp", 4),
                                                    ("ip6", "2001:db8::10", "tcp", 6))])

    def test_nothing_to_do(self) -> None:
        """What others spread needs no table."""
        self.assertRaises(CannotRender, render, a_layout())


class WeightTests(SynchronousTestCase):
    def test_commands(self) -> None:
        """Each map is emptied and filled by addresses of its family, in proportion."""
        lines = weights(LAYOUT, {"node1": 50, "node2": 50}).splitlines()
        self.assertEqual(lines[0], "flush map inet rollcall nodes4")
        self.assertTrue(lines[1].startswith("add element inet rollcall nodes4 { "))
        self.assertEqual(lines[2], "flush map inet rollcall nodes6")
        self.assertEqual(set(re.findall(r": (\S+?),? ", lines[3])), {"2001:db8::11", "2001:db8::12"})
        spans = re.findall(r"(\d+)(?:-(\d+))? : 192\.0\.2\.11", lines[1])
        count = sum(int(last or first) - int(first) + 1 for first, last in spans)
        self.assertLessEqual(abs(count - SLOTS / 2), 1)

    def test_drained(self) -> None:
        """A drained node is in no map; the other one has it all."""
        self.assertIn("nodes4 { 0-1020 : 192.0.2.12 }", weights(LAYOUT, {"node1": 0, "node2": 1}))

    def test_same_again(self) -> None:
        """The same weights give the same commands."""
        self.assertEqual(weights(LAYOUT, {"node1": 3, "node2": 7}), weights(LAYOUT, {"node2": 7, "node1": 3}))

    def test_wanted(self) -> None:
        """When nobody wants phones they go to all that live; when all seem dead, to all."""
        configured = {"a": 100, "b": 50}
        for a, b, found in ((60, 50, {"a": 60, "b": 50}), (0, 50, {"a": 0, "b": 50}), (None, 50, {"a": 0, "b": 50}),
                            (0, 0, configured), (None, 0, {"a": 0, "b": 50}), (None, None, configured)):
            self.assertEqual(wanted(configured, {"a": a, "b": b}), found)
