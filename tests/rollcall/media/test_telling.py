"""Telling balancers of calls, and hearing it."""

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from rollcall.media.reports import REPORTS, CallOver, Report
from rollcall.media.telling import (
    KEPT_SECONDS,
    MOST_AT_ONCE,
    MOST_READ,
    READ_SECONDS,
    TELL_SECONDS,
    ReportReader,
    Telling,
)
from tests.rollcall.cluster.stream_redis import StreamRedis


def over(number: int) -> CallOver:
    """Return a report that differs from others."""
    return CallOver(call_id=f"c{number}")


class TellingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1_000_000.0)
        self.redis = StreamRedis(self.clock)
        self.heard: list[Report] = []
        self.telling = Telling(self.clock, self.redis, "r1", most_waiting=2000)
        self.reader = ReportReader(self.clock, self.redis, "b1", self.heard.append)
        for part in (self.telling, self.reader):
            part.start()

    def end(self) -> None:
        """Stop both."""
        for part in (self.telling, self.reader):
            self.successResultOf(Deferred.fromCoroutine(part.stop()))

    def pass_time(self, seconds: float) -> None:
        """Let all happen that happens in this time."""
        self.clock.pump([0.05] * round(seconds / 0.05))

    def test_any_bytes(self) -> None:
        """A Call-ID that is no text holds up nobody's reports, and reads as in those of media nodes."""
        for report in (CallOver(call_id="a\udcffb"), over(1)):
            self.telling.tell(report)
        self.pass_time(1.0)
        self.assertEqual(self.heard, [CallOver(call_id="a\ufffdb"), over(1)])
        self.end()

    def test_batches(self) -> None:
        """What comes within a moment goes together, and arrives in order."""
        reports = [over(number) for number in range(MOST_AT_ONCE + 10)]
        for report in reports:
            self.telling.tell(report)
        self.assertEqual(self.telling.waiting, len(reports))
        self.pass_time(TELL_SECONDS + READ_SECONDS)
        self.assertEqual(self.heard, reports)
        self.assertEqual(len(self.redis.streams[REPORTS]), 2)
        self.assertEqual((self.telling.told, self.telling.dropped, self.reader.heard), (510, 0, 510))

    def test_own_ones(self) -> None:
        """What we have told ourselves we do not hear again."""
        own = Telling(self.clock, self.redis, "b1")
        own.tell(over(1))
        self.successResultOf(Deferred.fromCoroutine(own.tell_waiting()))
        self.telling.tell(over(2))
        self.pass_time(1.0)
        self.assertEqual(self.heard, [over(2)])

    def test_redis_away(self) -> None:
        """While Redis is away reports wait, as many as may; the oldest are dropped and counted. Later all are told."""
        self.pass_time(1.0)
        self.redis.problem = "away"
        for number in range(2500):
            self.telling.tell(over(number))
        self.pass_time(5.0)
        self.assertEqual((self.telling.waiting, self.telling.dropped, self.telling.told), (2000, 500, 0))
        self.redis.problem = None
        self.pass_time(1.0)
        self.assertEqual(self.heard, [over(number) for number in range(500, 2500)])

    def test_an_answer_that_was_lost(self) -> None:
        """What may or may not have been told is told again, rather twice than never."""
        self.redis.loses_answers = True
        self.telling.tell(over(1))
        self.pass_time(TELL_SECONDS)
        self.assertEqual((self.telling.waiting, self.telling.problem), (1, "no answer"))
        self.redis.loses_answers = False
        self.pass_time(1.0)
        self.assertEqual(set(self.heard), {over(1)})
        self.assertEqual((self.telling.waiting, self.telling.problem), (0, None))

    def test_old_entries_go(self) -> None:
        """The stream keeps what is worth something, no more."""
        for number in range(KEPT_SECONDS * 2):
            self.telling.tell(over(number))
            self.pass_time(1.0)
        self.assertLessEqual(len(self.redis.streams[REPORTS]), KEPT_SECONDS + 1)

    def test_who_has_just_started(self) -> None:
        """A balancer that has just started hears what was told in the last moments."""
        for number in range(MOST_READ * 3):
            self.telling.tell(over(number))
            self.pass_time(TELL_SECONDS)
        heard: list[Report] = []
        late = ReportReader(self.clock, self.redis, "b2", heard.append)
        late.start()
        self.pass_time(READ_SECONDS)
        self.assertEqual(len(heard), MOST_READ * 3)
        self.successResultOf(Deferred.fromCoroutine(late.stop()))

    def test_not_understood(self) -> None:
        """What is no list of reports is left out, counted, and does not stop what comes after it."""
        self.redis.xadd(REPORTS, (1_000_000_000, 0), [b"from", b"x", b"reports", b"[{}]"])
        self.redis.xadd(REPORTS, (1_000_000_000, 1), [b"strange", b""])
        self.telling.tell(over(1))
        self.pass_time(1.0)
        self.assertEqual((self.heard, self.reader.refused), ([over(1)], 2))

    def test_the_end(self) -> None:
        """What waits at the end is told, if Redis is there; nothing goes on after it."""
        self.telling.tell(over(1))
        self.end()
        self.assertEqual(self.telling.told, 1)
        self.assertEqual(self.clock.getDelayedCalls(), [])
