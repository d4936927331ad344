"""What the rest of us knows of Redis: how it is asked, how it answers, and what it says of itself.

The implementations stand in single.py, sentinel.py and redis_cluster.py; rollcall.cluster.access.make_redis chooses.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from hashlib import sha1
from typing import Any, Protocol

from attrs import Factory, field, frozen
from twisted.internet.defer import Deferred

Answered = Callable[[Any], None]
"""Gets the answer, or an instance of RedisUnavailable or RedisRefused. It must not raise."""

Words = tuple[bytes | int | str, ...]
"""A command and its arguments."""


class RedisUnavailable(Exception):
    """A command was not asked, or got no answer: whether it was executed is unknown."""


class RedisRefused(Exception):
    """The server has answered with an error, whose text this is. A script may have done a part before."""


def _sha_of(script: "Script") -> bytes:
    return sha1(script.text, usedforsecurity=False).hexdigest().encode()


def _beginning_of(script: "Script") -> bytes:
    return b"*5\r\n$7\r\nEVALSHA\r\n$%d\r\n%b\r\n$1\r\n1\r\n$" % (len(script.sha), script.sha)


@frozen
class Script:
    """A script in Lua that the servers keep; it has one key."""

    text: bytes
    sha: bytes = field(init=False, default=Factory(_sha_of, takes_self=True))
    """What the servers call it."""
    beginning: bytes = field(init=False, default=Factory(_beginning_of, takes_self=True), repr=False)
    """How a command begins that runs it with one key and one argument, as far as the length of the key."""


@frozen(kw_only=True)
class ServerState:
    """One server as it is at this moment. Counts are since our start."""

    name: str
    """host:port."""
    is_open: bool
    breaker: str
    """"closed": it is asked; "open": it is left alone; "half-open": the first that is asked decides."""
    waiting: int
    """Commands without an answer yet."""
    commands: int
    failures: int
    """Attempts to connect that failed, connections that broke, answers that were not in time."""
    reconnects: int
    problem: str | None
    """Why it cannot be asked now."""


class Watcher(Protocol):
    """Who is told what happens to the servers and to the keys that we have read or written. In order, and at once."""

    def connected(self, server: str, run_id: str, may_have_lost: bool) -> None:
        """A server can be asked from now on; what was known of its keys is old.

        `may_have_lost` says that another life of it, or another server, served these keys before: a write that was
        acknowledged shortly before may be missing. It is never so when these keys are served for the first time.
        """

    def disconnected(self, server: str, why: str) -> None:
        """A server cannot be asked any more, and nobody tells what changes there. All that waited on it has failed."""

    def invalidated(self, keys: Sequence[bytes] | None) -> None:
        """Somebody else has changed these keys, or they are gone; None: any key may have changed.

        A key is told once after it was read or written by us; our own writes are not told when they end with a read of
        the key. An answer that is still on its way when its key is told may be older than the change.
        """

    def leases_changed(self) -> None:
        """Some key that begins with node: has changed, or is gone; our own changes are told, too."""


class Redis(Protocol):
    """Redis, wherever it is. Answers come in later turns of the reactor, those of one server in the order asked."""

    def start(self) -> None:
        """Connect, and again whenever a connection ends, until `stop`. Commands wait for the first attempt only."""

    async def stop(self) -> None:
        """Close all; what waits, and all that is asked later, fails with RedisUnavailable."""

    @property
    def problem(self) -> str | None:
        """Why nothing can be asked now; None while at least one server can be asked."""

    @property
    def servers(self) -> tuple[ServerState, ...]:
        """The servers that hold keys, for metrics."""

    def can_ask(self, key: bytes) -> bool:
        """Tell, cheaply, whether the server of this key can be asked now."""

    def submit(self, key: bytes, command: Words, answered: Answered) -> None:
        """Ask the server of `key`. All commands of a reactor turn leave together. `answered` is called later, once."""

    def run(self, script: Script, key: bytes, arguments: Words, answered: Answered) -> None:
        """Run a script with `key` as its only key, as `submit` does."""

    def ask(self, key: bytes, *command: bytes | int | str) -> "Deferred[Any]":
        """Return the answer. Fails with RedisUnavailable or RedisRefused."""

    def evaluate(self, script: Script, key: bytes, *arguments: bytes | int | str) -> "Deferred[Any]":
        """Return what the script answers. Fails with RedisUnavailable or RedisRefused."""

    def scan(self, match: bytes, count: int = 1000) -> AsyncIterator[list[bytes]]:
        """Give the keys of all masters that match, in lists; a key may come twice. Raises as `ask` fails.

        What is there all the time is given, what comes or goes meanwhile may be.
        """
