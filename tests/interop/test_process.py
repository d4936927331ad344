"""Tests of the harness's processes: what is said when a peer fails, and that none is left behind."""

import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.interop.process import InteropError, Process, free_ports, wait_until

ROOT = Path(__file__).resolve().parents[2]


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

    def test_killed_run(self) -> None:
        """A process does not outlive a test run that is killed."""
        program = "from tests.interop.process import Process; from pathlib import Path; import sys, time;"
        program += "print(Process(['sleep', '60'], Path(sys.argv[1])).pid, flush=True); time.sleep(60)"
        with tempfile.TemporaryDirectory() as folder:
            run = subprocess.Popen([sys.executable, "-c", program, f"{folder}/log"], stdout=subprocess.PIPE, cwd=ROOT)
            with run:
                assert run.stdout is not None
                child = int(run.stdout.readline())
                wait_until(lambda: _runs(child, "sleep") or None, "child that has begun", 5)
                run.kill()
            wait_until(lambda: _gone(child) or None, "end of the child", 5)

    def test_ports(self) -> None:
        """Ports are given once, in a row, below the kernel's own choices."""
        first, second = free_ports(3), free_ports(3)
        self.assertEqual(list(first), list(range(first[0], first[0] + 3)))
        self.assertFalse(set(first) & set(second))
        self.assertLess(max(first + second), 32768)


def _runs(pid: int, name: str) -> bool:
    return Path(f"/proc/{pid}/comm").read_text().strip() == name


def _gone(pid: int) -> bool:
    try:
        return "State:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return True
