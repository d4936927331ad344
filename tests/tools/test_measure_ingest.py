"""Tests of tools/measure_ingest.py."""

from twisted.trial.unittest import SynchronousTestCase

from tools.measure_ingest import ways


class MeasureIngestTests(SynchronousTestCase):
    def test_ways(self) -> None:
        """Each part is measured, and the whole takes longer than its beginning."""
        took = dict(ways(packets=200, rounds=3))
        self.assertEqual(len(took), 5)
        self.assertTrue(0 < took["chunks of the packet"] < took["all of it: sender, bounds, counts, JSON"], took)
