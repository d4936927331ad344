"""The arithmetic of the report, and its forms."""

import io
import json
import tempfile
from pathlib import Path

from attrs import evolve
from rich.console import Console
from rich.table import Table
from twisted.trial.unittest import SynchronousTestCase

from tests.tools.bench.samples import TALLY, a_holding, a_round
from tools.bench import report


class ReportTests(SynchronousTestCase):
    """The arithmetic between rounds and rows."""

    def test_medians_and_ratios(self) -> None:
        """A row holds the median of its rounds, and its ratios are those of medians within the case."""
        rounds = [a_round("kamailio", cost) for cost in (10.0, 30.0, 11.0)]
        rounds += [a_round("rollcall", cost, p99_us=p99) for cost, p99 in ((5.0, 100), (6.0, 900), (5.5, 300))]
        rounds += [a_round("floor", 2.75)]
        kamailio, rollcall, floor = report.rows(rounds, [], "kamailio", "floor")
        self.assertEqual((kamailio.cpu_us, kamailio.ratio_kamailio, kamailio.ratio_floor), (11.0, 1.0, 4.0))
        self.assertEqual((rollcall.cpu_us, rollcall.ratio_kamailio, rollcall.ratio_floor), (5.5, 0.5, 2.0))
        self.assertEqual((rollcall.p99_ms, rollcall.bytes_per_phone, floor.ratio_floor), (0.3, None, 1.0))

    def test_cases_are_not_mixed(self) -> None:
        """A ratio is never taken across cases; without the reference there is none."""
        rounds = [a_round("kamailio", 10.0), a_round("rollcall", 5.0, case="udp-refresh")]
        self.assertEqual([row.ratio_kamailio for row in report.rows(rounds, [], "kamailio", "floor")], [1.0, None])

    def test_memory(self) -> None:
        """A row of idle phones holds bytes and their ratio, and no CPU."""
        held = [a_holding("kamailio", 6400.0), a_holding("rollcall", 1500.0), a_holding("rollcall", 1700.0)]
        kamailio, rollcall = report.rows([], held, "kamailio", "floor")
        self.assertEqual((rollcall.bytes_per_phone, rollcall.ratio_kamailio, rollcall.cpu_us), (1600.0, 0.25, None))
        self.assertEqual(kamailio.bytes_per_phone, 6400.0)

    def test_spread(self) -> None:
        """The spread is the distance of the extremes over the median."""
        rounds = [a_round("kamailio", cost) for cost in (9.0, 10.0, 12.0)]
        self.assertEqual(report.spread(rounds), {("tcp-refresh", "kamailio"): 0.3})

    def test_complaints(self) -> None:
        """A run with a failure is named; a clean one is not."""
        bad = evolve(a_round("rollcall", 5.0), tally=evolve(TALLY, failed=1, statuses={"200": 9, "503": 1}))
        ((server, complaint),) = report.complaints([a_round("kamailio", 9.0), bad], [a_holding("kamailio", 1.0)])
        self.assertEqual(server, "rollcall")
        self.assertIn("tcp-refresh on rollcall", complaint)
        self.assertIn("503", complaint)

    def test_written_file(self) -> None:
        """The file holds rows with exactly the agreed keys, and the rounds behind them."""
        rounds = [a_round("kamailio", 10.0)]
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "new" / "bench.json"
            report.write(path, {"cores": 2}, report.rows(rounds, [], "kamailio", "floor"), rounds, [])
            read = json.loads(path.read_text())
        keys = {"case", "server", "cpu_us", "ratio_kamailio", "ratio_floor", "p99_ms", "bytes_per_phone"}
        self.assertEqual(set(read["rows"][0]), keys | {"p50_ms", "p999_ms"})
        self.assertEqual(read["rounds"][0]["tally"]["answered"], 10)

    def test_spread_of_ratios(self) -> None:
        """A round's ratio is to the reference's round of the same number, so that a mood of the machine cancels out."""
        rounds = [a_round("kamailio", cost) for cost in (10.0, 20.0)]
        rounds += [a_round("rollcall", cost) for cost in (5.0, 11.0)]
        held = [a_holding("kamailio", 4000.0), a_holding("rollcall", 1000.0)]
        found = report.ratio_spreads(rounds, held, "kamailio")
        self.assertAlmostEqual(found["tcp-refresh", "rollcall"], 0.025)
        self.assertEqual((found["tcp-refresh", "kamailio"], found["tcp-idle", "rollcall"]), (0.0, 0.0))

    def text_of(self, table: Table) -> str:
        """A table as a terminal shows it."""
        console = Console(width=140, record=True, file=io.StringIO())
        console.print(table)
        return console.export_text()

    def test_rates(self) -> None:
        """What a server answers in a second, and how many cores that keeps busy on both sides."""
        tally = evolve(TALLY, answered=120_000, seconds=1.0)
        rounds = [evolve(a_round("rollcall-2", 10.0), phones_us=5.0, tally=tally)]
        text = self.text_of(report.rates_table(rounds))
        self.assertRegex(text, r"rollcall-2\W+120000\W+10\.0\W+1\.20\W+5\.0\W+0\.60\W+2\.0")

    def test_returns(self) -> None:
        """How long the return of all phones took, in the median and at worst, and how many failed in all."""
        rounds = [
            evolve(a_round("kamailio", 50.0, case="tcp-return"), tally=evolve(TALLY, seconds=seconds, failed=1))
            for seconds in (1.0, 4.0, 2.0)
        ]
        self.assertRegex(self.text_of(report.returns_table(rounds)), r"2\.00\W+4\.00\W+0\.5\W+2\.0\W+3\W+50\.0")

    def test_table(self) -> None:
        """Each row is drawn once, and what was not measured as a dash."""
        rounds = [a_round("kamailio", 10.0), a_round("rollcall", 5.0)]
        made = report.rows(rounds, [a_holding("kamailio", 6400.0)], "kamailio", "floor")
        text = self.text_of(report.table(made, report.spread(rounds)))
        self.assertEqual(text.count("tcp-refresh"), 2)
        self.assertRegex(text, r"rollcall\W+5\.0\W+0\W+0\.50\W+–\W+0\.5\W+2\.0\W+3\.0")
        self.assertIn("6400", text)
