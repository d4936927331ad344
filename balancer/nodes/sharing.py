"""What operators and nodes have said, known to every balancer: kept here, and in the Redis hash media:nodes.

Each field is a word of its own, "drain:<id>", "node:<id>" or "load:<id>", so that nobody overwrites another word. Its
value begins with the moment it was said, by the clock of Redis, so that no two balancers' clocks are compared; of two
words in one field the later counts. A word that Redis has lost is written again by the balancer that it was said to.
"""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from attrs import frozen
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from rollcall.cluster.redis import Redis, RedisRefused, RedisUnavailable, Script

KEY = b"media:nodes"

# How soon at most a balancer knows what was said to another.
READ_SECONDS = 0.5

# So many words are kept at most; of more than that somebody makes them up.
MOST_WORDS = 4096

# KEYS[1]: the hash. ARGV: field, word, how many milliseconds ago it was said. It stays when a later word is there.
SAY = Script(b"""
local time = redis.call('TIME')
local said = time[1] * 1000 + math.floor(time[2] / 1000) - tonumber(ARGV[3])
local old = redis.call('HGET', KEYS[1], ARGV[1])
if old and tonumber(string.match(old, '^%d+')) > said then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f', said) .. ' ' .. ARGV[2])
return 1
""")

# KEYS[1]: the hash. ARGV: an age in milliseconds; words that are older are dropped, but for those that say whether a
# node drains. Answers with the time, then fields and values.
READ = Script(b"""
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local all = redis.call('HGETALL', KEYS[1])
local answer = {string.format('%.0f', now)}
for place = 1, #all, 2 do
  local age = now - tonumber(string.match(all[place + 1], '^%d+'))
  if age > tonumber(ARGV[1]) and not string.match(all[place + 1], '^%d+ [tf]') then
    redis.call('HDEL', KEYS[1], all[place])
  else
    answer[#answer + 1] = all[place]
    answer[#answer + 1] = all[place + 1]
  end
end
return answer
""")


@frozen
class Word:
    """What was said in one field."""

    value: bytes
    said_at: float
    """By our clock."""


Heard = Callable[[str, bytes, float], bool]
"""(field, value, when it was said by our clock): takes what was said, here or to another balancer; False when it is of
a node that nobody knows yet."""


class Sharing(Service):
    """Says words to all balancers, and hears theirs, from startService to stopService. Without Redis it is alone."""

    _log = Logger()

    def __init__(self, reactor: Any, redis: Redis | None, keep_seconds: float, heard: Heard,
                 away: Callable[[], object] = lambda: None) -> None:
        """Words but those of draining are dropped after `keep_seconds`. `heard` may be told the same word twice.

        `away` is called again and again while others cannot be heard.
        """
        self._reactor = reactor
        self._redis = redis
        self._keep_seconds = keep_seconds
        self._heard = heard
        self._away = away
        self._own: dict[str, Word] = {}
        self._known: dict[str, bytes] = {}
        self._owed: set[str] = set()
        self._problem = ""
        self._next: IDelayedCall | None = None
        self._asked: Deferred[None] | None = None

    @property
    def problem(self) -> str:
        """Why others are not heard; empty while they are."""
        return self._problem

    def startService(self) -> None:
        super().startService()
        if self._redis is not None:
            self._go_round()

    def stopService(self) -> Any:
        stopping = super().stopService()
        if self._next is not None:
            self._next.cancel()
            self._next = None
        if self._asked is not None:
            self._asked.cancel()
        return stopping

    def say(self, field: str, value: object) -> None:
        """Hear this word here, and let all others hear it."""
        word = self._own[field] = Word(msgspec.json.encode(value), self._reactor.seconds())
        if len(self._own) > MOST_WORDS:
            del self._own[next(iter(self._own))]
        self._owed.add(field)
        self._heard(field, word.value, word.said_at)
        if self._redis is not None and self.running and not self._problem:
            self._write(self._redis, field)

    # --- details

    def _go_round(self) -> None:
        """Write what could not be written, read what is there, and so on."""
        self._next = None
        asked = self._asked = Deferred.fromCoroutine(self._read())
        asked.addErrback(self._failed)
        asked.addBoth(self._pause)

    def _pause(self, result: object) -> None:
        if self.running:
            self._next = self._reactor.callLater(READ_SECONDS, self._go_round)

    async def _read(self) -> None:
        redis = self._redis
        assert redis is not None
        answer = await redis.evaluate(READ, KEY, round(self._keep_seconds * 1000))
        now = self._reactor.seconds()
        told = dict(zip(answer[1::2], answer[2::2], strict=True))
        self._problem = ""
        self._take(told, float(answer[0]), now)
        for field, word in tuple(self._own.items()):
            if now - word.said_at > self._keep_seconds and word.value not in (b"true", b"false"):
                del self._own[field]
                self._owed.discard(field)
            elif field in self._owed or field.encode() not in told:
                self._write(redis, field)

    def _take(self, told: Mapping[bytes, bytes], redis_ms: float, now: float) -> None:
        """Hear what is new. Reading again brings what was not taken, such as what is said of a node that is coming."""
        for name, value in told.items():
            field = name.decode("utf-8", "replace")
            if self._known.get(field) == value:
                continue
            said_ms, _, word = value.partition(b" ")
            if field in self._own and self._own[field].value != word and field not in self._owed:
                del self._own[field]  # another balancer was told otherwise later
            said_at = now - max(0.0, redis_ms - float(said_ms)) / 1000
            if field not in self._owed and self._heard(field, word, said_at):
                self._known[field] = value
        for field in self._known.keys() - {name.decode("utf-8", "replace") for name in told}:
            del self._known[field]

    def _write(self, redis: Redis, field: str) -> None:
        word = self._own[field]
        age_ms = round((self._reactor.seconds() - word.said_at) * 1000)
        self._owed.add(field)
        redis.run(SAY, KEY, (field, word.value, max(0, age_ms)), lambda answer: self._written(field, word, answer))

    def _written(self, field: str, word: Word, answer: object) -> None:
        if isinstance(answer, Exception):
            self._tell(str(answer))
        elif self._own.get(field) is word:
            self._owed.discard(field)

    def _failed(self, failure: Failure) -> None:
        if not self.running:
            return
        if failure.check(RedisUnavailable, RedisRefused):
            self._tell(failure.getErrorMessage())
        else:
            self._log.failure("what was said of media nodes could not be read", failure)

    def _tell(self, problem: str) -> None:
        if not self._problem:
            self._log.warn("what is said of media nodes stays here: {problem}", problem=problem)
        self._problem = problem
        self._away()
