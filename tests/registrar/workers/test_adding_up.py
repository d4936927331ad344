"""One page of metrics for several processes: what each of them counts is added up, or the largest is taken."""

from functools import partial

from prometheus_client.parser import text_string_to_metric_families
from twisted.trial.unittest import SynchronousTestCase

from registrar.workers.adding_up import added_up
from rollcall.ops.metrics import Metrics


def a_page(count: int, longest: float, process: bool = False) -> str:
    """Return the page of a process that has counted something."""
    metrics = Metrics(process)
    counter = metrics.counter("rollcall_things_total", "Things.", ("kind",))
    counter.cell("common").add(count)
    counter.cell(f'only "{count}"\n').add(1)
    metrics.histogram("rollcall_wait_seconds", "Waits.", ("of",), (1.0, 2.0)).cell("x").observe(count)
    metrics.gauge("rollcall_here", "What is here.", (), lambda: count)
    metrics.gauge("rollcall_turn_longest_seconds", "The longest turn.", (), lambda: longest)
    return metrics.render().decode()


def samples(page: bytes) -> dict[tuple[str, ...], float]:
    """Return the values of a page by name and label values."""
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(page.decode()) for sample in family.samples
    }


class AddedUpTests(SynchronousTestCase):
    def test_sums(self) -> None:
        """Counters, the buckets of histograms and what is here are added up; what only one has is there as it is."""
        found = samples(added_up([a_page(1, 0.5), a_page(2, 0.25)]))
        for name, value in {
            ("rollcall_things_total", "common"): 3, ("rollcall_things_total", 'only "1"\n'): 1,
            ("rollcall_things_total", 'only "2"\n'): 1, ("rollcall_here",): 3,
            ("rollcall_wait_seconds_bucket", "1.0", "x"): 1, ("rollcall_wait_seconds_bucket", "2.0", "x"): 2,
            ("rollcall_wait_seconds_count", "x"): 2, ("rollcall_wait_seconds_sum", "x"): 3,
        }.items():
            self.assertEqual(found[name], value, name)

    def test_longest(self) -> None:
        """Of what is a longest something, the longest is told."""
        found = samples(added_up([a_page(1, 0.25), a_page(2, 0.5), a_page(3, 0.125)]))
        self.assertEqual(found["rollcall_turn_longest_seconds",], 0.5)

    def test_servers(self) -> None:
        """A server is well when it is for all workers, and what they share is told once."""
        pages = []
        for is_up, lag in ((1.0, 2.0), (0.0, 3.0)):
            metrics = Metrics(process=False)
            for name, value in (("rollcall_sql_up", is_up), ("rollcall_sql_writer", 1.0),
                                ("rollcall_sql_lag_seconds", lag), ("rollcall_call_spool_bytes", 500.0)):
                metrics.gauge(name, "Something.", (), partial(float, value))
            pages.append(metrics.render().decode())
        self.assertEqual(samples(added_up(pages)), {
            ("rollcall_sql_up",): 0, ("rollcall_sql_writer",): 1, ("rollcall_sql_lag_seconds",): 3,
            ("rollcall_call_spool_bytes",): 500})

    def test_processes(self) -> None:
        """All processes together use what they use, have lived as long as the oldest, and run one Python."""
        pages = [a_page(1, 0.5, True), a_page(2, 0.5, True)]
        ones, both = [samples(page.encode()) for page in pages], samples(added_up(pages))
        cpu, start = ("process_cpu_seconds_total",), ("process_start_time_seconds",)
        self.assertEqual(both[cpu], sum(one[cpu] for one in ones))
        self.assertEqual(both[start], min(one[start] for one in ones))
        self.assertEqual({value for name, value in both.items() if name[0] == "python_info"}, {1.0})

    def test_one(self) -> None:
        """The page of one process stays what it is, byte for byte."""
        page = a_page(3, 0.5, True)
        self.assertEqual(added_up([page]).decode(), page)

    def test_sites(self) -> None:
        """All workers tell the same of sites by DNS: a serial number is not the sum of theirs."""
        pages = []
        for serial in (7, 7):
            metrics = Metrics(process=False)
            metrics.gauge("rollcall_dns_serial", "Serial number.", (), partial(float, serial))
            metrics.gauge("rollcall_dns_site_fitness", "State.", ("site", "fitness"), lambda: {("fra", "well"): 1.0})
            pages.append(metrics.render().decode())
        text = added_up(pages).decode()
        self.assertIn("rollcall_dns_serial 7.0", text)
        self.assertIn('rollcall_dns_site_fitness{fitness="well",site="fra"} 1.0', text)

    def test_tickles_and_avalanche(self) -> None:
        """The workers of a host share one sender and the set that they wake; how long answers take does not add up."""
        pages = []
        for is_there, waiting, wait, is_shedding in ((1, 400, 0.2, 1), (0, 390, 0.1, 1)):
            metrics = Metrics(process=False)
            for name, value in (("tickle_sender_up", is_there), ("tickle_waiting_flows", waiting),
                                ("avalanche_wait_seconds", wait), ("avalanche_shedding", is_shedding),
                                ("avalanche_rate", 300), ("tickle_noted_flows", 10)):
                metrics.gauge(f"rollcall_{name}", "One of them.", (), partial(float, value))
            pages.append(metrics.render().decode())
        self.assertEqual(samples(added_up(pages)), {
            ("rollcall_tickle_sender_up",): 0, ("rollcall_tickle_waiting_flows",): 400,
            ("rollcall_avalanche_wait_seconds",): 0.2, ("rollcall_avalanche_shedding",): 1,
            ("rollcall_avalanche_rate",): 600, ("rollcall_tickle_noted_flows",): 20})

    def test_media_nodes(self) -> None:
        """All workers follow the same balancers: there are no more media nodes than published."""
        pages = []
        for age in (0.25, -1.0, 0.5):
            metrics = Metrics(process=False)
            metrics.gauge("rollcall_media_nodes", "Nodes.", ("state",), lambda: {("up",): 3.0})
            metrics.gauge("rollcall_media_snapshot_age_seconds", "Age.", (), partial(float, age))
            metrics.gauge("rollcall_media_calls_unwritten", "Calls.", (), lambda: 2.0)
            pages.append(metrics.render().decode())
        self.assertEqual(samples(added_up(pages)), {
            ("rollcall_media_nodes", "up"): 3, ("rollcall_media_snapshot_age_seconds",): 0.5,
            ("rollcall_media_calls_unwritten",): 6})
