"""What RTCP reports of one call say, and which of it is not believed."""

from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from balancer.quality.streams import (
    FIRST_PACKETS,
    LONGEST_GAP_SECONDS,
    MOST_LOSS,
    MOST_STREAMS,
    Call,
    Evidence,
)
from rollcall.media.reports import Block, RtcpReport
from tests.balancer.quality.reporting import a_block, a_report


class CallTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.call = Call("m1", 1000.0, hosts=("10.1.0.1", "10.2.0.1"))
        self.refused: dict[str, int] = {}

    def hear(self, *reports: RtcpReport) -> list[Evidence]:
        return [evidence for report in reports for evidence in self.call.heard(report, self.refused)]

    def second(self, first: Block, second: Block, seconds: float = 5.0) -> list[Evidence]:
        """Return what the second of two reports says."""
        self.hear(a_report(first))
        return self.hear(a_report(second, at=1000.0 + seconds))

    def refusals(self, pairs: Iterable[tuple[Block, Block]]) -> dict[str, int]:
        for number, (first, second) in enumerate(pairs):
            call = Call("m1", 1000.0)
            call.heard(a_report(first), self.refused)
            said = call.heard(a_report(second, at=1005.0), self.refused)
            self.assertEqual(said, [], number)
        return self.refused

    def test_difference(self) -> None:
        """The difference of two reports counts, not the fraction that the later one tells."""
        said = self.second(a_block(highest=1000, lost=7), a_block(highest=1250, lost=27, fraction=3))
        self.assertEqual([(each.about, each.expected, each.lost) for each in said], [(2, 250, 20)])

    def test_report_lost(self) -> None:
        """When a report was lost, the next tells of both intervals."""
        said = self.second(a_block(highest=1000), a_block(highest=1500, lost=10, fraction=0), seconds=10.0)
        self.assertEqual((said[0].expected, said[0].lost), (500, 10))

    def test_first(self) -> None:
        """A first report tells a fraction of an unknown number: it counts, but little."""
        said = self.hear(a_report(a_block(fraction=64)))
        self.assertEqual((said[0].expected, said[0].lost), (FIRST_PACKETS, FIRST_PACKETS / 4))

    def test_first_from_nowhere(self) -> None:
        """A first report on a phone of which nothing is known yet waits: whose way it is will be known by the next."""
        self.call.hosts = ()
        self.assertEqual(self.second(a_block(highest=1000), a_block(highest=1250, lost=5))[0].expected, 250)

    def test_everything_lost(self) -> None:
        """255/256 of what was sent is not believed of a first report, nor a negative sum of losses."""
        self.assertEqual(self.hear(a_report(a_block(fraction=255))), [])
        self.assertEqual(self.hear(a_report(a_block(ssrc=3, lost=-2))), [])
        self.assertEqual(self.refused, {"first": 2})

    def test_255_of_256_later(self) -> None:
        """A fraction of 255/256 beside a plausible difference changes nothing."""
        said = self.second(a_block(highest=1000), a_block(highest=1250, lost=1, fraction=255))
        self.assertEqual((said[0].expected, said[0].lost), (250, 1))

    def test_negative_loss(self) -> None:
        """Packets that came twice are no gain."""
        said = self.second(a_block(highest=1000, lost=3), a_block(highest=1250, lost=-2))
        self.assertEqual((said[0].expected, said[0].lost), (250, 0))

    def test_impossible(self) -> None:
        """More lost than sent, far fewer than none, a jump ahead and a step back are refused, each by its name."""
        self.assertEqual(self.refusals([
            (a_block(), a_block(highest=1250, lost=250)),
            (a_block(), a_block(highest=1250, lost=-300)),
            (a_block(), a_block(highest=1000 + 65536, lost=0)),
            (a_block(), a_block(highest=900)),
            (a_block(), a_block(highest=1000)),  # on hold: nothing is wrong, and nothing said
        ]), {"lost": 2, "jump": 1, "backwards": 1})

    def test_after_a_refusal(self) -> None:
        """After figures that were refused the next difference counts again."""
        self.hear(a_report(a_block(highest=1000)), a_report(a_block(highest=90_000), at=1005.0))
        said = self.hear(a_report(a_block(highest=90_250, lost=5), at=1010.0))
        self.assertEqual((said[0].expected, said[0].lost), (250, 5))

    def test_most_loss(self) -> None:
        """More than half is not worse than half: so much less can one report lie."""
        said = self.second(a_block(), a_block(highest=1250, lost=249))
        self.assertEqual(said[0].lost, 250 * MOST_LOSS)

    def test_gap(self) -> None:
        """A difference over too long a time is only a new beginning."""
        self.assertEqual(self.second(a_block(), a_block(highest=2250), seconds=LONGEST_GAP_SECONDS + 5.0), [])
        self.assertEqual(self.refused, {})

    def test_twice(self) -> None:
        """A report that comes twice, or after a later one, counts once."""
        report, later = a_report(a_block()), a_report(a_block(highest=1250), at=1005.0)
        self.assertEqual(len(self.hear(report, later, report, later)), 2)
        self.assertEqual(self.refused, {"twice": 2})

    def test_jitter(self) -> None:
        """Jitter is in units of the stream's clock; none is impossible without the rest being so."""
        self.call.clock_rate = 48_000
        said = self.hear(a_report(a_block(jitter=480)))
        self.assertEqual(said[0].jitter_ms, 10.0)
        said = self.hear(a_report(a_block(highest=1250, jitter=4_000_000), at=1005.0))
        self.assertEqual((said[0].jitter_ms, said[0].expected, self.refused), (None, 250, {"jitter": 1}))

    def test_round_trip(self) -> None:
        """The round trip between node and reporter is what is left of the time since the sender's report passed."""
        self.hear(a_report(at=1000.0, ssrc=2, source="10.2.0.1", ntp=77))
        said = self.hear(a_report(a_block(lsr=77, dlsr=2 * 65536), at=1002.08))
        assert said[0].rtt_ms is not None
        self.assertAlmostEqual(said[0].rtt_ms, 80.0, places=6)

    def test_no_round_trip(self) -> None:
        """One that is negative, endless or an answer to nothing we know is not believed."""
        self.hear(a_report(at=1000.0, ssrc=2, source="10.2.0.1", ntp=77))
        for at, block in [
            (1000.5, a_block(lsr=77, dlsr=65536)), (1007.0, a_block(lsr=77, highest=1100)),
            (1008.0, a_block(lsr=76, highest=1200)), (1009.0, a_block(highest=1300)),
        ]:
            self.assertEqual([each.rtt_ms for each in self.hear(a_report(block, at=at))], [None])
        self.assertEqual(self.refused, {"rtt": 2})

    def test_another_address(self) -> None:
        """A stream whose address changes has no past: the differences begin anew."""
        said = self.hear(a_report(a_block()), a_report(a_block(highest=1250, lost=50), source="10.3.0.9", at=1005.0))
        self.assertEqual([each.expected for each in said], [FIRST_PACKETS, FIRST_PACKETS])

    def test_sources(self) -> None:
        """A third address may report only when one of two has been silent, and a fifth never."""
        for source, at, admitted in [
            ("a", 0.0, True), ("b", 1.0, True), ("c", 2.0, False), ("b", 15.0, True), ("c", 21.0, True),
            ("a", 22.0, True), ("d", 30.0, False), ("d", 60.0, True), ("e", 100.0, False), ("b", 100.0, True),
        ]:
            self.assertEqual(self.call.admits(source, 1000.0 + at), admitted, (source, at))

    def test_bounded(self) -> None:
        """A call has so many streams, and each reports on so many, and not more."""
        self.hear(*(a_report(*(a_block(ssrc=ssrc) for ssrc in range(50)), ssrc=ssrc) for ssrc in range(50)))
        for number in range(50):
            self.hear(a_report(a_block(ssrc=100 + number), at=1001.0 + number, ntp=number))
        self.assertEqual(len(self.call.streams), MOST_STREAMS)
        self.assertEqual(max(len(stream.received) for stream in self.call.streams.values()), MOST_STREAMS)
        self.assertLessEqual(max(len(stream.sent) for stream in self.call.streams.values()), 4)

    @given(st.lists(st.tuples(st.floats(0.1, 30), st.integers(0, 2**32 - 1), st.integers(-(2**23), 2**23 - 1),
                              st.integers(0, 255), st.integers(0, 2**32 - 1)), max_size=20))
    def test_whatever_comes(self, rows: list[tuple[float, int, int, int, int]]) -> None:
        """Whatever a phone says, what is believed of it is possible."""
        call, at = Call("m1", 1000.0), 1000.0
        for seconds, highest, lost, fraction, jitter in rows:
            at += seconds
            block = a_block(highest=highest, lost=lost, fraction=fraction, jitter=jitter, lsr=1, dlsr=jitter)
            for each in call.heard(a_report(block, at=at, ssrc=2, ntp=1), {}):
                self.assertTrue(0 < each.expected <= 200 * 30 + 200)
                self.assertTrue(0 <= each.lost <= MOST_LOSS * each.expected)
                self.assertTrue(each.jitter_ms is None or 0 <= each.jitter_ms <= 1000)
                self.assertTrue(each.rtt_ms is None or 0 <= each.rtt_ms <= 5000)
