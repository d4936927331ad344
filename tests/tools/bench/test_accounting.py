"""What the bench reads of processes, and that it ends those that it started."""

import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tools.bench import accounting
from tools.bench.accounting import Memory
from tools.bench.processes import end, running


class AccountingTests(SynchronousTestCase):
    """What the files under /proc say."""

    def test_parent_and_start(self) -> None:
        """A program's name may hold blanks and parentheses."""
        stat = "42 (a) b (c) S 7 42 41 0 -1 4194560 1 0 0 0 5 6 0 0 20 0 1 0 98765 1000 10"
        self.assertEqual((accounting.parse_parent(stat), accounting.parse_started(stat)), (7, 98765))
        self.assertEqual(accounting.parse_session(stat), 41)

    def test_on_cpu(self) -> None:
        """The first number of schedstat is the time on the CPU."""
        self.assertEqual(accounting.parse_on_cpu("123456789 42 7\n"), 123456789)

    def test_memory(self) -> None:
        """Proportional memory is Pss; private memory is clean and dirty."""
        text = (
            "55-7f ---p 00000000 00:00 0 [rollup]\nRss: 90 kB\nPss: 40 kB\nPrivate_Clean: 3 kB\nPrivate_Dirty: 30 kB\n"
        )
        self.assertEqual(accounting.parse_memory(text), Memory(40 * 1024, 33 * 1024))

    def test_family(self) -> None:
        """A process's children count with it, and are gone once it was ended."""
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            with running(["sh", "-c", "sleep 60 & wait"], core=0, log=folder / "log", folder=folder) as process:
                while len(accounting.family(process.pid)) < 2:
                    self.assertIsNone(process.poll())
                family = accounting.family(process.pid)
                self.assertGreater(accounting.cpu_microseconds(family), 0)
                self.assertGreater(accounting.memory(family).private, 0)
            end(process)
        self.assertEqual([pid for pid in family if accounting.started_at(pid) is not None], [])
