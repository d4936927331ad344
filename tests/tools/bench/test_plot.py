"""The picture of a result."""

from xml.etree import ElementTree

from twisted.trial.unittest import SynchronousTestCase

from tools.bench.plot import LEFT, RIGHT, WIDTH, svg
from tools.bench.report import Row

ROWS = [
    Row(case="tcp-refresh", server="kamailio", cpu_us=10.0, ratio_kamailio=1.0),
    Row(case="tcp-refresh", server="rollcall", cpu_us=7.0, ratio_kamailio=0.7),
    Row(case="tcp-refresh", server="rollcall-pure", cpu_us=100.0, ratio_kamailio=10.0),
    Row(case="tcp-idle", server="rollcall", bytes_per_phone=500.0, ratio_kamailio=0.08),
    Row(case="udp-new", server="rollcall", cpu_us=7.0),
]


class PlotTests(SynchronousTestCase):
    """Bars in Kamailio's measure."""

    def setUp(self) -> None:
        self.tree = ElementTree.fromstring(svg(ROWS, "a < b"))
        self.texts = ["".join(element.itertext()) for element in self.tree.iter() if element.tag.endswith("text")]

    def test_texts(self) -> None:
        """Each case is named once, each bar has its ratio and its figure; what has no ratio is not drawn."""
        self.assertIn("a < b", self.texts)
        self.assertEqual(self.texts.count("tcp-refresh"), 1)
        self.assertIn("0.70 × (7.0 µs)", self.texts)
        self.assertIn("0.08 × (500 bytes)", self.texts)
        self.assertNotIn("udp-new", self.texts)

    def test_lengths(self) -> None:
        """A bar is as long as its ratio; one beyond the edge ends there."""
        bars = [element for element in self.tree.iter() if element.tag.endswith("rect")][1:]
        kamailio, rollcall, pure, _ = (float(bar.attrib["width"]) for bar in bars)
        self.assertAlmostEqual(rollcall / kamailio, 0.7, places=2)
        self.assertEqual(pure, WIDTH - LEFT - RIGHT)
