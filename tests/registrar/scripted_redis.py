"""A Redis of which the test says what it answers and when: for what happens between a question and its answer."""

from collections.abc import AsyncIterator
from typing import Any

from attrs import frozen
from twisted.internet.defer import Deferred

from rollcall.cluster.redis import Answered, RedisRefused, RedisUnavailable, Script, ServerState, Words


@frozen
class Asked:
    """One question."""

    key: bytes
    script: Script | None
    words: Words
    answered: Answered


class ScriptedRedis:
    """Executes nothing."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.problem: str | None = None
        self.away: set[bytes] = set()
        """Keys whose server cannot be asked."""

    def start(self) -> None:
        """There is nothing to connect to."""

    async def stop(self) -> None:
        """There is nothing to close."""

    @property
    def servers(self) -> tuple[ServerState, ...]:
        """One."""
        return (ServerState(name="127.0.0.1:1", is_open=self.problem is None, breaker="closed",
                            waiting=len(self.asked), commands=7, failures=1, reconnects=2, problem=self.problem),)

    def can_ask(self, key: bytes) -> bool:
        """Whether the test lets it be asked."""
        return self.problem is None and key not in self.away

    def submit(self, key: bytes, command: Words, answered: Answered) -> None:
        """Wait for the test's answer."""
        self.asked.append(Asked(key, None, command, answered))

    def run(self, script: Script, key: bytes, arguments: Words, answered: Answered) -> None:
        """Wait for the test's answer."""
        self.asked.append(Asked(key, script, arguments, answered))

    def ask(self, key: bytes, *command: bytes | int | str) -> "Deferred[Any]":
        """Wait for the test's answer."""
        asked: Deferred[Any] = Deferred()
        self.submit(key, command, lambda reply: _settle(asked, reply))
        return asked

    def evaluate(self, script: Script, key: bytes, *arguments: bytes | int | str) -> "Deferred[Any]":
        """Wait for the test's answer."""
        asked: Deferred[Any] = Deferred()
        self.run(script, key, arguments, lambda reply: _settle(asked, reply))
        return asked

    def scan(self, match: bytes, count: int = 1000) -> AsyncIterator[list[bytes]]:
        """There is nothing to walk through."""
        raise NotImplementedError

    def answer(self, reply: Any) -> Asked:
        """Answer the oldest question; return which it was."""
        asked = self.asked.pop(0)
        asked.answered(reply)
        return asked

    def fail_all(self, why: str = "gone") -> None:
        """Give no answer to all that wait."""
        waiting, self.asked = self.asked, []
        for asked in waiting:
            asked.answered(RedisUnavailable(why))


def _settle(asked: "Deferred[Any]", reply: Any) -> None:
    if isinstance(reply, RedisUnavailable | RedisRefused):
        asked.errback(reply)
    else:
        asked.callback(reply)
