"""What comes in, in numbers."""

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from balancer.ingest.config import IngestConfig
from balancer.ingest.intake import Intake
from balancer.ingest.listening import HepConnections
from balancer.ingest.observing import watch_ingest
from rollcall.ops.metrics import Metrics
from tests.balancer.ingest.packets import Nodes, a_packet, an_sr


class ObservingTests(SynchronousTestCase):
    def test_metrics(self) -> None:
        """What came is shown by its way and what became of it, and reports by their node; no address is a label."""
        clock, config, metrics = Clock(), IngestConfig(), Metrics(process=False)
        intake = Intake(config, Nodes(), lambda report: None, clock.seconds)
        watch_ingest(metrics, intake, HepConnections(clock, config, intake))
        for host, data in (("127.0.0.1", a_packet(an_sr())), ("127.0.0.1", b"junk"), ("203.0.113.9", b"junk")):
            intake.hep(data, host, "hep_udp")
        page = metrics.render().decode()
        for line in ('rollcall_ingest_packets_total{outcome="taken",way="hep_udp"} 1.0',
                     'rollcall_ingest_packets_total{outcome="malformed",way="hep_udp"} 1.0',
                     'rollcall_ingest_packets_total{outcome="stranger",way="hep_udp"} 1.0',
                     'rollcall_ingest_reports_total{node="m1"} 1.0', "rollcall_ingest_connections 0.0"):
            self.assertIn(line, page)
        self.assertNotIn("203.0.113.9", page)
