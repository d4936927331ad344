"""The location service as those see it who change one packed record without waiting."""

from collections.abc import Callable
from typing import Protocol

from registrar.location.contract import LocationStore
from registrar.location.packing import Packing


class AtOnceStore(Protocol):
    """What a store offers to those who change one packed record without waiting (see `registrar.location.packing`)."""

    records: dict[bytes, bytes]
    """The packed record of each address-of-record by its key. What `renewal.renewed` made of one may be put into its
    place, unless it `is_early`."""
    packing: Packing
    keeps_later: bool
    """Whether nothing takes effect before it is acknowledged elsewhere: then it is a LaterStore, `takes_at_once` speaks
    about `keep`, and nobody else may put anything into `records`."""

    def takes_at_once(self, key: bytes, connection_bound: bool) -> bool:
        """Say whether a binding, on a connection or not, may be put into this record now, be it there or not.

        A store that would have to fetch the record says no, and may begin to fetch it.
        """

    def refresh(self, key: bytes, record: bytes) -> None:
        """Replace a record of one binding by its next version, in which only numbers differ."""

    def insert(self, key: bytes, record: bytes, transport: str) -> None:
        """Add the record of a first binding."""


class LaterStore(AtOnceStore, Protocol):
    """What a store offers that has to ask somebody else before a record is changed."""

    def keep(self, key: bytes, old: bytes | None, new: bytes, transport: str, kept: Callable[[bool], None]) -> None:
        """Replace a record by its next version, or with no `old` one add that of a first binding.

        `kept` is called in a later turn: with True once it is as durable as the store makes it, and with False when it
        could not be done and nothing has changed.
        """


class Location(LocationStore, AtOnceStore, Protocol):
    """A location service that offers both."""
