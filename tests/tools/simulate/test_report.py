"""The table and the picture of results."""

from xml.etree import ElementTree

from twisted.trial.unittest import SynchronousTestCase

from tests.tools.simulate.test_scoring import a_result
from tools.simulate.plot import svg
from tools.simulate.report import tables
from tools.simulate.scoring import Result

RESULTS = [
    *(a_result("quality", seed, bad=0.05, world=world) for seed in range(3) for world in ("one", "two")),
    *(a_result("hash", seed, bad=0.15 + seed / 100, world=world, peak=0.9) for seed in range(3)
      for world in ("one", "two")),
]


class TableTests(SynchronousTestCase):
    """A table for each world."""

    def test_rows(self) -> None:
        """Each policy has a row with its figures, and all but the reference their differences to it."""
        lines = tables(RESULTS, "quality").splitlines()
        self.assertEqual([line for line in lines if line.startswith("#")],
                         ["### one (3 seeds, 10 calls each)", "### two (3 seeds, 10 calls each)"])
        ours, theirs = (next(line for line in lines if line.startswith(f"| {name} ")) for name in ("quality", "hash"))
        self.assertIn("| 5.00 % |  |", ours)
        self.assertIn("| 16.00 % | +11.00 [+10.00, +12.00] |", theirs)
        self.assertIn("| 0.900 | +0.100 [+0.100, +0.100] |", theirs)

    def test_width(self) -> None:
        """All rows of a table have as many cells as its head."""
        self.assertEqual({line.count("|") for line in tables(RESULTS, "quality").splitlines() if "|" in line}, {10})


class PictureTests(SynchronousTestCase):
    """Bad calls over peak load."""

    def setUp(self) -> None:
        self.tree = ElementTree.fromstring(svg(RESULTS))

    def spots(self, results: list[Result]) -> dict[str, tuple[float, float]]:
        tree = ElementTree.fromstring(svg(results))
        return {"".join(circle.itertext()).strip(): (float(circle.attrib["cx"]), float(circle.attrib["cy"]))
                for circle in tree.iter() if circle.tag.endswith("circle") and "".join(circle.itertext()).strip()}

    def test_worlds_and_policies(self) -> None:
        """Each world has its panel, and each policy is named in the key."""
        texts = ["".join(element.itertext()) for element in self.tree.iter() if element.tag.endswith("text")]
        for name in ("one", "two", "quality", "hash"):
            self.assertEqual(texts.count(name), 1)

    def test_places(self) -> None:
        """Who has more bad calls is higher up, and who has the higher peak further right."""
        spots = self.spots([each for each in RESULTS if each.world == "one"])
        self.assertGreater(spots["quality"][1], spots["hash"][1])
        self.assertLess(spots["quality"][0], spots["hash"][0])

    def test_within_the_panel(self) -> None:
        """A peak beyond the axis is drawn at its end."""
        spots = self.spots([a_result("far", 1, peak=7.0), a_result("near", 1, peak=0.0)])
        self.assertEqual(spots["far"][0] - spots["near"][0], 400.0)
