"""The location service as the conversations see it (RFC 3261 §10.2): bindings per address-of-record, with versions.

Every implementation passes tests/registrar/location_contract.py.
"""

from collections.abc import AsyncIterator, Mapping
from typing import Protocol

from attrs import field, frozen

from registrar.bindings import Binding


class Conflict(Exception):
    """Somebody else has written these bindings since they were loaded: load again, decide again, save again."""


class LocationUnavailable(Exception):
    """The bindings cannot be kept now. Nothing of the save has taken effect; the same save may succeed later."""


@frozen
class Snapshot:
    """The bindings of one address-of-record at one version."""

    version: int = 0
    """Counts the changes; 0 when there is no record. A record without bindings may be forgotten at any time."""
    bindings: tuple[Binding, ...] = ()
    """May hold lapsed ones: readers compare `expires_at` with their `now`."""
    lost_at: float = 0.0
    """When the last binding was lost with its connection, in seconds since the epoch; 0 when it was not, or when that
    is not known any more. Nothing is bound then, but the phone may be on its way back."""

    def followed_by(self, bindings: tuple[Binding, ...]) -> "Snapshot":
        """Return what to save in place of this snapshot."""
        return Snapshot(self.version + 1, bindings)

    def without_flow(self, left: tuple[Binding, ...], now: float) -> "Snapshot":
        """Return what to save when a connection has ended and these bindings are left."""
        return Snapshot(self.version + 1, left, 0.0 if left else now)


@frozen
class Counts:
    """What the store holds now; lapsed bindings are counted for a few seconds more."""

    aors: int = 0
    """Addresses-of-record with at least one binding."""
    bindings: Mapping[str, int] = field(factory=dict)
    """Bindings by the transport they came over."""


class LocationStore(Protocol):
    """Keeps bindings. A save that has returned survives whatever the implementation promises to survive."""

    async def start(self) -> None:
        """Make ready: afterwards loads answer from everything kept before. Raises LocationUnavailable."""

    async def stop(self) -> None:
        """Finish what has been accepted, then let go of every resource. A later save raises LocationUnavailable."""

    @property
    def problem(self) -> str | None:
        """Why bindings cannot be kept now, for /readyz; None when all is well."""

    async def load(self, aor: str) -> Snapshot:
        """Return the bindings of `aor`, version 0 without bindings when there are none. Raises LocationUnavailable.

        A save that was accepted but has not returned yet may be seen already.
        """

    async def load_for_update(self, aor: str, only_adds: bool) -> Snapshot:
        """Return the bindings of `aor` for a save that builds on them. Raises LocationUnavailable.

        For who only adds bindings, and takes none away, it may be a snapshot without any when they cannot be read now:
        what is saved then is joined later with what there is.
        """

    async def save(self, aor: str, new: Snapshot) -> None:
        """Replace version `new.version - 1`; returns when the bindings are as durable as the store makes them.

        Raises Conflict when another version is stored, and LocationUnavailable. Saves take effect in the order of
        the calls.
        """

    async def unbind(self, aor: str, node: str, epoch: int, flow_id: int) -> tuple[Binding, ...]:
        """Remove the bindings of `aor` that live on this flow and return them: the flow has ended."""

    def counts(self) -> Counts:
        """Return how much this node holds, without walking through it or asking anybody: metrics read it."""

    def pages(self, size: int = 500) -> AsyncIterator[tuple[tuple[str, Snapshot], ...]]:
        """Yield every address-of-record with its snapshot, `size` at a time, in no order.

        What changes meanwhile may or may not be seen; nobody else waits for it.
        """
