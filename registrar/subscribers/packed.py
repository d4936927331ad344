"""A subscriber's hashes in few bytes: many thousands are remembered, and few of their hashes are ever asked for."""

from binascii import hexlify
from collections.abc import Iterator, Mapping

from registrar.auth import Subscriber
from rollcall.sip.digest import ALGORITHMS, HEX_DIGITS

_NAMES = tuple((form, algorithm) for form in ("ha1", "ha1b") for algorithm in ALGORITHMS)
_PLACES = {name: place for place, name in enumerate(_NAMES)}
# It comes first, so that it lies at the same place whatever else there is.
MD5_BIT = 1 << _PLACES["ha1", "MD5"]
MD5_SLICE = slice(1, 1 + HEX_DIGITS["MD5"] // 2)
_SIZES = tuple(HEX_DIGITS[algorithm] // 2 for _, algorithm in _NAMES)


def _slices(held: int) -> tuple[slice | None, ...]:
    """Return where each hash lies behind the first byte, which has a bit for each that is there."""
    slices: list[slice | None] = []
    end = 1
    for place, size in enumerate(_SIZES):
        is_held = held >> place & 1
        slices.append(slice(end, end + size) if is_held else None)
        end += size * is_held
    return tuple(slices)


_SLICES = tuple(_slices(held) for held in range(1 << len(_NAMES)))


class PackedHashes(Mapping[str, str]):
    """A view of packed hashes in one of the two forms: hexadecimal texts by the name of the algorithm."""

    __slots__ = ("_form", "_packed")

    def __init__(self, packed: bytes, form: str) -> None:
        self._packed = packed
        self._form = form

    def __getitem__(self, algorithm: str) -> str:
        place = _SLICES[self._packed[0]][_PLACES[self._form, algorithm]]
        if place is None:
            raise KeyError(algorithm)
        return self._packed[place].hex()

    def __contains__(self, algorithm: object) -> bool:
        place = _PLACES.get((self._form, str(algorithm)))
        return place is not None and _SLICES[self._packed[0]][place] is not None

    def __iter__(self) -> Iterator[str]:
        there = _SLICES[self._packed[0]]
        return (algorithm for (form, algorithm), place in _PLACES.items() if form == self._form and there[place])

    def __len__(self) -> int:
        return sum(1 for _ in self)


def pack(subscriber: Subscriber) -> bytes:
    """Return the hashes as bytes."""
    forms = {"ha1": subscriber.ha1, "ha1b": subscriber.ha1b}
    held, parts = 0, []
    for place, (form, algorithm) in enumerate(_NAMES):
        digits = forms[form].get(algorithm)
        if digits:
            held |= 1 << place
            parts.append(bytes.fromhex(digits))
    return bytes([held]) + b"".join(parts)


def packed_md5(packed: bytes) -> bytes | None:
    """Return H(A1) by MD5 in hexadecimal, or None when it is not held."""
    return hexlify(packed[MD5_SLICE]) if packed[0] & MD5_BIT else None


def unpack(username: str, domain: str, packed: bytes) -> Subscriber:
    """Return the subscriber whose hashes were packed."""
    return Subscriber(username, domain, PackedHashes(packed, "ha1"), PackedHashes(packed, "ha1b"))
