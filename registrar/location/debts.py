"""What a node owes Redis: changes that it has acknowledged and Redis has not, or may have lost.

A change that a phone was told of stands in the journal, too. The end of a connection does not: should this process end,
so do all its connections. Whoever reads a record joins what is owed with it (`registrar.location.merging`).
"""

from collections.abc import Iterator

from registrar.bindings import unbind
from registrar.location.contract import Snapshot
from registrar.location.journal import Journal
from registrar.location.merging import Change, change_between, folded, merged
from registrar.records import aor_of_key

RECENT_SECONDS = 10.0
"""What was acknowledged so long before Redis lost something may be among it: Redis writes and replicates every second,
and a failover takes some."""

MAX_CHANGES = 100
"""So much may be owed of one record: each costs a look at all the others when it is joined, and phones have few."""


class Debts:
    """What is owed, by the keys of records; in the order in which it came to be."""

    def __init__(self, journal: Journal, node: str, epoch: int, max_contacts: int, most: int,
                 one_contact_per_instance: bool) -> None:
        self._journal = journal
        self._me = node, epoch
        self._max_contacts = max_contacts
        self._most = most
        self._one_contact_per_instance = one_contact_per_instance
        self.changes: dict[bytes, list[Change]] = {}
        self.ended: dict[bytes, dict[int, float]] = {}

    def __contains__(self, key: bytes) -> bool:
        return key in self.changes or key in self.ended

    def __len__(self) -> int:
        return len(self.changes) + len(self.ended)

    def __iter__(self) -> Iterator[bytes]:
        yield from self.changes
        yield from (key for key in self.ended if key not in self.changes)

    def owe(self, key: bytes, change: Change) -> None:
        """Owe a change that the journal has."""
        self.changes[key] = folded(self.changes.get(key, ()), change)

    def may_owe(self, key: bytes) -> bool:
        """Say whether a further change of this record may be owed."""
        return len(self.changes.get(key, ())) < MAX_CHANGES

    def owe_end(self, key: bytes, flow_id: int, at: float) -> bool:
        """Owe that a connection of ours has ended; False when too much is owed already."""
        if len(self.ended) >= self._most and key not in self.ended:
            return False
        self.ended.setdefault(key, {})[flow_id] = at
        return True

    def owes_only(self, key: bytes, change: Change) -> bool:
        """Say whether nothing of this record is owed but `change`."""
        changes = self.changes.get(key, [])
        return len(changes) == 1 and changes[0] is change and key not in self.ended

    def paid(self, key: bytes) -> None:
        """Owe nothing of this record any more."""
        self.ended.pop(key, None)
        if self.changes.pop(key, None) is not None:
            self._journal.done((aor_of_key(key),))

    def joined(self, key: bytes, current: Snapshot, more: Change | None, version: int,
               now: float) -> Snapshot | None:
        """Return what to keep as `version` in the place of `current`, or None when nothing is missing there."""
        changes = [*self.changes.get(key, ()), *(() if more is None else (more,))]
        bindings = current.bindings
        if changes:
            bindings = merged(bindings, changes, self._max_contacts, now, self._one_contact_per_instance)
        ended = self.ended.get(key, {})
        left = bindings
        for flow_id in ended:
            left = unbind(left, *self._me, flow_id)
        lost_at = max(ended.values()) if not left and len(left) < len(bindings) else current.lost_at
        live = [binding for binding in current.bindings if binding.expires_at > now]
        if set(left) == set(live):
            return None
        return Snapshot(version, tuple(left), 0.0 if left else lost_at)


def lost_change(ours: Snapshot, theirs: Snapshot, me: tuple[str, int], may_be_lost: bool, lost_at: float,
                now: float) -> Change | None:
    """Return what Redis has lost of a record that we knew as `ours`, where it has `theirs` now; None for nothing.

    What is `ours` was true until `lost_at`; `me` is our node and life. What came in here is put back, unless it hung on
    a connection of an earlier life: were it removed, we would know. An older version than ours says that something was
    lost since; then what others had new at that time is put back, too, but not what hangs on their connections, and
    what had been removed is removed again. Where there is no record at all although nobody has told of a loss, only
    what hangs on our own connections is put back: who takes bindings away leaves a record without any for a while.
    """
    live = [binding for binding in ours.bindings if binding.expires_at > now]
    at_home = [each for each in live if each.source.node == me[0]
               and (not each.connection_bound or each.source.epoch == me[1])]
    if not may_be_lost:
        hanging = [each for each in at_home if each.connection_bound]
        return Change(tuple(hanging), (), now) if hanging and not theirs.version else None
    if theirs.version >= ours.version:
        return Change(tuple(at_home), (), lost_at) if at_home else None
    new = [each for each in live if each not in at_home and not each.connection_bound
           and each.refreshed_at >= lost_at - RECENT_SECONDS]
    removed = change_between(theirs.bindings, live, lost_at).removed
    return Change((*at_home, *new), tuple([each for each in removed if each.refreshed_at <= lost_at]), lost_at)
