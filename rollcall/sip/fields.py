"""SIP messages as values: a start line, header fields in order, a body (RFC 3261 §7)."""

from collections.abc import Iterable
from typing import Self

import attrs

from rollcall.sip.grammar import first_comma, split_commas
from rollcall.sip.names import CONTENT_LENGTH, KEYS, REASONS, canonical

# Canonical key, name as received or given, value unfolded and trimmed.
Field = tuple[str, str, str]


@attrs.define(eq=False)
class Message:
    """What requests and responses share. Names may be given in any case, or in compact form.

    Text is UTF-8 decoded with surrogateescape, so that any byte comes back as it was. Content-Length
    is not among `fields`: it follows from the body, and whoever sets it is not listened to.
    """

    fields: list[Field]
    body: bytes

    @property
    def start_line(self) -> str:
        raise NotImplementedError

    def get(self, name: str) -> str | None:
        """Return the value of the first field of this name."""
        key = KEYS.get(name) or canonical(name)
        for field in self.fields:
            if field[0] == key:
                return field[2]
        return str(len(self.body)) if key == CONTENT_LENGTH else None

    def get_all(self, name: str) -> list[str]:
        """Return the value of each field of this name, unsplit."""
        key = KEYS.get(name) or canonical(name)
        if key == CONTENT_LENGTH:
            return [str(len(self.body))]
        return [field[2] for field in self.fields if field[0] == key]

    def values(self, name: str) -> list[str]:
        """Return the values of all comma lists of this name in order (§7.3.1).

        Not for headers that are no lists: Date, Authorization, Call-ID, Subject, … Raises ParseError
        when a quoted string or a "<" is never closed.
        """
        key = KEYS.get(name) or canonical(name)
        values = []
        for field in self.fields:
            if field[0] == key:
                values += split_commas(field[2])
        return values

    def first_value(self, name: str) -> str | None:
        """Return the first value of the first comma list of this name, e.g. the top Via. Raises as `values` does."""
        text = self.get(name)
        return None if text is None else text[: first_comma(text)].rstrip(" \t")

    def set(self, name: str, value: str) -> None:
        """Put one field in the place of all of this name."""
        self.set_values(name, (value,))

    def set_values(self, name: str, values: Iterable[str]) -> None:
        """Put one field for each value in the place of the first field of this name, and drop the others."""
        key = canonical(name)
        place = self._first(key)
        kept = [field for field in self.fields if field[0] != key]
        if key != CONTENT_LENGTH:
            kept[place:place] = [(key, name, value) for value in values]
        self.fields = kept

    def add(self, name: str, value: str) -> None:
        """Add a field after the last of this name, else at the end."""
        key = canonical(name)
        if key == CONTENT_LENGTH:
            return
        fields = self.fields
        for place in range(len(fields), 0, -1):
            if fields[place - 1][0] == key:
                fields.insert(place, (key, name, value))
                return
        fields.append((key, name, value))

    def prepend(self, name: str, value: str) -> None:
        """Add a field before the first of this name, else at the top."""
        key = canonical(name)
        if key == CONTENT_LENGTH:
            return
        place = self._first(key)
        self.fields.insert(0 if place == len(self.fields) else place, (key, name, value))

    def remove(self, name: str) -> None:
        """Drop every field of this name."""
        key = canonical(name)
        self.fields = [field for field in self.fields if field[0] != key]

    def remove_first_value(self, name: str) -> None:
        """Drop the first value of the comma lists of this name: what `first_value` gives. Raises as it does."""
        place = self._first(canonical(name))
        if place == len(self.fields):
            return
        key, spelling, text = self.fields[place]
        comma = first_comma(text)
        if comma == len(text):
            del self.fields[place]
        else:
            self.fields[place] = (key, spelling, text[comma + 1 :].lstrip(" \t"))

    def replace_first_value(self, name: str, value: str) -> None:
        """Put `value` in the place of what `first_value` gives, or add a field. Raises as `first_value` does."""
        place = self._first(canonical(name))
        if place == len(self.fields):
            self.add(name, value)
            return
        key, spelling, text = self.fields[place]
        self.fields[place] = (key, spelling, value + text[first_comma(text) :])

    def serialise(self) -> bytes:
        """Return the message as bytes, with the right Content-Length as its last field.

        Raises ValueError when something put into it holds a line break, which would forge a field.
        """
        lines = [self.start_line]
        lines += [f"{name}: {value}" for _, name, value in self.fields]
        joined = "".join(lines)
        if "\n" in joined or "\r" in joined:
            raise ValueError("line break in a start line or header field")
        lines.append(f"Content-Length: {len(self.body)}\r\n\r\n")
        return "\r\n".join(lines).encode("utf-8", "surrogateescape") + self.body

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Message):
            return NotImplemented
        return (
            self.start_line == other.start_line
            and self.body == other.body
            and [(key, value) for key, _, value in self.fields] == [(key, value) for key, _, value in other.fields]
        )

    __hash__ = None  # type: ignore[assignment]

    def _first(self, key: str) -> int:
        for place, field in enumerate(self.fields):
            if field[0] == key:
                return place
        return len(self.fields)


@attrs.define(eq=False)
class Request(Message):
    """A request: its method and the raw text of its Request-URI (§7.1)."""

    method: str
    uri: str

    @classmethod
    def new(cls, method: str, uri: str, headers: Iterable[tuple[str, str]] = (), body: bytes = b"") -> Self:
        """Return a request with these header fields in this order."""
        return cls(make_fields(headers), body, method, uri)

    @property
    def start_line(self) -> str:
        return f"{self.method} {self.uri} SIP/2.0"

    def copy(self) -> "Request":
        """Return a request of its own with the same fields."""
        return Request(self.fields.copy(), self.body, self.method, self.uri)


@attrs.define(eq=False)
class Response(Message):
    """A response: its status from 100 to 699, and the phrase that explains it (§7.2)."""

    status: int
    reason: str

    @classmethod
    def new(
        cls, status: int, reason: str | None = None, headers: Iterable[tuple[str, str]] = (), body: bytes = b""
    ) -> Self:
        """Return a response with these header fields in this order; the usual reason is used for None."""
        return cls(make_fields(headers), body, status, default_reason(status) if reason is None else reason)

    @property
    def start_line(self) -> str:
        return f"SIP/2.0 {self.status} {self.reason}"

    def copy(self) -> "Response":
        """Return a response of its own with the same fields."""
        return Response(self.fields.copy(), self.body, self.status, self.reason)


_CLASSES = {1: "Session Progress", 2: "OK", 3: "Redirection", 4: "Bad Request", 5: "Server Error", 6: "Global Failure"}


def default_reason(status: int) -> str:
    """Return the usual phrase for a status, or for its class when it is unknown (§8.1.3.2)."""
    return REASONS.get(status) or _CLASSES.get(status // 100, "Unknown")


def make_fields(headers: Iterable[tuple[str, str]]) -> list[Field]:
    """Return the fields for headers as (name, value). Raises ParseError when a name is not a token."""
    fields = []
    for name, value in headers:
        key = KEYS.get(name) or canonical(name)
        if key != CONTENT_LENGTH:
            fields.append((key, name, value))
    return fields
