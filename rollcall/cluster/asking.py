"""What all ways of keeping Redis have in common: Deferreds for those who want one, and what errors mean."""

from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

from twisted.internet.defer import Deferred

from rollcall.cluster.connection import Pending, give, settle
from rollcall.cluster.link import Link
from rollcall.cluster.redis import Answered, RedisRefused, RedisUnavailable, Script, ServerState, Words

# These say how the server is, not what is wrong with the command: it may be asked again later, or elsewhere.
STATES = frozenset(
    ("LOADING", "READONLY", "OOM", "MISCONF", "CLUSTERDOWN", "MASTERDOWN", "NOREPLICAS", "BUSY", "TRYAGAIN", "NOAUTH")
)


class Asking:
    """Redis with one link or several; who derives from it knows which one serves a key."""

    def __init__(self, send: Callable[[Pending], None]) -> None:
        """`send` asks the right server."""
        self._send = send

    def link_of(self, key: bytes) -> Link | None:
        """Return the link to the server of this key."""
        raise NotImplementedError

    def links(self) -> Iterable[Link]:
        """Return the links to all servers that hold keys."""
        raise NotImplementedError

    def can_ask(self, key: bytes) -> bool:
        """Tell, cheaply, whether the server of this key can be asked now."""
        link = self.link_of(key)
        return link is not None and link.data is not None

    def submit(self, key: bytes, command: Words, answered: Answered) -> None:
        """See rollcall.cluster.redis.Redis."""
        self._send((answered, None, key, command, 0))

    def run(self, script: Script, key: bytes, arguments: Words, answered: Answered) -> None:
        """See rollcall.cluster.redis.Redis."""
        self._send((answered, script, key, arguments, 0))

    def ask(self, key: bytes, *command: bytes | int | str) -> "Deferred[Any]":
        """Return the answer. Fails with RedisUnavailable or RedisRefused."""
        asked: Deferred[Any] = Deferred()
        self.submit(key, command, lambda answer: settle(asked, answer))
        return asked

    def evaluate(self, script: Script, key: bytes, *arguments: bytes | int | str) -> "Deferred[Any]":
        """Return what the script answers. Fails with RedisUnavailable or RedisRefused."""
        asked: Deferred[Any] = Deferred()
        self.run(script, key, arguments, lambda answer: settle(asked, answer))
        return asked

    async def scan(self, match: bytes, count: int = 1000) -> AsyncIterator[list[bytes]]:
        """Give the keys of all masters that match, in lists; see rollcall.cluster.redis.Redis."""
        for link in tuple(self.links()):
            cursor = b"0"
            while True:
                cursor, keys = await link.ask("SCAN", cursor, "MATCH", match, "COUNT", count)
                if keys:
                    yield keys
                if cursor == b"0":
                    break

    @property
    def servers(self) -> tuple[ServerState, ...]:
        """The servers that hold keys, for metrics."""
        return tuple(link.look() for link in self.links())

    def refused(self, link: Link, refusal: RedisRefused, pending: Pending) -> None:
        """Give the error that answers a command to who asked, or ask in another way."""
        answered, script, key, words, _ = pending
        code = str(refusal).partition(" ")[0]
        if code == "NOSCRIPT" and script is not None:
            # Asked with its text, the server keeps it.
            link.send((answered, None, key, (b"EVAL", script.text, b"1", key, *words), 0))
        elif code in STATES:
            give(answered, RedisUnavailable(f"{link.name}: {refusal}"))
        else:
            give(answered, refusal)
