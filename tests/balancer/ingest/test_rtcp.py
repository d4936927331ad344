"""RTCP as it is on the wire."""

from struct import pack

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from balancer.ingest.rtcp import Compound, RtcpError, Voip, is_rtcp, parse_rtcp
from rollcall.media.reports import Block, Sender
from tests.balancer.ingest.packets import OTHER_SSRC, SSRC, a_block, an_rr, an_sr, rtcp, voip_metrics

SDES = rtcp(202, 1, pack("!IBB", SSRC, 1, 3) + b"a@b" + b"\0" * 3)


class RtcpTests(SynchronousTestCase):
    def test_sender_report(self) -> None:
        """A sender report says what was sent, and what was received; the middle of its time comes back as LSR."""
        said = parse_rtcp(an_sr(a_block(fraction=26, lost=5, highest=149, jitter=240, lsr=7, dlsr=65536)) + SDES)
        self.assertEqual(said, Compound(
            SSRC, Sender(ntp_middle=0xBEEF1234, rtp=24000, packets=50, octets=8000),
            (Block(ssrc=OTHER_SSRC, fraction=26, lost=5, highest=149, jitter=240, lsr=7, dlsr=65536),)))

    def test_receiver_report(self) -> None:
        """A receiver report says what was received of each stream."""
        said = parse_rtcp(an_rr(a_block(), a_block(ssrc=51966)))
        self.assertEqual((said.ssrc, said.sender, [block.ssrc for block in said.blocks]),
                         (SSRC, None, [OTHER_SSRC, 51966]))

    def test_negative_loss(self) -> None:
        """The number lost has a sign: -2 where two packets came twice."""
        self.assertEqual(parse_rtcp(an_rr(a_block(lost=-2))).blocks[0].lost, -2)
        self.assertEqual(parse_rtcp(an_rr(a_block(lost=0x7FFFFF))).blocks[0].lost, 0x7FFFFF)
        self.assertEqual(parse_rtcp(an_rr(a_block(lost=-0x800000))).blocks[0].lost, -0x800000)

    def test_bye(self) -> None:
        """A stream is over when its own BYE says so, not when that of another does."""
        self.assertTrue(parse_rtcp(an_rr() + rtcp(203, 2, pack("!II", OTHER_SSRC, SSRC))).is_over)
        self.assertFalse(parse_rtcp(an_rr() + rtcp(203, 1, pack("!I", OTHER_SSRC))).is_over)
        self.assertFalse(parse_rtcp(an_rr() + rtcp(203, 0, b"")).is_over)

    def test_voip_metrics(self) -> None:
        """VoIP metrics are found among other blocks of an extended report (RFC 3611 §4.7)."""
        said = parse_rtcp(an_rr() + voip_metrics(lost=13, discarded=26, round_trip_ms=80))
        self.assertEqual(said.voip, Voip(OTHER_SSRC, 13, 26, 80))
        self.assertIsNone(parse_rtcp(an_rr() + rtcp(207, 0, pack("!I", SSRC) + b"\x07\0\0\x08")).voip)

    def test_profile_extensions(self) -> None:
        """What follows the blocks of a report is another profile's, and left alone (§6.4.3)."""
        body = pack("!I", SSRC) + a_block() + b"more"
        self.assertEqual(len(parse_rtcp(rtcp(201, 1, body)).blocks), 1)

    def test_srtcp(self) -> None:
        """Bytes behind the compound, such as SRTCP's, change nothing."""
        self.assertEqual(parse_rtcp(an_rr(a_block()) + b"\x80\0\0\1" + b"tag" * 3), parse_rtcp(an_rr(a_block())))

    def test_malformed(self) -> None:
        """What is no RTCP, is cut off, or has neither SR nor RR is refused."""
        for data in (b"", b"\x80\xc8\0", an_rr()[:-1], an_sr()[:20], SDES, b"{}" * 20, rtcp(201, 1, pack("!I", SSRC)),
                     rtcp(200, 0, pack("!I", SSRC)), b"\x40" + an_rr()[1:]):
            self.assertRaises(RtcpError, parse_rtcp, data)

    def test_is_rtcp(self) -> None:
        """RTCP is told from JSON, SIP and RTP by its first two bytes (RFC 5761 §4)."""
        self.assertTrue(is_rtcp(an_sr()) and is_rtcp(an_rr()))
        for data in (b'{ "ssrc": 1}', b"PUBLISH sip:", b"\x80\0" + bytes(10), b"\x80\xc8"):
            self.assertFalse(is_rtcp(data), data)

    @settings(max_examples=300, deadline=None)
    @given(st.binary(max_size=120), st.integers(0, 31), st.sampled_from((200, 201, 203, 207)))
    def test_anything(self, body: bytes, count: int, kind: int) -> None:
        """Whatever a packet holds, it is understood, within what the fields can say, or refused."""
        for data in (body, an_rr() + rtcp(kind, count, body), rtcp(kind, count, body)):
            try:
                said = parse_rtcp(data)
            except RtcpError:
                continue
            self.assertTrue(all(-(1 << 23) <= block.lost < 1 << 23 and block.fraction < 256 for block in said.blocks))
