"""Bindings in the memory of this process: the first level of every store.

A record is forgotten when its last binding lapses. For that each address-of-record stands in one slot of a coarse
calendar: that of its first expiry when it was put there. A refresh only moves the expiry and leaves the calendar alone;
when the slot comes up, what has lapsed is dropped and what lives is put into its new slot. The timer wheel knows of the
next slot only.
"""

from collections.abc import AsyncIterator, Callable

from attrs import define

from registrar.bindings import Binding, unbind
from registrar.location.contract import Conflict, Counts, Snapshot
from rollcall.net.wheel import Timer, TimerWheel

SLOT_SECONDS = 5
"""A lapsed record stays in memory for at most this much longer."""

SWEPT_AT_ONCE = 1000
"""Records looked through in one turn of the reactor, which is about a millisecond."""


@define
class _Record:
    snapshot: Snapshot
    slot: int


Lapsed = Callable[[str, tuple[Binding, ...], Snapshot], None]
"""Told of an address-of-record that lost bindings to time: which, and what is left."""


class MemoryLocation:
    """Keeps bindings for as long as the process lives."""

    def __init__(self, wheel: TimerWheel, wall: Callable[[], float],
                 lapsed: Lapsed = lambda aor, gone, left: None) -> None:
        """`wall` gives the seconds since the epoch, which is what bindings lapse by."""
        self._wheel = wheel
        self._wall = wall
        self._lapsed = lapsed
        self._records: dict[str, _Record] = {}
        self._calendar: dict[int, list[str]] = {}
        self._timer: Timer | None = None
        self._due_slot = 0
        self._aors = 0
        self._bindings: dict[str, int] = {}

    async def start(self) -> None:
        """Nothing was kept before."""

    async def stop(self) -> None:
        """Stop waiting for expiries."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    @property
    def problem(self) -> str | None:
        """Memory has none."""
        return None

    async def load(self, aor: str) -> Snapshot:
        """Return the bindings of `aor`."""
        return self.peek(aor)

    async def save(self, aor: str, new: Snapshot) -> None:
        """Replace version `new.version - 1`. Raises Conflict when another version is stored."""
        self.put(aor, new)

    async def unbind(self, aor: str, node: str, epoch: int, flow_id: int) -> tuple[Binding, ...]:
        """Remove the bindings of `aor` that live on this flow and return them."""
        old = self.peek(aor)
        left = unbind(old.bindings, node, epoch, flow_id)
        if len(left) == len(old.bindings):
            return ()
        self.put(aor, old.followed_by(left))
        return tuple(binding for binding in old.bindings if binding not in left)

    def counts(self) -> Counts:
        """Return how much is stored."""
        return Counts(self._aors, {transport: count for transport, count in self._bindings.items() if count})

    async def pages(self, size: int = 500) -> AsyncIterator[tuple[tuple[str, Snapshot], ...]]:
        """Yield every address-of-record with its snapshot, `size` at a time."""
        aors = list(self._records)
        for start in range(0, len(aors), size):
            page = ((aor, self.peek(aor)) for aor in aors[start:start + size])
            yield tuple((aor, snapshot) for aor, snapshot in page if snapshot.bindings)

    def peek(self, aor: str) -> Snapshot:
        """Return the bindings of `aor` at once."""
        record = self._records.get(aor)
        return record.snapshot if record is not None else _NOTHING

    def put(self, aor: str, new: Snapshot) -> None:
        """Replace version `new.version - 1` at once. Raises Conflict when another version is stored."""
        record = self._records.get(aor)
        if new.version != (1 if record is None else record.snapshot.version + 1):
            raise Conflict(aor)
        if record is not None:
            self._count(record.snapshot.bindings, new.bindings)
            record.snapshot = new
        elif new.bindings:
            self._count((), new.bindings)
            record = self._records[aor] = _Record(new, _NEVER)
        else:
            return
        # A record without bindings keeps its place until the slot comes up: it remembers its version.
        if new.bindings:
            slot = _slot_of(new.bindings)
            if slot < record.slot:
                self._enter(aor, record, slot)

    def _count(self, old: tuple[Binding, ...], new: tuple[Binding, ...]) -> None:
        self._aors += bool(new) - bool(old)
        if len(old) == len(new) == 1 and old[0].source.transport == new[0].source.transport:
            return
        for change, bindings in ((-1, old), (1, new)):
            for binding in bindings:
                transport = binding.source.transport
                self._bindings[transport] = self._bindings.get(transport, 0) + change

    def _enter(self, aor: str, record: _Record, slot: int) -> None:
        record.slot = slot
        entries = self._calendar.get(slot)
        if entries is None:
            self._calendar[slot] = [aor]
            self._arm()
        else:
            entries.append(aor)

    def _arm(self) -> None:
        """See that the wheel calls us at the end of the first slot."""
        first = min(self._calendar)
        if self._timer is not None:
            if self._timer.active and self._due_slot <= first:
                return
            self._timer.cancel()
        self._due_slot = first
        self._timer = self._wheel.call_later((first + 1) * SLOT_SECONDS - self._wall(), self._sweep)

    def _sweep(self) -> None:
        """Drop what has lapsed in the slot that is over; the rest of a long one has its turn later."""
        slot, now = self._due_slot, self._wall()
        entries = self._calendar.pop(slot)
        for _ in range(min(len(entries), SWEPT_AT_ONCE)):
            self._look_at(entries.pop(), slot, now)
        if entries:
            self._calendar.setdefault(slot, []).extend(entries)
        if self._calendar:
            self._arm()

    def _look_at(self, aor: str, slot: int, now: float) -> None:
        record = self._records.get(aor)
        if record is None or record.slot != slot:
            return
        old = record.snapshot
        live = tuple(binding for binding in old.bindings if binding.expires_at > now)
        if live:
            self._enter(aor, record, _slot_of(live))
        else:
            del self._records[aor]
        if len(live) < len(old.bindings):
            self._count(old.bindings, live)
            record.snapshot = old.followed_by(live)
            gone = tuple(binding for binding in old.bindings if binding.expires_at <= now)
            self._lapsed(aor, gone, record.snapshot if live else _NOTHING)


_NOTHING = Snapshot()
_NEVER = 2**62


def _slot_of(bindings: tuple[Binding, ...]) -> int:
    """Return the slot in which the first of the bindings lapses."""
    first = bindings[0].expires_at
    for binding in bindings:
        first = min(first, binding.expires_at)
    return int(first // SLOT_SECONDS)
