"""The location service as those see it who change one packed record without waiting."""

from collections.abc import Callable
from typing import Protocol

from registrar.location.contract import LocationStore
from registrar.location.packing import Packing


class RecordStore(Protocol):
    """What a store offers to those who read one packed record without waiting (see `registrar.location.packing`)."""

    records: dict[bytes, bytes]
    """The packed record of each address-of-record by its key."""
    packing: Packing
    keeps_later: bool
    """Whether nothing takes effect before it is acknowledged elsewhere: a LaterStore; else it is an AtOnceStore."""

    def takes_at_once(self, key: bytes, connection_bound: bool) -> bool:
        """Say whether a binding, on a connection or not, may be put into this record now, be it there or not.

        A store that would have to fetch the record says no, and may begin to fetch it.
        """


class AtOnceStore(RecordStore, Protocol):
    """What a store offers to those who change one packed record without waiting.

    What `renewal.renewed` made of one may be put into its place in `records`, unless it `is_early`.
    """

    def refresh(self, key: bytes, record: bytes) -> None:
        """Replace a record of one binding by its next version, in which only numbers differ."""

    def insert(self, key: bytes, record: bytes, transport: str) -> None:
        """Add the record of a first binding."""


class LaterStore(RecordStore, Protocol):
    """What a store offers that has to ask somebody else before a record is changed. Nobody else changes `records`."""

    def keep(self, key: bytes, old: bytes | None, new: bytes, transport: str, kept: Callable[[bool], None]) -> None:
        """Replace a record by its next version, or with no `old` one add that of a first binding.

        `kept` is called in a later turn: with True once it is as durable as the store makes it, and with False when it
        could not be done and nothing has changed.
        """


class Location(LocationStore, RecordStore, Protocol):
    """A location service as the service joins it: an AtOnceStore or a LaterStore, too."""
