"""Bencode, as rtpengine's ng protocol uses it (BEP 3): integers, strings, lists and dictionaries, in bounds."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

# What rtpengine says is at most five deep; what is deeper than this is sent to exhaust us.
MAX_DEPTH = 16

# The longest number that 64 bits hold; lengths of strings have at most half of that.
MAX_DIGITS = 20

_TOKEN = re.compile(rb"([0-9]{1,10}):|i(-?[0-9]{1,20})e|([lde])").match
_BEGUN = re.compile(rb"[0-9]{0,10}|i-?[0-9]{0,20}")


class Incomplete(ValueError):
    """The data ends before the value does."""


def encode(value: Any) -> bytes:
    """Return a value made of dict, list, tuple, str (as UTF-8), bytes, bool (as 0 or 1) and int. Raises TypeError."""
    return b"".join(_pieces(value))


def decode(data: bytes) -> Any:
    """Return the one value that `data` is: int, bytes, list, or dict with keys of str. Raises ValueError."""
    value, end = decode_from(data, 0)
    if end != len(data):
        raise ValueError("something follows the value")
    return value


def decode_from(data: bytes, start: int) -> tuple[Any, int]:
    """Return the value that begins at `start`, and where it ends. Raises ValueError, Incomplete if more may come."""
    return _value(data, start)


def _pieces(value: Any) -> Iterator[bytes]:
    if isinstance(value, str):
        value = value.encode("utf-8", "surrogateescape")
    if isinstance(value, bytes):
        yield b"%d:" % len(value)
        yield value
    elif isinstance(value, int):
        yield b"i%de" % value
    elif isinstance(value, Mapping):
        yield b"d"
        for key in sorted(value):
            yield from _pieces(key)
            yield from _pieces(value[key])
        yield b"e"
    elif isinstance(value, list | tuple):
        yield b"l"
        for each in value:
            yield from _pieces(each)
        yield b"e"
    else:
        raise TypeError(f"bencode has no {type(value).__name__}")


class _Reading:
    """The lists and dictionaries that have begun and not ended, the innermost last."""

    __slots__ = ("_outer", "inner", "key")

    def __init__(self) -> None:
        self.inner: Any = None
        """None before and after the whole value."""
        self.key: str | None = None
        """What the next value of a dictionary is called, once that is known."""
        self._outer: list[tuple[Any, str | None]] = []

    def begin(self, new: Any) -> None:
        """Go into a new list or dictionary. Raises ValueError."""
        if len(self._outer) == MAX_DEPTH:
            raise ValueError(f"nested more than {MAX_DEPTH} deep")
        if self.key is None and type(self.inner) is dict:
            raise ValueError("a key is no string")
        self._outer.append((self.inner, self.key))
        self.inner, self.key = new, None

    def end(self) -> Any:
        """Return the innermost, which ends here. Raises ValueError."""
        if self.inner is None or self.key is not None:
            raise ValueError("an end where a value has to be")
        ended = self.inner
        self.inner, self.key = self._outer.pop()
        return ended


def _value(data: bytes, at: int) -> tuple[Any, int]:
    reading = _Reading()
    while True:
        found = _TOKEN(data, at)
        if found is None:
            raise _unreadable(data[at : at + MAX_DIGITS + 2])
        at = found.end()
        kind = found.lastindex
        if kind == 1:
            begin, at = at, at + int(found[1])
            if at > len(data):
                raise Incomplete("it ends within a string")
            value: Any = data[begin:at]
            if reading.key is None and type(reading.inner) is dict:
                reading.key = value.decode("utf-8", "surrogateescape")
                continue
        elif kind == 2:
            value = int(found[2])
        elif found[3] == b"e":
            value = reading.end()
        else:
            reading.begin([] if found[3] == b"l" else {})
            continue
        inner = reading.inner
        if inner is None:
            return value, at
        if type(inner) is list:
            inner.append(value)
        elif reading.key is None:
            raise ValueError("a key is no string")
        else:
            inner[reading.key], reading.key = value, None


def _unreadable(rest: bytes) -> ValueError:
    """Return what is wrong with data that has no token at its beginning."""
    if _BEGUN.fullmatch(rest):
        return Incomplete("it ends within a value")
    return ValueError(f"{rest!r} begins no value")
