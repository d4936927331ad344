"""The balancer's configuration."""

import re
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from balancer.config import BalancerConfig
from rollcall.ops.config import ConfigError, load, loads

EXAMPLE = Path(__file__).parents[2] / "etc" / "balancer.toml"

NODES = """
[[node]]
id = "m1"
address = "192.0.2.1:22222"
[[node]]
id = "m2"
address = "[2001:db8::2]:5060"
kind = "freeswitch"
capacity = 1800
region = "east"
weight = 2
groups = ["gold"]
draining = true
"""


class BalancerConfigTests(SynchronousTestCase):
    def mistakes(self, text: str) -> list[str]:
        error = self.assertRaises(ConfigError, loads, text, BalancerConfig)
        return [problem.key for problem in error.problems]

    def test_nodes(self) -> None:
        """Nodes are read with their defaults; the admin site has a port beside the registrar's."""
        config = loads(NODES, BalancerConfig)
        first, second = config.nodes
        self.assertEqual((first.kind, first.capacity, first.groups, first.draining), ("rtpengine", 1000, (), False))
        self.assertEqual(
            (second.kind, second.capacity, second.groups, second.draining), ("freeswitch", 1800, ("gold",), True)
        )
        self.assertEqual((config.admin.host, config.admin.port), ("127.0.0.1", 8061))
        self.assertEqual(config.placements.max_call_seconds, 4 * 3600)

    def test_the_example(self) -> None:
        """The example for operators is good, with every line that is commented out as well, and shows the defaults."""
        config = load(EXAMPLE, BalancerConfig)
        text = re.sub(r"(?m)^# (\w+ = )", r"\1", EXAMPLE.read_text())
        text = text.replace("token_file =", "token =").replace("auth_key_file =", "auth_key =")
        shown = loads(text, BalancerConfig)
        self.assertEqual(shown.nodes, config.nodes)
        self.assertEqual(shown.placements, config.placements)
        self.assertEqual((shown.admin.host, shown.admin.port), (config.admin.host, config.admin.port))
        self.assertEqual((shown.log.level, shown.log.format), (config.log.level, config.log.format))

    def test_no_nodes(self) -> None:
        """A balancer without nodes is a mistake."""
        self.assertEqual(self.mistakes(""), ["node"])
        self.assertEqual(self.mistakes("node = []"), ["node"])

    def test_the_same_id_twice(self) -> None:
        """Two nodes cannot have the same id."""
        self.assertEqual(self.mistakes(NODES.replace("m2", "m1")), ["node"])

    def test_bad_values(self) -> None:
        """Each bad value of a node is named."""
        text = """
            [[node]]
            id = "a b"
            address = "192.0.2.1"
            kind = "asterisk"
            capacity = 0
            weight = 0
            groups = ["x", "x"]
            draining = "no"
            """
        self.assertEqual(
            self.mistakes(text),
            [f"node[0].{key}" for key in ("id", "address", "kind", "capacity", "weight", "groups", "draining")],
        )
