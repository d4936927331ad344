"""Bencode, as rtpengine's ng protocol uses it (BEP 3): integers, strings, lists and dictionaries, in bounds."""

from collections.abc import Iterator, Mapping
from typing import Any

# What rtpengine says is at most five deep; what is deeper than this is sent to exhaust us.
MAX_DEPTH = 16

# The longest number that 64 bits hold, with its sign.
MAX_DIGITS = 20

_END = ord("e")
_DIGITS = frozenset(b"0123456789")


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
    return _value(data, start, 0)


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


def _value(data: bytes, at: int, depth: int) -> tuple[Any, int]:
    kind = data[at : at + 1]
    if kind == b"i":
        return _number(data, at + 1, b"e")
    if kind == b"l":
        return _list(data, at + 1, depth + 1)
    if kind == b"d":
        return _dict(data, at + 1, depth + 1)
    if kind and kind[0] in _DIGITS:
        return _string(data, at)
    if kind:
        raise ValueError(f"{kind!r} begins no value")
    raise Incomplete("it ends before a value")


def _list(data: bytes, at: int, depth: int) -> tuple[list[Any], int]:
    _check(depth)
    values = []
    while not _ends(data, at):
        value, at = _value(data, at, depth)
        values.append(value)
    return values, at + 1


def _dict(data: bytes, at: int, depth: int) -> tuple[dict[str, Any], int]:
    _check(depth)
    values = {}
    while not _ends(data, at):
        key, at = _string(data, at)
        values[key.decode("utf-8", "surrogateescape")], at = _value(data, at, depth)
    return values, at + 1


def _string(data: bytes, at: int) -> tuple[bytes, int]:
    length, begin = _number(data, at, b":")
    end = begin + length
    if length < 0:
        raise ValueError("a string of a negative length")
    if end > len(data):
        raise Incomplete("it ends within a string")
    return data[begin:end], end


def _number(data: bytes, at: int, closing: bytes) -> tuple[int, int]:
    end = data.find(closing, at, at + MAX_DIGITS + 1)
    if end < 0:
        if len(data) - at > MAX_DIGITS or data[at:].strip(b"-0123456789"):
            raise ValueError("a malformed or far too long number")
        raise Incomplete("it ends within a number")
    digits = data[at:end]
    if not digits.removeprefix(b"-").isdigit():
        raise ValueError(f"{digits!r} is no number")
    return int(digits), end + 1


def _ends(data: bytes, at: int) -> bool:
    if at >= len(data):
        raise Incomplete("it ends within a list or dictionary")
    return data[at] == _END


def _check(depth: int) -> None:
    if depth > MAX_DEPTH:
        raise ValueError(f"nested more than {MAX_DEPTH} deep")
