"""What becomes of bindings that several nodes have changed without knowing of each other (RFC 3261 §10.3 step 7).

While nodes cannot reach what they share, each acknowledges what its phones ask for, and remembers that as Changes.
Later these are merged into what is shared, binding by binding: of several for one contact the newest stays. So it makes
no difference whose registrations come first, and Changes that are merged twice do no harm. A removal is not remembered
once it is merged: what a phone had at another node before comes back with that node's Changes, until it lapses.

Which is newer? Within one Call-ID the higher CSeq, else the one that was registered later by the clocks of the nodes.
An order that holds for any three bindings needs both to agree, that is clocks which differ by less than the time
between two requests of a phone.
"""

from collections.abc import Iterable, Sequence

from attrs import frozen

from registrar.bindings import same_contact
from registrar.records import Binding


@frozen
class Change:
    """What one acknowledged request has done to the bindings of an address-of-record."""

    kept: tuple[Binding, ...]
    """Bindings that were added or refreshed, as they are now."""
    removed: tuple[Binding, ...]
    """Bindings that were taken away, as they were."""
    at: float
    """When, in seconds since the epoch."""


def change_between(old: Iterable[Binding], new: Iterable[Binding], at: float) -> Change:
    """Return what has changed from `old` to `new` bindings of the same address-of-record."""
    before, after = tuple(old), tuple(new)
    kept = tuple([binding for binding in after if binding not in before])
    removed = tuple([binding for binding in before if not any(same_contact(binding, other) for other in after)])
    return Change(kept, removed, at)


def folded(changes: Iterable[Change], later: Change) -> list[Change]:
    """Return changes and a later one of the same node, without what has no effect any more because of that.

    A phone that registers again and again leaves one binding, not one for each time.
    """
    left = []
    for change in changes:
        kept = tuple([binding for binding in change.kept
                      if not (_takes(later, binding) or any(_outdoes(each, binding) for each in later.kept))])
        removed = tuple([gone for gone in change.removed if not any(same_contact(gone, one) for one in later.removed)])
        if kept or removed:
            left.append(Change(kept, removed, change.at))
    return [*left, later]


def merged(current: tuple[Binding, ...], changes: Iterable[Change], max_contacts: int, now: float,
           one_contact_per_instance: bool = True) -> tuple[Binding, ...]:
    """Return the bindings after `changes`, in the order in which they were acknowledged where that is known.

    Lapsed ones are left out. Of more than `max_contacts` the newest stay; nobody is taken away for having been among
    more already. When nothing changes the result is `current` itself.
    """
    live = [binding for binding in current if binding.expires_at > now]
    pool = list(live)
    for change in changes:
        pool = [binding for binding in pool if not _takes(change, binding)]
        pool.extend(binding for binding in change.kept if binding.expires_at > now)
    newest = _newest_of_each(pool, one_contact_per_instance)[:max(max_contacts, len(live))]
    if len(newest) == len(current) and all(binding in current for binding in newest):
        return current
    return tuple(reversed(newest))


def _takes(change: Change, binding: Binding) -> bool:
    """Say whether a change has taken a binding away."""
    return any(_is_taken(binding, gone, change) for gone in change.removed)


def _is_taken(binding: Binding, gone: Binding, change: Change) -> bool:
    if not same_contact(binding, gone):
        return False
    return binding.refreshed_at <= change.at or (binding.call_id == gone.call_id and binding.cseq <= gone.cseq)


def _newest_of_each(pool: Sequence[Binding], one_contact_per_instance: bool) -> list[Binding]:
    """Return the newest binding for each contact, the newest first."""
    ordered = [binding for binding in pool if not any(_is_later(other, binding) for other in pool)]
    ordered.sort(key=_moment, reverse=True)
    found: list[Binding] = []
    for binding in ordered:
        if not any(_replaces(newer, binding, one_contact_per_instance) for newer in found):
            found.append(binding)
    return found


def _is_later(one: Binding, other: Binding) -> bool:
    """Say whether one binding knows a later request of the same series than the other."""
    return one.call_id == other.call_id and one.cseq > other.cseq and same_contact(one, other)


def _outdoes(one: Binding, other: Binding) -> bool:
    """Say whether one binding takes the place of another of the same contact, wherever both come together."""
    if not same_contact(one, other):
        return False
    return _is_later(one, other) or (_moment(one) >= _moment(other) and not _is_later(other, one))


def _moment(binding: Binding) -> tuple[float, int, float, int, str, str, str, int, int]:
    """Return what bindings of one contact are put in order by: any node finds the same."""
    source = binding.source
    return (binding.refreshed_at, binding.generation, binding.expires_at, binding.cseq, binding.call_id,
            binding.contact, source.node, source.epoch, source.flow_id)


def _replaces(newer: Binding, binding: Binding, one_contact_per_instance: bool) -> bool:
    if same_contact(newer, binding):
        return True
    if not one_contact_per_instance or newer.instance is None or newer.instance != binding.instance:
        return False
    # RFC 5627 §6.1: leftovers of the phone's earlier life; two contacts of one request are none.
    are_plain = newer.reg_id is None and binding.reg_id is None
    return are_plain and (newer.call_id, newer.cseq) != (binding.call_id, binding.cseq)
