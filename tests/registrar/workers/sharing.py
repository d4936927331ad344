"""Workers' stores that share one directory over wires, on which messages wait until the test lets them pass.

    sharing = Sharing(clock)
    one, two = sharing.worker(1), sharing.worker(2)
    loading = sharing.load(two)
    sharing.deliver()
"""

from collections import deque
from collections.abc import Callable
from typing import Any

from attrs import Factory, define
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from registrar.bindings import Binding
from registrar.location.contract import Conflict, LocationUnavailable, Snapshot
from registrar.location.held import HeldLocation, HoldingConfig, MovableStore, Record
from registrar.location.memory import MemoryLocation
from registrar.records import Source
from registrar.workers.directory import Deny, Directory, Grant, Step
from rollcall.net.wheel import TimerWheel
from tests.registrar.examples import ALICE

Said = Callable[[], None]


class AtOnce(deque[Said]):
    """A wire that has no length."""

    def append(self, said: Said) -> None:
        """Let it arrive."""
        said()


Make = Callable[[TimerWheel, "SharingWorker"], MovableStore]


@define(eq=False)
class SharingWorker:
    """One worker: its store, and what the directory has still to tell it."""

    sharing: "Sharing"
    number: int
    inbox: deque[Said] = Factory(deque)
    outbox: deque[Said] = Factory(deque)
    released: list[tuple[int, bytes]] = Factory(list)
    is_behind: bool = False
    location: HeldLocation = None  # type: ignore[assignment]

    @property
    def node(self) -> str:
        """What bindings call it."""
        return f"n{self.number}"

    def forgotten(self, key: bytes) -> None:
        """Pass on what the store below tells; that one is there first."""
        self.location.forgotten(key)

    def acquire(self, key: bytes) -> None:
        """Say so."""
        self.outbox.append(lambda: self.sharing.tell(self.sharing.directory.acquire(self.number, key)))

    def anticipate(self, key: bytes) -> None:
        """Say so."""
        self.outbox.append(lambda: self.sharing.tell(self.sharing.directory.anticipate(self.number, key)))

    def released_record(self, key: bytes, record: Record | None) -> None:
        """Say so."""
        self.outbox.append(lambda: self.sharing.tell(self.sharing.directory.released(self.number, key, record)))

    def give_back(self, keys: tuple[bytes, ...]) -> None:
        """Say so."""
        self.outbox.append(lambda: self.sharing.directory.give_back(self.number, keys))

    def unbound(self, source: Source, key: bytes) -> None:
        """Tell the worker that has the connection."""
        there = self.sharing.workers[int(source.node[1:])]
        self.outbox.append(lambda: there.inbox.append(lambda: there.location.unbound(source.flow_id, key)))

    def lost(self, keys: tuple[bytes, ...]) -> None:
        """Ask which are nobody's."""

        def answer() -> None:
            gone = [key for key in keys if self.sharing.directory.holder(key) is None]
            self.inbox.append(lambda: self.location.orphaned(gone))

        self.outbox.append(answer)


class _Said:
    """The Directory that a HeldLocation speaks to: its worker's wire."""

    def __init__(self, worker: SharingWorker) -> None:
        self.acquire, self.released, self.give_back = worker.acquire, worker.released_record, worker.give_back
        self.unbound, self.lost, self.anticipate = worker.unbound, worker.lost, worker.anticipate
        self._worker = worker

    @property
    def is_behind(self) -> bool:
        """What the test says."""
        return self._worker.is_behind


class Sharing:
    """The directory, and the wires to it."""

    def __init__(self, clock: Clock, make: Make | None = None) -> None:
        self.clock = clock
        self.directory = Directory()
        self.workers: dict[int, SharingWorker] = {}
        self._make = make or self._memory

    def _memory(self, wheel: TimerWheel, worker: SharingWorker) -> MovableStore:
        return MemoryLocation(wheel, self.clock.seconds, forgotten=worker.forgotten)

    def worker(self, number: int, **config: Any) -> HeldLocation:
        """Return the store of a new worker."""
        worker = self.workers[number] = SharingWorker(self, number)
        wheel = TimerWheel(self.clock)
        local = self._make(wheel, worker)
        worker.location = HeldLocation(local, _Said(worker), worker.node, wheel, self.clock.seconds,
                                       HoldingConfig(**config), lambda flow, key: worker.released.append((flow, key)))
        return worker.location

    def tell(self, steps: list[Step]) -> None:
        """Put what the directory says on the wires."""
        for step in steps:
            worker = self.workers.get(step.worker)
            if worker is not None:
                worker.inbox.append(_said(worker, step))

    def pass_one(self, number: int, outward: bool) -> None:
        """Let the next message of one wire pass, if there is one."""
        worker = self.workers[number]
        waiting = worker.outbox if outward else worker.inbox
        if waiting:
            waiting.popleft()()

    def deliver(self) -> None:
        """Let everything pass that is said, and what is said to that."""
        while any(worker.inbox or worker.outbox for worker in self.workers.values()):
            for number in list(self.workers):
                self.pass_one(number, True)
                self.pass_one(number, False)

    def end(self, number: int) -> None:
        """Let a worker end: what it has not said is never said, and the others are told."""
        ended = self.workers.pop(number)
        self.tell(self.directory.left(number))
        for worker in self.workers.values():
            worker.inbox.append(lambda worker=worker: worker.location.left(ended.node, 1))  # type: ignore[misc]

    def load(self, location: HeldLocation, aor: str = ALICE) -> "Deferred[Snapshot]":
        """Begin to load."""
        return Deferred.fromCoroutine(location.load(aor))

    def add(self, location: HeldLocation, binding: Binding, aor: str = ALICE) -> "Deferred[None]":
        """Begin to add a binding, as a REGISTER does, in the place of one with the same contact."""
        return Deferred.fromCoroutine(_change(location, aor, lambda old: (
            *[each for each in old if each.contact != binding.contact], binding)))

    def remove(self, location: HeldLocation, contact: str, aor: str = ALICE) -> "Deferred[None]":
        """Begin to remove a binding."""
        return Deferred.fromCoroutine(_change(location, aor, lambda old: tuple(
            each for each in old if each.contact != contact)))


async def _change(location: HeldLocation, aor: str,
                  change: Callable[[tuple[Binding, ...]], tuple[Binding, ...]]) -> None:
    for _ in range(8):
        current = await location.load(aor)
        try:
            await location.save(aor, current.followed_by(change(current.bindings)))
            return
        except Conflict:
            continue
    raise LocationUnavailable("too many conflicts")


def _said(worker: SharingWorker, step: Step) -> Callable[[], None]:
    if isinstance(step, Grant):
        record = step.record
        return lambda: worker.location.granted(step.key, record)
    if isinstance(step, Deny):
        return lambda: worker.location.denied(step.key)
    return lambda: worker.location.release(step.key)
