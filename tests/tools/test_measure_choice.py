"""The measurement of what choices and reports cost, in small."""

from click.testing import CliRunner
from twisted.trial.unittest import SynchronousTestCase

from tools.measure_choice import choices, heard, main


class MeasureChoiceTests(SynchronousTestCase):
    def test_choices(self) -> None:
        """A choice for which all has to be worked out takes longer than a later one."""
        first, later = choices(50, 0.4)
        self.assertTrue(0.0 < later < first)

    def test_reports(self) -> None:
        """Reports of all calls count."""
        each, share = heard(20, 2)
        self.assertTrue(each > 0.0 and share > 0.0)

    def test_printed(self) -> None:
        """The command prints a line for each size and load, and one for reports."""
        lines = CliRunner().invoke(main, ["--calls", "10"]).output.splitlines()
        self.assertEqual(len(lines), 7)
        self.assertTrue(all("µs" in line for line in lines))
