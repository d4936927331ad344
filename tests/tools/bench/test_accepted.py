"""What is accepted, and when a run falls behind it."""

import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tools.bench.accepted import Accepted, accept, fallen_behind, read, write
from tools.bench.processes import BenchError
from tools.bench.report import Row

KEY = ("tcp-refresh", "rollcall")


def accepted(ratio: float, spread: float = 0.0, server: str = "rollcall", case: str = "tcp-refresh") -> Accepted:
    """A ratio that later runs have to keep."""
    return Accepted(case=case, server=server, ratio_kamailio=ratio, spread=spread)


def a_row(ratio: float | None, server: str = "rollcall") -> Row:
    """A measured one."""
    return Row(case="tcp-refresh", server=server, ratio_kamailio=ratio)


class AcceptedTests(SynchronousTestCase):
    """Ratios to keep."""

    def test_falls_behind(self) -> None:
        """A ratio that is worse by more than the rounds explain is named with what was accepted and measured."""
        (sentence,) = fallen_behind([accepted(0.70, 0.02)], [a_row(0.75)], {KEY: 0.04})
        for said in ("tcp-refresh on rollcall", "0.700", "0.750", "0.040"):
            self.assertIn(said, sentence)

    def test_within_the_rounds(self) -> None:
        """What this run's rounds explain, or those accepted did, is not held against it; better is never wrong."""
        for spreads, ratio in (({KEY: 0.06}, 0.75), ({}, 0.72), ({}, 0.5)):
            self.assertEqual(fallen_behind([accepted(0.70, 0.02)], [a_row(ratio)], spreads), [])

    def test_not_measured(self) -> None:
        """What a run leaves out says nothing."""
        self.assertEqual(fallen_behind([accepted(0.1), accepted(0.1, case="x")], [a_row(None)], {}), [])

    def test_accept(self) -> None:
        """Of a run our own ratios are accepted, with their spread; those of others are not ours to keep."""
        rows = [a_row(1.0, "kamailio"), a_row(0.3, "floor"), a_row(0.7), a_row(0.9, "rollcall-pure")]
        self.assertEqual(accept(rows, {KEY: 0.0301}), [accepted(0.7, 0.03), accepted(0.9, server="rollcall-pure")])

    def test_file(self) -> None:
        """A later run replaces what it measured and leaves the rest."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "accepted.json"
            write(path, {"cores": 2}, [accepted(0.9), accepted(0.8, server="rollcall-pure")])
            write(path, {"cores": 2}, [accepted(0.7)])
            self.assertEqual(read(path), [accepted(0.8, server="rollcall-pure"), accepted(0.7)])

    def test_not_such_a_file(self) -> None:
        """A file with something else is refused by its name."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "other.json"
            for text in ("{}", "[]", '{"accepted": [{"case": "x"}]}', "no"):
                path.write_text(text)
                self.assertIn("other.json", str(self.assertRaises(BenchError, read, path)))
