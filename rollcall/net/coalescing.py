"""Fewer wake-ups under load: after one, a descriptor is read on a timer until there is nothing more.

Being woken costs more than what a message then needs (docs/measurements.md). What comes within a tick is taken
together, up to a tick late. A descriptor that is seldom woken has no timer, and nothing is late.
"""

from collections.abc import Callable
from enum import Enum
from typing import Any

from twisted.internet.interfaces import IDelayedCall, IReadDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer


class Found(Enum):
    """What one turn found."""

    NOTHING = 0
    ALL = 1
    """Something, and no more waits."""

    MORE = 2
    """As much as a turn may take; more may wait."""

    KEPT = 3
    """Something that was read and waits for the next turn: nobody wakes us up for it again."""


class State(Enum):
    """What comes next."""

    STOPPED = 0
    WAITING = 1
    """The reactor says when there is something."""

    TICKING = 2
    """The clock says when to look."""


@implementer(IReadDescriptor)
class Coalescing:
    """Calls `turn` when there is something to read."""

    def __init__(
        self,
        reactor: Any,
        fd: int,
        turn: Callable[[], Found],
        lost: Callable[[Failure], None],
        coalesce_seconds: float,
        name: str,
    ) -> None:
        """`turn` raises OSError when `fd` is of no more use, which `lost` hears then; without seconds nothing ticks."""
        self._reactor = reactor
        self._fd = fd
        self._turn = turn
        self._lost = lost
        self._coalesce_seconds = coalesce_seconds
        self._name = name
        self._state = State.STOPPED
        self._woken_at = float("-inf")
        self._tick: IDelayedCall | None = None

    def start(self) -> None:
        """Have the reactor say when there is something to read."""
        self._state = State.WAITING
        self._reactor.addReader(self)

    def stop(self) -> None:
        """Take no more turns. Call it before the descriptor is closed; harmless twice."""
        state, self._state = self._state, State.STOPPED
        if state is State.WAITING:
            self._reactor.removeReader(self)
        if self._tick is not None:
            self._tick.cancel()
            self._tick = None

    # --- called by the reactor

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._fd

    def logPrefix(self) -> str:
        """Return what the reactor calls it."""
        return self._name

    def doRead(self) -> Any:
        """Take a turn and return what it failed with. When the one before was less than a tick ago there is load."""
        try:
            found = self._turn()
        except OSError as error:
            return error
        if found is Found.NOTHING or self._state is State.STOPPED:
            return None
        now = self._reactor.seconds()
        if found is Found.KEPT or now - self._woken_at < self._coalesce_seconds:
            self._reactor.removeReader(self)
            self._state = State.TICKING
            self._turn_later(found)
        self._woken_at = now
        return None

    def connectionLost(self, reason: Failure) -> None:
        """The reactor has given the descriptor up, or ends."""
        self.stop()
        self._lost(reason)

    # --- details

    def _turn_later(self, found: Found) -> None:
        delay = self._coalesce_seconds if found is Found.ALL else 0.0
        self._tick = self._reactor.callLater(delay, self._ticked)

    def _ticked(self) -> None:
        self._tick = None
        try:
            found = self._turn()
        except Exception:  # as the reactor does
            self.connectionLost(Failure())
            return
        if self._state is State.STOPPED:
            return
        if found is Found.NOTHING:
            self.start()
        else:
            self._turn_later(found)
