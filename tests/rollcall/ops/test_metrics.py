"""Metrics: plain cells, and the page that Prometheus reads."""

from prometheus_client.parser import text_string_to_metric_families
from twisted.trial.unittest import SynchronousTestCase

from rollcall.ops.metrics import CONTENT_TYPE, Metrics


class MetricsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.metrics = Metrics(process=False)

    def samples(self) -> dict[tuple[str, tuple[str, ...]], float]:
        """Return every sample of the page as {(name, label values): value}, read by Prometheus' own parser."""
        families = text_string_to_metric_families(self.metrics.render().decode())
        return {
            (sample.name, tuple(sample.labels.values())): sample.value
            for family in families
            for sample in family.samples
        }

    def test_counter(self) -> None:
        """A counter's cell counts for its own label values."""
        answers = self.metrics.counter("answers_total", "Answers sent", ["method", "status"])
        answers.cell("REGISTER", "200").add()
        answers.cell("REGISTER", "200").add(2)
        answers.cell("INVITE", "404").value += 1
        self.assertEqual(
            self.samples(),
            {("answers_total", ("REGISTER", "200")): 3, ("answers_total", ("INVITE", "404")): 1},
        )

    def test_counter_without_labels_is_there_from_the_start(self) -> None:
        """A counter without labels is exported as 0 before anything happened, so that rate() sees the first event."""
        self.metrics.counter("restarts_total", "Restarts")
        self.assertEqual(self.samples(), {("restarts_total", ()): 0})

    def test_the_same_labels_give_the_same_cell(self) -> None:
        """A cell may be kept: it is the one that the next caller gets."""
        family = self.metrics.counter("kept_total", "Kept", ["a"])
        self.assertIs(family.cell("x"), family.cell("x"))

    def test_labels_are_bounded(self) -> None:
        """Beyond the limit new label values share the cell "other", and known ones keep theirs."""
        family = self.metrics.counter("methods_total", "Methods", ["method"], limit=2)
        for method in ("INVITE", "BYE", "EVIL1", "EVIL2", "INVITE"):
            family.cell(method).add()
        self.assertEqual(
            self.samples(),
            {
                ("methods_total", ("INVITE",)): 2,
                ("methods_total", ("BYE",)): 1,
                ("methods_total", ("other",)): 2,
            },
        )

    def test_wrong_number_of_labels(self) -> None:
        """A cell asked for with too few label values is a mistake of ours and says so."""
        family = self.metrics.counter("pairs_total", "Pairs", ["a", "b"])
        self.assertRaises(ValueError, family.cell, "x")

    def test_histogram(self) -> None:
        """A histogram exports cumulative buckets with inclusive upper bounds, the count and the sum."""
        latency = self.metrics.histogram("latency_seconds", "Latency", bounds=(0.1, 1)).cell()
        for seconds in (0.05, 0.1, 0.5, 7):
            latency.observe(seconds)
        samples = self.samples()
        buckets = {labels[0]: value for (name, labels), value in samples.items() if name == "latency_seconds_bucket"}
        self.assertEqual(buckets, {"0.1": 2, "1": 3, "+Inf": 4})
        self.assertEqual(samples["latency_seconds_count", ()], 4)
        self.assertAlmostEqual(samples["latency_seconds_sum", ()], 7.65)

    def test_gauge_is_read_at_each_scrape(self) -> None:
        """A gauge shows what its function returns at the time of the scrape."""
        flows = {("TCP",): 1.0}
        self.metrics.gauge("flows", "Open flows", ["transport"], lambda: flows)
        self.metrics.gauge("bindings", "Bindings", (), lambda: len(flows))
        self.assertEqual(self.samples(), {("flows", ("TCP",)): 1, ("bindings", ()): 1})
        flows["UDP",] = 5
        self.assertEqual(self.samples()["flows", ("UDP",)], 5)

    def test_total_is_exported_as_a_counter(self) -> None:
        """A sum kept elsewhere is exported with the type counter."""
        self.metrics.total("bytes_total", "Bytes", ["way"], lambda: {("in",): 10, ("out",): 20})
        self.assertIn(b"# TYPE bytes_total counter\n", self.metrics.render())
        self.assertEqual(self.samples(), {("bytes_total", ("in",)): 10, ("bytes_total", ("out",)): 20})

    def test_one_broken_reading_hides_no_other(self) -> None:
        """A reading that raises is logged and left out; the page comes nevertheless."""
        self.metrics.gauge("broken", "Broken", (), lambda: 1 / 0)
        self.metrics.gauge("sound", "Sound", (), lambda: 1)
        self.assertEqual(self.samples(), {("sound", ()): 1})
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_counts_from_elsewhere_are_brought_in_first(self) -> None:
        """Who counts by himself is asked before each page, and hides nothing when he breaks."""
        cell = self.metrics.counter("answers_total", "Answers sent").cell()
        self.metrics.settle_by(list[None]().pop)
        self.metrics.settle_by(cell.add)
        self.assertEqual([self.samples()["answers_total", ()] for _ in range(2)], [1, 2])
        self.assertEqual(len(self.flushLoggedErrors(IndexError)), 2)

    def test_a_name_is_counted_once(self) -> None:
        """The same name twice would make the page invalid and is refused."""
        self.metrics.counter("twice_total", "Twice")
        self.assertRaises(ValueError, self.metrics.counter, "twice_total", "Twice")

    def test_names_that_prometheus_refuses(self) -> None:
        """A counter without "_total" and a label that is no label are refused when they are declared."""
        self.assertRaises(ValueError, self.metrics.counter, "answers", "Answers")
        self.assertRaises(ValueError, self.metrics.gauge, "flows", "Flows", ["__reserved"], dict)
        self.assertEqual(self.samples(), {})

    def test_label_values_are_escaped(self) -> None:
        """A quote, a backslash or a new line in a label value cannot break the page."""
        self.metrics.counter("odd_total", "Odd", ["value"]).cell('a"b\\c\nd').add()
        self.assertEqual(self.samples(), {("odd_total", ('a"b\\c\nd',)): 1})

    def test_process_metrics(self) -> None:
        """The page tells the CPU time, memory and collections of the process itself."""
        page = Metrics().render()
        for name in (b"process_cpu_seconds_total", b"process_resident_memory_bytes", b"python_gc_collections_total"):
            self.assertIn(name, page)
        self.assertIn("version=0.0.4", CONTENT_TYPE)
