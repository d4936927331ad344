"""What an avalanche tells."""

import os
import time

from twisted.trial.unittest import SynchronousTestCase

from tools.laboratory.avalanche import Avalanche, cpu_seconds
from tools.laboratory.churn import resident_bytes


class AvalancheTests(SynchronousTestCase):
    """The figures and where they come from."""

    def test_lines(self) -> None:
        """Everything that was counted is told."""
        told = "\n".join(Avalanche(
            way="kill", moved=2000, took=1.25, away=[0.5, 0.75], asked=[0.25], cpu={"registrar-1": 0.5}, calls=90,
            answers={"200": 8000, "401": 6000}, waited=7, cut_off=3, failed=["call 8: 503"]).lines())
        for figure in ("2000 phones", "1.25 s", "longest 750 ms", "longest 250 ms", "registrar-1 0.50 s", "8000 × 200",
                       "6000 × 401", "calls: 90", "7 waited", "3 lost", "1 failed"):
            self.assertIn(figure, told)

    def test_cpu(self) -> None:
        """A process that works uses its processor, by what the kernel has counted."""
        before, ends_at = cpu_seconds(os.getpid()), time.process_time() + 0.1
        while time.process_time() < ends_at:
            pass
        self.assertGreaterEqual(cpu_seconds(os.getpid()), before + 0.05)

    def test_memory(self) -> None:
        """A process that keeps more has more."""
        before = resident_bytes(os.getpid())
        kept = bytearray(os.urandom(16 << 20))
        self.assertGreater(resident_bytes(os.getpid()), before + len(kept) // 2)
