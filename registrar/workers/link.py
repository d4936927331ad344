"""The connection between a worker and its supervisor: whole messages, both ways, and a bound on what waits."""

from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from registrar.workers.messages import LENGTH_BYTES, Message, decode, encode

MAX_MESSAGE_BYTES = 16 * 1024 * 1024
"""More than any message has: a page of contacts or of metrics."""


class Link(Protocol):
    """Hands messages to `received` and, when the connection is gone, calls `lost`.

    What the other side does not read waits here. Beyond `max_waiting_bytes` the link says that it is full: whoever can
    do without shall send nothing more then.
    """

    _log = Logger()

    def __init__(self, received: Callable[[Message], None], lost: Callable[[], None], max_waiting_bytes: int) -> None:
        self._received = received
        self._lost = lost
        self._max_waiting_bytes = max_waiting_bytes
        self._unread = bytearray()
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._is_paused = False
        self._is_open = False

    @property
    def is_open(self) -> bool:
        """Whether the other side is there."""
        return self._is_open

    @property
    def is_full(self) -> bool:
        """Whether the other side is too far behind."""
        return self._waiting_bytes > self._max_waiting_bytes

    def send(self, message: Message) -> None:
        """Send a message, now or when there is room; on a link that is gone, do nothing."""
        if not self._is_open:
            return
        data = encode(message)
        frame = len(data).to_bytes(LENGTH_BYTES) + data
        if self._is_paused:
            self._waiting.append(frame)
            self._waiting_bytes += len(frame)
        else:
            self._write(frame)

    def end(self) -> None:
        """Close the connection at once."""
        if self._is_open:
            self._transport.abortConnection()

    def connectionMade(self) -> None:
        """Twisted: begin to speak."""
        self._is_open = True
        self._transport.registerProducer(self, True)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Twisted: nothing comes any more."""
        self._is_open = False
        self._waiting.clear()
        self._waiting_bytes = 0
        self._lost()

    def dataReceived(self, data: bytes) -> None:
        """Twisted: cut what has come into messages."""
        unread = self._unread
        unread += data
        start = 0
        while len(unread) - start >= LENGTH_BYTES:
            end = start + LENGTH_BYTES + int.from_bytes(unread[start : start + LENGTH_BYTES])
            if end - start > MAX_MESSAGE_BYTES:
                self._log.critical("the supervisor and its worker do not understand each other")
                self.end()
                return
            if len(unread) < end:
                break
            self._take(bytes(unread[start + LENGTH_BYTES : end]))
            start = end
        del unread[:start]

    def pauseProducing(self) -> None:
        """Twisted: the other side does not keep up."""
        self._is_paused = True

    def resumeProducing(self) -> None:
        """Twisted: there is room again."""
        self._is_paused = False
        while self._waiting and not self._is_paused:
            frame = self._waiting.popleft()
            self._waiting_bytes -= len(frame)
            self._write(frame)

    def stopProducing(self) -> None:
        """Twisted: there will never be room again; connectionLost follows."""

    def _take(self, data: bytes) -> None:
        try:
            self._received(decode(data))
        except msgspec.DecodeError as problem:
            self._log.critical("a message between supervisor and worker is not understood: {problem}",
                               problem=str(problem))
        except Exception:
            self._log.failure("while a message between supervisor and worker was handled")

    def _write(self, frame: bytes) -> None:
        self._transport.write(frame)

    @property
    def _transport(self) -> Any:
        return self.transport
