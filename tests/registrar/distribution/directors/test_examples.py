"""The examples in etc/ are what is written of those in etc/directors."""

from twisted.trial.unittest import SynchronousTestCase

from tools.directors_examples import ETC, examples

FOLDERS = ("keepalived", "haproxy", "nftables", "sysctl.d")


class ExampleTests(SynchronousTestCase):
    def test_equal(self) -> None:
        """Every file is as it would be written now: else run python -m tools.directors_examples."""
        for path, text in examples().items():
            self.assertEqual(path.read_text(), text, path)

    def test_no_others(self) -> None:
        """There is no file that is not written."""
        there = {path for folder in FOLDERS for path in (ETC / folder).iterdir()}
        self.assertEqual(there, set(examples()))
