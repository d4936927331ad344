"""As much of Redis as subscribers need, in memory, for several registrars: what lies there, and who is told of changes.

That the scripts do the same in a real Redis is shown by tests/cluster/test_subscriber_caches.py.
"""

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from registrar.subscribers.announcing import TELL
from registrar.subscribers.shared import FIND, KEEP, SharedCache
from rollcall.cluster.redis import Answered, RedisRefused, RedisUnavailable, Script

NEVER = float("inf")


class SubscriberServer:
    """The server. Clients are told once of a key that they have read and somebody else has changed."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.values: dict[bytes, tuple[bytes, float]] = {}
        self.entries: list[list[Any]] = []
        self.clients: list[SubscriberRedis] = []
        self._id = 0

    def get(self, key: bytes) -> bytes | None:
        """Return what a key holds now."""
        value, until = self.values.get(key, (b"", 0.0))
        return value if self.clock.seconds() < until else None

    def flush(self) -> None:
        """Lose everything."""
        self.values.clear()
        self.entries.clear()
        for client in self.clients:
            client.tell(None)

    def trim(self, length: int) -> None:
        """Keep the last entries of the log only."""
        del self.entries[:-length]

    def execute(self, client: "SubscriberRedis", key: bytes, words: tuple[Any, ...]) -> Any:
        """Do what a command asks."""
        asked: list[Any] = list(words)
        match asked:
            case [b"SET", _, value, b"PX", milliseconds]:
                self.put(client, key, value, int(milliseconds))
                return b"OK"
            case [b"TIME"]:
                return [b"%d" % self.clock.seconds(), b"0"]
            case [b"XRANGE", _, start, b"+", b"COUNT", count]:
                client.tracked.add(key)
                return [entry for entry in self.entries if _number(entry[0]) >= _number(start)][:int(count)]
            case [b"XREVRANGE", _, b"+", b"-", b"COUNT", 1]:
                client.tracked.add(key)
                return self.entries[-1:]
        raise AssertionError(words)

    def run(self, client: "SubscriberRedis", script: Script, key: bytes, words: tuple[Any, ...]) -> Any:
        """Do what a script does."""
        if script is FIND:
            client.tracked.add(key)
            held = self.get(key)
            if held is None:
                self.put(client, key, words[0], words[1])
            return held
        if script is KEEP:
            expected, value, milliseconds = words
            if self.get(key) != expected:
                return 0
            self.put(client, key, value, milliseconds if value else 0)
            return 1
        assert script is TELL
        epoch = b"0-0"
        if self.entries:
            name, fields = self.entries[-1]
            epoch = fields[5] if fields[1] else name
        for username, domain in zip(words[1::2], words[2::2], strict=True):
            self._id += 1
            name = b"%d-%d" % (self.clock.seconds() * 1000, self._id)
            self.entries.append([name, [b"u", username, b"d", domain, b"e", epoch]])
            epoch = epoch if username else name
        self.told(client, key)
        client.tracked.add(key)
        return self.entries[-1:]

    def put(self, client: "SubscriberRedis", key: bytes, value: bytes, milliseconds: int) -> None:
        """Have a key hold this for so long."""
        self.values[key] = value, self.clock.seconds() + milliseconds / 1000
        self.told(client, key)

    def told(self, writer: "SubscriberRedis", key: bytes) -> None:
        """Tell everybody else who has read this key, once."""
        for client in self.clients:
            if key in client.tracked:
                client.tracked.discard(key)
                if client is not writer:
                    client.tell([key])


class SubscriberRedis:
    """What one registrar has of it. What the test holds back is executed, or answered, when the test lets it go."""

    def __init__(self, server: SubscriberServer) -> None:
        self.server = server
        self.is_away = False
        self.refuses = False
        self.is_deaf = False
        """What it is told is lost on the way."""
        self.held_commands: list[Callable[[], None]] | None = None
        """When it is a list: what is on its way to the server."""
        self.held_answers: list[Callable[[], None]] | None = None
        """When it is a list: what is on its way back."""
        self.tracked: set[bytes] = set()
        self.asked: list[str] = []
        """The transcript: scripts and commands."""
        self.shared: SharedCache
        server.clients.append(self)

    def can_ask(self, key: bytes) -> bool:
        return not self.is_away

    def ask(self, key: bytes, *command: bytes | int | str) -> "Deferred[Any]":
        self.asked.append(str(command[0], "ascii"))  # type: ignore[arg-type]
        return self._later(lambda: self.server.execute(self, key, command))

    def evaluate(self, script: Script, key: bytes, *arguments: bytes | int | str) -> "Deferred[Any]":
        self.asked.append({FIND: "find", KEEP: "keep", TELL: "tell"}[script])
        return self._later(lambda: self.server.run(self, script, key, arguments))

    def run(self, script: Script, key: bytes, arguments: Any, answered: Answered) -> None:
        self.evaluate(script, key, *arguments).addErrback(lambda failure: failure.value).addCallback(answered)

    def tell(self, keys: list[bytes] | None) -> None:
        """Be told what others have changed."""
        if not self.is_away and not self.is_deaf:
            self.shared.changed(keys)

    def lose(self) -> None:
        """Let the connection end: whoever waits gets no answer, and nothing is told any more."""
        self.is_away = True
        self.tracked.clear()

    def come_back(self) -> None:
        """Connect again."""
        self.is_away = False
        self.shared.connected()

    def release(self) -> None:
        """Let go all that was held back."""
        for name in ("held_commands", "held_answers"):
            held = getattr(self, name) or []
            setattr(self, name, None)
            for step in held:
                step()

    def _later(self, work: Callable[[], Any]) -> "Deferred[Any]":
        answer: Deferred[Any] = Deferred()
        if self.held_commands is not None:
            self.held_commands.append(lambda: self._execute(work, answer))
        else:
            self._execute(work, answer)
        return answer

    def _execute(self, work: Callable[[], Any], answer: "Deferred[Any]") -> None:
        if self.is_away:
            self._give(answer, RedisUnavailable("no answer"))
        elif self.refuses:
            self._give(answer, RedisRefused("NOPERM this user has no permissions"))
        else:
            self._give(answer, work())

    def _give(self, answer: "Deferred[Any]", outcome: Any) -> None:
        def give() -> None:
            if isinstance(outcome, Exception):
                answer.errback(outcome)
            else:
                answer.callback(outcome)

        if self.held_answers is not None:
            self.held_answers.append(give)
        else:
            give()


def _number(name: bytes) -> tuple[int, int]:
    high, _, low = name.partition(b"-")
    return int(high), int(low)
