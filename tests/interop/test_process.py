"""Tests of the harness's processes: what is said when a peer fails, and that none is left behind."""

import signal
import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.interop.process import InteropError, Process, free_ports, wait_until


class ProcessTests(SynchronousTestCase):
    """Shells in the place of phones."""

    def run_shell(self, script: str) -> Process:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        process = Process(["sh", "-c", script], Path(folder.name) / "log")
        self.addCleanup(process.end, signal.SIGKILL)
        return process

    def test_text(self) -> None:
        """What it writes can be waited for."""
        self.run_shell("echo ready; sleep 60").wait_for_text("ready")

    def test_silence(self) -> None:
        """A process that stays silent is reported with what it did write."""
        process = self.run_shell("echo busy; sleep 60")
        process.wait_for_text("busy")
        error = self.assertRaises(InteropError, process.wait_for_text, "ready", 0.1)
        self.assertIn("gave no 'ready' in its log in 0.1 s", str(error))
        self.assertIn("busy", str(error))

    def test_early_end(self) -> None:
        """A process that ends while one waits is reported at once, with its status."""
        error = self.assertRaises(InteropError, self.run_shell("exit 3").wait_for_text, "ready")
        self.assertIn("ended with 3 before", str(error))

    def test_status(self) -> None:
        """The exit status is given, and one that never comes is an error."""
        self.assertEqual(self.run_shell("exit 4").wait(5), 4)
        self.assertRaises(InteropError, self.run_shell("sleep 60").wait, 0.1)

    def test_children(self) -> None:
        """Ending a process ends its children."""
        process = self.run_shell("sleep 60 & echo $!; wait")
        child = int(process.wait_until(lambda: process.text().strip() or None, "a child"))
        process.end()
        wait_until(lambda: _gone(child) or None, "end of the child", 5)

    def test_ports(self) -> None:
        """Ports are given once, in a row, below the kernel's own choices."""
        first, second = free_ports(3), free_ports(3)
        self.assertEqual(list(first), list(range(first[0], first[0] + 3)))
        self.assertFalse(set(first) & set(second))
        self.assertLess(max(first + second), 32768)


def _gone(pid: int) -> bool:
    try:
        return "State:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return True
