"""What phones report in application/vq-rtcpxr, also those that do not keep to its grammar."""

from time import process_time

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from rollcall.media.reports import PhoneReport
from rollcall.media.vqrtcpxr import MOST_BYTES, Metrics, VqError, parse_vq_report, phone_report

# RFC 6035 §4.6.1's example of an end of a call, as it stands there: STOP is before START, an SSRC lacks its 0x, a line
# is folded, and values follow the colon at once.
SESSION = b"""\
VQSessionReport: CallTerm
CallID: 6dg37f1890463
LocalID: Alice <sip:alice@example.org>
RemoteID: Bill <sip:bill@example.net>
OrigID: Alice <sip:alice@example.org>
LocalGroup: example-phone-55671
LocalAddr: IP=10.10.1.100 PORT=5000 SSRC=1a3b5c7d
LocalMAC: 00:1f:5b:cc:21:0f
RemoteAddr:IP=11.1.1.150 PORT=5002 SSRC=0x2468abcd
LocalMetrics:
Timestamps:START=2004-10-10T18:23:43Z STOP=2004-10-01T18:26:02Z
SessionDesc:PT=18 PD=G729 SR=8000 FD=20 FO=20 FPP=2 PPS=50
                FMTP="annexb=no" PLC=3 SSUP=on
JitterBuffer:JBA=3 JBR=2 JBN=40 JBM=80 JBX=120
PacketLoss:NLR=5.0 JDR=2.0
BurstGapLoss:BLD=0 BD=0 GLD=2.0 GD=500 GMIN=16
Delay:RTD=200 ESD=140 SOWD=200 IAJ=2 MAJ=10
Signal:SL=-21 NL=-50 RERL=55
QualityEst:RLQ=90 RCQ=85 EXTRI=90 MOSLQ=4.2 MOSCQ=4.3
  QoEEstAlg=P.564
RemoteMetrics:
SessionDesc:PT=18 PD=G729 SR=8000
PacketLoss:NLR=7.0 JDR=3.0
Delay:RTD=200 ESD=140 SOWD=200 IAJ=4 MAJ=10
DialogID:1890463548@alice.example.org;to-tag=8472761;from-tag=9123dh311
""".replace(b"\n", b"\r\n")

# As phones write it: the call's name comes after the metrics, times have a zone, and much is left out.
INTERVAL = b"""\
vqintervalreport
localmetrics:
timestamps : start=2026-11-21T15:00:00+01:00 stop=2026-11-21T14:00:10.500Z
SessionDesc: PT=0 pd=PCMU PPS=50
PacketLoss: NLR=1.25, JDR=0.0
Delay: RTD=0 IAJ=65535
X-Own: NLR=99.0
CallID: 2f1@192.0.2.9
"""


class VqRtcpXrTests(SynchronousTestCase):
    def test_end_of_a_call(self) -> None:
        """The RFC's own example is understood, with what breaks its grammar; times that run backwards count nothing."""
        report = parse_vq_report(SESSION)
        self.assertEqual((report.kind, report.is_final, report.call_id), ("session", True, "6dg37f1890463"))
        self.assertEqual(report.local, Metrics(loss=0.05, discarded=0.02, jitter_ms=2.0, rtt_ms=200.0, one_way_ms=200.0,
                                               codec="G729", packets=None, mos=4.2))
        assert report.remote is not None
        self.assertEqual((report.remote.loss, report.remote.jitter_ms), (0.07, 4.0))

    def test_on_the_way(self) -> None:
        """A phone's own order, case and spaces do not matter; what it does not know is not known."""
        report = parse_vq_report(INTERVAL)
        self.assertEqual((report.kind, report.is_final, report.call_id), ("interval", False, "2f1@192.0.2.9"))
        self.assertEqual(report.local, Metrics(loss=0.0125, discarded=0.0, codec="PCMU", packets=525))
        self.assertIsNone(report.remote)

    def test_alert(self) -> None:
        """An alert calls the phone's own metrics "Metrics"."""
        report = parse_vq_report(b"VQAlertReport: Type=NLR Severity=Critical Dir=local\r\nCallID: c\r\nMetrics:\r\n"
                                 b"PacketLoss:NLR=10.0 JDR=2.0\r\nRemoteMetrics:\r\nPacketLoss:NLR=5.0\r\n")
        self.assertEqual((report.kind, report.local.loss), ("alert", 0.1))

    def test_without_sides(self) -> None:
        """Metrics that nobody's name stands above are the phone's own."""
        self.assertEqual(parse_vq_report(b"VQSessionReport\nPacketLoss:NLR=4\nCallID:c\n").local.loss, 0.04)

    def test_values_that_cannot_be(self) -> None:
        """Values out of bounds are not known; they are no reason to lose the others."""
        for wrong in (b"NLR=101", b"NLR=-1", b"NLR=nan", b"NLR=1e1", b"NLR=", b"NLR", b"NLR=99999999999999"):
            report = parse_vq_report(b"VQSessionReport\nCallID:c\nPacketLoss:" + wrong + b" JDR=3\n")
            self.assertEqual((report.local.loss, report.local.discarded), (None, 0.03), wrong)

    def test_times_that_cannot_be(self) -> None:
        """Without a length of time that can be, nobody knows how many packets there were."""
        for times in (b"START=2026-11-21T15:00:00Z", b"START=x STOP=y",
                      b"START=0001-01-01T00:00:00+23:59 STOP=9999-12-31",
                      b"START=2026-11-21T15:00:00Z STOP=2026-11-23T15:00:00Z"):
            text = b"VQSessionReport\nCallID:c\nSessionDesc:PPS=50\nTimestamps:" + times
            self.assertIsNone(parse_vq_report(text).local.packets, times)

    def test_no_report(self) -> None:
        """What does not begin as a report, names no call, or is too long is refused."""
        for body in (b"", b"v=0\r\n", b"VQSessionReport", b"VQSessionReport\nCallID:\n", b"\xff\xfe\x00",
                     b"VQSessionReport\nCallID:" + b"x" * 513, SESSION + b" " * MOST_BYTES):
            self.assertRaises(VqError, parse_vq_report, body)

    def test_what_counts(self) -> None:
        """A phone is believed what it received itself, and its address is where its message came from."""
        self.assertEqual(
            phone_report(parse_vq_report(SESSION), 5.0, "198.51.100.7", "m1"),
            PhoneReport(at=5.0, source="198.51.100.7", call_id="6dg37f1890463", node="m1", loss=0.05, discarded=0.02,
                        jitter_ms=2.0, rtt_ms=200.0, one_way_ms=200.0, codec="G729"))

    def test_long_rows(self) -> None:
        """No body of the greatest length takes long: each byte is looked at a few times only."""
        for piece in (b"a", b"a ", b"a=", b"a=  ", b'a="', b"=", b" ", b"1", b"a\t=\t"):
            body = (b"VQSessionReport\nCallID: c\nDelay:" + piece * MOST_BYTES)[:MOST_BYTES]
            began = process_time()
            parse_vq_report(body)
            self.assertLess(process_time() - began, 0.5, piece)

    @settings(max_examples=300, deadline=None)
    @given(st.lists(st.one_of(
        st.sampled_from([line + b"\n" for line in (SESSION + INTERVAL).split(b"\n")]), st.binary(max_size=30))))
    def test_anything(self, pieces: list[bytes]) -> None:
        """Whatever comes, it is understood within the bounds, or refused."""
        try:
            report = parse_vq_report(b"VQSessionReport\nCallID: c\n" + b"".join(pieces))
        except VqError:
            return
        for side in filter(None, (report.local, report.remote)):
            self.assertTrue(side.loss is None or 0 <= side.loss <= 1)
            self.assertTrue(side.rtt_ms is None or 0 < side.rtt_ms < 65535)
