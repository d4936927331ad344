"""Random names that nobody can guess, for tags and branches (RFC 3261 §§8.1.1.7, 19.3), many for one system call."""

import os
from array import array
from secrets import token_hex

NAME_DIGITS = 16
NAMES_AT_ONCE = 512

_names: list[str] = []
_tags: list[bytes] = []
_numbers: list[int] = []
# A child process must not give out what its parent does too.
os.register_at_fork(after_in_child=_names.clear)
os.register_at_fork(after_in_child=_tags.clear)
os.register_at_fork(after_in_child=_numbers.clear)


def random_name() -> str:
    """Return 16 hexadecimal digits, 64 bits of chance, never the same twice."""
    if not _names:
        digits = token_hex(NAME_DIGITS // 2 * NAMES_AT_ONCE)
        _names.extend(digits[start : start + NAME_DIGITS] for start in range(0, len(digits), NAME_DIGITS))
    return _names.pop()


def random_tag() -> bytes:
    """Return the same as `random_name` in bytes, for those who write answers in bytes."""
    if not _tags:
        digits = token_hex(NAME_DIGITS // 2 * NAMES_AT_ONCE).encode()
        _tags.extend(digits[start : start + NAME_DIGITS] for start in range(0, len(digits), NAME_DIGITS))
    return _tags.pop()


def random_number() -> int:
    """Return a number of 32 bits that nobody can guess: the least that a tag must have of chance (§19.3)."""
    if not _numbers:
        _numbers.extend(array("I", os.urandom(4 * NAMES_AT_ONCE)))
    return _numbers.pop()
