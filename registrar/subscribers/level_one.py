"""What is remembered of subscribers in memory, each with the moment at which the database was asked."""

from struct import Struct
from typing import Generic, TypeVar

from registrar.subscribers.cache import CacheConfig

T = TypeVar("T")

MOMENT = Struct("<d")
"""How the moment is written."""
# It stands at the end, so that the hashes lie where registrar.subscribers.packed puts them.
MOMENT_AT = -MOMENT.size
"""Where it is in an entry."""


def entry_of(packed: bytes, read_at: float) -> bytes:
    """Return packed hashes together with the moment at which the database was asked for them."""
    return packed + MOMENT.pack(read_at)


def packed_of(entry: bytes) -> bytes:
    """Return the packed hashes of an entry."""
    return entry[:MOMENT_AT]


def read_at(entry: bytes) -> float:
    """Return when the database was asked for this."""
    moment: float = MOMENT.unpack_from(entry, MOMENT_AT)[0]
    return moment


class Recent(Generic[T]):
    """What was put or asked for lately: at most `max_items`.

    It is kept in two generations. Whoever is asked for comes into the younger one; where there is no more room,
    somebody of the older one is forgotten.
    """

    def __init__(self, max_items: int) -> None:
        self._max_items = max_items
        self.young: dict[str, T] = {}
        self._old: dict[str, T] = {}

    def __len__(self) -> int:
        return len(self.young) + len(self._old)

    @property
    def room(self) -> int:
        """How many more can be put before others are forgotten."""
        return self._max_items - len(self)

    def get(self, key: str) -> T | None:
        """Return what is known of `key`."""
        known = self.young.get(key)
        if known is None and key in self._old:
            known = self.young[key] = self._old.pop(key)
        return known

    def put(self, key: str, value: T) -> None:
        """Remember `value`."""
        self._old.pop(key, None)
        if key not in self.young and len(self) >= self._max_items:
            if not self._old:
                self.young, self._old = {}, self.young
            self._old.popitem()
        self.young[key] = value

    def forget(self, key: str) -> None:
        """Forget what is known of `key`."""
        self.young.pop(key, None)
        self._old.pop(key, None)

    def clear(self) -> None:
        """Forget everything."""
        self.young, self._old = {}, {}


class LevelOne:
    """Subscribers by "username@domain", and names that are nobody's."""

    def __init__(self, config: CacheConfig) -> None:
        self.known: Recent[bytes] = Recent(config.max_cached)
        """Entries, see entry_of; also those that are too old for anything but to help out, see `stale`."""
        self.not_before = 0.0
        """What was read before this moment is only good while no database can be asked."""
        self._unknown: Recent[float] = Recent(config.max_cached_negative)
        self._seconds = config.cache_seconds
        self._negative_seconds = config.negative_cache_seconds
        self._stale_seconds = config.stale_seconds

    def fresh(self, key: str, now: float) -> bytes | None:
        """Return the entry when it counts."""
        entry = self.known.get(key)
        return entry if entry is not None and self.counts(entry, now) else None

    def counts(self, entry: bytes, now: float) -> bool:
        """Say whether an entry is young enough to be answered with."""
        moment = read_at(entry)
        return moment >= self.not_before and now - moment <= self._seconds

    def is_aging(self, entry: bytes, now: float) -> bool:
        """Say whether an entry that counts has come into its older half."""
        return now - read_at(entry) > self._seconds / 2

    def is_nobody(self, key: str, now: float) -> bool:
        """Say whether it is known that there is no such user."""
        moment = self._unknown.get(key)
        return moment is not None and moment >= self.not_before and now - moment <= self._negative_seconds

    def stale(self, key: str, now: float) -> bytes | None:
        """Return an entry for times when no database can be asked."""
        entry = self.known.get(key)
        return entry if entry is not None and now - read_at(entry) <= self._stale_seconds else None

    def asked_at(self, key: str) -> float | None:
        """Return when the database was asked for what is known of this name; None when nothing is known."""
        entry = self.known.get(key)
        return self._unknown.get(key) if entry is None else read_at(entry)

    def learn(self, key: str, packed: bytes | None, now: float) -> None:
        """Remember what the database has said when it was asked at `now`; None: there is no such user."""
        if packed is None:
            self.known.forget(key)
            self._unknown.put(key, now)
        else:
            self._unknown.forget(key)
            self.known.put(key, entry_of(packed, now))

    def offer(self, key: str, entry: bytes) -> None:
        """Remember an entry that somebody else has read, unless a younger one is there."""
        known = self.known.get(key)
        if known is None or read_at(known) < read_at(entry):
            self._unknown.forget(key)
            self.known.put(key, entry)

    def forget(self, key: str) -> None:
        """Forget one name, because what was known is wrong."""
        self.known.forget(key)
        self._unknown.forget(key)

    def expire(self, key: str, now: float) -> None:
        """Let what is known of one name help out only."""
        entry = self.known.get(key)
        self._unknown.forget(key)
        if entry is not None:
            self.known.put(key, entry_of(packed_of(entry), min(read_at(entry), now - self._seconds - 1)))

    def doubt(self, now: float) -> None:
        """Let all that is known help out only."""
        self.not_before = now

    def clear(self) -> None:
        """Forget everything, because anything may be wrong."""
        self.known.clear()
        self._unknown.clear()
