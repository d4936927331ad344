"""Bindings in the memory of this process: the first level of every store.

Each address-of-record is one packed record (`registrar.location.packing`) under its record key, and is forgotten when
its last binding lapses. For that it stands in one slot of a coarse calendar: that of its first expiry when it was put
there. A refresh only moves the expiry and leaves the calendar alone; when the slot comes up, what has lapsed is dropped
and what lives is put into its new slot. The timer wheel knows of the next slot only.

Besides, it is an AtOnceStore: who knows how records are packed may read and replace them without waiting.
"""

from collections.abc import AsyncIterator, Callable

from registrar.bindings import Binding, unbind
from registrar.location.calendar import Calendar
from registrar.location.changes import Changes
from registrar.location.contract import Conflict, Counts, Snapshot
from registrar.location.packing import Packing, moved, slot_and_expiry, version_of
from registrar.records import aor_of_key, record_key
from rollcall.net.wheel import Timer, TimerWheel

SLOT_SECONDS = 5
"""A lapsed record stays in memory for at most this much longer."""

Lapsed = Callable[[str, tuple[Binding, ...], Snapshot], None]
"""Told of an address-of-record that lost bindings to time: which, and what is left."""

Forgotten = Callable[[bytes], None]
"""Told the key of a record that is gone because time has left nothing in it."""

_NOTHING = Snapshot()
_NEVER = 2**32 - 1
_LATEST = float((_NEVER - 1) * SLOT_SECONDS)


class MemoryLocation:
    """Keeps bindings for as long as the process lives."""

    keeps_later = False

    def __init__(self, wheel: TimerWheel, wall: Callable[[], float], lapsed: Lapsed | None = None,
                 forgotten: Forgotten = lambda key: None, changes: Changes | None = None,
                 is_copy: bool = False) -> None:
        """`wall` gives the seconds since the epoch, which is what bindings lapse by.

        `changes` is told of all but plain refreshes. The records of a copy are kept elsewhere, with their versions:
        time takes bindings from it as from any, but makes no new version of what is left.
        """
        self._wheel = wheel
        self._wall = wall
        self._lapsed = lapsed
        self._forgotten = forgotten
        self._changes = changes
        self._is_copy = is_copy
        self.packing = Packing()
        self.records: dict[bytes, bytes] = {}
        self._calendar = Calendar()
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

    async def load_for_update(self, aor: str, only_adds: bool) -> Snapshot:
        """Return the same."""
        return await self.load(aor)

    async def save(self, aor: str, new: Snapshot) -> None:
        """Replace version `new.version - 1`. Raises Conflict when another version is stored."""
        self.put(aor, new)

    async def unbind(self, aor: str, node: str, epoch: int, flow_id: int) -> tuple[Binding, ...]:
        """Remove the bindings of `aor` that live on this flow and return them."""
        old = self.peek(aor)
        left = unbind(old.bindings, node, epoch, flow_id)
        if len(left) == len(old.bindings):
            return ()
        self.put(aor, old.without_flow(left, self._wall()))
        return tuple(binding for binding in old.bindings if binding not in left)

    def counts(self) -> Counts:
        """Return how much is stored."""
        return Counts(self._aors, {transport: count for transport, count in self._bindings.items() if count})

    async def pages(self, size: int = 500) -> AsyncIterator[tuple[tuple[str, Snapshot], ...]]:
        """Yield every address-of-record with its snapshot, `size` at a time."""
        keys = list(self.records)
        for start in range(0, len(keys), size):
            page = ((aor_of_key(key), self._read(key)) for key in keys[start:start + size])
            yield tuple((aor, snapshot) for aor, snapshot in page if snapshot.bindings)

    def peek(self, aor: str) -> Snapshot:
        """Return the bindings of `aor` at once."""
        return self._read(record_key(aor))

    def put(self, aor: str, new: Snapshot) -> None:
        """Replace version `new.version - 1` at once. Raises Conflict when another version is stored."""
        key = record_key(aor)
        old = self.records.get(key)
        if new.version != (1 if old is None else version_of(old) + 1):
            raise Conflict(aor)
        self._replace(key, old, new)

    def adopt(self, key: bytes, snapshot: Snapshot) -> None:
        """Take over a snapshot of any version where no record is. Raises Conflict when there is one."""
        if key in self.records:
            raise Conflict(aor_of_key(key))
        self._replace(key, None, snapshot)

    def forget(self, key: bytes) -> None:
        """Drop a record, its version too; harmless when there is none."""
        record = self.records.pop(key, None)
        if record is not None:
            self._count(self.packing.transports(record), ())
            self._tell(key)

    def put_record(self, key: bytes, record: bytes) -> None:
        """Put a packed record, of whatever version, into the place of the one that is there, if any, as the last."""
        old = self.records.pop(key, None)
        self._count(() if old is None else self.packing.transports(old), self.packing.transports(record))
        slot, expires_at = slot_and_expiry(record)
        if 0.0 < expires_at < slot * SLOT_SECONDS:
            slot = slot_at(expires_at)
            record = moved(record, slot)
        self.records[key] = record
        if old is None or slot_and_expiry(old)[0] != slot:
            self._enter(slot, key)

    def takes_at_once(self, key: bytes, connection_bound: bool) -> bool:
        """Memory waits for nobody."""
        return True

    def refresh(self, key: bytes, record: bytes) -> None:
        """Replace a record of one binding by its next version, which came the same way and stands in the same slot."""
        slot, expires_at = slot_and_expiry(record)
        if expires_at < slot * SLOT_SECONDS:
            slot = slot_at(expires_at)
            record = moved(record, slot)
            self._enter(slot, key)
        self.records[key] = record

    def insert(self, key: bytes, record: bytes, transport: str) -> None:
        """Add the record of a first binding, whose slot is that of its expiry. Raises Conflict when there is one."""
        if key in self.records:
            raise Conflict(aor_of_key(key))
        self._count((), (transport,))
        self.records[key] = record
        self._enter(slot_and_expiry(record)[0], key)
        self._tell(key)

    async def fetch(self, aor: str) -> tuple[Binding, ...]:
        """Nothing is kept elsewhere."""
        return ()

    async def settled(self, aor: str) -> None:
        """Nothing waits to be written."""

    def is_settled(self, aor: str) -> bool:
        """Nothing ever waits to be written."""
        return True

    def _read(self, key: bytes) -> Snapshot:
        record = self.records.get(key)
        return _NOTHING if record is None else self.packing.unpack(record)

    def _replace(self, key: bytes, old: bytes | None, new: Snapshot) -> None:
        if old is None and not new.bindings:
            return
        # A record without bindings keeps its place until the slot comes up: it remembers its version.
        slot = _NEVER if old is None else slot_and_expiry(old)[0]
        first = min([slot_at(binding.expires_at) for binding in new.bindings], default=_NEVER)
        record = self.packing.pack(new, min(slot, first))
        self._count(() if old is None else self.packing.transports(old), self.packing.transports(record))
        self.records[key] = record
        if first < slot:
            self._enter(first, key)
        if self._changes is not None and self._changes.is_watched(key):
            before = () if old is None else self.packing.unpack(old).bindings
            if not is_refresh(before, new.bindings):
                self._changes.tell(key)

    def _tell(self, key: bytes) -> None:
        if self._changes is not None:
            self._changes.tell(key)

    def _count(self, old: tuple[str, ...], new: tuple[str, ...]) -> None:
        """Take note of a record whose bindings had one set of transports and have another now."""
        self._aors += bool(new) - bool(old)
        if old == new:
            return
        for change, transports in ((-1, old), (1, new)):
            for transport in transports:
                self._bindings[transport] = self._bindings.get(transport, 0) + change

    def _enter(self, slot: int, key: bytes) -> None:
        if self._calendar.enter(slot, key):
            self._arm()

    def _arm(self) -> None:
        """See that the wheel calls us at the end of the first slot."""
        first = self._calendar.first
        if self._timer is not None:
            if self._timer.active and self._due_slot <= first:
                return
            self._timer.cancel()
        self._due_slot = first
        self._timer = self._wheel.call_later((first + 1) * SLOT_SECONDS - self._wall(), self._sweep)

    def _sweep(self) -> None:
        """Drop what has lapsed in the slot that is over; the rest of a long one has its turn later."""
        slot, now = self._due_slot, self._wall()
        for key in self._calendar.take(slot):
            self._look_at(key, slot, now)
        if self._calendar:
            self._arm()

    def _look_at(self, key: bytes, slot: int, now: float) -> None:
        record = self.records.get(key)
        if record is None:
            return
        noted_slot, expires_at = slot_and_expiry(record)
        if noted_slot != slot:
            return
        if expires_at > now:
            slot = slot_at(expires_at)
            self.records[key] = moved(record, slot)
            self._enter(slot, key)
        else:
            self._lapse(key, record, now)

    def _lapse(self, key: bytes, record: bytes, now: float) -> None:
        """Drop a record's lapsed bindings, and the record when none is left."""
        old = self.packing.unpack(record)
        live = tuple([binding for binding in old.bindings if binding.expires_at > now])
        left = _NOTHING
        if live:
            left = Snapshot(old.version, live) if self._is_copy else old.followed_by(live)
        if live:
            slot = min([slot_at(binding.expires_at) for binding in live])
            self.records[key] = self.packing.pack(left, slot)
            self._enter(slot, key)
        else:
            del self.records[key]
        self._count(_transports(old.bindings), _transports(live))
        self._tell(key)
        if self._lapsed is not None and len(live) < len(old.bindings):
            gone = tuple([binding for binding in old.bindings if binding.expires_at <= now])
            self._lapsed(aor_of_key(key), gone, left)
        if key not in self.records:
            self._forgotten(key)


def slot_at(expires_at: float) -> int:
    """Return the slot in which that moment is."""
    return int(min(max(expires_at, 0.0), _LATEST) // SLOT_SECONDS)


def is_refresh(old: tuple[Binding, ...], new: tuple[Binding, ...]) -> bool:
    """Say whether the same phones are bound, each where it was."""
    return [_name(binding) for binding in old] == [_name(binding) for binding in new]


def _name(binding: Binding) -> tuple[object, ...]:
    return binding.contact, binding.instance, binding.reg_id, binding.q, binding.path, binding.source


def _transports(bindings: tuple[Binding, ...]) -> tuple[str, ...]:
    return tuple([binding.source.transport for binding in bindings])
