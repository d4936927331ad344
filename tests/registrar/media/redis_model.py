"""A Redis of several clients in which every message is on its way until the test lets it arrive."""

from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any

from twisted.internet.defer import Deferred

from registrar.media.kept import END, PUT
from rollcall.cluster.redis import Answered, RedisUnavailable, Script, ServerState, Words


class ModelServer:
    """What is kept. Executes the two scripts of calls as they are written; tests/cluster has a real one do it."""

    def __init__(self, now: Callable[[], float]) -> None:
        self.kept: dict[bytes, tuple[bytes, float]] = {}
        self.clients: list[ModelRedis] = []
        self._now = now

    def get(self, key: bytes) -> bytes | None:
        """Return what is there and has not expired."""
        value, until = self.kept.get(key, (None, 0.0))
        return value if until > self._now() else None

    def lose(self) -> None:
        """Forget everything, and tell everybody that this has happened."""
        self.kept.clear()
        for client in self.clients:
            client.told.append(None)

    def execute(self, client: "ModelRedis", script: Script | None, key: bytes, words: Words) -> Any:
        """Return the answer, and tell the other clients of a change."""
        old = self.get(key)
        if script is None:
            return old
        texts = [word if isinstance(word, bytes) else str(word).encode() for word in words]
        identity, _, rest = (old or b"").partition(b" ")
        stamp = rest.partition(b" ")[0]
        if script is PUT:
            if old is not None and ((identity == texts[0] and stamp != texts[1])
                                    or (identity != texts[0] and stamp != b"-")):
                return old
            self._set(client, key, texts[2], float(texts[3]))
            return 1
        assert script is END
        if old is not None and identity != texts[0]:
            return 0
        self._set(client, key, texts[0] + b" -", float(texts[1]))
        return 1

    def _set(self, client: "ModelRedis", key: bytes, value: bytes, seconds: float) -> None:
        self.kept[key] = value, self._now() + seconds
        for each in self.clients:
            if each is not client and each.problem is None:
                each.told.append(key)


class ModelRedis:
    """One client."""

    def __init__(self, server: ModelServer) -> None:
        self.problem: str | None = None
        self.asked: deque[tuple[Script | None, bytes, Words, Deferred[Any]]] = deque()
        self.replies: deque[tuple[Deferred[Any], Any]] = deque()
        self.told: deque[bytes | None] = deque()
        """Keys that others have changed, and None for all."""
        self._server = server
        server.clients.append(self)

    # --- what arrives when

    def reach_server(self) -> None:
        """Let the oldest question arrive."""
        if self.asked:
            script, key, words, answer = self.asked.popleft()
            self.replies.append((answer, self._server.execute(self, script, key, words)))

    def reach_client(self) -> None:
        """Let the oldest answer arrive."""
        if self.replies:
            answer, reply = self.replies.popleft()
            answer.callback(reply)

    def break_off(self) -> None:
        """Let the connection break: what is on its way is lost, whether it was executed or not."""
        self.problem = "away"
        lost = [answer for *_, answer in self.asked] + [answer for answer, _ in self.replies]
        self.asked.clear()
        self.replies.clear()
        self.told.clear()
        for answer in lost:
            answer.errback(RedisUnavailable("away"))

    # --- Redis

    def start(self) -> None:
        """There is nothing to connect to."""

    async def stop(self) -> None:
        """There is nothing to close."""

    @property
    def servers(self) -> tuple[ServerState, ...]:
        """None that could be shown."""
        return ()

    def can_ask(self, key: bytes) -> bool:
        """Whether it is connected."""
        return self.problem is None

    def ask(self, key: bytes, *command: bytes | int | str) -> "Deferred[Any]":
        """Only GET is ever asked."""
        assert command[0] == b"GET"
        return self._send(None, key, ())

    def evaluate(self, script: Script, key: bytes, *arguments: bytes | int | str) -> "Deferred[Any]":
        """Send a script on its way."""
        return self._send(script, key, arguments)

    def submit(self, key: bytes, command: Words, answered: Answered) -> None:
        """Nobody does that here."""
        raise NotImplementedError

    def run(self, script: Script, key: bytes, arguments: Words, answered: Answered) -> None:
        """Nobody does that here."""
        raise NotImplementedError

    def scan(self, match: bytes, count: int = 1000) -> AsyncIterator[list[bytes]]:
        """Nobody does that here."""
        raise NotImplementedError

    def _send(self, script: Script | None, key: bytes, words: Words) -> "Deferred[Any]":
        answer: Deferred[Any] = Deferred()
        if self.problem is not None:
            answer.errback(RedisUnavailable(self.problem))
        else:
            self.asked.append((script, key, words, answer))
        return answer
