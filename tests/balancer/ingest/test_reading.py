"""What packets are worth, and why some are worth nothing."""

from twisted.trial.unittest import SynchronousTestCase

from balancer.ingest.hep import parse_hep
from balancer.ingest.reading import Outcome, Reports, Unusable, read_hep, read_rtcp
from rollcall.media.reports import PhoneReport, RtcpReport
from tests.balancer.ingest.packets import (
    NODE,
    NODE_HOST,
    OTHER_SSRC,
    SSRC,
    Nodes,
    a_block,
    a_packet,
    an_rr,
    an_sr,
    voip_metrics,
)
from tests.vectors.hep import packet, recorded

NOW = 1_800_000_000.0
PUBLISH = (
    b"PUBLISH sip:collector@example.com SIP/2.0\r\nVia: SIP/2.0/UDP 198.51.100.7;branch=z9hG4bK1\r\n"
    b"From: <sip:alice@example.com>;tag=1\r\nTo: <sip:collector@example.com>\r\nCall-ID: 1\r\n"
    b"CSeq: 1 PUBLISH\r\nMax-Forwards: 70\r\nEvent: vq-rtcpxr\r\nContent-Type: application/vq-rtcpxr\r\n"
    b"Content-Length: %d\r\n\r\n%b")


class ReadingTests(SynchronousTestCase):
    def reports(self, data: bytes, host: str = "127.0.0.1") -> Reports:
        """Return what a packet is worth."""
        return read_hep(parse_hep(data), host, Nodes(), NOW)

    def one(self, data: bytes) -> RtcpReport:
        """Return the one report that a packet is worth."""
        report, = self.reports(data)
        assert isinstance(report, RtcpReport)
        return report

    def why(self, data: bytes, host: str = "127.0.0.1") -> Outcome:
        """Return why a packet is worth nothing."""
        why = self.assertRaises(Unusable, self.reports, data, host).outcome
        assert isinstance(why, Outcome)
        return why

    def test_recorded(self) -> None:
        """Every recorded packet is one report of its call, when the node received it, by the node's capture id."""
        for about, data in recorded():
            report = self.one(data)
            self.assertEqual((report.node, report.source), (NODE, "127.0.0.1"), about)
            self.assertTrue(report.call_id.endswith("@lab"), about)
            self.assertTrue(1795223792 <= report.at < 1795224000, about)
        self.assertEqual(self.one(packet("14 call")).call_id, "call-vb@lab")

    def test_old_packets(self) -> None:
        """What a node kept while we were away has the time when it was received, however late it comes."""
        self.assertEqual(self.one(a_packet(an_sr(), at=NOW - 30.5)).at, NOW - 30.5)

    def test_no_time(self) -> None:
        """A packet without a time is as old as its arrival."""
        self.assertEqual(self.one(a_packet(an_sr())).at, NOW)

    def test_a_clock_that_is_ahead(self) -> None:
        """A packet from the future is refused: it would never be too old."""
        self.assertEqual(self.one(a_packet(an_sr(), at=NOW + 4)).at, NOW + 4)
        self.assertEqual(self.why(a_packet(an_sr(), at=NOW + 6)), Outcome.FUTURE)

    def test_plain_rtcp(self) -> None:
        """RTCP as it was on the wire is understood under type 5, and under any other."""
        for kind in (5, 4, 0, 200):
            report = self.one(a_packet(an_rr(a_block(lost=-2)), type=kind))
            self.assertEqual((report.ssrc, report.blocks[0].lost), (SSRC, -2))

    def test_other_payloads(self) -> None:
        """Logs, scores and SIP that is no report are left alone; they are nobody's fault."""
        for kind, payload in ((100, b"log"), (34, b'{"MOS": 4}'), (1, b"INVITE sip:a@b SIP/2.0\r\n\r\n"),
                              (4, b"\x80\0" * 9), (1, PUBLISH.replace(b"application/vq", b"text/x") % (0, b""))):
            self.assertEqual(self.why(a_packet(payload, type=kind)), Outcome.OTHER, payload)

    def test_malformed(self) -> None:
        """RTCP that cannot be understood is malformed, and so is a call whose name is endless."""
        self.assertEqual(self.why(a_packet(b"{")), Outcome.MALFORMED)
        self.assertEqual(self.why(a_packet(an_rr()[:6])), Outcome.MALFORMED)
        self.assertEqual(self.why(a_packet(an_rr(), call_id="x" * 513)), Outcome.MALFORMED)

    def test_nodes(self) -> None:
        """A node is known by its capture id, or else by its address; nobody else's packets are taken."""
        self.assertEqual(self.why(a_packet(an_sr(), capture_id=7)), Outcome.UNKNOWN_NODE)
        report, = self.reports(a_packet(an_sr(), capture_id=0), NODE_HOST)
        self.assertEqual(report.node, NODE)

    def test_what_a_node_sent(self) -> None:
        """What a node tells of packets that it sent itself is no phone's report."""
        self.assertEqual(self.why(a_packet(an_sr(), source=NODE_HOST)), Outcome.OWN)

    def test_no_call(self) -> None:
        """Where the call is not said, both sides' packets have the same name by their streams."""
        names = {self.one(a_packet(data, call_id="")).call_id
                 for data in (an_sr(a_block()), an_rr(a_block(ssrc=SSRC), ssrc=OTHER_SSRC))}
        self.assertEqual(names, {"ssrc:0a0a0a0a-0b0b0b0b"})
        self.assertEqual(self.one(a_packet(an_sr(), call_id="")).call_id, "ssrc:0a0a0a0a")

    def test_voip_metrics(self) -> None:
        """VoIP metrics add what came too late; their loss counts only where no block says it already."""
        metrics = voip_metrics(lost=64, discarded=128, round_trip_ms=90)
        _, report = self.reports(a_packet(an_rr(a_block()) + metrics))
        self.assertEqual(report, PhoneReport(
            at=NOW, source="198.51.100.7", call_id="call@example.com", node=NODE, discarded=0.5, rtt_ms=90.0))
        _, report = self.reports(a_packet(an_rr() + voip_metrics(lost=64)))
        assert isinstance(report, PhoneReport)
        self.assertEqual((report.loss, report.rtt_ms), (0.25, None))

    def test_published(self) -> None:
        """A PUBLISH that a proxy has seen is its phone's report (RFC 6035)."""
        body = b"VQSessionReport: CallTerm\r\nCallID: c1\r\nLocalMetrics:\r\nPacketLoss:NLR=5.0 JDR=2.0\r\n"
        report, = self.reports(a_packet(PUBLISH % (len(body), body), type=1, capture_id=99))
        self.assertEqual(report, PhoneReport(at=NOW, source="198.51.100.7", call_id="c1", loss=0.05, discarded=0.02))
        self.assertEqual(self.why(a_packet(PUBLISH % (3, b"abc"), type=1)), Outcome.MALFORMED)
        self.assertEqual(self.why(a_packet(b"PUBLISH \r\n\r\n", type=1)), Outcome.MALFORMED)

    def test_copied(self) -> None:
        """Plain RTCP is its sender's, at its arrival, through the node that its port stands for."""
        report, = read_rtcp(an_sr(a_block()), "198.51.100.9", NODE, NOW)
        assert isinstance(report, RtcpReport)
        self.assertEqual((report.at, report.node, report.source, report.ssrc), (NOW, NODE, "198.51.100.9", SSRC))
        self.assertRaises(Unusable, read_rtcp, b"{}", "198.51.100.9", NODE, NOW)
