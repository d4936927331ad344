"""Reports over HTTP."""

from typing import Any

from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from balancer.ingest.api import MOST_REPORTS, ReportsApi
from balancer.ingest.config import IngestConfig
from balancer.ingest.intake import Intake
from rollcall.media.reports import Block, PhoneReport, RtcpReport, Sender
from rollcall.ops.admin import AdminConfig, AdminSite
from rollcall.ops.metrics import Metrics
from tests.balancer.ingest.packets import NODE, Nodes
from tests.rollcall.ops.asking import Answered, ask

NOW = 1_800_000_000.0
PHONE = {"type": "phone", "source": "198.51.100.7", "call_id": "c1"}
RTCP = {"type": "rtcp", "source": "198.51.100.7", "call_id": "c1", "node": NODE, "ssrc": 1}
BLOCK = {"ssrc": 2, "lost": -2, "highest": 100}


class ReportsApiTests(SynchronousTestCase):
    def setUp(self) -> None:
        clock = MemoryReactorClock()
        clock.advance(NOW)
        self.heard: list[RtcpReport | PhoneReport] = []
        self.intake = Intake(IngestConfig(max_reports_per_sender=1500), Nodes(), self.heard.append, clock.seconds)
        admin = AdminSite(clock, AdminConfig(max_body_bytes=1024 * 1024), Metrics(process=False))
        ReportsApi(self.intake, Nodes(), clock.seconds).mount(admin.routes)
        self.site = admin.site

    def post(self, *reports: dict[str, Any]) -> Answered:
        """Post these reports."""
        return ask(self.site, "POST", "/v1/reports", {"reports": list(reports)})

    def refused(self, *reports: dict[str, Any]) -> str:
        """Return why these reports are refused."""
        answered = self.post(*reports)
        self.assertEqual(answered.status, 400)
        self.assertEqual(self.heard, [])
        return str(answered.json["error"])

    def test_reports(self) -> None:
        """Reports of both kinds are taken together; what has no time is of now."""
        answered = self.post(
            {**PHONE, "loss": 0.05, "jitter_ms": 12.5, "codec": "PCMU", "packets": 500},
            {**RTCP, "at": NOW - 2, "blocks": [{**BLOCK, "jitter": 80}], "sender": {"ntp_middle": 77}, "is_over": True})
        self.assertEqual((answered.status, answered.json), (202, {"taken": 2}))
        self.assertEqual(self.heard, [
            PhoneReport(at=NOW, source="198.51.100.7", call_id="c1", loss=0.05, jitter_ms=12.5, codec="PCMU",
                        packets=500),
            RtcpReport(at=NOW - 2, node=NODE, source="198.51.100.7", call_id="c1", ssrc=1,
                       sender=Sender(ntp_middle=77, rtp=0, packets=0, octets=0), is_over=True,
                       blocks=(Block(ssrc=2, fraction=0, lost=-2, highest=100, jitter=80, lsr=0, dlsr=0),))])

    def test_what_is_wrong_is_named(self) -> None:
        """A value that cannot be is refused with its place, and with it all that came beside it."""
        for wrong, place in (
                ({**PHONE, "loss": 1.5}, "$.reports[1].loss"), ({**PHONE, "jitter_ms": -1}, "$.reports[1].jitter_ms"),
                ({**PHONE, "packets": 0}, "$.reports[1].packets"), ({**PHONE, "call_id": ""}, "$.reports[1].call_id"),
                ({**PHONE, "source": "phone.example"}, "$.reports[1].source"),
                ({**PHONE, "node": "m9"}, "$.reports[1].node"),
                ({**PHONE, "at": NOW + 60}, "$.reports[1].at"), ({**PHONE, "at": 0}, "$.reports[1].at"),
                ({**PHONE, "more": 1}, "more"), ({**RTCP, "node": ""}, "$.reports[1].node"),
                ({**RTCP, "ssrc": 1 << 32}, "$.reports[1].ssrc"),
                ({**RTCP, "blocks": [{**BLOCK, "lost": 1 << 23}]}, "$.reports[1].blocks[0].lost"),
                ({**RTCP, "blocks": [{**BLOCK, "fraction": 256}]}, "$.reports[1].blocks[0].fraction"),
                ({**RTCP, "blocks": [BLOCK] * 32}, "$.reports[1].blocks"), ({"type": "call"}, "$.reports[1]")):
            self.assertIn(place, self.refused(PHONE, wrong))
        self.assertEqual(self.intake.outcomes, {("http", "malformed"): 15})

    def test_how_many(self) -> None:
        """A body has a report at least, and no more than so many."""
        self.assertIn("$.reports", self.refused())
        self.assertIn("$.reports", self.refused(*[PHONE] * (MOST_REPORTS + 1)))

    def test_other_bodies(self) -> None:
        """What is no JSON, or is not said to be, is refused."""
        self.assertEqual(ask(self.site, "POST", "/v1/reports", [PHONE]).status, 400)
        self.assertEqual(ask(self.site, "GET", "/v1/reports").status, 405)

    def test_floods(self) -> None:
        """What is too much in a second is answered 429 with the time to wait, all of it."""
        self.assertEqual(self.post(*[PHONE] * MOST_REPORTS).status, 202)
        answered = self.post(*[PHONE] * MOST_REPORTS)
        self.assertEqual((answered.status, len(self.heard)), (429, MOST_REPORTS))
        self.assertEqual(answered.headers["retry-after"], "1")
