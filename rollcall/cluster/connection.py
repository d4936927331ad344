"""One connection to a server: commands leave together, answers come back in order (the Redis serialization protocol).

Nothing is waited for per command: the oldest one that has no answer decides whether the server still answers.
"""

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import hiredis
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime, ITCPTransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from rollcall.cluster.redis import Answered, RedisRefused, RedisUnavailable, Script, Words

Pending = tuple[Answered, Script | None, bytes, Words, int]
"""A command that waits: who gets the answer; the script if it is one; the key; its arguments, or the whole command; and
how often it has been asked again."""

# Its annotation says a tuple of one item.
pack: Callable[[tuple[bytes | int | str, ...]], bytes] = hiredis.pack_command  # type: ignore[assignment]

# What came while we were busy ourselves is read before the server is blamed.
SECOND_LOOK_SECONDS = 0.05

_LOG = Logger()


def packed(pending: Pending) -> bytes:
    """Return a waiting command as it is sent."""
    _, script, key, words, _ = pending
    if script is None:
        return pack(words)
    if len(words) == 1 and (word := words[0]).__class__ is bytes:
        # What is asked most often; `pack` takes twice as long for it.
        return b"%b%d\r\n%b\r\n$%d\r\n%b\r\n" % (script.beginning, len(key), key, len(word), word)
    return pack((b"EVALSHA", script.sha, b"1", key, *words))


def settle(asked: "Deferred[Any]", answer: Any) -> None:
    """Give an answer to a Deferred, unless nobody waits for it any more."""
    if not asked.called:
        if isinstance(answer, RedisUnavailable | RedisRefused):
            asked.errback(answer)
        else:
            asked.callback(answer)


def give(answered: Answered, answer: Any) -> None:
    """Call `answered`; when it raises against its word, that is logged and hurts nobody else."""
    try:
        answered(answer)
    except Exception:
        _LOG.failure("while an answer of Redis was taken")


class Connection(Protocol):
    """A connection, from its opening to its end; `waiting` are the commands without an answer, oldest first."""

    def __init__(self, reactor: IReactorTime, timeout_seconds: float) -> None:
        """An answer that takes longer than `timeout_seconds` ends the connection."""
        self.waiting: deque[Pending] = deque()
        self.is_open = False
        self.commands = 0
        self.answers = 0
        self.opened: Deferred[Connection] = Deferred()
        self.ended: Callable[[str], None] = lambda why: None
        """Called once with the reason when it ends after it was open; all that waits fails afterwards."""
        self.refused: Callable[[RedisRefused, Pending], None] = lambda refusal, pending: give(pending[0], refusal)
        """Gets the answers that are errors, with what was asked."""
        self._reactor = reactor
        self._timeout = timeout_seconds
        self._why = ""
        self._reader = hiredis.Reader(replyError=RedisRefused)
        self._next_answer: Callable[[], Any] = self._reader.gets
        self._outgoing: list[bytes] = []
        # For each write: how many commands had left by then, and when it was.
        self._written: deque[tuple[int, float]] = deque()
        self._watch: IDelayedCall | None = None
        self._is_late = False

    # --- asking

    def send(self, pending: Pending) -> None:
        """Ask, together with all that is asked in this turn."""
        self.waiting.append(pending)
        outgoing = self._outgoing
        outgoing.append(packed(pending))
        if len(outgoing) == 1:
            self._reactor.callLater(0, self._write)

    def ask(self, *words: bytes | int | str) -> "Deferred[Any]":
        """Return the answer to a command. Fails with RedisUnavailable or RedisRefused."""
        asked: Deferred[Any] = Deferred()
        if self.is_open:
            self.send((lambda answer: settle(asked, answer), None, b"", words, 0))
        else:
            asked.errback(RedisUnavailable(self._why or "the connection is not open"))
        return asked

    def drop(self, why: str) -> None:
        """End the connection at once."""
        self._why = self._why or why
        if self.is_open and self.transport is not None:
            self.transport.abortConnection()  # type: ignore[attr-defined]

    def _write(self) -> None:
        if self.is_open and self.transport is not None:
            self.commands += len(self._outgoing)
            now = self._reactor.seconds()
            self._written.append((self.commands, now))
            self.transport.write(b"".join(self._outgoing))
            if self._watch is None:
                self._watch = self._reactor.callLater(self._timeout, self._look_at_the_oldest)
        self._outgoing.clear()

    def _look_at_the_oldest(self) -> None:
        self._watch = None
        written = self._written
        while written and written[0][0] <= self.answers:
            written.popleft()
        if not written:
            self._is_late = False
            return
        left = written[0][1] + self._timeout - self._reactor.seconds()
        is_late, self._is_late = self._is_late, left <= 0
        if is_late and left <= 0:
            self.drop(f"no answer in {self._timeout:g} s")
        else:
            self._watch = self._reactor.callLater(max(left, SECOND_LOOK_SECONDS), self._look_at_the_oldest)

    # --- what Twisted calls

    def connectionMade(self) -> None:
        """It is open."""
        self.is_open = True
        if ITCPTransport.providedBy(self.transport):
            self.transport.setTcpNoDelay(True)
        self.opened.callback(self)

    def dataReceived(self, data: bytes) -> None:
        """Answers have come, or parts of them."""
        reader, waiting = self._reader, self.waiting
        next_answer, oldest = self._next_answer, waiting.popleft
        try:
            reader.feed(data)
            while (answer := next_answer()) is not False:
                if not waiting:
                    self.drop("an answer that nobody has asked for")
                    break
                pending = oldest()
                self.answers += 1
                if answer.__class__ is RedisRefused:
                    self.refused(answer, pending)
                else:
                    give(pending[0], answer)
        except hiredis.ProtocolError as wrong:
            self.drop(f"not the protocol of Redis: {wrong}")

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """It has ended: whoever waits gets no answer."""
        self.is_open = False
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        why = self._why = self._why or reason.getErrorMessage()
        self.ended(why)
        waiting, self.waiting = self.waiting, deque()
        fail_all(waiting, why)


class Subscriber(Connection):
    """A connection that also hears what is published; it can ask little more than PING once it has subscribed."""

    def __init__(self, reactor: IReactorTime, timeout_seconds: float) -> None:
        """See Connection."""
        super().__init__(reactor, timeout_seconds)
        self.heard: Callable[[Any], None] = lambda message: None
        """Gets the payload of each message."""
        self._next_answer = self._next_but_messages

    def _next_but_messages(self) -> Any:
        gets = self._reader.gets
        while (answer := gets()).__class__ is list and answer[0] == b"message":
            give(self.heard, answer[2])
        return answer


def fail_all(waiting: Iterable[Pending], why: str) -> None:
    """Tell all of them that there is no answer."""
    for pending in waiting:
        give(pending[0], RedisUnavailable(why))
