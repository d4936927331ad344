"""Who was turned away and when he is to come again: a queue without anybody standing in it.

RFC 3261 §20.33: Retry-After is in whole seconds. So who asked in some tenth of a second comes again in the same tenth
of a later one: each tenth takes what can be done in it, and the earliest that has room is the next one's appointment.
Whoever keeps it is let in, so that nobody is turned away twice; who comes earlier hears the same time again.
"""

from enum import Enum
from heapq import heappop, heappush
from math import ceil

from attrs import Factory, define

SLOTS_PER_SECOND = 10

EARLY_SLOTS = 5
"""Who comes half a second before his time is let in: clocks of phones are not exact."""


class Standing(Enum):
    """What is known of somebody who asks."""

    NONE = "none"
    EARLY = "early"
    """He was given a later time."""
    DUE = "due"
    """It is his time, or was a short while ago."""


@define
class _Slot:
    """A tenth of a second."""

    units: float = 0.0
    """What is to be done in it."""
    names: list[int] = Factory(list)


@define
class _Promise:
    slot: int
    is_kept: bool = False


class Appointments:
    """The appointments of one process. Moments are in seconds since any epoch."""

    def __init__(self, max_seconds: int, late_seconds: int, most: int) -> None:
        """None is later than in `max_seconds`; who is `late_seconds` late has lost his; there are at most so many."""
        self.booked = 0
        self.kept = 0
        self.missed = 0
        self._max_slots = max_seconds * SLOTS_PER_SECOND
        self._late_slots = late_seconds * SLOTS_PER_SECOND
        self._most = most
        self._promises: dict[int, _Promise] = {}
        self._slots: dict[int, _Slot] = {}
        self._order: list[int] = []
        # From where on there may be room, for each tenth of a second.
        self._free = [0] * SLOTS_PER_SECOND
        self._looked_at = 0.0

    def __len__(self) -> int:
        """How many are promised or were a short while ago."""
        return len(self._promises)

    def standing(self, name: int, now: float) -> tuple[Standing, int]:
        """Say whether somebody has an appointment, and in how many seconds if it is too early."""
        promise = self._promises.get(name)
        number = _number(now)
        if promise is None or not promise.slot - self._max_slots <= number <= promise.slot + self._late_slots:
            return Standing.NONE, 0
        if number < promise.slot - EARLY_SLOTS:
            return Standing.EARLY, ceil((promise.slot - number) / SLOTS_PER_SECOND)
        if not promise.is_kept:
            promise.is_kept = True
            self.kept += 1
        return Standing.DUE, 0

    def has_room(self, units: float, room: float, now: float) -> bool:
        """Let somebody in now who has no appointment, if this tenth has room beside those who have one.

        `room` is what can be done for all of them in a tenth of a second; one is always let in.
        """
        slot = self._slot(_number(now))
        if slot.units and slot.units + units > room:
            return False
        slot.units += units
        return True

    def book(self, name: int, units: float, room: float, now: float) -> int | None:
        """Return in how many seconds somebody may come; None when there is no room for an appointment."""
        if len(self._promises) >= self._most:
            return None
        self._let_go(name)
        asked = _number(now)
        column = asked % SLOTS_PER_SECOND
        if self._free[column] > asked + self._max_slots + SLOTS_PER_SECOND:
            self.look_again()  # the clock was set back
        number = max(asked + SLOTS_PER_SECOND, self._free[column])
        while number <= asked + self._max_slots:
            slot = self._slot(number)
            if not slot.units or slot.units + units <= room:
                slot.units += units
                slot.names.append(name)
                self._promises[name] = _Promise(number)
                self.booked += 1
                break
            number += SLOTS_PER_SECOND
        self._free[column] = number
        return (number - asked) // SLOTS_PER_SECOND if number <= asked + self._max_slots else None

    def look_again(self) -> None:
        """Look for room from the beginning: more can be done than was thought."""
        self._free = [0] * SLOTS_PER_SECOND

    def forget(self, now: float) -> None:
        """Forget the appointments whose time is over, and all when the clock was set back: nobody knows when they are.
        """
        if now < self._looked_at:
            self._forget_all()
        self._looked_at = now
        over = _number(now) - self._late_slots
        while self._order and self._order[0] < over:
            number = heappop(self._order)
            for name in self._slots.pop(number).names:
                promise = self._promises.get(name)
                if promise is not None and promise.slot == number:
                    self._let_go(name)

    def _forget_all(self) -> None:
        for name in list(self._promises):
            self._let_go(name)
        self._slots, self._order = {}, []
        self.look_again()

    def _let_go(self, name: int) -> None:
        """Count an appointment that is over as missed, unless it was kept."""
        promise = self._promises.pop(name, None)
        if promise is not None:
            self.missed += not promise.is_kept

    def _slot(self, number: int) -> _Slot:
        slot = self._slots.get(number)
        if slot is None:
            slot = self._slots[number] = _Slot()
            heappush(self._order, number)
        return slot


def _number(now: float) -> int:
    return int(now * SLOTS_PER_SECOND)
