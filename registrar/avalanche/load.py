"""How long REGISTERs wait, whether that is too long, and how many this process can take.

A queue is judged as CoDel does (RFC 8289 §3.2): by the shortest wait within a while, for a burst that is worked off
makes some wait long, but only a standing queue makes everybody wait. It stands when that was above the target twice in
succession. Then the rate is what was done meanwhile; it follows what is seen from there: down while the target is
missed, up while it holds and the rate is used.

A store may be slow by itself, because it is far away or ill: then nothing gets better for anybody who is turned away.
It is known by this: answers take as long although much less is done, while a store with a queue goes on at its full
pace until that is empty. What a store takes by itself does not count from then on.
"""

from collections.abc import Callable
from math import inf

PERIOD_SECONDS = 0.1
"""CoDel's interval: waits are judged once in so long."""

MOST_SECONDS = 1.0
"""What was counted for longer than this says nothing of how fast anything was, and what was seen before that is old."""

STANDING_PERIODS = 2
CALM_PERIODS = 10
"""After so many in which the target held, and with nobody left to come again, it is over."""

LEAST_RATE = 20.0
"""At least two in a tenth of a second are let in: a process that does less than that does not get better by resting."""

HALF = 0.5
"""At first less than this part of what was possible before is not believed: the start of a storm is no measure."""
DOWN = 0.9
UP = 1.1
SETTLING = 2.0
"""The rate goes down once in so many times what answers take."""
USED = 0.5
"""A rate of which less than this part is used is not known to be too low."""
FADING = 0.8
"""What was done is forgotten by this factor in a period."""
MOST_BY_ITSELF = 2.0
"""A store that takes longer is taken for one with a queue, whatever it does: phones begin to ask again."""
EASY = 0.5
"""The rate goes up while waits are below this part of the target."""


class Load:
    """What one process has to do. Moments are in seconds since any epoch."""

    def __init__(self, target_seconds: float, start_rate: float, answered: Callable[[], int]) -> None:
        """`answered` says how many REGISTERs were answered by 200 or 401 since any time."""
        self.rate = max(start_rate, LEAST_RATE)
        """REGISTERs a second that this process can take, as far as is known."""
        self.latency = 0.0
        """The shortest wait of the latest period in which there was one, in seconds, without `by_itself`."""
        self.by_itself = 0.0
        """What stores take however little they have to do, as far as that made answers late."""
        self.is_late = False
        """Whether the target is missed."""
        self.least_answer = inf
        """The shortest time that an answer took in this period; whoever answers keeps it (`answer_took`)."""
        self.ends_at = 0.0
        """When this period ends."""
        self.on_change: list[Callable[[bool], None]] = []
        """Told when shedding has to begin, and when it ends."""
        self.is_shedding = False
        self.outstanding: Callable[[], int] = lambda: 0
        """How many are still to come again."""
        self._target = target_seconds
        self._answered = answered
        self._count = 0
        self._began_at = 0.0
        self._least_wait = inf
        self._seen_at = 0.0
        self._slowed_at = 0.0
        self._late_periods = 0
        self._calm_periods = 0
        # How much was done in a second lately, and how much at most since answers are late.
        self._done = self._most_done = 0.0

    def waited(self, seconds: float, now: float) -> None:
        """Take note how long the one waits who has waited longest to be read; 0 when nobody does."""
        if seconds < self._least_wait:
            self._least_wait = seconds
        if not self._began_at <= now < self.ends_at:
            self.look(now)

    def answer_took(self, seconds: float, now: float) -> None:
        """Take note how long an answer took."""
        if seconds < self.least_answer:
            self.least_answer = seconds
        if not self._began_at <= now < self.ends_at:
            self.look(now)

    def look(self, now: float) -> None:
        """Judge the period if it is over, and begin the next one."""
        if now < self.ends_at and now >= self._began_at:
            return
        seconds, self._began_at, self.ends_at = now - self._began_at, now, now + PERIOD_SECONDS
        count = self._answered()
        done, self._count = count - self._count, count
        is_known = 0 < seconds <= MOST_SECONDS
        pace = done / seconds if is_known else 0.0
        self._done = max(pace, self._done * FADING)
        if is_known:
            self._learn()
        least = (self._least_wait, self.least_answer - self.by_itself)
        seen = [each for each in least if each < inf]
        if seen:
            self._seen_at = now
        self.latency = max(seen, default=self.latency if abs(now - self._seen_at) < MOST_SECONDS else 0.0)
        self._least_wait = self.least_answer = inf
        self._judge(pace, bool(seen), now)

    def _learn(self) -> None:
        """Find out what stores take by themselves."""
        answer = self.least_answer
        if answer == inf:
            return
        self.by_itself = max(min(self.by_itself, answer), 0.0)  # the clock may have been set back meanwhile
        if answer - self.by_itself <= self._target:
            self._most_done = 0.0
            return
        self._most_done = max(self._most_done, self._done)
        is_read_in_time = self._least_wait == inf or self._least_wait <= self._target
        if self._late_periods and is_read_in_time and self._done <= max(self._most_done * HALF, LEAST_RATE):
            self.by_itself = min(answer, MOST_BY_ITSELF)

    def _judge(self, done: float, is_news: bool, now: float) -> None:
        """Take the period into account, in which so many were answered in a second; `is_news` says that some waited."""
        if self.latency > self._target:
            self._late_periods += is_news
            self._calm_periods = 0
        else:
            self._late_periods = 0
            self._calm_periods += 1
        self.is_late = self._late_periods >= STANDING_PERIODS
        if self.is_late and not self.is_shedding:
            self.rate, self._slowed_at = max(done, self.rate * HALF, LEAST_RATE), now
            self._change(True)
        elif self._late_periods and is_news:
            self._slow_down(done, now)
        elif done >= self.rate * USED and self.latency < self._target * EASY:
            self.rate = max(self.rate * UP, done)
        if self.is_shedding and self._calm_periods >= CALM_PERIODS and not self.outstanding():
            self._change(False)

    def _slow_down(self, done: float, now: float) -> None:
        """Believe in less, unless more was done; and wait for what that changes, which those who wait do not see."""
        if abs(now - self._slowed_at) >= SETTLING * self.latency:
            self._slowed_at = now
            self.rate = max(self.rate * DOWN, done, LEAST_RATE)

    def _change(self, is_shedding: bool) -> None:
        self.is_shedding = is_shedding
        for tell in self.on_change:
            tell(is_shedding)
