"""How registrars and balancers tell every balancer what they know of calls: through a stream in Redis, in batches.

Reports are worth something for seconds only. So the stream keeps those of the last moments, and who cannot tell his for
longer drops the oldest.
"""

from collections import deque
from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from rollcall.cluster.polling import Polling
from rollcall.cluster.redis import Redis, RedisRefused, RedisUnavailable, Script
from rollcall.cluster.streams import Tail
from rollcall.media.reports import REPORTS, Report, decode_reports, encode_reports

TELL_SECONDS = 0.2
"""How often what has come together is told."""

READ_SECONDS = 0.2

KEPT_SECONDS = 30
"""So long the stream keeps what was told: a balancer that was held up for longer has missed it."""

MOST_WAITING = 20_000
"""So many reports wait at most; what a node with 5,000 calls has in ten seconds."""

MOST_AT_ONCE = 500
"""Reports in one entry: about 100 kB."""

MOST_READ = 5
"""Entries that are read at a time, so that nobody waits long for us while we hear of them."""

TELL = Script(b"""
local now = redis.call('TIME')
redis.call('XADD', KEYS[1], 'MINID', '~', string.format('%.0f', (tonumber(now[1]) - tonumber(ARGV[1])) * 1000), '*',
  'from', ARGV[2], 'reports', ARGV[3])
return 1
""")
"""KEYS: the stream. ARGV: for how many seconds entries are kept, who tells, the reports."""


class Telling:
    """Takes reports, and tells them from `start` to `stop`."""

    def __init__(self, reactor: IReactorTime, redis: Redis, origin: str, most_waiting: int = MOST_WAITING) -> None:
        """`origin` is who we are: a name that nobody else has."""
        self.told = 0
        """Reports that are in the stream."""
        self.dropped = 0
        """Reports that had to be dropped because Redis was away or slow."""
        self._redis = redis
        self._origin = origin.encode()
        self._waiting: deque[Report] = deque()
        self._most = most_waiting
        self._polling = Polling(reactor, TELL_SECONDS, self.tell_waiting, "telling reports")

    def start(self) -> None:
        """Begin to tell."""
        self._polling.start()

    async def stop(self) -> None:
        """Tell what waits, if Redis is there, and no more."""
        await self._polling.stop()
        try:
            await self.tell_waiting()
        except (RedisUnavailable, RedisRefused):
            self._drop(len(self._waiting))

    @property
    def waiting(self) -> int:
        """How many reports are not told yet."""
        return len(self._waiting)

    @property
    def problem(self) -> str | None:
        """Why nothing could be told last."""
        return self._polling.problem

    def tell(self, report: Report) -> None:
        """Take a report. Never fails, and never waits."""
        self._waiting.append(report)
        if len(self._waiting) > self._most:
            self._drop(1)

    async def tell_waiting(self) -> None:
        """Tell all that waits. Raises RedisUnavailable and RedisRefused; then it waits on."""
        while self._waiting and self._redis.can_ask(REPORTS):
            batch = [self._waiting.popleft() for _ in range(min(MOST_AT_ONCE, len(self._waiting)))]
            try:
                await self._redis.evaluate(TELL, REPORTS, KEPT_SECONDS, self._origin, encode_reports(batch))
            except BaseException:
                # It may have been told: what is told twice counts once, see the differences of balancer.quality.
                self._waiting.extendleft(reversed(batch))
                self._drop(len(self._waiting) - self._most)
                raise
            self.told += len(batch)

    def _drop(self, number: int) -> None:
        for _ in range(number):
            self._waiting.popleft()
            self.dropped += 1


class ReportReader:
    """Reads what others tell, from `start` to `stop`."""

    _log = Logger()

    def __init__(self, reactor: IReactorTime, redis: Redis, origin: str, heard: Callable[[Report], None]) -> None:
        """What `origin`, who we are, has told is left out. `heard` gets each report of others, and must not raise."""
        self.heard = 0
        """Reports of others."""
        self.refused = 0
        """Entries that were not understood."""
        self._redis = redis
        self._origin = origin.encode()
        self._heard = heard
        self._tail = Tail(redis, REPORTS, MOST_READ)
        self._polling = Polling(reactor, READ_SECONDS, self.poll, "reading reports")

    def start(self) -> None:
        """Begin with the oldest that are kept: who has just started knows a little then."""
        self._polling.start()

    async def stop(self) -> None:
        """Read no more."""
        await self._polling.stop()

    @property
    def problem(self) -> str | None:
        """Why nothing could be read last."""
        return self._polling.problem

    async def poll(self) -> None:
        """Read all that is new. Raises RedisUnavailable and RedisRefused."""
        entries = await self._tail.read()
        for entry in entries:
            if entry.fields.get(b"from") != self._origin:
                self._take(entry.fields.get(b"reports", b""))
        if len(entries) == MOST_READ:
            self._polling.hurry()

    def _take(self, data: bytes) -> None:
        try:
            reports = decode_reports(data)
        except ValueError as problem:
            self.refused += 1
            self._log.warn("reports in Redis are not understood: {why}", why=str(problem), log_rationed=True)
            return
        self.heard += len(reports)
        for report in reports:
            self._heard(report)
