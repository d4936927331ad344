"""Which connections may be closed so that their phones move to another node, and which of them first."""

from collections.abc import Callable

from attrs import frozen

from registrar.bound import keys_on
from registrar.location.at_once import RecordStore
from registrar.records import Binding
from rollcall.net.flow import Flow

MOST_AORS = 10
"""A connection with more addresses-of-record is a trunk's, whose other end would have much to do anew."""

Place = tuple[str, int, int]
"""The node, the life of it and the connection that a binding came over."""


@frozen
class Candidate:
    """A connection that may be closed."""

    flow: Flow
    key: bytes
    """One of the records that are bound to it."""
    has_second: bool
    """Whether the phone has another connection (RFC 5626), so that it is reached without a gap."""
    registered_at: float
    """Since when it is bound."""

    @property
    def rank(self) -> tuple[bool, float]:
        """What those are sorted by that are closed first."""
        return not self.has_second, self.registered_at


class Candidates:
    """Knows the connections of one life of a node."""

    def __init__(self, location: RecordStore, node: str, epoch: int) -> None:
        self._location = location
        self._me = node, epoch

    def of(self, flow: Flow, before: float, is_left_alone: Callable[[bytes], bool]) -> Candidate | None:
        """Return a connection as a candidate; None when it is in use, or one of its bindings came after `before`.

        `is_left_alone` says of a record's key that its phone is not to be moved again.
        """
        keys = keys_on(flow)
        if not flow.is_open or flow.holds or not 0 < len(keys) <= MOST_AORS or any(map(is_left_alone, keys)):
            return None
        on_it: list[Binding] = []
        others: list[Binding] = []
        for key in keys:
            for binding in self._bindings(key):
                is_on_it = binding.source.flow_id == flow.id and self.is_here(binding)
                (on_it if is_on_it else others).append(binding)
        if not on_it or any(binding.registered_at > before for binding in on_it):
            return None
        has_second = all(any(_is_same_phone(binding, other) for other in others) for binding in on_it)
        return Candidate(flow, keys[0], has_second, min(binding.registered_at for binding in on_it))

    def places(self, key: bytes) -> frozenset[Place]:
        """Return where the bindings of a record came over, as far as this node knows it."""
        return frozenset(map(place_of, self._bindings(key)))

    def is_here(self, binding: Binding) -> bool:
        """Say whether a binding lives on a connection of ours."""
        return binding.connection_bound and (binding.source.node, binding.source.epoch) == self._me

    def _bindings(self, key: bytes) -> tuple[Binding, ...]:
        record = self._location.records.get(key)
        return () if record is None else self._location.packing.unpack(record).bindings


def place_of(binding: Binding) -> Place:
    """Return where a binding came over."""
    return binding.source.node, binding.source.epoch, binding.source.flow_id


def _is_same_phone(one: Binding, other: Binding) -> bool:
    """Say whether these are two flows of one phone (RFC 5626 §4.2)."""
    return (one.instance is not None and one.instance == other.instance and one.reg_id is not None
            and other.reg_id is not None and one.reg_id != other.reg_id)
