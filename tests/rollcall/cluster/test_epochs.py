"""Which life of a node this is."""

from pathlib import Path
from tempfile import TemporaryDirectory

from twisted.trial.unittest import SynchronousTestCase

from rollcall.cluster.epochs import next_epoch, remember_epoch


class NextEpochTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.file = Path(self.enterContext(TemporaryDirectory())) / "epoch"

    def test_first(self) -> None:
        """The first life is called after the time of its start, in milliseconds."""
        self.assertEqual(next_epoch(self.file, 1000.5), 1_000_500)

    def test_rises(self) -> None:
        """No life has the epoch of one before, not even in the same millisecond or when the clock has gone back."""
        epochs = [next_epoch(self.file, now) for now in (1000.0, 1000.0, 900.0, 1000.5)]
        self.assertEqual(epochs, [1_000_000, 1_000_001, 1_000_002, 1_000_500])

    def test_remembered(self) -> None:
        """Of an epoch that others know of the next life is told."""
        remember_epoch(self.file, 5_000_000)
        self.assertEqual([next_epoch(self.file, 1000.0) for _ in range(2)], [5_000_001, 5_000_002])

    def test_damaged(self) -> None:
        """A file that cannot be understood keeps nobody from starting."""
        self.file.write_text("no number\n")
        self.assertEqual(next_epoch(self.file, 1.0), 1000)
