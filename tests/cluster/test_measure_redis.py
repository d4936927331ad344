"""Tests of tools/measure_redis.py: that it measures what it says. What it has found stands in docs/measurements.md."""

import json

from click.testing import CliRunner
from twisted.trial.unittest import SynchronousTestCase

from tools.measure_redis import BATCHES, Found, main


class MeasureTests(SynchronousTestCase):
    def test_all_batches(self) -> None:
        """Each size of batch is measured over a real Redis, and many at once cost less than one by one."""
        printed = CliRunner().invoke(main, ["--bindings", "1000", "--json"], catch_exceptions=False).output
        found = [Found(**each) for each in json.loads(printed)]
        self.assertEqual([each.batch for each in found], list(BATCHES))
        self.assertTrue(all(0 < each.ours <= each.elapsed for each in found), found)
        self.assertLess(found[2].ours, found[0].ours / 3)
