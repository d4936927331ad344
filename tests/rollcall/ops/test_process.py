"""Tests for rollcall.ops.process, against prometheus_client's own collector and a /proc of an older kernel."""

import os
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace

import prometheus_client
from prometheus_client.registry import Collector
from twisted.trial.unittest import SynchronousTestCase

from rollcall.ops.process import ProcessCollector


def told(collector: Collector) -> dict[str, tuple[str, str, float]]:
    """Return type, help and value of what a collector tells."""
    return {metric.samples[0].name: (metric.type, metric.documentation, metric.samples[0].value)
            for metric in collector.collect()}


class ProcessTests(SynchronousTestCase):
    def test_as_everybody_tells_it(self) -> None:
        """Names, types and words are those of Prometheus' own client, and so are the values."""
        ours, theirs = told(ProcessCollector()), told(prometheus_client.ProcessCollector(registry=None))
        self.assertEqual({name: each[:2] for name, each in ours.items()},
                         {name: each[:2] for name, each in theirs.items()})
        for name, (_, _, value) in theirs.items():
            self.assertLessEqual(abs(ours[name][2] - value), max(0.1 * value, 2.0), name)

    def test_descriptors(self) -> None:
        """Open descriptors are counted, whether or not the kernel keeps their number."""
        before = told(ProcessCollector())["process_open_fds"][2]
        ours, theirs = os.pipe()
        self.addCleanup(os.close, ours)
        self.addCleanup(os.close, theirs)
        self.assertEqual(told(ProcessCollector())["process_open_fds"][2], before + 2)

    def test_older_kernels(self) -> None:
        """Where the directory has no size its entries are counted."""
        proc = Path(self.enterContext(TemporaryDirectory()))
        (proc / "self").mkdir()
        (proc / "self" / "stat").symlink_to("/proc/self/stat")
        (proc / "stat").symlink_to("/proc/stat")
        (proc / "self" / "fd").mkdir()
        for name in ("0", "1", "2"):
            (proc / "self" / "fd" / name).touch()
        self.patch(os, "stat", lambda path: SimpleNamespace(st_size=0))
        self.assertEqual(told(ProcessCollector(proc))["process_open_fds"][2], 3)

    def test_nothing_to_read(self) -> None:
        """Without /proc nothing is told, and the page is whole all the same."""
        self.assertEqual(told(ProcessCollector(Path("/nonexistent"))), {})
