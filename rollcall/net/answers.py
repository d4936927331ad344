"""Final answers that are kept for retransmitted requests, after their transactions are gone (RFC 3261 §17.2.2).

A datagram's transaction has to absorb repetitions for 64*T1 after its answer. A registrar answers thousands a second
and most are never repeated, so that all that stays of them is a key and the bytes to send again: nothing that a
garbage collector has to look at, and no timer of their own. Each is kept for 64*T1 at least and twice that at most,
unless there is no room: strangers choose how many there are, and how long, for what is copied from a request is theirs.
"""

from collections.abc import Hashable

from rollcall.net.wheel import Timer, TimerWheel

USUAL_BYTES = 1000


class Answers:
    """Answers by the key of their transaction, the older half dropped when its time has come or there are too many."""

    def __init__(self, wheel: TimerWheel, seconds: float, most: int) -> None:
        """Each answer is kept for `seconds` unless more than `most` came meanwhile, or more bytes than these have."""
        self._wheel = wheel
        self._seconds = seconds
        self._half = max(1, most // 2)
        self._room = self._half * USUAL_BYTES
        self._young: dict[Hashable, bytes] = {}
        self._old: dict[Hashable, bytes] = {}
        self._timer: Timer | None = None

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def get(self, key: Hashable) -> bytes | None:
        """Return what was answered."""
        return self._young.get(key) or self._old.get(key)

    def put(self, key: Hashable, answer: bytes) -> None:
        """Remember an answer."""
        if len(self._young) >= self._half or self._room <= 0:
            self._turn()
        self._young[key] = answer
        self._room -= len(answer)
        if self._timer is None:
            self._timer = self._wheel.call_later(self._seconds, self._due)

    def _due(self) -> None:
        self._timer = None
        self._turn()
        if self._old:
            self._timer = self._wheel.call_later(self._seconds, self._due)

    def _turn(self) -> None:
        self._old, self._young = self._young, {}
        self._room = self._half * USUAL_BYTES
