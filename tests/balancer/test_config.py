"""The balancer's configuration: the example that operators copy, and mistakes that are named."""

import re
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, get_args

import attrs
from twisted.trial.unittest import SynchronousTestCase

from balancer.config import BalancerConfig
from balancer.nodes.config import NodeConfig
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
# What has no default that could be written down: the example shows what one may look like.
ILLUSTRATED = {
    "node.id", "node.address", "ingest.hep_udp", "ingest.hep_tcp", "ingest.rtcp", "access.prefix_file",
    "access.asn_file", "access.country_file", "quality.prior", "standby.name", "log.levels", "log.file",
    "redirect.udp", "redirect.tcp",
}
# In the file these are read from a file of their own.
SECRETS = {"ingest": "auth_key", "admin": "token"}


def sections() -> dict[str, Any]:
    """Return the class of each section by its name in the file, but for [tenants], which has no settings."""
    attrs.resolve_types(BalancerConfig)
    types: dict[str, Any] = {str(field.alias): field.type for field in attrs.fields(BalancerConfig)}
    del types["tenants"]
    return {name: kind if attrs.has(kind) else get_args(kind)[0] for name, kind in types.items()}


def keys(cls: Any) -> dict[str, str]:
    """Return the names of a section's settings in the code by those in the file."""
    return {str(field.alias): field.name for field in attrs.fields(cls)}


class ExampleTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Put the example, with everything uncommented, where the files of its secrets are."""
        self.directory = Path(self.enterContext(TemporaryDirectory()))
        self.text = re.sub(r'(?m)^# ([\w".:@]+ = |\[)', r"\1", EXAMPLE.read_text())
        for name in re.findall(r'_file = "([\w.]+\.(?:key|token|password))"', self.text):
            (self.directory / name).write_text("t0p\n")
        self.path = self.directory / "balancer.toml"
        self.path.write_text(self.text)

    def test_as_it_stands(self) -> None:
        """The example is good as it is, and sets nothing but nodes."""
        config, least = load(EXAMPLE, BalancerConfig), loads("", BalancerConfig, EXAMPLE)
        for name, value in attrs.asdict(config, recurse=False).items():
            if name != "nodes":
                self.assertEqual(value, getattr(least, name), name)
        self.assertEqual([node.id for node in config.nodes], ["media1", "media2"])

    def test_defaults(self) -> None:
        """Every setting that is commented out has the value that it has without the line."""
        shown, least = load(self.path, BalancerConfig), loads("", BalancerConfig, self.path)
        fields = {str(field.alias): field.name for field in attrs.fields(BalancerConfig)}
        for section, cls in sections().items():
            if section == "node":
                continue
            for key, name in keys(cls).items():
                if f"{section}.{key}" not in ILLUSTRATED and key != SECRETS.get(section):
                    value, default = (getattr(getattr(each, fields[section]), name) for each in (shown, least))
                    self.assertEqual(value, default, f"{section}.{key}")
        plain = NodeConfig(id="m", address="192.0.2.1:1")
        for key, name in keys(NodeConfig).items():
            if f"node.{key}" not in ILLUSTRATED:
                self.assertEqual(getattr(shown.nodes[0], name), getattr(plain, name), f"node.{key}")

    def test_nothing_is_missing(self) -> None:
        """Every setting that there is stands in the example, in its section; of Redis those that most need."""
        shown: dict[str, set[str]] = {}
        section = ""
        for line in self.text.splitlines():
            if found := re.match(r"\[+(\w+)\]+", line):
                section = found[1]
            elif found := re.match(r"(\w+) = ", line):
                shown.setdefault(section, set()).add(found[1])
        known = {section: set(keys(cls)) for section, cls in sections().items()}
        for section, secret in SECRETS.items():
            known[section].symmetric_difference_update({secret, f"{secret}_file"})
        for section in (known | shown).keys() - {"redis"}:
            self.assertEqual(shown.get(section), known.get(section), section)
        self.assertIn("addresses", shown["redis"])
        self.assertEqual(shown["redis"] - known["redis"], set())

    def test_tenants(self) -> None:
        """Tenants are names with groups: of a domain, of an AOR, of the calls within a domain."""
        tenants = load(self.path, BalancerConfig).tenants
        self.assertEqual(tenants, {"example.com": "gold", "sip:robot@example.com": "outbound",
                                   "internal:example.com": "internal"})

    def test_secrets(self) -> None:
        """What is secret stands in files of its own, and is shown nowhere."""
        config = load(self.path, BalancerConfig)
        self.assertEqual((config.admin.token, config.ingest.auth_key), ("t0p", "t0p"))
        self.assertNotIn("t0p", repr(config))


class BalancerConfigTests(SynchronousTestCase):
    def mistakes(self, text: str) -> list[str]:
        """Return the keys of what is wrong."""
        error = self.assertRaises(ConfigError, loads, text, BalancerConfig)
        return [problem.key for problem in error.problems]

    def test_nodes(self) -> None:
        """Nodes are read with their defaults; the admin site has a port beside the registrar's."""
        config = loads(NODES, BalancerConfig)
        first, second = config.nodes
        self.assertEqual(
            (first.kind, first.capacity, first.groups, first.draining), ("rtpengine", 1000, ("general",), False))
        self.assertEqual(
            (second.kind, second.capacity, second.groups, second.draining), ("freeswitch", 1800, ("gold",), True))
        self.assertEqual((config.admin.host, config.admin.port), ("127.0.0.1", 8061))

    def test_no_nodes(self) -> None:
        """A balancer may begin without nodes: they announce themselves."""
        self.assertEqual(loads("", BalancerConfig).nodes, ())

    def test_the_same_id_twice(self) -> None:
        """Two nodes cannot have the same id."""
        self.assertEqual(self.mistakes(NODES.replace("m2", "m1")), ["node"])

    def test_bad_tenants(self) -> None:
        """A tenant's group is a name."""
        self.assertEqual(self.mistakes('[tenants]\n"example.com" = "a b"\n'), ["tenants"])
        self.assertEqual(self.mistakes('[tenants]\n"example.com" = 7\n'), ["tenants.example.com"])

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
