"""What a node knows of the records that nodes share: the first level above Redis.

A record stands here as its value stands there, with our numbers. It is true until Redis says that somebody has changed
it. In doubt is what may have changed unseen: it is asked for again before it is used, but when Redis cannot be asked it
is the best there is. Of some addresses-of-record it is known that there is nothing. What was used longest ago is
forgotten first, but what hangs on a connection of ours later than others: for it we want to hear when the phone moves.
"""

from collections.abc import Callable
from itertools import islice

from registrar.location.contract import Snapshot
from registrar.location.memory import MemoryLocation, slot_at
from registrar.location.packing import CONNECTION_BOUND, HEAD, slot_and_expiry, version_of
from registrar.location.renewal import is_early
from registrar.records import Binding

MAX_ABSENT = 100_000
"""So many addresses-of-record are known to have nothing: strangers may ask for any."""

FORGOTTEN_AT_ONCE = 0.001
"""This part of the records is forgotten when there are too many: to look for each one alone would take long."""

_KIND_AT = 8
_SLOT_TO_PLACE = slice(4, 14)
_NOTHING = Snapshot()


def is_renewal(old: bytes, new: bytes) -> bool:
    """Say whether a record of one binding follows another in the same slot, from the same phone at the same place."""
    return old[_KIND_AT] != 0 and old[_SLOT_TO_PLACE] == new[_SLOT_TO_PLACE]


class LevelOne:
    """The records of one node."""

    def __init__(self, memory: MemoryLocation, node: str, epoch: int, max_records: int, wall: Callable[[], float],
                 empty_seconds: float, is_owed: Callable[[bytes], bool]) -> None:
        """What `is_owed` has not come to Redis yet, and is never forgotten.

        A record without bindings stays for `empty_seconds`, so that who builds on an older version of it is told.
        """
        self._memory = memory
        self._me = node, epoch
        self._max_records = max_records
        self._wall = wall
        self._empty_seconds = empty_seconds
        self._is_owed = is_owed
        self.records, self.packing = memory.records, memory.packing
        self.doubtful: dict[bytes, bool] = {}
        """The keys of records in doubt, and whether Redis may have lost something of them."""
        self._absent: dict[bytes, None] = {}

    def knows(self, key: bytes) -> bool:
        """Say whether what stands here of a record, or that there is none, is true."""
        if key in self.records:
            return key not in self.doubtful
        return key in self._absent

    def peek(self, key: bytes) -> Snapshot:
        """Return what stands here, without what has lapsed."""
        record = self.records.get(key)
        if record is None:
            return _NOTHING
        snapshot = self.packing.unpack(record)
        now = self._wall()
        live = tuple([binding for binding in snapshot.bindings if binding.expires_at > now])
        if len(live) == len(snapshot.bindings):
            return snapshot
        return Snapshot(snapshot.version, live, snapshot.lost_at)

    def version(self, key: bytes) -> int:
        """Return the version that stands here, 0 for none."""
        record = self.records.get(key)
        return 0 if record is None else version_of(record)

    def touch(self, key: bytes) -> None:
        """Take note that a record was used."""
        record = self.records.pop(key, None)
        if record is not None:
            self.records[key] = record

    def pack(self, key: bytes, snapshot: Snapshot) -> bytes:
        """Return the record of a snapshot, to be put here: in the slot that the one before stands in, if it can."""
        expiries = [binding.expires_at for binding in snapshot.bindings] or [self.empty_until()]
        slot, old = slot_at(min(expiries)), self.records.get(key)
        return self.packing.pack(snapshot, slot if old is None else min(slot, slot_and_expiry(old)[0]))

    def empty_until(self) -> float:
        """Return until when a record stays that has lost its last binding now."""
        return self._wall() + self._empty_seconds

    def put(self, key: bytes, record: bytes) -> None:
        """Take a record as it is now."""
        self._memory.put_record(key, record)
        self.doubtful.pop(key, None)
        self._absent.pop(key, None)
        if len(self.records) > self._max_records:
            self._forget_some()

    def put_owed(self, key: bytes, record: bytes) -> None:
        """Take a record as it is here and not yet in Redis: what was in doubt before stays so."""
        doubt = self.doubtful.get(key)
        self.put(key, record)
        if doubt is not None:
            self.doubtful[key] = doubt

    def put_refreshed(self, key: bytes, record: bytes) -> None:
        """Take a record of one binding in which only numbers differ; it is much cheaper than to `put` it."""
        records = self.records
        if key not in records or is_early(record):
            self.put(key, record)
            return
        del records[key]
        records[key] = record
        if self.doubtful:
            self.doubtful.pop(key, None)

    def put_absent(self, key: bytes) -> None:
        """Take note that there is nothing."""
        self.drop(key)
        self._absent[key] = None
        if len(self._absent) > MAX_ABSENT:
            for old in list(islice(self._absent, int(MAX_ABSENT * FORGOTTEN_AT_ONCE))):
                del self._absent[old]

    def drop(self, key: bytes) -> None:
        """Know nothing of a record any more."""
        self._memory.forget(key)
        self.doubtful.pop(key, None)
        self._absent.pop(key, None)

    def confirm(self, key: bytes) -> None:
        """Take note that a record is as it stands here."""
        self.doubtful.pop(key, None)

    def doubt(self, key: bytes) -> None:
        """Take note that a record may have changed."""
        self._absent.pop(key, None)
        if key in self.records:
            self.doubtful.setdefault(key, False)

    def doubt_all(self, may_be_lost: bool) -> None:
        """Take note that any record may have changed, and whether Redis may have lost something."""
        lost = [key for key, is_lost in self.doubtful.items() if is_lost and not may_be_lost]
        self.doubtful = dict.fromkeys(self.records, may_be_lost)
        for key in lost:
            self.doubtful[key] = True
        self._absent.clear()

    def lapsed(self, key: bytes) -> None:
        """Hear that time has ended a record."""
        self.doubtful.pop(key, None)

    def flows_of(self, record: bytes) -> frozenset[int]:
        """Return our connections that live bindings of a record hang on."""
        if record[_KIND_AT]:
            if not record[_KIND_AT] & CONNECTION_BOUND or slot_and_expiry(record)[1] <= self._wall():
                return frozenset()
            head = HEAD.unpack_from(record)
            return frozenset((head[10],)) if self.packing.places.places[head[5]][2:] == self._me else frozenset()
        now = self._wall()
        return frozenset([binding.source.flow_id for binding in self.packing.unpack(record).bindings
                          if self._hangs_here(binding) and binding.expires_at > now])

    def is_ours(self, record: bytes, since: float) -> bool:
        """Say whether some binding of a record came in at this node, or anywhere `since`, or whether it has none."""
        if record[_KIND_AT]:
            head = HEAD.unpack_from(record)
            return self.packing.places.places[head[5]][2] == self._me[0] or bool(head[7] >= since)
        bindings = self.packing.unpack(record).bindings
        return not bindings or any(each.source.node == self._me[0] or each.refreshed_at >= since for each in bindings)

    def _hangs_here(self, binding: Binding) -> bool:
        return binding.connection_bound and (binding.source.node, binding.source.epoch) == self._me

    def _forget_some(self) -> None:
        """Forget what was used longest ago."""
        most = max(1, int(self._max_records * FORGOTTEN_AT_ONCE))
        oldest = [key for key in islice(self.records, 2 * most) if not self._is_owed(key)]
        spared = [key for key in oldest if self.flows_of(self.records[key])]
        others = [key for key in oldest if key not in set(spared)]
        for key in (others or spared)[:most]:
            self.drop(key)
        for key in spared:
            # Its turn comes again when all others had theirs.
            self.touch(key)
