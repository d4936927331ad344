"""How all registrars above one Redis hear within milliseconds who was changed.

There is one log, the stream `sub:changes`. What is remembered of a user in Redis is first replaced by a tombstone, so
that nobody who has heard of the change finds what was there before, nor puts it back; then the log says who it was.
Each entry has the fields u (username), d (domain) and e: the id of the last entry that concerned everybody. Such an
entry names nobody.
"""

from collections.abc import Collection, Iterable
from typing import Any

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.error import ReactorNotRunning
from twisted.internet.selectreactor import SelectReactor
from twisted.python.failure import Failure

from rollcall.cluster.access import make_redis
from rollcall.cluster.config import RedisConfig
from rollcall.cluster.redis import Redis, RedisUnavailable, Script
from rollcall.sql.config import MysqlConfig

PREFIX = b"sub:"
LOG = b"sub:changes"
TOMBSTONE = b"\x03"

MAX_ENTRIES = 10_000
"""What the log holds at least. Who has missed more doubts all that he remembers."""

MOST_NAMES = 1000
"""So many names are told at a time; of more it is told that anybody may have changed."""

TELLING_SECONDS = 5.0
"""How long a command waits for Redis."""

LEAST_TOMBSTONE_MS = 1000

# It ends with a read, after which the server goes on telling us what others write there.
TELL = Script(b"""
local newest = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
local epoch = '0-0'
if newest then
  epoch = newest[2][2] == '' and newest[1] or newest[2][6]
end
for i = 2, #ARGV, 2 do
  local id = redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[1], '*', 'u', ARGV[i], 'd', ARGV[i + 1], 'e', epoch)
  if ARGV[i] == '' then epoch = id end
end
return redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)
""")

EVERYBODY = ("", "")
"""The name in an entry that concerns everybody."""

Names = Collection[tuple[str, str]]
"""Username and domain of each, domains in lower case."""


def place_of(username: str, domain: str) -> bytes:
    """Return the key of Redis at which a user is remembered."""
    return b"%b{%b}" % (PREFIX, f"{username}@{domain}".encode())


def fresh_seconds(config: MysqlConfig) -> float:
    """Return how long after a change a replica may not know it, and nobody may have noticed that yet."""
    return config.max_lag_seconds + 2 * config.check_seconds + config.timeout_seconds


async def bury(redis: Redis, names: Names, seconds: float) -> None:
    """Put tombstones where these users are remembered in Redis. Raises RedisUnavailable, RedisRefused."""
    milliseconds = max(LEAST_TOMBSTONE_MS, int(seconds * 1000))
    places = [place_of(*name) for name in names]
    buried = await DeferredList(
        [redis.ask(place, b"SET", place, TOMBSTONE, b"PX", milliseconds) for place in places], consumeErrors=True)
    for succeeded, outcome in buried:
        if not succeeded:
            outcome.raiseException()


async def announce(redis: Redis, names: Names | None, seconds: float) -> None:
    """Tell all registrars who was changed; None: it may be anybody. Raises RedisUnavailable, RedisRefused.

    `seconds` is how long from now on the primary is asked for them, see fresh_seconds.
    """
    if names is None or len(names) > MOST_NAMES:
        told = [part.encode() for part in EVERYBODY]
    else:
        await bury(redis, names, seconds)
        told = [part.encode() for name in names for part in name]
    if told:
        await redis.evaluate(TELL, LOG, MAX_ENTRIES, *told)


def concerned(names: Names, domains: Iterable[str]) -> list[tuple[str, str]]:
    """Return who is concerned where a username alone says who it is: the same names in all served domains."""
    domains = tuple(domains)
    return list(dict.fromkeys((username, each) for username, domain in names for each in (domain, *domains)))


def announce_now(config: RedisConfig, names: Names | None, seconds: float) -> str | None:
    """Do as `announce` and wait for it, in a reactor of its own; return why it failed, None if it did not."""
    reactor = SelectReactor()
    problems: list[str] = []

    def begin() -> None:
        redis = make_redis(reactor, config, _Nobody())
        redis.start()
        telling: Deferred[None] = Deferred.fromCoroutine(announce(redis, names, seconds))
        telling.addTimeout(TELLING_SECONDS, reactor, lambda result, timeout: _too_late(result))
        telling.addErrback(lambda failure: problems.append(failure.getErrorMessage()))
        telling.addCallback(lambda _: Deferred.fromCoroutine(redis.stop()))
        telling.addBoth(ended)

    def ended(outcome: Any) -> None:
        if isinstance(outcome, Failure):
            problems.append(outcome.getErrorMessage())
        try:
            reactor.stop()
        except ReactorNotRunning:
            reactor.callWhenRunning(reactor.stop)

    reactor.callWhenRunning(begin)
    reactor.run(installSignalHandlers=False)
    return f"Redis at {', '.join(config.addresses)}: {problems[0]}" if problems else None


def _too_late(result: Any) -> Any:
    raise RedisUnavailable(f"no answer in {TELLING_SECONDS:g} s")


class _Nobody:
    """The Watcher of a command, which remembers nothing."""

    def connected(self, server: str, run_id: str, may_have_lost: bool) -> None:
        """Nothing was known."""

    def disconnected(self, server: str, why: str) -> None:
        """Whoever waits is told."""

    def invalidated(self, keys: Any) -> None:
        """Nothing was known."""

    def leases_changed(self) -> None:
        """Nobody asks."""


