"""Redis in memory as far as streams and the scripts around them need it; it can lose answers, entries and all."""

from collections.abc import AsyncIterator, Callable
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock

from rollcall.cluster.redis import Answered, RedisRefused, RedisUnavailable, Script, ServerState, Words
from rollcall.cluster.snapshots import APPEND
from rollcall.cluster.streams import BEGINNING, EntryId, id_of, text_of
from rollcall.media.telling import TELL

Fields = list[bytes]


class StreamRedis:
    """Answers at once, unless it is away."""

    def __init__(self, clock: Clock) -> None:
        self.streams: dict[bytes, list[tuple[EntryId, Fields]]] = {}
        self.tops: dict[bytes, EntryId] = {}
        """The greatest id that each stream has had."""
        self.hashes: dict[bytes, dict[bytes, bytes]] = {}
        self.scripts: dict[bytes, Callable[..., Any]] = {APPEND.sha: self._append, TELL.sha: self._tell}
        self.problem: str | None = None
        self.loses_answers = False
        """What is asked is done, but nobody hears of it."""
        self.asked = 0
        self._clock = clock

    # --- what tests do to it

    def lose(self, key: bytes, number: int) -> None:
        """Forget the newest entries, as a server does that was a replica and behind."""
        kept = self.streams.get(key, [])
        self.streams[key] = kept[:max(0, len(kept) - number)]
        self.tops[key] = self.streams[key][-1][0] if self.streams[key] else BEGINNING

    def trim(self, key: bytes, number: int) -> None:
        """Forget the oldest entries."""
        self.streams[key] = self.streams.get(key, [])[number:]

    def clear(self) -> None:
        """Forget all."""
        self.streams.clear()
        self.tops.clear()
        self.hashes.clear()

    # --- Redis

    def start(self) -> None:
        """There is nothing to connect to."""

    async def stop(self) -> None:
        """There is nothing to close."""

    @property
    def servers(self) -> tuple[ServerState, ...]:
        """None."""
        return ()

    def can_ask(self, key: bytes) -> bool:
        """Whether it is there."""
        return self.problem is None

    def submit(self, key: bytes, command: Words, answered: Answered) -> None:
        """Answer at once."""
        self.ask(key, *command).addBoth(lambda answer: answered(getattr(answer, "value", answer)))

    def run(self, script: Script, key: bytes, arguments: Words, answered: Answered) -> None:
        """Answer at once."""
        self.evaluate(script, key, *arguments).addBoth(lambda answer: answered(getattr(answer, "value", answer)))

    def ask(self, key: bytes, *command: bytes | int | str) -> "Deferred[Any]":
        """Answer at once."""
        name, *words = (_bytes(word) for word in command)
        commands: dict[bytes, Callable[..., Any]] = {
            b"XREAD": self._xread, b"XRANGE": self._xrange, b"XREVRANGE": self._xrevrange, b"TIME": self._time,
            b"HSET": self._hset, b"HDEL": self._hdel, b"HGETALL": self._hgetall}
        return self._answer(commands[name], words)

    def evaluate(self, script: Script, key: bytes, *arguments: bytes | int | str) -> "Deferred[Any]":
        """Answer at once."""
        return self._answer(self.scripts[script.sha], [key, *(_bytes(word) for word in arguments)])

    def scan(self, match: bytes, count: int = 1000) -> AsyncIterator[list[bytes]]:
        """Nobody asks for this."""
        raise NotImplementedError

    def _answer(self, command: Callable[..., Any], words: list[bytes]) -> "Deferred[Any]":
        self.asked += 1
        if self.problem is not None:
            return fail(RedisUnavailable(self.problem))
        try:
            answer = command(*words)
        except RedisRefused as refusal:
            return fail(refusal)
        return fail(RedisUnavailable("no answer")) if self.loses_answers else succeed(answer)

    # --- commands

    def xadd(self, key: bytes, id: EntryId, fields: Fields) -> bytes:
        """Add an entry. Raises RedisRefused."""
        if id <= self.tops.get(key, BEGINNING):
            raise RedisRefused("ERR The ID specified in XADD is equal or smaller than the target stream top item")
        self.tops[key] = id
        self.streams.setdefault(key, []).append((id, fields))
        return text_of(id)

    def _xread(self, _: bytes, count: bytes, __: bytes, key: bytes, after: bytes) -> Any:
        found = [each for each in self.streams.get(key, []) if each[0] > id_of(after)][:int(count)]
        return [[key, _shown(found)]] if found else None

    def _xrange(self, key: bytes, first: bytes, _: bytes, __: bytes, count: bytes) -> Any:
        return _shown([each for each in self.streams.get(key, []) if each[0] >= id_of(first)][:int(count)])

    def _xrevrange(self, key: bytes, *_: bytes) -> Any:
        return _shown(self.streams.get(key, [])[-1:])

    def _time(self) -> Any:
        return [b"%d" % int(self._clock.seconds()), b"%d" % int(self._clock.seconds() % 1 * 1e6)]

    def _hset(self, key: bytes, name: bytes, value: bytes) -> int:
        self.hashes.setdefault(key, {})[name] = value
        return 1

    def _hdel(self, key: bytes, name: bytes) -> int:
        return int(self.hashes.get(key, {}).pop(name, None) is not None)

    def _hgetall(self, key: bytes) -> Any:
        return [each for pair in self.hashes.get(key, {}).items() for each in pair]

    def _append(self, key: bytes, id: bytes, kind: bytes, before: bytes, whole: bytes, data: bytes,
                oldest: bytes) -> Any:
        stream = self.streams.get(key, [])
        top = text_of(stream[-1][0]) if stream else b""
        if before and top != before:
            return top
        try:
            self.xadd(key, id_of(id), [b"kind", kind, b"before", before, b"whole", whole, b"data", data])
        except RedisRefused:
            return top
        self.streams[key] = [each for each in self.streams[key] if each[0] >= id_of(oldest)]
        return 1

    def _tell(self, key: bytes, kept: bytes, origin: bytes, reports: bytes) -> Any:
        now = int(self._clock.seconds() * 1000)
        top = self.tops.get(key, BEGINNING)
        self.xadd(key, max((now, 0), (top[0], top[1] + 1)), [b"from", origin, b"reports", reports])
        self.streams[key] = [each for each in self.streams[key] if each[0][0] >= now - int(kept) * 1000]
        return 1


def _shown(entries: list[tuple[EntryId, Fields]]) -> list[Any]:
    return [[text_of(id), fields] for id, fields in entries]


def _bytes(word: bytes | int | str) -> bytes:
    return word if isinstance(word, bytes) else str(word).encode()
