"""The comparison of name servers: what it asks, that ours is asked and answers, and the lines of its tables."""

import subprocess
import sys

import dns.message
from twisted.trial.unittest import SynchronousTestCase

from tools.bench.processes import BenchError, free_port
from tools.measure_dns import ASKING, CASES, Case, Round, ask, measure, row, serving


class MeasureTests(SynchronousTestCase):
    def setUp(self) -> None:
        subprocess.run(["make", "--quiet", "-C", str(ASKING.parent.parent), "build/dns"], check=True)

    def test_queries(self) -> None:
        """Queries are written one behind another, those for subnets end with the subnet."""
        data = CASES[2].queries()
        length = int.from_bytes(data[:2])
        query = dns.message.from_wire(data[2:2 + length])
        self.assertEqual((query.edns, len(query.options), data[2 + length - 3:2 + length]), (0, 1, b"\x0a\0\0"))

    def test_ours(self) -> None:
        """Our server answers each kind of question right, and that takes CPU."""
        words = [sys.executable, "-m", "tools.measure_dns", "--serve", "{port}", "--split"]
        with serving("Rollcall", words, {}) as served:
            for case in CASES:
                found = measure(case, served.port, served.pid, 0.1)
                self.assertGreater(found.answered, 100)
                self.assertEqual(found.wrong, 0)
                self.assertGreater(found.per_cpu_second, 1000)

    def test_nobody(self) -> None:
        """A server that does not answer, or an address that is not on loopback, is told."""
        with self.assertRaises(BenchError):
            ask(CASES[0], free_port(), 0.1)
        said = subprocess.run([ASKING, "192.0.2.1", "53", "1", "letters"], input=CASES[0].queries(), check=False,
                              capture_output=True)
        self.assertEqual((said.returncode, said.stderr), (1, b"only an address of 127.0.0.0/8 is asked\n"))
        with self.assertRaises(BenchError):
            ask(Case("none", "letters", ()), 53, 0.1)

    def test_row(self) -> None:
        """A line has the median, how far the rounds lie apart, and the ratio to the best."""
        rounds = [Round(count, 1, 0, 1.0, 100.0, 1.0) for count in (90_000, 100_000, 110_000)]
        self.assertEqual(row("ours", rounds, 200_000),
                         "| ours | 100,000 ± 10% | 10.00 | 0.50 | 100,000 | 100 | 3 | 0 |")
