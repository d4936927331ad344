"""The synthetic phones' RTP and RTCP: what they send is what RFC 3550 says, and what they count is what was lost."""

from random import Random
from struct import unpack_from

from twisted.trial.unittest import SynchronousTestCase

from rollcall.media.emodel import r_factor
from tools.laboratory.media_rtp import (
    NTP_EPOCH,
    PACKET_SECONDS,
    PLAYOUT_SECONDS,
    WINDOW_PACKETS,
    Ear,
    Mouth,
    is_rtcp,
    silence_between,
    stamps_of,
)

DELAY = 0.04
NOW = 1_700_000_000.0


class MouthTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.mouth = Mouth(Random(1))

    def test_packets(self) -> None:
        """Packets count up by one, their timestamps by 160, and the first is marked."""
        first, second = (self.mouth.packet(NOW, NOW, NOW) for _ in range(2))
        for data, number in ((first, 0), (second, 1)):
            flags, kind, sequence, _, ssrc = unpack_from("!BBHII", data)
            self.assertEqual((flags, kind & 0x7F, len(data), ssrc), (0x80, 0, 172, self.mouth.ssrc))
            self.assertEqual(bool(kind & 0x80), number == 0)
            self.assertEqual(sequence, self.mouth.first_sequence + number)
        self.assertEqual(unpack_from("!I", second, 4)[0] - unpack_from("!I", first, 4)[0], 160)

    def test_stamps(self) -> None:
        """A packet says when it was captured, when it was to leave and when it did; nothing else passes for one."""
        self.assertEqual(stamps_of(self.mouth.packet(NOW, NOW + 0.02, NOW + 0.021)), (NOW, NOW + 0.02, NOW + 0.021))
        self.assertRaises(ValueError, stamps_of, b"\x80" * 40)

    def test_report(self) -> None:
        """A sender report has the NTP time, and how much was sent; it is RTCP and a packet is not."""
        data = self.mouth.packet(NOW, NOW, NOW)
        report = self.mouth.report(NOW + 0.5, b"") + self.mouth.description(b"phone") + self.mouth.goodbye()
        flags, kind, words, ssrc, seconds, part, _, packets, octets = unpack_from("!BBHIIIIII", report)
        self.assertEqual((flags, kind, words, ssrc), (0x80, 200, 6, self.mouth.ssrc))
        self.assertEqual((seconds, part, packets, octets), (NOW + NTP_EPOCH, 2**31, 1, 160))
        self.assertEqual(len(report) % 4, 0)
        self.assertEqual((is_rtcp(report), is_rtcp(data)), (True, False))


class EarTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.mouth = Mouth(Random(2))
        self.ear = Ear(self.mouth.ssrc, self.mouth.first_sequence)

    def hear(self, packets: int, lost: "range | set[int]" = range(0), late: "set[int] | None" = None) -> None:
        """Let packets come but for those that are lost; some so late that nobody can play them."""
        for number in range(packets):
            data = self.mouth.packet(NOW, NOW, NOW)
            if number not in lost:
                self.ear.take(data, DELAY + (2 * PLAYOUT_SECONDS if late and number in late else 0.0))

    def block(self, now: float = NOW) -> tuple[int, ...]:
        """Return the fields of a report block, both parts of the cumulative loss as one."""
        ssrc, fraction, high, low, highest, jitter, lsr, dlsr = unpack_from("!IBBHIIII", self.ear.block(now))
        return ssrc, fraction, high << 16 | low, highest, jitter, lsr, dlsr

    def test_nothing_lost(self) -> None:
        """Without loss and jitter the rating is that of the delay alone."""
        self.hear(600)
        heard = self.ear.heard(600)
        self.assertEqual((heard.packets, heard.lost, heard.late), (600, 0, 0))
        self.assertAlmostEqual(heard.delay_ms, 1000 * (DELAY + PLAYOUT_SECONDS + PACKET_SECONDS))
        self.assertAlmostEqual(heard.r, r_factor(0, heard.delay_ms))

    def test_losses(self) -> None:
        """Lost and late packets both count, also at the beginning and at the end."""
        self.hear(500, lost={0, 1, 498, 499}, late={100, 101, 102})
        heard = self.ear.heard(500)
        self.assertEqual((heard.lost, heard.late), (4, 3))
        self.assertLess(heard.r, r_factor(0, heard.delay_ms))

    def test_windows(self) -> None:
        """A call is rated in windows: one that was silent for half of the time is half as good."""
        self.hear(2 * WINDOW_PACKETS, lost=range(WINDOW_PACKETS, 2 * WINDOW_PACKETS))
        heard = self.ear.heard(2 * WINDOW_PACKETS)
        self.assertAlmostEqual(heard.r, r_factor(0, heard.delay_ms) / 2)
        self.assertEqual(self.ear.heard(2 * WINDOW_PACKETS).lost, WINDOW_PACKETS)

    def test_silence(self) -> None:
        """The longest time in which nothing came is told; nobody who heard nothing has an R."""
        self.hear(200, lost=range(50, 100))
        self.assertAlmostEqual(silence_between(self.ear), 50 * PACKET_SECONDS)
        self.assertEqual(Ear(1, 0).heard(100).r, 0.0)

    def test_report_block(self) -> None:
        """A block tells of the losses since the block before and of all, and of the highest number."""
        self.assertEqual(self.ear.block(NOW), b"")
        self.hear(100, lost=range(50, 75))
        ssrc, fraction, lost, highest, jitter, lsr, dlsr = self.block()
        self.assertEqual((ssrc, fraction, lost), (self.mouth.ssrc, 64, 25))
        self.assertEqual(highest, self.mouth.first_sequence + 99)
        self.assertEqual((jitter, lsr, dlsr), (0, 0, 0))
        self.hear(100)
        self.assertEqual(self.block()[1:3], (0, 25))

    def test_sequence_wraps(self) -> None:
        """Sequence numbers go on after 65535."""
        self.mouth.first_sequence = 0xFFF0
        self.ear = Ear(self.mouth.ssrc, 0xFFF0)
        self.hear(64)
        self.assertEqual(self.block()[2:4], (0, 0xFFF0 + 63))
        self.assertEqual(self.ear.heard(64).lost, 0)

    def test_jitter(self) -> None:
        """Delays that differ by 8 ms from packet to packet come to a jitter of 64 units of PCMU's clock."""
        for number in range(500):
            self.ear.take(self.mouth.packet(NOW, NOW, NOW), DELAY + 0.008 * (number % 2))
        self.assertIn(self.block()[4], (63, 64))

    def test_round_trip(self) -> None:
        """A block names the last sender report that has come, and how long ago; not one that its line still holds."""
        self.hear(1)
        self.ear.take_report(self.mouth.report(NOW, b""), NOW + 0.05)
        middle = (int(NOW + NTP_EPOCH) & 0xFFFF) << 16
        self.assertEqual(self.block(NOW + 0.55)[5:], (middle, 32768))
        self.ear.take_report(self.mouth.report(NOW + 1, b""), NOW + 1.05)
        self.assertEqual(self.block(NOW + 1.04)[5], middle)
        self.assertEqual(self.block(NOW + 1.05)[5:], (middle + 0x10000, 0))

    def test_goodbye(self) -> None:
        """The end of a stream is told, and of no other packet."""
        self.assertTrue(self.ear.take_report(self.mouth.report(NOW, b"") + self.mouth.goodbye(), NOW))
        self.assertFalse(self.ear.take_report(self.mouth.report(NOW, b""), NOW))

    def test_strangers(self) -> None:
        """Packets of another stream, such as one of a call before, count for nothing."""
        self.ear.take(Mouth(Random(3)).packet(NOW, NOW, NOW), DELAY)
        self.assertEqual(self.ear.received, 0)
