"""Who may bring reports, and what is counted."""

from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from balancer.ingest.config import IngestConfig, RtcpConfig
from balancer.ingest.intake import Intake
from rollcall.media.reports import PhoneReport, RtcpReport
from tests.balancer.ingest.packets import NODE, NODE_HOST, Nodes, a_packet, an_sr, chunk
from tests.vectors.hep import recorded

NOW = 1_800_000_000.0


class IntakeTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(NOW)
        self.heard: list[RtcpReport | PhoneReport] = []

    def intake(self, **settings: Any) -> Intake:
        """Return an intake of this configuration."""
        return Intake(IngestConfig(**settings), Nodes(), self.heard.append, self.clock.seconds)

    def test_reports(self) -> None:
        """What nodes and local senders bring is handed on and counted."""
        intake = self.intake()
        for _, data in recorded():
            intake.hep(data, "127.0.0.1", "hep_udp")
        intake.hep(a_packet(an_sr()), NODE_HOST, "hep_tcp")
        intake.hep(a_packet(an_sr()), f"::ffff:{NODE_HOST}", "hep_tcp")
        count = len(recorded())
        self.assertEqual(len(self.heard), count + 2)
        self.assertEqual(intake.outcomes, {("hep_udp", "taken"): count, ("hep_tcp", "taken"): 2})
        self.assertEqual(intake.by_node, {NODE: count + 2})

    def test_strangers(self) -> None:
        """Whoever is neither a node nor in a configured network is not listened to."""
        intake = self.intake(senders=("203.0.113.0/24", "2001:db8::/32"))
        for host in ("127.0.0.1", "203.0.114.1", "2001:db9::1", "no address"):
            intake.hep(a_packet(an_sr()), host, "hep_udp")
        self.assertEqual((self.heard, intake.outcomes), ([], {("hep_udp", "stranger"): 4}))
        for host in ("203.0.113.9", "2001:db8::1", NODE_HOST):
            intake.hep(a_packet(an_sr()), host, "hep_udp")
        self.assertEqual(len(self.heard), 3)

    def test_key(self) -> None:
        """With a key configured only what carries it is taken."""
        intake = self.intake(auth_key="s3cret")
        intake.hep(a_packet(an_sr()), "127.0.0.1", "hep_udp")
        intake.hep(a_packet(an_sr(), more=[chunk(14, b"wrong")]), "127.0.0.1", "hep_udp")
        self.assertEqual((self.heard, intake.outcomes), ([], {("hep_udp", "wrong_key"): 2}))
        intake.hep(a_packet(an_sr(), more=[chunk(14, b"s3cret")]), "127.0.0.1", "hep_udp")
        self.assertEqual(len(self.heard), 1)

    def test_floods(self) -> None:
        """One sender's flood is dropped before it costs more than a look, and takes nothing from the others."""
        intake = self.intake(max_reports_per_sender=2)
        for _ in range(5):
            intake.hep(a_packet(an_sr()), "127.0.0.1", "hep_udp")
        intake.hep(a_packet(an_sr()), NODE_HOST, "hep_udp")
        self.assertEqual(intake.outcomes, {("hep_udp", "taken"): 3, ("hep_udp", "flood"): 3})

    def test_what_is_wrong(self) -> None:
        """What cannot be used is counted by its reason."""
        intake = self.intake()
        for data in (b"junk", a_packet(b"{"), a_packet(b"", type=100), a_packet(an_sr(), capture_id=5)):
            intake.hep(data, "127.0.0.1", "hep_udp")
        self.assertEqual(intake.outcomes, {("hep_udp", "malformed"): 2, ("hep_udp", "other"): 1,
                                           ("hep_udp", "unknown_node"): 1})
        self.assertEqual(self.heard, [])

    def test_copied_rtcp(self) -> None:
        """Plain RTCP counts for the node that its port stands for, from the networks that may send it."""
        known = RtcpConfig(node=NODE, address="127.0.0.1:5005", senders=("198.51.100.0/24",))
        unknown = RtcpConfig(node="m9", address="127.0.0.1:5006")
        intake = self.intake(rtcp=(known, unknown))
        intake.rtcp(an_sr(), "198.51.100.7", known)
        intake.rtcp(an_sr(), "203.0.113.7", known)
        intake.rtcp(an_sr(), "198.51.100.7", unknown)
        intake.rtcp(b"junk", "198.51.100.7", known)
        self.assertEqual([(report.node, report.source) for report in self.heard], [(NODE, "198.51.100.7")])
        self.assertEqual(intake.outcomes, {("rtcp", "taken"): 1, ("rtcp", "stranger"): 1, ("rtcp", "unknown_node"): 1,
                                           ("rtcp", "malformed"): 1})

    def test_copied_floods(self) -> None:
        """All phones of a port share its bound, for their addresses may be made up."""
        listener = RtcpConfig(node=NODE, address="127.0.0.1:5005")
        intake = self.intake(rtcp=(listener,), max_reports_per_sender=3)
        for number in range(9):
            intake.rtcp(an_sr(), f"198.51.100.{number}", listener)
        self.assertEqual(len(self.heard), 3)
