"""Cutting a byte stream into SIP messages and keepalives (RFC 3261 §7.5, §18.3, RFC 5626 §4.4.1)."""

import re
from enum import Enum

from attrs import field, frozen
from attrs.validators import ge

from rollcall.sip.errors import ParseError

# Every Content-Length of a head, with its value up to the end of its last folded line.
_LENGTHS = re.compile(rb"\r\n(?:l|content-length)[ \t]*+:((?>(?:[^\r]|\r(?!\n)|\r\n[ \t])*))", re.IGNORECASE)
_BLANK_LINES = re.compile(rb"(?>(?:\r\n)*)")
_MAX_LENGTH_DIGITS = 10


@frozen(kw_only=True)
class FramingLimits:
    """What one message in a stream may have, in bytes: start line with header fields, and body."""

    max_head_bytes: int = field(default=16384, validator=ge(64))
    max_body_bytes: int = field(default=65536, validator=ge(0))


class Keepalive(Enum):
    """What a peer sends between messages to show that it lives."""

    PING = "double CRLF"
    PONG = "CRLF"


class FramingError(ParseError):
    """The stream cannot be followed any more: nobody knows where the next message begins.

    `head` is the start line and header fields that came, as far as they came; `completed` is what
    was cut out of the same data before.
    """

    def __init__(self, reason: str, status: int, head: bytes) -> None:
        super().__init__(reason, status)
        self.head = head
        self.completed: list[bytes | Keepalive] = []


class StreamFramer:
    """Gathers the bytes of one stream and gives back whole messages."""

    __slots__ = ("_after_blank_line", "_limits", "_lost", "_needed", "_pending", "_searched")

    def __init__(self, limits: FramingLimits) -> None:
        self._limits = limits
        self._pending: bytearray | None = None  # the beginning of what is not whole yet
        self._searched = 0  # bytes of it known to hold no end of a head
        self._needed = 0  # bytes of it that make a message, once its head is known
        self._after_blank_line = False  # the data before ended in the middle of what may be a ping
        self._lost: FramingError | None = None

    @property
    def is_waiting(self) -> bool:
        """Whether something has begun whose end has not come."""
        return self._pending is not None

    def receive_data(self, data: bytes) -> list[bytes | Keepalive]:
        """Return the messages and keepalives that are whole now, in order.

        Several keepalives in a row count as one. Raises FramingError when the stream is lost, and
        from then on at each call: 400 without exactly one sense of Content-Length, 413 for a body
        and 513 for a head over the limit.
        """
        if self._lost is not None:
            raise self._lost
        buffer: bytes | bytearray = data
        if self._pending is not None:
            self._pending += data
            buffer = self._pending
        events: list[bytes | Keepalive] = []
        try:
            taken = self._cut(buffer, events)
        except FramingError as error:
            error.completed = events
            self._lost = error
            self._pending = None
            raise
        if taken == len(buffer):
            self._pending = None
        elif self._pending is None:
            self._pending = bytearray(data[taken:])
        else:
            del self._pending[:taken]
        return events

    def _cut(self, buffer: bytes | bytearray, events: list[bytes | Keepalive]) -> int:
        """Append what is whole to `events`; return how many bytes it took."""
        place, end = 0, len(buffer)
        while place < end:
            if buffer[place] == 0x0D and not self._needed:
                blank = self._cut_blank_lines(buffer, place, events)
                if blank == place:
                    break
                place = blank
                continue
            self._after_blank_line = False
            needed = self._needed or self._measure(buffer, place)
            if not needed or end - place < needed:
                break
            message = buffer if needed == end else buffer[place : place + needed]
            events.append(bytes(message))
            place += needed
            self._needed = 0
        return place

    def _cut_blank_lines(self, buffer: bytes | bytearray, place: int, events: list[bytes | Keepalive]) -> int:
        """Return where the CRLFs that begin at `place` end."""
        found = _BLANK_LINES.match(buffer, place)
        end = found.end() if found else place
        if end == place:
            if len(buffer) - place > 1:
                raise FramingError("stray CR between messages", 400, b"")
            return place
        ping = end - place > 2 or self._after_blank_line
        events.append(Keepalive.PING if ping else Keepalive.PONG)
        # A ping may come in two segments; its first half is taken for a pong, which asks for nothing.
        self._after_blank_line = not ping and len(buffer) - end <= 1
        return end

    def _measure(self, buffer: bytes | bytearray, place: int) -> int:
        """Return the length of the message that begins at `place`, 0 as long as its head is not whole."""
        most = self._limits.max_head_bytes
        end = buffer.find(b"\r\n\r\n", place + max(self._searched - 3, 0))
        length = end + 4 - place if end >= 0 else len(buffer) - place
        if length > most:
            raise FramingError("head too large", 513, bytes(buffer[place : place + most]))
        if end < 0:
            if buffer.find(b"\n\n", place + max(self._searched - 1, 0)) >= 0:
                raise FramingError("line ended by a lone LF", 400, bytes(buffer[place:]))
            self._searched = length
            return 0
        self._searched = 0
        self._needed = length + self._body_length(buffer, place, end)
        return self._needed

    def _body_length(self, buffer: bytes | bytearray, place: int, end: int) -> int:
        texts = _LENGTHS.findall(buffer, place, end)
        length = _parse_length(texts[0]) if texts else -1
        if length < 0 or (len(texts) > 1 and any(_parse_length(text) != length for text in texts)):
            reason = "malformed or conflicting Content-Length" if texts else "no Content-Length"
            raise FramingError(reason, 400, bytes(buffer[place : end + 4]))
        if length > self._limits.max_body_bytes:
            raise FramingError("body too large", 413, bytes(buffer[place : end + 4]))
        return length


def _parse_length(text: bytes) -> int:
    """Return a Content-Length, -1 when it is none."""
    text = text.strip(b" \t\r\n")
    return int(text) if text.isdigit() and len(text) <= _MAX_LENGTH_DIGITS else -1
