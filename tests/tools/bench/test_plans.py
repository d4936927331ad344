"""What a measurement consists of."""

import os
import platform
import sys
import tempfile
from pathlib import Path
from unittest import mock

from click.testing import CliRunner
from twisted.trial.unittest import SynchronousTestCase

from tools.bench import plans
from tools.bench.cases import SATURATED_CASES
from tools.bench.command import main
from tools.bench.plans import Plan, taking_part
from tools.bench.processes import BenchError
from tools.bench.servers import configured, describe_python, interpreter

PLAN = Plan(rounds=1, seconds=1.0)


class PlanTests(SynchronousTestCase):
    """Which cases, and which servers in them."""

    def names(self, case: str, transport: str, plan: Plan = PLAN) -> list[str]:
        """Those that take part."""
        return [server.name for server in taking_part(case, transport, plan)]

    def test_six_ways_are_always_measured(self) -> None:
        """Refresh, digest and new phones, over TCP and UDP, are in the short form and in the whole."""
        six = {f"{transport}-{way}" for transport in ("tcp", "udp") for way in ("refresh", "digest", "new")}
        self.assertEqual({case.name for case in SATURATED_CASES}, six)
        self.assertTrue(six < set(plans.SHORT) < set(plans.WHOLE) < set(plans.NAMES))

    def test_servers(self) -> None:
        """Bindings on disk are compared over UDP only, and rates with one Kamailio; who is named takes part."""
        self.assertNotIn("rollcall-sqlite", self.names("tcp-refresh", "tcp"))
        self.assertIn("rollcall-sqlite", self.names("udp-refresh", "udp"))
        self.assertEqual(self.names("tcp-sparse", "tcp"), ["floor", "kamailio", "rollcall", "rollcall-pure"])
        named = Plan(rounds=1, seconds=1.0, servers=("rollcall-sqlite", "kamailio-2"))
        self.assertEqual(self.names("tcp-sparse", "tcp", named), ["rollcall-sqlite", "kamailio-2"])


class ServerTests(SynchronousTestCase):
    """How Rollcall is started."""

    def test_configuration(self) -> None:
        """Workers are named only if there are several, the port is shared only without metrics."""
        alone, several = configured(5, 6, True, "memory", 1), configured(5, 0, False, "sqlite", 3)
        self.assertNotIn("workers", alone)
        self.assertIn("required = true", alone)
        self.assertIn("workers = 3", several)
        self.assertEqual((alone.count("reuse_port = false"), several.count("reuse_port = true")), (2, 2))

    def test_python(self) -> None:
        """The bench's own Python runs Rollcall, or that of another environment; one without Twisted is refused."""
        with mock.patch.dict(os.environ, {"BENCH_PYTHON": ""}):
            self.assertEqual(interpreter(), Path(sys.executable))
            told = describe_python()
        self.assertEqual(told["interpreter"], os.path.realpath(sys.executable))
        self.assertTrue(told["python"].startswith(platform.python_version()))
        with tempfile.TemporaryDirectory() as folder, mock.patch.dict(os.environ, {"BENCH_PYTHON": f"{folder}/python"}):
            self.assertIn(folder, str(self.assertRaises(BenchError, interpreter)))


class CommandTests(SynchronousTestCase):
    """The command line."""

    def test_register_is_meant(self) -> None:
        """An option without a command is one of `register`: a file to check against has to be there."""
        ended = CliRunner().invoke(main, ["--check", "no-such-file"])
        self.assertEqual(ended.exit_code, 2)
        self.assertIn("no-such-file", ended.output)

    def test_file_is_read_first(self) -> None:
        """A file that holds no accepted ratios ends the command before anything is measured."""
        with tempfile.NamedTemporaryFile(suffix=".json") as other:
            ended = CliRunner().invoke(main, ["register", "--check", other.name])
        self.assertEqual(ended.exit_code, 1)
        self.assertIn("does not hold accepted ratios", ended.output)
