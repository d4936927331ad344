"""Nonces that no server has to remember, and the counts of their use (RFC 7616 §3.3, §3.4, §5.4, §5.5).

A nonce is 32 characters of base64url: 2 bytes that name the secret, 4 of birth time in seconds since the epoch, 6 of
chance, 12 of HMAC-SHA256. Whoever holds the secret can check it, so a restarted server and every node of a cluster
accept the nonces of the others. Only the counts (nc) are held in memory, where the nonce was used.

The HMAC may cover whom a nonce was given to: then whoever sends it has got what was sent there. RFC 7616 §3.3 warns of
clients whose address changes on the way: theirs is a stale nonce, which costs them a round trip.
"""

import hmac
import os
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Sequence
from enum import Enum

DEFAULT_LIFETIME_SECONDS = 3600
DEFAULT_KEY_SECONDS = 86400
DEFAULT_MAX_NONCES = 250_000
MIN_SECRET_BYTES = 16

# Clocks of the nodes may differ by this much before a nonce seems to come from the future.
CLOCK_SKEW_SECONDS = 60

# How far behind the highest count a late request may be, each count once.
WINDOW = 64
MAX_COUNT = 0xFFFFFFFF

_NAME_BYTES = 2
_BIRTH_BYTES = 4
_CHANCE_BYTES = 6
_HEAD_BYTES = _NAME_BYTES + _BIRTH_BYTES + _CHANCE_BYTES
_MAC_BYTES = 12
_BIRTH = slice(_NAME_BYTES, _NAME_BYTES + _BIRTH_BYTES)

# 24 bytes fill 32 characters to the last bit: no two texts mean the same nonce.
_NONCE = re.compile(r"[A-Za-z0-9_-]{32}")
_KEPT_KEYS = 16

_COUNT_SHIFT = WINDOW
_COUNT_BITS = 33  # one more than nc has, for "nothing is left to use"
_BIRTH_SHIFT = _COUNT_SHIFT + _COUNT_BITS
_WINDOW_MASK = (1 << WINDOW) - 1
_COUNT_MASK = (1 << _COUNT_BITS) - 1
# The record of a nonce whose counts all came in order, as most do: its birth and the highest count, no window. It has
# 64 bits, and one with a window has more.
ORDERLY_BIRTH_SHIFT = 32
_ORDERLY_BITS = ORDERLY_BIRTH_SHIFT + 8 * _BIRTH_BYTES
_FIRST = 1 << _COUNT_SHIFT | 1
_USED_UP = (MAX_COUNT + 1) << _COUNT_SHIFT | _WINDOW_MASK


class Nonce(Enum):
    """What is known of a nonce that came back."""

    VALID = "valid"
    STALE = "stale"
    """Too old, or made with a secret that is not held here (any longer). A stranger can write such a nonce too."""
    FORGED = "forged"


class NonceKeys:
    """Makes and checks nonces with secrets that may be shared by many processes.

    `secrets`, newest first: the first one makes nonces, all of them check. To retire one, put another before it,
    and drop the old one `lifetime_seconds` later; a nonce whose secret is gone is stale, so that its phone retries
    without asking the user. The HMAC keys are derived from a secret for each `key_seconds`: they rotate everywhere
    at once without anybody writing a file, and none is used for longer.
    """

    def __init__(
        self,
        secrets: Sequence[bytes],
        lifetime_seconds: float = DEFAULT_LIFETIME_SECONDS,
        key_seconds: int = DEFAULT_KEY_SECONDS,
        entropy: Callable[[int], bytes] = os.urandom,
    ) -> None:
        """`entropy(n)` returns n random bytes. Raises ValueError when no secret is given or one is too short."""
        if not secrets or any(len(secret) < MIN_SECRET_BYTES for secret in secrets):
            raise ValueError(f"at least one secret, each of {MIN_SECRET_BYTES} bytes or more")
        self.lifetime_seconds = lifetime_seconds
        self._key_seconds = key_seconds
        self._entropy = entropy
        self._named = [(_name_of(secret), secret) for secret in secrets]
        self._keys: dict[tuple[bytes, int], bytes] = {}

    def mint(self, now: float, receiver: bytes = b"") -> str:
        """Return a nonce born at `now`, which is in seconds since the epoch, for one `receiver` or b"" for any."""
        name, secret = self._named[0]
        born_at = int(now)
        head = name + born_at.to_bytes(_BIRTH_BYTES) + self._entropy(_CHANCE_BYTES)
        return urlsafe_b64encode(head + self._mac(secret, born_at, head + receiver)).decode("ascii")

    def check(self, nonce: str, now: float, lifetime_seconds: float | None = None,
              receivers: Sequence[bytes] = (b"",)) -> Nonce:
        """Say whether this nonce is ours, young enough and was given to one of `receivers`.

        `lifetime_seconds` overrides that of the ring.
        """
        if _NONCE.fullmatch(nonce) is None:
            return Nonce.FORGED
        raw = urlsafe_b64decode(nonce)
        head, mac = raw[:_HEAD_BYTES], raw[_HEAD_BYTES:]
        born_at = int.from_bytes(head[_BIRTH])
        lifetime = self.lifetime_seconds if lifetime_seconds is None else lifetime_seconds
        # The age comes first, so that only keys of the last periods are ever derived.
        if not -CLOCK_SKEW_SECONDS <= now - born_at <= lifetime:
            return Nonce.STALE
        secrets = [secret for name, secret in self._named if name == head[:_NAME_BYTES]]
        if not secrets:
            return Nonce.STALE
        ours = any(hmac.compare_digest(mac, self._mac(secret, born_at, head + receiver))
                   for secret in secrets for receiver in receivers)
        return Nonce.VALID if ours else Nonce.FORGED

    def _mac(self, secret: bytes, born_at: int, covered: bytes) -> bytes:
        return hmac.digest(self._key(secret, born_at // self._key_seconds), covered, "sha256")[:_MAC_BYTES]

    def _key(self, secret: bytes, period: int) -> bytes:
        key = self._keys.get((secret, period))
        if key is None:
            if len(self._keys) >= _KEPT_KEYS:
                self._keys.clear()
            key = hmac.digest(secret, b"nonce key" + period.to_bytes(8), "sha256")
            self._keys[secret, period] = key
        return key


class NonceCounts:
    """Which counts of which nonces were used: "if the same nc value is seen twice, then the request is a replay".

    Only nonces of requests that proved a password come in here. They are held in two generations: what is used moves
    to the young one, and when that is half of `max_nonces` or as old as a nonce may become, the old one is
    forgotten, and with it every nonce that is unknown and not younger. So a full table costs phones a round trip and
    never lets a replay pass. About 200 bytes for each nonce; what is known dies with the process.
    """

    def __init__(
        self, max_nonces: int = DEFAULT_MAX_NONCES, lifetime_seconds: float = DEFAULT_LIFETIME_SECONDS
    ) -> None:
        self._half = max(1, max_nonces // 2)
        self._lifetime_seconds = lifetime_seconds
        self.young: dict[str, int] = {}
        """nonce → its birth, the highest count, and a bit for each count from that one down, as one number (or as
        _orderly says)."""
        self._old: dict[str, int] = {}
        self.young_until = lifetime_seconds
        """When the young generation is as old as a nonce may become."""
        self._young_newest = self._old_newest = self._forgotten_up_to = -1

    def __len__(self) -> int:
        return len(self.young) + len(self._old)

    def born_at(self, nonce: str) -> int | None:
        """Return when a nonce that was used here before was born, else None. It needs no second look at its HMAC."""
        record = self.young.get(nonce) or self._old.get(nonce)
        return None if record is None else record >> _BIRTH_SHIFT or record >> ORDERLY_BIRTH_SHIFT

    def accept(self, nonce: str, nc: int, now: float) -> bool:
        """Note the use of `nc`; False when it is a replay or too far behind, and then the nonce has to be renewed.

        `nonce` must have been found VALID, or be known here. Counts may come in any order within the window, as
        requests overtake each other over UDP, and may leave gaps.
        """
        record = self.young.get(nonce) or self._old.pop(nonce, None)
        if record is None:
            return self._first_use(nonce, nc << _COUNT_SHIFT | 1, now)
        after = record + 1 if _is_next(record, nc) else _with_count(_with_window(record), nc)
        self._keep(nonce, after or record, now)
        return after is not None

    def accept_known(self, nonce: str, nc: int, now: float, lifetime_seconds: float) -> bool:
        """Do as `accept` when this is the next use of a nonce that is known and young enough; else nothing is noted."""
        record = self.young.get(nonce)
        if record is None or not _is_next(record, nc):
            return False
        if now - (record >> ORDERLY_BIRTH_SHIFT) > lifetime_seconds:
            return False
        if now > self.young_until:
            return False
        self.young[nonce] = record + 1
        return True

    def give_back(self, nonce: str, nc: int) -> None:
        """Let a count be used again that was noted for a request which is looked at once more."""
        record = self.young.get(nonce)
        if record is None:
            return
        if not record >> _ORDERLY_BITS and record & MAX_COUNT == nc:
            self.young[nonce] = record - 1
            return
        record = _with_window(record)
        behind = (record >> _COUNT_SHIFT & _COUNT_MASK) - nc
        if 0 <= behind < WINDOW:
            self.young[nonce] = record & ~(1 << behind)

    def accept_once(self, nonce: str, now: float) -> bool:
        """Note that `nonce` was used without a count: True the first time, and nothing more is accepted of it.

        Without qop there is no nc (RFC 2617 §3.2.2.1), and a nonce that is used once is all that stops a replay.
        """
        return self.born_at(nonce) is None and self._first_use(nonce, _USED_UP, now)

    def _first_use(self, nonce: str, use: int, now: float) -> bool:
        born_at = int.from_bytes(urlsafe_b64decode(nonce)[_BIRTH])
        if born_at <= self._forgotten_up_to:
            return False
        self._keep(nonce, _orderly(born_at) if use == _FIRST else born_at << _BIRTH_SHIFT | use, now)
        self._young_newest = max(self._young_newest, born_at)
        return True

    def _keep(self, nonce: str, record: int, now: float) -> None:
        full = len(self.young) >= self._half and nonce not in self.young
        if full or now > self.young_until:
            self._forgotten_up_to = self._old_newest
            self._old, self._old_newest = self.young, self._young_newest
            self.young, self.young_until = {}, now + self._lifetime_seconds
            self._old.pop(nonce, None)
        self.young[nonce] = record


def _orderly(born_at: int) -> int:
    """Return the record of a nonce after its first use, by count 1."""
    return born_at << ORDERLY_BIRTH_SHIFT | 1


def _is_next(record: int, nc: int) -> bool:
    """Say whether the counts came in order until now, and `nc` is the next."""
    return not record >> _ORDERLY_BITS and nc == (record & MAX_COUNT) + 1


def _with_window(record: int) -> int:
    """Return a record in the form that has a window."""
    if record >> _ORDERLY_BITS:
        return record
    highest = record & MAX_COUNT
    used = (1 << min(highest, WINDOW)) - 1
    return record >> ORDERLY_BIRTH_SHIFT << _BIRTH_SHIFT | highest << _COUNT_SHIFT | used


def _with_count(record: int, nc: int) -> int | None:
    """Return the record after a use of `nc`, or None when that was used before or is below the window."""
    highest = record >> _COUNT_SHIFT & _COUNT_MASK
    window = record & _WINDOW_MASK
    ahead = nc - highest
    if ahead > 0:
        window = (window << min(ahead, WINDOW) | 1) & _WINDOW_MASK
        return record >> _BIRTH_SHIFT << _BIRTH_SHIFT | nc << _COUNT_SHIFT | window
    if ahead <= -WINDOW or window >> -ahead & 1:
        return None
    return record | 1 << -ahead


def _name_of(secret: bytes) -> bytes:
    return hmac.digest(secret, b"nonce key name", "sha256")[:_NAME_BYTES]
