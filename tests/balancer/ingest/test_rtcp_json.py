"""RTCP as JSON, as rtpengine and others write it."""

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from balancer.ingest.hep import parse_hep
from balancer.ingest.rtcp import Compound, RtcpError
from balancer.ingest.rtcp_json import parse_rtcp_json
from rollcall.media.reports import Block, Sender
from tests.vectors.hep import packet, recorded

BLOCK = {"source_ssrc": 2, "highest_seq_no": 100, "packets_lost": 3}


def said(**fields: Any) -> Compound:
    """Return what this JSON says."""
    return parse_rtcp_json(json.dumps({"ssrc": 1, **fields}).encode())


def of(about: str) -> Compound:
    """Return what a recorded packet says."""
    return parse_rtcp_json(parse_hep(packet(about)).payload)


class RtpengineTests(SynchronousTestCase):
    def test_sender_report(self) -> None:
        """The NTP time is in seconds since 1900 and in 2**-32 s, whatever its field is called."""
        # 4004212592 is 0xeeab6f70, and 2898042880 0xacbca000.
        self.assertEqual(of("1 SR+1 report block+SDES, caller"), Compound(
            168430090, Sender(ntp_middle=0x6f70acbc, rtp=24000, packets=50, octets=8000),
            (Block(ssrc=185273099, fraction=26, lost=5, highest=149, jitter=240, lsr=0, dlsr=0),)))

    def test_round_trip(self) -> None:
        """The middle of a sender report's time is what the other side's LSR repeats, so that they can be paired."""
        sent = {}
        paired = 0
        for about, data in recorded():
            compound = parse_rtcp_json(parse_hep(data).payload)
            if not about.startswith("m2"):
                continue
            if compound.sender is not None:
                sent[compound.ssrc, compound.sender.ntp_middle] = parse_hep(data).at
            for block in compound.blocks:
                if block.lsr:
                    rtt = parse_hep(data).at - sent[block.ssrc, block.lsr] - block.dlsr / 65536
                    # Those who sent it had legs of 20 and 40 ms.
                    self.assertLess(abs(rtt - (0.040 if compound.ssrc == 185273099 else 0.020)), 0.001)
                    paired += 1
        self.assertGreater(paired, 10)

    def test_negative_loss(self) -> None:
        """A negative number lost comes without its sign: 16777214 is -2."""
        self.assertEqual(of("3 RR").blocks[0].lost, -2)

    def test_jitter(self) -> None:
        """Jitter stays in units of the stream's clock; what cannot be is for others to judge."""
        self.assertEqual(of("1 SR+1 report block+SDES, caller").blocks[0].jitter, 240)
        self.assertEqual([block.jitter for block in of("6 RR").blocks], [8, 4294967295])

    def test_extended_reports(self) -> None:
        """Of an extended report rtpengine tells nothing; the rest of the packet is there."""
        compound = of("4 SR")
        self.assertEqual((compound.voip, compound.blocks), (None, ()))
        self.assertIsNotNone(compound.sender)

    def test_names(self) -> None:
        """Quotes and other characters in a name that the phone gave itself break nothing."""
        self.assertEqual(of("7 SDES").ssrc, 168430090)


class OthersTests(SynchronousTestCase):
    def test_asterisk(self) -> None:
        """Seconds since 1970 and microseconds, in quotes, are made NTP's; numbers that became negative are not."""
        compound = said(
            ssrc=-1, sender_information={"ntp_timestamp_sec": "1700000000", "ntp_timestamp_usec": "500000",
                                         "rtp_timestamp": -210833031, "packets": 2, "octets": 40},
            report_blocks=[{**BLOCK, "source_ssrc": -1640316609, "lsr": "77", "ia_jitter": 44}])
        self.assertEqual(compound.ssrc, 0xFFFFFFFF)
        assert compound.sender is not None
        self.assertEqual(compound.sender.ntp_middle, (1700000000 + 2208988800) % 65536 << 16 | 0x8000)
        self.assertEqual(compound.sender.rtp, 2**32 - 210833031)
        self.assertEqual((compound.blocks[0].ssrc, compound.blocks[0].lsr), (2**32 - 1640316609, 77))

    def test_microseconds(self) -> None:
        """All digits of LSR that microseconds can give are right, mostly; one in 30 is off by one, 15 µs."""
        wrong = 0
        for step in range(1000):
            fraction = step * 4294967
            compound = said(sender_information={"ntp_timestamp_sec": 1700000000,
                                                "ntp_timestamp_usec": fraction * 1_000_000 >> 32})
            assert compound.sender is not None
            wrong += (compound.sender.ntp_middle & 0xFFFF) != fraction >> 16
        self.assertLess(wrong, 60)

    def test_a_clock_that_nobody_set(self) -> None:
        """A phone whose clock began at 0 is believed as it is: its LSR will have the same."""
        compound = said(sender_information={"ntp_timestamp_sec": 77, "ntp_timestamp_usec": 65536})
        assert compound.sender is not None
        self.assertEqual(compound.sender.ntp_middle, 77 << 16 | 1)

    def test_freeswitch(self) -> None:
        """Jitter with a fraction is rounded; a block without what differences are made of is left out."""
        compound = said(report_blocks=[{**BLOCK, "ia_jitter": 12.6}, {**BLOCK, "packets_lost": None}],
                        sender_information={"ntp_timestamp_sec": None})
        self.assertEqual([block.jitter for block in compound.blocks], [13])
        self.assertIsNone(compound.sender)

    def test_heplify(self) -> None:
        """A block of zeros stands where there is none."""
        self.assertEqual(said(report_blocks=[dict.fromkeys(BLOCK, 0)]).blocks, ())

    def test_nothing_received(self) -> None:
        """No blocks, or null in their place, are none."""
        self.assertEqual((said(report_blocks=[]).blocks, said(report_blocks=None).blocks), ((), ()))

    def test_many_blocks(self) -> None:
        """No more blocks are taken than a packet can have."""
        self.assertEqual(len(said(report_blocks=[BLOCK] * 1000).blocks), 31)

    def test_malformed(self) -> None:
        """What is no JSON, names no sender, or says what no packet can is refused."""
        for data in (b"", b"{", b"[]", b"{}", b'{"ssrc": null}', b'{"ssrc": "x"}', b'{"ssrc": 1e999}', b'"\xff"',
                     b'{"ssrc": "nan"}', b'{"ssrc": "inf"}'):
            self.assertRaises(RtcpError, parse_rtcp_json, data)
        for wrong in ({"fraction_lost": 256}, {"fraction_lost": -1}, {"packets_lost": 1 << 24},
                      {"packets_lost": "many"}, {"packets_lost": -(1 << 24)}):
            self.assertRaises(RtcpError, said, report_blocks=[{**BLOCK, **wrong}])

    @settings(max_examples=300, deadline=None)
    @given(st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from((
            "ssrc", "report_blocks", "sender_information", *BLOCK, "fraction_lost", "ia_jitter", "lsr",
            "ntp_timestamp_sec", "ntp_timestamp_usec")), inner, max_size=6), max_leaves=25))
    def test_anything(self, value: Any) -> None:
        """Whatever JSON comes, it is understood within 32 bits, or refused."""
        try:
            compound = parse_rtcp_json(json.dumps(value).encode())
        except RtcpError:
            return
        for block in compound.blocks:
            self.assertTrue(-(1 << 23) <= block.lost < 1 << 24 and 0 <= block.jitter < 1 << 32)
